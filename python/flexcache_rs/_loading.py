"""`aget_or_set`: tasks compute values that are absent. `get_or_set` is native."""

from __future__ import annotations

from flexcache_rs import _core
from flexcache_rs._arguments import check_callable
from flexcache_rs._in_thread import before_joining, in_thread, lease
from flexcache_rs._suggest import suggesting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


# A sentinel that no factory returns.
NOTHING = object()


@suggesting
async def aget_or_set(  # noqa: D417
    self: _core.FlexCache[Any, Any],
    key: Any,
    factory: Callable[[], Any],
    ttl: Any = None,
    tags: Iterable[str] | None = None,
) -> Any:
    """The same as get_or_set(), for asyncio. It awaits the result of the factory if it is awaitable.

    Tasks of all event loops, and threads in get_or_set(), share one computation. A caller that is
    cancelled does not cancel other callers. The computation is cancelled when no caller waits for
    it any more. If a caller writes to the key while the factory runs, the callers that wait get
    the result, and the cache does not keep it. In front of a directory, all of this includes the
    callers and writes of other caches and processes. A caller waits for them for at most
    `lease_wait` seconds.

    Args:
        key: Any hashable object.
        factory: A function without arguments, which may be a coroutine function.
        ttl: The time to live, as for put().
        tags: The tags of the entry for evict_tag().

    Raises:
        CircularLoadError: The factory would have to wait for itself.
        LoadCancelled: The factory itself raised asyncio.CancelledError.
        LoadFailedElsewhere: The factory of another process raised an exception that cannot be restored here.
        TypeError, ValueError, OverflowError: As for put().

    An exception of the factory propagates. O(1), without the factory.

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
    # If there is a store, look in memory only: asking the store would block the event loop.
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
        # Another load may have stored a value since we looked.
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
