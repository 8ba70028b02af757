"""Calls that may wait for a store, made from a coroutine."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flexcache_rs import _core


async def in_thread(cache: _core.FlexCache[Any, Any], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a cache that may wait for the store behind it: in a thread, if there is a store.

    The only place where an event loop and a store that blocks meet.
    """
    if cache.store is None:
        return function(*arguments)
    from asyncio import to_thread  # Not imported before it is used.

    return await to_thread(function, *arguments)
