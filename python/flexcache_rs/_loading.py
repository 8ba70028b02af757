"""`aget_or_set`: values that tasks compute where they are absent. `get_or_set` is native."""

from __future__ import annotations

from flexcache_rs import _core
from flexcache_rs._arguments import check_callable
from flexcache_rs._in_thread import before_joining, in_thread, lease
from flexcache_rs._suggest import suggesting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


# What no factory returns.
NOTHING = object()


@suggesting
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
    more. A write to the key while the factory runs comes after it: the callers that wait get the
    value, and the cache does not keep it. In front of a directory all that holds for the callers and
    writes of other caches and processes as well, which wait for `lease_wait` seconds at most.

    Args:
        key: any hashable.
        factory: called without arguments; a coroutine function, or a plain one.
        ttl: how long the entry lives, as for put().
        tags: what evict_tag() knows the entry by.

    Raises:
        CircularLoadError: where the factory would have to wait for itself.
        LoadCancelled: where the factory itself raised asyncio.CancelledError.
        LoadFailedElsewhere: where the factory of another process raised what cannot be made again here.
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
    # Where there is a store, only what it need not be asked for.
    value = self.get(key, NOTHING) if self.store is None else self._get_from_memory(key, NOTHING)
    if value is not NOTHING:
        return value

    check_callable("factory", factory)
    names = None if tags is None else _core._tags(tags)
    if names:
        self._check_tags(names)

    look = self.peek if self.store is None else self._get_in_turn

    async def compute(load: _core._Load) -> Any:  # pyright: ignore[reportPrivateUsage]
        if names:
            load.declare(self, names)
        # Another may have landed since we looked.
        value = await lease(self, load, lambda: look(key, NOTHING), NOTHING)
        if value is NOTHING:
            value = factory()
            if hasattr(value, "__await__"):
                value = await value
            self._count_load()
            if await in_thread(self, load.store, self, value, ttl, names):
                self._loaded(key, value)
        return value

    await before_joining(self, key)
    return await _core._load_in_task(self, key, compute)
