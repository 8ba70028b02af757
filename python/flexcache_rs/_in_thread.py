"""Calls from coroutines of functions that may block on a store."""

from __future__ import annotations

import sys
from weakref import WeakKeyDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable
    from typing import Any

    from flexcache_rs import _core

_PAUSE = 0.01
"""Seconds between two checks whether another process has computed a value."""

_PATIENCE = 1.0
"""Seconds after which a call without an answer is made again."""


async def in_thread(cache: _core.FlexCache[Any, Any], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a cache which may block on the store. If the cache has a store, the call is in a thread.

    In an awaited transaction of a directory, the transaction's own thread makes the call. This function and the
    shared calls below are the only places where an event loop meets a store that blocks.
    """
    if cache.store is None:
        return function(*arguments)
    if transaction_number():
        return await sys.modules["flexcache_rs.disk.aio"].in_thread(function, *arguments)
    from asyncio import to_thread  # Not imported before it is used.

    return await to_thread(function, *arguments)


async def lease(cache: _core.FlexCache[Any, Any], load: Any, look: Callable[[], Any], nothing: Any) -> Any:
    """Acquire the lease for a load of a task. Waits while another process holds it.

    Returns the value that `look()` found meanwhile, which makes computing needless, or `nothing`.
    """
    step = await in_thread(cache, load.lease, cache, look, nothing, False)
    if step is not load:
        return step
    from asyncio import sleep

    while step is load:
        await sleep(_PAUSE)
        step = await _share_hop(load, load.lease, cache, look, nothing, False)
    return step


async def before_joining(cache: _core.FlexCache[Any, Any], key: Any) -> None:
    """Discard the running load of a key before a task joins it, if another process has written the key since."""
    from flexcache_rs import _core

    if cache.store is not None and _core._has_leased_load(cache, key):  # pyright: ignore[reportPrivateUsage]
        await in_thread(cache, _core._discard_void_loads, cache, key)  # pyright: ignore[reportPrivateUsage]


class _Hop:
    """Batches of the calls of one event loop's tasks. While a thread makes one batch, the next one gathers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.running: Future[Any] | None = None

    def begin(self) -> None:
        """Make the gathered calls in a thread."""
        from asyncio import get_running_loop

        calls, self.calls = self.calls, []
        self.running = get_running_loop().run_in_executor(None, _results, calls)
        self.running.add_done_callback(lambda running: self.end(running, calls))

    def end(self, running: Future[Any], calls: list[Any]) -> None:
        """Hand the results to the tasks, and begin the next batch if calls have gathered meanwhile."""
        failed = running.cancelled() or running.exception() is not None
        for (future, *_), result in () if failed else zip(calls, running.result(), strict=True):
            if not future.done():
                future.set_result(result)
        if self.calls:
            self.begin()


_HOPS: WeakKeyDictionary[AbstractEventLoop, _Hop] = WeakKeyDictionary()


async def _share_hop(otherwise: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a thread, batched with other tasks' calls. Returns `otherwise` after `_PATIENCE` seconds."""
    from asyncio import get_running_loop, wait

    event_loop = get_running_loop()
    hop = _HOPS.setdefault(event_loop, _Hop())
    future = event_loop.create_future()
    hop.calls.append((future, function, arguments))
    if hop.running is None or hop.running.done():
        hop.begin()
    # The wait has a limit, because a signal handler that raises in a hop can lose its calls.
    await wait((future,), timeout=_PATIENCE)
    if not future.done():
        future.cancel()
        return otherwise
    raised, result = future.result()
    if raised:
        raise result
    return result


def _results(calls: list[Any]) -> list[tuple[bool, Any]]:
    return [_result(*call) for call in calls]


def _result(future: Future[Any], function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    """Make a call. Returns whether it raised, and the exception or the result."""
    try:
        return False, None if future.cancelled() else function(*arguments)
    except BaseException as error:  # noqa: BLE001  # It goes to the task that called.
        return True, error


def transaction_number() -> int:
    """Return the number of the awaited transaction that the running task is in, or 0 outside of one."""
    # A task in a transaction has imported the module.
    aio = sys.modules.get("flexcache_rs.disk.aio")
    transaction = None if aio is None else aio.transaction_of_task()
    return 0 if transaction is None else id(transaction.worker)
