"""The base class of all backends for Django. Needs Django."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from flexcache_rs._suggest import suggesting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


async def _awaited(call: Callable[..., Any], *arguments: Any) -> Any:
    return await sync_to_async(call, thread_sensitive=True)(*arguments)


@suggesting
class Backend(BaseCache):  # type: ignore[misc]  # Django has no types.
    """A backend whose calls are one call of its cache each.

    Django composes some of them of a read and a write. What others store in between would be lost.
    """

    def _key(self, key: Any, version: int | None) -> str:
        """The key of the cache for a key of a version."""
        return str(self.make_key(key, version))

    def _move(self, old: str, new: str) -> bool:
        """Store the value of a key under another one, and then remove the first. Returns False if there is none.

        Whatever fails in between, the value is under one of them.
        """
        raise NotImplementedError

    def incr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Move a value to another version, with its time to live. One of several callers moves it.

        Raises:
            ValueError: The key has no value.
        """
        old = self.version if version is None else version
        source, target = self._key(key, old), self._key(key, old + delta)
        if not (self.has_key(key, old) if source == target else self._move(source, target)):
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
