"""`get_or_set` and `aget_or_set`: values that are computed where they are absent."""

from __future__ import annotations

from flexcache_rs import _core
from flexcache_rs._flights import NOTHING, afly, fly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


def _load(
    cache: _core.FlexCache[Any, Any], key: Any, factory: Callable[[], Any], ttl: Any, tags: Iterable[str] | None
) -> Any:
    """What get_or_set() does where the key is absent."""

    def compute() -> Any:
        # Another may have landed since we looked.
        value = cache.peek(key, NOTHING)
        if value is NOTHING:
            value = factory()
            cache.put(key, value, ttl, tags)
            cache._loaded(key, value)
        return value

    return fly(cache._flights, key, compute)


_core._set_loader(_load)


async def aget_or_set(  # noqa: D417
    self: _core.FlexCache[Any, Any],
    key: Any,
    factory: Callable[[], Any],
    ttl: Any = None,
    tags: Iterable[str] | None = None,
) -> Any:
    """get_or_set() for asyncio: awaits what the factory returns, if that can be awaited.

    Tasks of all event loops share one computation, with threads in get_or_set() as well. A caller
    that is cancelled cancels nobody else; the computation is cancelled when nobody waits for it any
    more.

    Args:
        key: any hashable.
        factory: called without arguments; a coroutine function, or a plain one.
        ttl: how long the entry lives, as for put().
        tags: what evict_tag() knows the entry by.

    Raises:
        CircularLoadError: where the factory would have to wait for itself.
        TypeError, ValueError, OverflowError: as for put().

    Whatever the factory raises is raised. O(1) beside the factory.

    >>> import asyncio
    >>> from flexcache_rs import FlexCache
    >>> async def load():
    ...     return 1
    >>> async def main():
    ...     cache = FlexCache()
    ...     return await cache.aget_or_set("a", load), cache["a"]
    >>> asyncio.run(main())
    (1, 1)
    """
    value = self.get(key, NOTHING)
    if value is not NOTHING:
        return value

    async def compute() -> Any:
        value = self.peek(key, NOTHING)
        if value is NOTHING:
            value = factory()
            if hasattr(value, "__await__"):
                value = await value
            self.put(key, value, ttl, tags)
            self._loaded(key, value)
        return value

    return await afly(self._flights, key, compute)
