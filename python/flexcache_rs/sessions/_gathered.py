"""Awaited calls. One thread makes the calls together that arrived while it was busy."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from flexcache_rs._threads import AutoResetEvent
from flexcache_rs.sessions._errors import TimedOut, another
from flexcache_rs.sessions._waiting import Pauses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Result: TypeAlias = "tuple[Any, BaseException | None]"
_Asked: TypeAlias = "tuple[Any, asyncio.Future[Any], asyncio.AbstractEventLoop, float]"
"""A call, its future, the event loop of its caller, and the time at which it fails if it could not be made."""

SHORTEST_PAUSE = 0.0005
LONGEST_PAUSE = 0.02
"""The shortest and the longest time in seconds after which a call that could not be made is repeated."""


def _deliver(answers: list[tuple[asyncio.Future[Any], Result]]) -> None:
    for future, (result, raised) in answers:
        if future.done():
            continue
        if raised is None:
            future.set_result(result)
        elif isinstance(raised, StopIteration):
            # Before Python 3.12, a future refuses it.
            future.set_exception(RuntimeError(f"a call raised {raised!r}"))
        else:
            future.set_exception(raised)


def _hand_over(answers: Iterable[tuple[_Asked, Result]]) -> None:
    """Deliver results to the event loops of their callers."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Result]]] = {}
    for (_, future, loop, _), result in answers:
        by_loop.setdefault(loop, []).append((future, result))
    for loop, of_loop in by_loop.items():
        # A closed event loop raises RuntimeError. No task of it waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_deliver, of_loop)


class Gatherer:
    """Makes awaited calls, for any number of event loops.

    Args:
        make: Makes several calls. Returns for each its result or its exception, or None if another process was writing.
            Such a call is repeated, together with those that have arrived meanwhile.
        timeout: The number of seconds after which it fails instead.
    """

    def __init__(self, make: Callable[[list[Any]], Sequence[Result | None]], timeout: float) -> None:
        self._make = make
        self._timeout = timeout
        # No lock protects it. A signal handler or a destructor that makes a call would wait for its own thread.
        self._asked: deque[_Asked] = deque()
        self._is_running = self._is_pausing = False
        self._came = AutoResetEvent()
        self._threads = ThreadPoolExecutor(1, "flexcache sessions")

    @property
    def is_idle(self) -> bool:
        """Whether all queued calls are done."""
        return not self._is_running

    def ask(self, call: Any) -> asyncio.Future[Any]:
        """Queue a call. It may be made even if its task is cancelled."""
        loop = asyncio.get_running_loop()
        asked: _Asked = (call, loop.create_future(), loop, monotonic() + self._timeout)
        try:
            # Append first, then check. The thread does both in the opposite order. Starting twice is harmless.
            self._asked.append(asked)
            if not self._is_running:
                self._is_running = True
                self._threads.submit(self._work)
        except BaseException:
            # No task waits for this call. The next call starts the work.
            asked[1].cancel()
            self._is_running = False
            raise
        if self._is_pausing:
            self._came.set()
        return asked[1]

    def _taken(self) -> list[_Asked]:
        """Move the queued calls to the thread, and return them."""
        taken: list[_Asked] = []
        with contextlib.suppress(IndexError):
            while True:
                taken.append(self._asked.popleft())
        return taken

    def _work(self) -> None:
        waiting: list[_Asked] = []
        pauses = Pauses(SHORTEST_PAUSE, LONGEST_PAUSE)
        while True:
            batch = self._taken()
            if not batch and not waiting:
                self._is_running = False
                batch = self._taken()
                if not batch:
                    return
                self._is_running = True
            waiting = [asked for asked in (*waiting, *batch) if not asked[1].cancelled()]
            before = len(waiting)
            waiting = self._attempt(waiting)
            if len(waiting) < before:
                pauses = Pauses(SHORTEST_PAUSE, LONGEST_PAUSE)
            if waiting:
                self._rest(pauses.next())

    def _attempt(self, batch: list[_Asked]) -> list[_Asked]:
        """Make calls. Returns those to be repeated."""
        results: Sequence[Result | None]
        try:
            results = self._make([call for call, _, _, _ in batch])
        except BaseException as raised:  # noqa: BLE001 - it is their callers'
            results = [(None, another(raised)) for _ in batch]
        made: list[tuple[_Asked, Result]] = []
        left: list[_Asked] = []
        now = monotonic()
        for asked, result in zip(batch, results, strict=True):
            if result is not None:
                made.append((asked, result))
            elif asked[3] > now:
                left.append(asked)
            else:
                message = f"the write lock was not acquired within {self._timeout:g} seconds; nothing was changed"
                made.append((asked, (None, TimedOut(message))))
        _hand_over(made)
        return left

    def _rest(self, pause: float) -> None:
        """Wait until other calls arrive, for at most `pause` seconds."""
        self._is_pausing = True
        # The caller of `ask` appends first and then checks.
        if not self._asked:
            self._came.wait(pause)
        self._is_pausing = False

    def end(self) -> None:
        """Wait until all queued calls are done, and end the thread."""
        self._threads.shutdown()
