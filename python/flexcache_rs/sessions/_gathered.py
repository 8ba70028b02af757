"""Awaited calls to a server. One thread sends the calls that arrived while it was busy, in common round trips."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flexcache_rs.sessions._cells import Call

Result: TypeAlias = "tuple[Any, BaseException | None]"
_Asked: TypeAlias = "tuple[Call, asyncio.Future[Any], asyncio.AbstractEventLoop]"


def _deliver(answers: list[tuple[asyncio.Future[Any], Result]]) -> None:
    for future, (result, raised) in answers:
        if future.done():
            continue
        if raised is None:
            future.set_result(result)
        else:
            future.set_exception(raised)


class Gatherer:
    """Makes awaited calls, for any number of event loops.

    Args:
        make: Makes several calls, and returns for each its result or its exception.
    """

    def __init__(self, make: Callable[[Sequence[Call]], list[Result]]) -> None:
        self._make = make
        # Under no lock: a signal's handler that asks, or the end of an object, would wait for its own thread.
        self._asked: deque[_Asked] = deque()
        self._is_running = False
        self._threads = ThreadPoolExecutor(1, "flexcache sessions")

    @property
    def is_idle(self) -> bool:
        """Whether all queued calls are done."""
        return not self._is_running

    def ask(self, call: Call) -> asyncio.Future[Any]:
        """Queue a call. It may be made even if its task is cancelled."""
        loop = asyncio.get_running_loop()
        asked: _Asked = (call, loop.create_future(), loop)
        try:
            # In this order: `_work` writes and reads them in the other one. To start the work twice does no harm.
            self._asked.append(asked)
            if not self._is_running:
                self._is_running = True
                self._threads.submit(self._work)
        except BaseException:
            # Nobody waits for it. The next call starts the work.
            asked[1].cancel()
            self._is_running = False
            raise
        return asked[1]

    def _taken(self) -> list[_Asked]:
        """What was asked, which the thread has from now on."""
        taken: list[_Asked] = []
        with contextlib.suppress(IndexError):
            while True:
                taken.append(self._asked.popleft())
        return taken

    def _work(self) -> None:
        while True:
            batch = self._taken()
            if not batch:
                self._is_running = False
                batch = self._taken()
                if not batch:
                    return
                self._is_running = True
            batch = [asked for asked in batch if not asked[1].cancelled()]
            try:
                results = self._make([call for call, _, _ in batch])
            except BaseException as raised:  # noqa: BLE001 - it is their callers'
                results = [(None, type(raised)(*raised.args)) for _ in batch]
            by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Result]]] = {}
            for (_, future, loop), result in zip(batch, results, strict=True):
                by_loop.setdefault(loop, []).append((future, result))
            for loop, answers in by_loop.items():
                # A closed event loop raises RuntimeError. No task of it waits any more.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(_deliver, answers)

    def end(self) -> None:
        """Wait until all queued calls are done, and end the thread."""
        self._threads.shutdown()
