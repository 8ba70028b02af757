"""Calls that may wait for a store, made from a coroutine."""

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
"""Seconds between two questions whether another process has computed a value."""

_PATIENCE = 1.0
"""Seconds after which a call is made again that nobody has answered."""


async def in_thread(cache: _core.FlexCache[Any, Any], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a cache that may wait for the store behind it: in a thread, if there is a store.

    In an awaited transaction of a directory that is the thread which makes its calls. This and the shared calls below
    are the only places where an event loop and a store that blocks meet.
    """
    if cache.store is None:
        return function(*arguments)
    if transaction_number():
        return await sys.modules["flexcache_rs.disk.aio"].in_thread(function, *arguments)
    from asyncio import to_thread  # Not imported before it is used.

    return await to_thread(function, *arguments)


async def lease(cache: _core.FlexCache[Any, Any], load: Any, look: Callable[[], Any], nothing: Any) -> Any:
    """Ask for the lease of a load of a task, and wait while another process has it.

    Returns what `look()` returned if that is not `nothing`: a value that makes computing needless; else `nothing`.
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
    """Discard the load of a key that a task is about to join, if the key was written from elsewhere since."""
    from flexcache_rs import _core

    if cache.store is not None and _core._has_leased_load(cache, key):  # pyright: ignore[reportPrivateUsage]
        await in_thread(cache, _core._discard_void_loads, cache, key)  # pyright: ignore[reportPrivateUsage]


class _Hop:
    """Calls of the tasks of one event loop which gather while a thread is busy with those before: one hop for all."""

    def __init__(self) -> None:
        self.calls: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.running: Future[Any] | None = None

    def begin(self) -> None:
        """Call in a thread what has gathered."""
        from asyncio import get_running_loop

        calls, self.calls = self.calls, []
        self.running = get_running_loop().run_in_executor(None, _results, calls)
        self.running.add_done_callback(lambda running: self.end(running, calls))

    def end(self, running: Future[Any], calls: list[Any]) -> None:
        """Hand the results out, and call what has gathered meanwhile."""
        failed = running.cancelled() or running.exception() is not None
        for (future, *_), result in () if failed else zip(calls, running.result(), strict=True):
            if not future.done():
                future.set_result(result)
        if self.calls:
            self.begin()


_HOPS: WeakKeyDictionary[AbstractEventLoop, _Hop] = WeakKeyDictionary()


async def _share_hop(otherwise: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a thread, together with what other tasks call. `otherwise` if there was no answer in time."""
    from asyncio import get_running_loop, wait

    event_loop = get_running_loop()
    hop = _HOPS.setdefault(event_loop, _Hop())
    future = event_loop.create_future()
    hop.calls.append((future, function, arguments))
    if hop.running is None or hop.running.done():
        hop.begin()
    # A signal's handler may raise between any two lines of a hop, and so its calls be lost.
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
    """Whether a call raised, and what it raised or returned."""
    try:
        return False, None if future.cancelled() else function(*arguments)
    except BaseException as error:  # noqa: BLE001  # It goes to the task that called.
        return True, error


def transaction_number() -> int:
    """The number of the awaited transaction that the running task is in; 0 outside of one."""
    # Who is in one has imported the module.
    aio = sys.modules.get("flexcache_rs.disk.aio")
    transaction = None if aio is None else aio.transaction_of_task()
    return 0 if transaction is None else id(transaction.worker)
