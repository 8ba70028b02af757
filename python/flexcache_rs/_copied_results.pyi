from typing import Generic, ParamSpec, TypeVar

from flexcache_rs._memo import AsyncMemo, SyncMemo

_P = ParamSpec("_P")
_V = TypeVar("_V")

class CopyingSyncMemo(SyncMemo[_P, _V], Generic[_P, _V]):
    """A memoized function."""

class CopyingAsyncMemo(AsyncMemo[_P, _V], Generic[_P, _V]):
    """A memoized coroutine function."""
