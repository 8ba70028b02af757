"""Calls of many tasks that wait for leases, which one thread makes together."""

from __future__ import annotations

from asyncio import get_running_loop, wait
from weakref import WeakKeyDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable
    from typing import Any

_PATIENCE = 1.0
"""Seconds after which a call without an answer is made again."""


class _Hop:
    """Batches of the calls of one event loop's tasks. While a thread makes one batch, the next one gathers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.running: Future[Any] | None = None

    def begin(self) -> None:
        """Make the gathered calls in a thread."""
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


async def share_hop(otherwise: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a thread, batched with other tasks' calls. Returns `otherwise` after `_PATIENCE` seconds."""
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
