"""The backend on a MySQL or MariaDB server: retries and transactions."""

# pyright: basic

from __future__ import annotations

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from flexcache_rs._asyncio_calls import without_stop
from flexcache_rs._idle import Idle
from flexcache_rs._threads import ForkSafeRLock
from flexcache_rs.sessions._arguments import KEPT
from flexcache_rs.sessions._cells import Call, Codec, elements
from flexcache_rs.sessions._errors import (
    ClosedError,
    ConflictError,
    OutcomeUnknown,
    SessionError,
    TimedOut,
    Unavailable,
)
from flexcache_rs.sessions._mysql_link import MOST_PACKET, Link, driver_module, is_late, text_of, whole_seconds
from flexcache_rs.sessions._sql import Plans
from flexcache_rs.sessions._sql_schema import TABLES, UPGRADES, VERSION
from flexcache_rs.sessions._sql_statements import Alone, Last
from flexcache_rs.sessions._taking import taken
from flexcache_rs.sessions._waiting import Pauses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flexcache_rs.sessions._sql_statements import Plan, Result, Statement
    from flexcache_rs.sessions._taking import Undo
    from flexcache_rs.sessions._terms import Terms

_NO_WAIT = "others were writing for {0:g} seconds; nothing has changed"
_ABOUT_LEASES = ("lease", "release")
_LOCK_TIMEOUT = 1205
_AGAIN = (1213, 1062, 1020)
"""Errors after which a call is repeated: a deadlock, a key or a row that another session has just written."""

_BEGIN: list[Statement] = [("START TRANSACTION", ())]
_BEGIN_SERIALIZABLE: list[Statement] = [
    ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", ()),
    ("START TRANSACTION", ()),
]
_COMMIT: Statement = ("COMMIT", ())
_GARBAGE_PER_WRITE = 10
_GARBAGE_PER_ELEMENT = 2
_OWED_AT_MOST = 500


def _next(plan: Plan, results: list[Result] | None) -> tuple[Any, list[Statement] | None]:
    """Advance a plan. Returns its next statements, or its result."""
    try:
        return None, (next(plan) if results is None else plan.send(results))
    except StopIteration as stop:
        return stop.value, None


def _send_after(link: Link, before: list[Statement], statements: Sequence[Statement]) -> list[Result]:
    """Send statements after those of `before`, which is then emptied. Returns the results of the former only."""
    results = link.send([*before, *statements])[len(before) :]
    before.clear()
    return results


class MysqlBackend:
    """The backend in tables of a database."""

    name = "mysql"
    page = 1000
    fast = None

    def __init__(self, arguments: dict[str, Any], connections: int, terms: Terms) -> None:
        self.codec: Any = Codec(terms.serializer)
        self._driver = driver_module()
        self.errors = self._driver.err
        self._timeout = terms.timeout
        self._namespace = terms.namespace
        self._database = arguments.get("database", "")
        self._arguments = {
            **arguments,
            "charset": "utf8mb4",
            "autocommit": True,
            "client_flag": self._driver.constants.CLIENT.MULTI_STATEMENTS,
            # The driver would encode text as Latin-1.
            "password": arguments.get("password", "").encode(),
            "connect_timeout": whole_seconds(terms.timeout),
            # One second longer than the lock timeout, so that a wait for another writer ends first, with its own error.
            "read_timeout": whole_seconds(terms.timeout) + 1,
            "write_timeout": whole_seconds(terms.timeout) + 1,
            "max_allowed_packet": MOST_PACKET,
        }
        self._idle: Idle[Link] = Idle(Link.is_quiet, Link.close)
        # Whether it takes new calls, and whether those in its threads may use connections.
        self._is_open = self._has_connections = True
        self._checked = 0
        self._connections = connections
        # Of calls about leases, and of others.
        self._threads: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None
        self._process = os.getpid()
        # A handler of a signal may use the session while its thread has it.
        self._starting = ForkSafeRLock()
        # For how many elements of keys that are gone others have paid, and how far the names were looked through.
        self._owed = _OWED_AT_MOST
        self._places = {"fx_gate": b"", "fx_log": b"", "fx_lease": b""}

    def take(self) -> Link:
        """Return a connection to the database, which has our tables."""
        if not self._has_connections:
            raise ClosedError("the session is closed")
        idle = self._idle.take()
        if idle is not None:
            return idle
        link = Link(self._driver, self._arguments, self._timeout)
        if self._checked != os.getpid():
            self._check(link)
            self._checked = os.getpid()
        return link

    def give_back(self, link: Link) -> None:
        """Put a connection back for other calls, or close it if its state is unknown."""
        if link.is_whole and not link.in_transaction and self._has_connections:
            self._idle.put(link)
        else:
            link.close()

    def _check(self, link: Link) -> None:
        """Create missing tables, and upgrade those of an earlier version.

        Raises:
            SessionError: The tables are of a later version.
        """
        try:
            try:
                (found,) = link.send([("SELECT version FROM fx_meta", ())])
            except self.errors.MySQLError as error:
                if link.is_lost(error) or error.args[0] != 1146:
                    raise
                found = None
            if found is None or not found.rows:
                for statement in TABLES:
                    link.send([(statement, ())])
                (found,) = link.send([("SELECT version FROM fx_meta", ())])
            if found.rows[0][0] in range(1, VERSION):
                for statements in UPGRADES[found.rows[0][0] - 1 :]:
                    for statement in statements:
                        link.send([(statement, ())])
                (found,) = link.send([("SELECT version FROM fx_meta", ())])
        except self.errors.MySQLError as error:
            link.close()
            raise self.failed(error, link, False) from error
        version = found.rows[0][0]
        if version != VERSION:
            link.close()
            raise SessionError(
                f"the tables of sessions in {self._database} have version {version!r}, "
                "which this flexcache-rs does not know"
            )

    def failed(self, error: Any, link: Link, is_sent_write: bool) -> Exception:
        """Convert an error of the driver to an error of sessions."""
        text = text_of(error)
        if link.is_lost(error):
            if is_sent_write:
                return OutcomeUnknown(f"the connection was lost: {text}; the call may have been made")
            return (TimedOut if is_late(error) else Unavailable)(f"the connection was lost: {text}")
        if error.args[0] == _LOCK_TIMEOUT:
            return TimedOut(_NO_WAIT.format(self._timeout))
        return SessionError(f"the server refused a statement: {text}")

    def run(self, call: Any) -> Any:
        """Make a call. Repeat it after a conflict, and a reading call also after a lost connection."""
        reply = self._run(call)
        if call.writes:
            self.owe(elements(call))
        return reply

    def owe(self, stored: int) -> None:
        """Count a write of `stored` elements. Every few writes, remove expired keys and elements of removed keys.

        The first write of a session does so too.
        """
        self._owed += _GARBAGE_PER_WRITE + stored * _GARBAGE_PER_ELEMENT
        if self._owed < _OWED_AT_MOST:
            return
        most, self._owed = self._owed, 0
        # The call itself has succeeded. If the cleanup fails, a later write tries again.
        with contextlib.suppress(SessionError, ValueError):
            self._run(Call("tidy", (), 0, KEPT, (most, self._places), True))

    def _run(self, call: Any) -> Any:
        deadline, pauses, is_first = monotonic() + self._timeout, Pauses(), True
        while True:
            link = self.take()
            commits = [False]
            try:
                return self._make(link, call, commits)
            except self.errors.MySQLError as error:
                link.roll_back()
                lost = link.is_lost(error)
                # Do not repeat a call after a timeout, because its caller has already waited.
                if lost and not call.writes and is_first and not is_late(error):
                    is_first = False
                    continue
                if lost or error.args[0] not in _AGAIN:
                    raise self.failed(error, link, commits[0]) from error
                if monotonic() > deadline:
                    raise TimedOut(_NO_WAIT.format(self._timeout)) from error
            except BaseException:
                link.roll_back()
                raise
            finally:
                self.give_back(link)
            sleep(pauses.next())

    def _make(self, link: Link, call: Call, commits: list[bool]) -> Any:
        """Follow the plan of a call. `commits[0]` is True while statements are sent that may commit a write."""
        plan = Plans(self._namespace, self.codec).plan(call)
        begin = list(_BEGIN) if call.writes else []
        reply, statements = _next(plan, None)
        while statements is not None:
            if isinstance(statements, Alone):
                commits[0] = call.writes
                results = link.send(statements)
                commits[0] = False
            else:
                results = _send_after(link, begin, statements)
            reply, statements = _next(plan, results)
        last = reply.statements if isinstance(reply, Last) else []
        ends = link.in_transaction or bool(begin and last)
        commits[0] = call.writes
        results = _send_after(link, begin if last else [], [*last, *([_COMMIT] if ends else [])])
        return reply.answer(results[: len(last)]) if isinstance(reply, Last) else reply

    def _executor(self, call: Any) -> ThreadPoolExecutor:
        """The threads for a call. One makes all calls about leases, so that giving back never overtakes asking."""
        if self._process != os.getpid():
            # A forked child does not have the parent's threads.
            self._threads, self._process = None, os.getpid()
        if self._threads is None:
            leases = others = ThreadPoolExecutor(1, "flexcache sessions")
            if self._connections > 1:
                others = ThreadPoolExecutor(self._connections - 1, "flexcache sessions")
            with self._starting:
                if not self._is_open:
                    raise ClosedError("the session is closed")
                self._threads = self._threads or (leases, others)
        return self._threads[call.name not in _ABOUT_LEASES]

    def _ask(self, call: Any) -> asyncio.Future[Any]:
        if not self._is_open:
            raise ClosedError("the session is closed")
        return asyncio.get_running_loop().run_in_executor(self._executor(call), partial(without_stop, self.run, call))

    async def arun(self, call: Any, undo: Undo | None = None) -> Any:
        """Make a call in a thread of a pool. Each thread uses its own connection.

        If the task is cancelled, `undo` gives back what the call took.
        """
        return await taken(self._ask(call), undo, self._ask)

    def begin(self) -> MysqlTransaction:
        """Begin a transaction, which has its own connection."""
        link = self.take()
        transaction = MysqlTransaction(self, link, Plans(self._namespace, self.codec, locks=True))
        try:
            link.send(_BEGIN_SERIALIZABLE)
        except self.errors.MySQLError as error:
            link.close()
            raise self.failed(error, link, False) from error
        except BaseException:
            link.close()
            raise
        return transaction

    async def abegin(self) -> MysqlTransaction:
        """Begin a transaction. Its calls are made in threads."""
        if not self._is_open:
            raise ClosedError("the session is closed")
        # A separate thread for each transaction: in a shared one, a wait for a lock could block the lock's holder.
        threads = ThreadPoolExecutor(1, "flexcache transaction")
        begun = asyncio.get_running_loop().run_in_executor(threads, self.begin)
        try:
            transaction = await asyncio.shield(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(_give_up)
            threads.shutdown(wait=False)
            raise
        except BaseException:
            threads.shutdown(wait=False)
            raise
        transaction.threads = threads
        return transaction

    def stats(self) -> dict[str, Any]:
        """Return information about the store."""
        if not self._is_open:
            raise ClosedError("the session is closed")
        return {"backend": self.name, "database": self._database}

    def close(self) -> None:
        """Close the connections after the calls that the threads have begun."""
        with self._starting:
            self._is_open = False
            threads = self._threads
        # Each is done, also if a signal interrupts one of them.
        with contextlib.ExitStack() as ends:
            ends.callback(self._disconnect)
            if threads is not None and self._process == os.getpid():
                for each in threads:
                    ends.callback(each.shutdown)
        self._threads = None

    def _disconnect(self) -> None:
        self._has_connections = False
        self._idle.close()

    async def aclose(self) -> None:
        """Close the connections in a thread, because this waits for running calls."""
        if self._is_open:
            await asyncio.to_thread(self.close)


def _give_up(begun: asyncio.Future[MysqlTransaction]) -> None:
    if not begun.cancelled() and begun.exception() is None:
        begun.result().end(1)


class MysqlTransaction:
    """A serializable transaction. It locks the keys that it reads. Other writers of these keys wait for its end."""

    def __init__(self, backend: MysqlBackend, link: Link, plans: Plans) -> None:
        self._backend, self._plans = backend, plans
        self._link: Link | None = link
        self._depth = 1
        self._stored = 0
        self._lock = ForkSafeRLock()
        self.threads: ThreadPoolExecutor | None = None

    def _open(self) -> Link:
        if self._link is None or not self._link.is_whole:
            raise ClosedError("the transaction has ended, or was interrupted")
        return self._link

    def _lose(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.roll_back()
            self._backend.give_back(link)

    def _send(self, statements: list[Statement], commits: bool = False) -> list[Result]:
        link = self._open()
        try:
            return link.send(statements)
        except self._backend._driver.err.MySQLError as error:
            raise self._failed(error, link, commits) from error

    def _failed(self, error: Any, link: Link, commits: bool) -> Exception:
        """Convert an error. After a conflict the whole transaction is lost."""
        code = error.args[0] if error.args else 0
        if not link.is_lost(error) and (code in _AGAIN or code == _LOCK_TIMEOUT):
            self._lose()
            return ConflictError("another transaction got in the way of this one; nothing of it was stored")
        # A lost connection is not whole, so that no call uses it again. It is closed at the end of the transaction.
        return self._backend.failed(error, link, commits)

    def run(self, call: Any) -> Any:
        """Make a call in the transaction. If it fails, only this call is undone."""
        with self._lock:
            link = self._open()
            plan = self._plans.plan(call)
            self._stored += elements(call) if call.writes else 0
            errors = self._backend.errors
            # Sent with the call's first statements. `before` tells whether it was sent: otherwise a rollback would go
            # to an older savepoint of the same name.
            before: list[Statement] = [("SAVEPOINT fx_call", ())]
            try:
                reply, statements = _next(plan, None)
                while statements is not None:
                    reply, statements = _next(plan, _send_after(link, before, statements))
                if not isinstance(reply, Last):
                    return reply
                return reply.answer(_send_after(link, before, reply.statements) if reply.statements else [])
            except errors.MySQLError as error:
                failed = self._failed(error, link, False)
                self._undo(link, not before)
                raise failed from error
            except Exception:
                self._undo(link, not before)
                raise
            except BaseException:
                # It is unknown how much of the call was made.
                link.is_whole = False
                raise

    def _undo(self, link: Link, was_sent: bool) -> None:
        if was_sent and self._link is not None and link.is_whole and link.in_transaction:
            self._send([("ROLLBACK TO SAVEPOINT fx_call", ())])

    async def _there(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(
            self.threads, partial(without_stop, function, *arguments)
        )

    async def arun(self, call: Any) -> Any:
        """Make a call in the transaction."""
        return await self._there(self.run, call)

    def begin_inner(self) -> int:
        """Begin an inner transaction. Returns the number of open ones."""
        with self._lock:
            self._send([(f"SAVEPOINT fx_inner_{self._depth}", ())])
            self._depth += 1
            return self._depth

    async def abegin_inner(self) -> int:
        """Begin an inner transaction. Returns the number of open ones."""
        level: int = await self._there(self.begin_inner)
        return level

    def commit(self) -> None:
        """Commit."""
        with self._lock:
            if self._depth > 1:
                self._send([(f"RELEASE SAVEPOINT fx_inner_{self._depth - 1}", ())])
                self._depth -= 1
                return
            self._send([_COMMIT], True)
            self._depth = 0
            self._lose()
        self._rest()
        self._backend.owe(self._stored)

    def roll_back(self) -> None:
        """Roll back."""
        with self._lock:
            if self._depth > 1:
                self._depth -= 1
                # If the connection is lost, the server has already rolled back.
                if self._link is not None and self._link.is_whole:
                    self._send([(f"ROLLBACK TO SAVEPOINT fx_inner_{self._depth}", ())])
                return
            self._depth = 0
            self._lose()
        self._rest()

    def _rest(self) -> None:
        """End the thread."""
        if self.threads is not None:
            self.threads.shutdown(wait=False)

    def end(self, level: int) -> None:
        """Roll back the open transactions from a level on."""
        with self._lock:
            while self._depth >= max(level, 2):
                self.roll_back()
            if level == 1:
                self._depth = 0
                self._lose()
        if level == 1:
            self._rest()

    async def acommit(self) -> None:
        """Commit."""
        await self._there(self.commit)

    async def aroll_back(self) -> None:
        """Roll back."""
        await self._there(self.roll_back)

    async def aend(self, level: int) -> None:
        """Roll back the open transactions from a level on."""
        # Use another thread, because the transaction's own accepts no calls after the last commit.
        await asyncio.to_thread(self.end, level)
