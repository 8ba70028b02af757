"""Calls from coroutines of functions that may block on a store."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flexcache_rs import _core

_PAUSE = 0.01
"""Seconds between two checks whether another process has computed a value."""


async def in_thread(cache: _core.FlexCache[Any, Any], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a cache which may block on the store. If the cache has a store, the call is in a thread.

    In an awaited transaction of a directory, the transaction's own thread makes the call. This function and the
    shared calls below are the only places where an event loop meets a store that blocks.
    """
    if cache.store is None:
        return function(*arguments)
    if transaction_number():
        return await sys.modules["flexcache_rs.disk.aio"].in_thread(function, *arguments)
    from flexcache_rs._asyncio_calls import to_thread  # Not imported before it is used.

    return await to_thread(function, *arguments)


async def lease(cache: _core.FlexCache[Any, Any], load: Any, look: Callable[[], Any], nothing: Any) -> Any:
    """Acquire the lease for a load of a task. Waits while another process holds it.

    Returns the value that `look()` found meanwhile, which makes computing needless, or `nothing`.
    """
    step = await in_thread(cache, load.lease, cache, look, nothing, False)
    if step is not load:
        return step
    # Not imported before they are used.
    from asyncio import sleep

    from flexcache_rs._hop import share_hop

    while step is load:
        await sleep(_PAUSE)
        step = await share_hop(load, load.lease, cache, look, nothing, False)
    return step


async def before_joining(cache: _core.FlexCache[Any, Any], key: Any) -> None:
    """Discard the running load of a key before a task joins it, if another process has written the key since."""
    from flexcache_rs import _core

    if cache.store is not None and _core._has_leased_load(cache, key):  # pyright: ignore[reportPrivateUsage]
        await in_thread(cache, _core._discard_void_loads, cache, key)  # pyright: ignore[reportPrivateUsage]


def transaction_number() -> int:
    """Return the number of the awaited transaction that the running task is in, or 0 outside of one."""
    # A task in a transaction has imported the module.
    aio = sys.modules.get("flexcache_rs.disk.aio")
    transaction = None if aio is None else aio.transaction_of_task()
    return 0 if transaction is None else id(transaction.worker)
