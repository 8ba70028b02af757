"""The base class of all backends for Django. Needs Django."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from flexcache_rs._suggest import suggesting

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping


OF_DJANGO = frozenset(("MAX_ENTRIES", "CULL_FREQUENCY"))
"""Options that Django passes to every backend. The backends here have no use for them: their own options limit them."""


_OF_ALL_BACKENDS = ("BACKEND", "LOCATION", "TIMEOUT", "OPTIONS", "KEY_PREFIX", "VERSION", "KEY_FUNCTION")

_IN_LOWER_CASE = ("timeout", "max_entries", "cull_frequency")
"""Names that Django also accepts in lower case."""


def options_of(
    params: Mapping[str, Any], options: Collection[str], beside: Mapping[str, str], *, ignores_others: bool = True
) -> dict[str, Any]:
    """Return the options of a backend's settings, without those that Django passes to every backend.

    Args:
        params: The settings.
        options: The names of the backend's options.
        beside: The names of its settings beside `OPTIONS`, by the names of the arguments that they become.
        ignores_others: Whether other names that are like none of these are ignored, as by Django itself.

    Raises:
        TypeError: A name is misspelt, or is on the wrong side of `OPTIONS`.
    """
    known = {*beside.values(), *_OF_ALL_BACKENDS}
    for name in params:
        if name in known or name in _IN_LOWER_CASE:
            continue
        if name.lower() in options or name in OF_DJANGO:
            option = name if name in OF_DJANGO else name.lower()
            raise TypeError(f"no such setting of the backend: {name!r}; did you mean {option!r} in OPTIONS?")
        near = difflib.get_close_matches(name.upper(), known, 1, 0.8)
        if near:
            raise TypeError(f"no such setting of the backend: {name!r}; did you mean {near[0]!r}?")
        if not ignores_others:
            raise TypeError(f"no such setting of the backend: {name!r}")
    given = {name: value for name, value in params.get("OPTIONS", {}).items() if name not in OF_DJANGO}
    for name in given.keys() & beside.keys():
        raise TypeError(f"no such option: {name!r}; did you mean {beside[name]!r} beside OPTIONS?")
    return given


async def _awaited(call: Callable[..., Any], *arguments: Any) -> Any:
    return await sync_to_async(call, thread_sensitive=True)(*arguments)


@suggesting
class Backend(BaseCache):  # type: ignore[misc]  # Django has no types.
    """A backend that makes one call of its cache for each call.

    Django composes some calls of a read and a write, and would lose what others store in between.
    """

    def _flexcache_key(self, key: Any, version: int | None) -> Any:
        """Return the cache's key for a key and a version. Warns of keys that memcached would refuse, as Django does."""
        return self.make_and_validate_key(key, version=version)

    def _flexcache_move(self, old: Any, new: Any) -> bool:
        """Store the value of `old` under `new`, and then remove `old`. Returns False if `old` has no value.

        If a step fails, the value is under at least one of the two keys.
        """
        raise NotImplementedError

    def incr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Move a value to another version, with its time to live. Only one of several concurrent callers moves it.

        Raises:
            ValueError: The key has no value.
        """
        old = self.version if version is None else version
        source, target = self._flexcache_key(key, old), self._flexcache_key(key, old + delta)
        if not (self.has_key(key, old) if source == target else self._flexcache_move(source, target)):
            message = f"Key {key!r} not found"
            raise ValueError(message)
        return int(old + delta)

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> Any:
        """The same as `incr`, awaited."""
        return await _awaited(self.incr, key, delta, version)

    async def adecr(self, key: Any, delta: int = 1, version: int | None = None) -> Any:
        """The same as `decr`, awaited."""
        return await _awaited(self.decr, key, delta, version)

    async def aincr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """The same as `incr_version`, awaited."""
        return int(await _awaited(self.incr_version, key, delta, version))

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """The same as `has_key`, awaited."""
        return bool(await _awaited(self.has_key, key, version))

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """The same as `get_many`, awaited."""
        found: dict[Any, Any] = await _awaited(self.get_many, keys, version)
        return found

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """The same as `set_many`, awaited."""
        failed: list[Any] = await _awaited(self.set_many, data, timeout, version)
        return failed

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> Any:
        """The same as `delete_many`, awaited."""
        return await _awaited(self.delete_many, keys, version)
