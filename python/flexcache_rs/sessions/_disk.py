"""The backend in a directory. Calls run at once, and one worker collects awaited calls."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

from flexcache_rs._core import DiskSession, SessionCodec
from flexcache_rs._threads import AutoResetEvent
from flexcache_rs.sessions._arguments import MISSING
from flexcache_rs.sessions._errors import ClosedError, TimedOut
from flexcache_rs.sessions._taking import taken

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexcache_rs._core import SessionCall
    from flexcache_rs.sessions._taking import Undo
    from flexcache_rs.sessions._terms import Terms

_SHORTEST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.02


class _Asked(NamedTuple):
    """An awaited call."""

    call: SessionCall
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    deadline: float


Answers = list[tuple[_Asked, Any, "BaseException | None"]]


def _deliver(answers: Answers) -> None:
    for asked, result, raised in answers:
        if not asked.future.done():
            if raised is None:
                asked.future.set_result(result)
            else:
                asked.future.set_exception(raised)


def _hand_over(answers: Answers) -> None:
    """Deliver results to the event loops of their callers."""
    by_loop: dict[asyncio.AbstractEventLoop, Answers] = {}
    for answer in answers:
        by_loop.setdefault(answer[0].loop, []).append(answer)
    for loop, of_loop in by_loop.items():
        # A closed event loop raises RuntimeError. No task of it waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_deliver, of_loop)


def _another(raised: BaseException) -> BaseException:
    """Return a copy of an exception, so that each caller gets its own."""
    return type(raised)(*raised.args)


class _Worker:
    """Makes the awaited calls of a session. Calls that arrive while it is busy are made together.

    Writes share one transaction, and a write that fails undoes only itself. Results are delivered after the commit. If
    another process writes, the worker does not sleep in SQLite: reads go on, and writes are repeated after a pause.
    """

    def __init__(self, native: DiskSession, timeout: float) -> None:
        self._native = native
        self._timeout = timeout
        self._asked: deque[_Asked] = deque()
        # The calls that the thread has taken from `_asked` and has not finished.
        self._waiting: list[_Asked] = []
        self._is_running = False
        self._came = AutoResetEvent()
        self._threads = ThreadPoolExecutor(1, "flexcache sessions")
        self._process = os.getpid()

    def ask(self, call: SessionCall) -> asyncio.Future[Any]:
        """Queue a call."""
        loop = asyncio.get_running_loop()
        asked = _Asked(call, loop.create_future(), loop, monotonic() + self._timeout)
        try:
            # Append first, then check. `_make_all` does both in the opposite order. Starting twice is harmless.
            self._asked.append(asked)
            if not self._is_running:
                self._is_running = True
                self._threads.submit(self._work)
        except BaseException:
            # No task waits for this call. The next call starts the work.
            asked.future.cancel()
            self._is_running = False
            raise
        self._came.set()
        return asked.future

    def _work(self) -> None:
        try:
            self._make_all()
        except BaseException as raised:  # noqa: BLE001 - it is their callers'
            self._is_running = False
            left, self._waiting = [*self._waiting, *self._taken()], []
            _hand_over([(asked, None, _another(raised)) for asked in left])

    def _taken(self) -> list[_Asked]:
        """Move the queued calls to the thread, and return them."""
        taken: list[_Asked] = []
        with contextlib.suppress(IndexError):
            while True:
                taken.append(self._asked.popleft())
        return taken

    def _make_all(self) -> None:
        pause = _SHORTEST_PAUSE
        while True:
            self._came.clear()
            batch = self._taken()
            if not batch and not self._waiting:
                self._is_running = False
                batch = self._taken()
                if not batch:
                    return
                self._is_running = True
            self._waiting = [asked for asked in (*self._waiting, *batch) if not asked.future.cancelled()]
            reads = [asked for asked in batch if not asked.call.writes]
            writes = [asked for asked in self._waiting if asked.call.writes]
            if not writes or self._make(writes, True):
                writes, pause = [], _SHORTEST_PAUSE
            # Make reads after the commit of the writes that arrived with them.
            if reads:
                self._make(reads, False)
            self._waiting = self._give_up(writes)
            if self._waiting:
                self._came.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _make(self, batch: list[_Asked], writes: bool) -> bool:
        """Make calls. Returns False if another process was writing."""
        batch = [asked for asked in batch if not asked.future.cancelled()]
        try:
            results = self._native.execute_many([asked.call for asked in batch], writes)
        except TimedOut:
            return False
        except BaseException as raised:  # noqa: BLE001 - it is their callers'
            _hand_over([(asked, None, _another(raised)) for asked in batch])
            return True
        _hand_over([(asked, *result) for asked, result in zip(batch, results, strict=True)])
        return True

    def _give_up(self, writes: list[_Asked]) -> list[_Asked]:
        """Fail the calls whose timeout is over, and return the others."""
        now = monotonic()
        late = [asked for asked in writes if asked.deadline <= now]
        message = f"the write lock was not acquired within {self._timeout:g} seconds; nothing was changed"
        _hand_over([(asked, None, TimedOut(message)) for asked in late])
        return [asked for asked in writes if asked.deadline > now]

    def end(self) -> None:
        """Wait until all queued calls are done, and end the thread."""
        self._threads.shutdown()


class DiskBackend:
    """The backend in a directory."""

    name = "disk"
    page = 1000
    fast = None

    def __init__(self, database: Path, terms: Terms) -> None:
        database.parent.mkdir(parents=True, exist_ok=True)
        self.codec = SessionCodec(terms.serializer, MISSING)
        self._timeout = terms.timeout
        self._database = database
        self._native: DiskSession | None = DiskSession(database, terms.namespace, self.codec, terms.timeout)
        self._worker: _Worker | None = None
        self._process = os.getpid()

    def _open(self) -> DiskSession:
        if self._native is None:
            raise ClosedError("the session is closed")
        return self._native

    def _gather(self) -> _Worker:
        native = self._open()
        worker = self._worker
        if worker is None or self._process != os.getpid():
            # A forked child does not have the parent's threads.
            worker = self._worker = _Worker(native, self._timeout)
            self._process = os.getpid()
        return worker

    def run(self, call: SessionCall) -> Any:
        """Make a call."""
        return self._open().execute(call)

    async def arun(self, call: SessionCall, undo: Undo | None = None) -> Any:
        """Make a call together with calls of other tasks. If the task is cancelled, `undo` gives back what it took."""
        ask = self._gather().ask
        return await taken(ask(call), undo, ask)

    def run_many(self, calls: list[SessionCall]) -> list[tuple[Any, BaseException | None]]:
        """Make several calls in one transaction. Returns for each its result or its exception."""
        native, deadline, pause = self._open(), monotonic() + self._timeout, _SHORTEST_PAUSE
        writes = any(call.writes for call in calls)
        while True:
            try:
                return native.execute_many(calls, writes)
            except TimedOut:
                if monotonic() >= deadline:
                    raise
            sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def arun_many(self, calls: list[SessionCall]) -> list[tuple[Any, BaseException | None]]:
        """Make several calls in one transaction, in a thread."""
        return await asyncio.to_thread(self.run_many, calls)

    def version(self) -> int:
        """Return a number that changes with each write of any process."""
        return self._open().version()

    def begin(self) -> DiskTransaction:
        """Begin a transaction of the calling thread. Other writers wait until it ends."""
        transaction = DiskTransaction(self._open())
        transaction.begin_inner()
        return transaction

    async def abegin(self) -> DiskTransaction:
        """Begin a transaction, which has its own thread."""
        transaction = DiskTransaction(self._open(), ThreadPoolExecutor(1, "flexcache transaction"))
        try:
            await transaction.abegin_inner()
        except BaseException:
            transaction.abandon()
            raise
        return transaction

    def stats(self) -> dict[str, Any]:
        """Return information about the store."""
        self._open()
        return {"backend": self.name, "database": str(self._database), "bytes": self._database.stat().st_size}

    def close(self) -> None:
        """Close the database."""
        native, self._native = self._native, None
        worker, self._worker = self._worker, None
        if worker is not None and self._process == os.getpid():
            worker.end()
        if native is not None:
            native.close()

    async def aclose(self) -> None:
        """Close the database in a thread, because the last connection to close writes the log back."""
        if self._native is not None:
            await asyncio.to_thread(self.close)


class DiskTransaction:
    """A transaction. It belongs to the caller's thread, or for an event loop to a separate thread.

    If the thread ends, the transaction is rolled back.
    """

    def __init__(self, native: DiskSession, thread: ThreadPoolExecutor | None = None) -> None:
        self._native = native
        self._thread = thread

    def abandon(self) -> None:
        """End the thread, which rolls back an open transaction."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    async def _there(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def run(self, call: SessionCall) -> Any:
        """Make a call in the transaction."""
        if not self._native.depth():
            raise ClosedError("the transaction belongs to another thread")
        return self._native.execute(call)

    async def arun(self, call: SessionCall) -> Any:
        """Make a call in the transaction."""
        return await self._there(self.run, call)

    def begin_inner(self) -> int:
        """Begin an inner transaction. Returns the number of open ones."""
        before = self._native.depth()
        try:
            self._native.begin()
        except BaseException:
            # A signal handler may have raised after the inner transaction had begun.
            self.end(before + 1)
            raise
        return before + 1

    async def abegin_inner(self) -> int:
        """Begin an inner transaction. Returns the number of open ones."""
        level: int = await self._there(self.begin_inner)
        return level

    def commit(self) -> None:
        """Commit."""
        self._native.commit()

    async def acommit(self) -> None:
        """Commit."""
        await self._leave(self.commit)

    def roll_back(self) -> None:
        """Roll back."""
        self._native.roll_back()

    async def aroll_back(self) -> None:
        """Roll back."""
        await self._leave(self.roll_back)

    def end(self, level: int) -> None:
        """Roll back the open transactions from a level on."""
        while self._native.depth() >= level:
            self._native.roll_back()

    async def aend(self, level: int) -> None:
        """Roll back the open transactions from a level on."""
        if level == 1:
            self.abandon()
        else:
            await self._there(self.end, level)

    def _leave_there(self, function: Callable[[], None]) -> bool:
        function()
        return not self._native.depth()

    async def _leave(self, function: Callable[[], None]) -> None:
        """Leave one level. After the outermost one the thread ends."""
        if await self._there(self._leave_there, function):
            self.abandon()
