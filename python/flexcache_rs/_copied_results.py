"""Memoized functions whose callers get copies of the stored results, so that they may change them.

Types are in the stub: `typing` takes longer to import than all of this package.
"""

from flexcache_rs import _core
from flexcache_rs._memo import AsyncMemo, SyncMemo


class CopyingSyncMemo(SyncMemo):
    """A memoized function."""

    __slots__ = ()

    def _copied(self, value):
        # What can be awaited once is not kept, and is the caller's alone.
        return value if hasattr(type(value), "__await__") else self._plan.copy(value)

    def _load(self, key, args, kwargs):
        return self._copied(super()._load(key, args, kwargs))

    def _reconsider(self, key, remembered, args, kwargs):
        return self._copied(super()._reconsider(key, remembered, args, kwargs))

    def _refresh(self, /, *args, **kwargs):
        return self._copied(super()._refresh(*args, **kwargs))

    def _peek(self, /, *args, **kwargs):
        found = super()._peek(*args, **kwargs)
        return found if found is None else self._plan.copy(found)


class CopyingAsyncMemo(AsyncMemo):
    """A memoized coroutine function."""

    __slots__ = ()

    async def _load(self, key, args, kwargs):
        return self._plan.copy(await super()._load(key, args, kwargs))

    async def _reconsider(self, key, remembered, args, kwargs):
        return self._plan.copy(await super()._reconsider(key, remembered, args, kwargs))

    async def _refresh(self, /, *args, **kwargs):
        return self._plan.copy(await super()._refresh(*args, **kwargs))

    def _peek(self, /, *args, **kwargs):
        found = super()._peek(*args, **kwargs)
        return found if found is None else self._plan.copy(found)


for _class in (CopyingSyncMemo, CopyingAsyncMemo):
    _core._call_directly(_class)
