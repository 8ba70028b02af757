"""Calls that may wait for a store, made from a coroutine."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flexcache_rs import _core


async def in_thread(cache: _core.FlexCache[Any, Any], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a cache that may wait for the store behind it: in a thread, if there is a store.

    In an awaited transaction of a directory that is the thread which makes its calls. The only place where an event
    loop and a store that blocks meet.
    """
    if cache.store is None:
        return function(*arguments)
    if transaction_number():
        return await sys.modules["flexcache_rs.disk.aio"].in_thread(function, *arguments)
    from asyncio import to_thread  # Not imported before it is used.

    return await to_thread(function, *arguments)


def transaction_number() -> int:
    """The number of the awaited transaction that the running task is in; 0 outside of one."""
    # Who is in one has imported the module.
    aio = sys.modules.get("flexcache_rs.disk.aio")
    transaction = None if aio is None else aio.transaction_of_task()
    return 0 if transaction is None else id(transaction.worker)
