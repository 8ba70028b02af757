"""The backend in a directory. Calls run at once, and one worker collects awaited calls."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from flexcache_rs._asyncio_calls import without_stop
from flexcache_rs._core import DiskSession, SessionCodec
from flexcache_rs._threads import ForkSafeRLock
from flexcache_rs.sessions._arguments import MISSING
from flexcache_rs.sessions._errors import ClosedError, TimedOut, another
from flexcache_rs.sessions._gathered import LONGEST_PAUSE, SHORTEST_PAUSE, Gatherer
from flexcache_rs.sessions._taking import taken
from flexcache_rs.sessions._waiting import Pauses

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexcache_rs._core import SessionCall
    from flexcache_rs.sessions._gathered import Result
    from flexcache_rs.sessions._taking import Undo
    from flexcache_rs.sessions._terms import Terms


def _make_all(native: DiskSession, calls: list[SessionCall]) -> list[Result | None]:
    """Make the calls that write in one transaction, in which a write that fails undoes only itself, then the others.

    While another process writes, this does not sleep in SQLite, so that reading calls go on.
    """
    results: list[Result | None] = [None] * len(calls)
    for writes in (True, False):
        # Reading calls see the writes that arrived with them.
        places = [place for place, call in enumerate(calls) if call.writes is writes]
        if not places:
            continue
        try:
            made = native.execute_many([calls[place] for place in places], writes)
        except TimedOut:
            continue
        except BaseException as raised:  # noqa: BLE001 - it is their callers'
            made = [(None, another(raised)) for _ in places]
        for place, result in zip(places, made, strict=True):
            results[place] = result
    return results


class DiskBackend:
    """The backend in a directory."""

    name = "disk"
    page = 1000
    fast = None

    def __init__(self, database: Path, terms: Terms) -> None:
        database.parent.mkdir(0o700, parents=True, exist_ok=True)
        self.codec = SessionCodec(terms.serializer, MISSING)
        self._timeout = terms.timeout
        self._database = database
        self._native: DiskSession | None = DiskSession(database, terms.namespace, self.codec, terms.timeout)
        self._gatherer: Gatherer | None = None
        self._process = os.getpid()
        # A handler of a signal may use the session while its thread has it.
        self._starting = ForkSafeRLock()

    def _open(self) -> DiskSession:
        if self._native is None:
            raise ClosedError("the session is closed")
        return self._native

    def _gathering(self) -> Gatherer:
        native = self._open()
        if self._process != os.getpid():
            # A forked child does not have the parent's threads.
            self._gatherer, self._process = None, os.getpid()
        gatherer = self._gatherer
        if gatherer is None:
            made = Gatherer(partial(_make_all, native), self._timeout)
            with self._starting:
                gatherer = self._gatherer = self._gatherer or made
        return gatherer

    def run(self, call: SessionCall) -> Any:
        """Make a call."""
        return self._open().execute(call)

    async def arun(self, call: SessionCall, undo: Undo | None = None) -> Any:
        """Make a call together with calls of other tasks. If the task is cancelled, `undo` gives back what it took."""
        ask = self._gathering().ask
        return await taken(ask(call), undo, ask)

    def run_many(self, calls: list[SessionCall]) -> list[tuple[Any, BaseException | None]]:
        """Make several calls in one transaction. Returns for each its result or its exception."""
        native, deadline, pauses = self._open(), monotonic() + self._timeout, Pauses(SHORTEST_PAUSE, LONGEST_PAUSE)
        writes = any(call.writes for call in calls)
        while True:
            try:
                return native.execute_many(calls, writes)
            except TimedOut:
                if monotonic() >= deadline:
                    raise
            sleep(pauses.next())

    async def arun_many(self, calls: list[SessionCall], undo: Undo | None) -> list[Result]:
        """Make several calls in one transaction, in a thread.

        If the task is cancelled, the calls that `undo` returns give back what they took. None if they take nothing.
        """
        context = copy_context()

        def ask(some: list[SessionCall]) -> asyncio.Future[list[Result]]:
            def make() -> list[Result]:
                return context.run(self.run_many, some)

            return asyncio.get_running_loop().run_in_executor(None, make)

        answers: list[Result] = await taken(ask(calls), undo, ask)
        return answers

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
        gatherer, self._gatherer = self._gatherer, None
        if gatherer is not None and self._process == os.getpid():
            gatherer.end()
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
        call = partial(without_stop, function, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

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
