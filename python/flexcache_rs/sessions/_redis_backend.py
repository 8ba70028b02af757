"""The backend on a Valkey or Redis server: connections, and transactions on copies."""

# pyright: basic

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING, Any

from flexcache_rs._threads import ForkSafeRLock
from flexcache_rs.remote.errors import RemoteTimeoutError
from flexcache_rs.sessions._cells import Codec, key_cell
from flexcache_rs.sessions._errors import (
    ClosedError,
    ConflictError,
    OutcomeUnknown,
    SessionError,
    TimedOut,
    Unavailable,
    UnsupportedError,
)
from flexcache_rs.sessions._gathered import Gatherer
from flexcache_rs.sessions._redis import Names, Plans
from flexcache_rs.sessions._redis_lane import AwaitedLane, client_of
from flexcache_rs.sessions._redis_scripts import COMMIT, TOUCH, script
from flexcache_rs.sessions._redis_sender import LANE, Sender
from flexcache_rs.sessions._redis_wakes import Waker, Wakes
from flexcache_rs.sessions._taking import taken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flexcache_rs.sessions._cells import Call
    from flexcache_rs.sessions._gathered import Result
    from flexcache_rs.sessions._redis import Command, Plan
    from flexcache_rs.sessions._taking import Undo
    from flexcache_rs.sessions._terms import Terms

_VERSION = b"1"
"""The version of the format that `_redis.py` describes."""

_RENEWED_AFTER = 10.0
_OVER_AFTER = 50.0
_OF_KEYSPACE = ("keys", "count", "count_expired", "expiring", "clear", "purge")


def _go_on(plan: Plan, replies: list[Any] | None, sender: Sender) -> tuple[list[Command] | None, Result]:
    """Advance a plan. Returns its next commands, or its result."""
    try:
        for reply in replies or ():
            if isinstance(reply, Exception):
                raise sender.failed(reply, False) from reply
        return (next(plan) if replies is None else plan.send(replies)), (None, None)
    except StopIteration as stop:
        return None, (stop.value, None)
    except Exception as raised:  # noqa: BLE001 - it is its caller's
        return None, (None, raised)


class RedisBackend:
    """The backend on a Valkey or Redis server."""

    name = "redis"
    page = 2**63 - 1
    fast = None

    def __init__(self, url: str, terms: Terms) -> None:
        self.codec: Any = Codec(terms.serializer)
        self._names = Names(terms.namespace)
        self._timeout = terms.timeout
        self._client = client_of(url, terms.timeout, "flexcache-sessions")
        self._sender: Sender | None = Sender(self._client, terms.timeout)
        self._is_open = True
        self._plans = Plans(self._names, self.codec, self._names.data)
        self._lane = AwaitedLane(self._plans, self._sender.failed)
        self._checked = 0
        self._gatherer: Gatherer | None = None
        self._wakes: Wakes | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        # A handler of a signal may use the session while its thread has it.
        self._starting = ForkSafeRLock()

    def _open(self) -> Sender:
        """Return the sender. Calls that were queued before the session was closed can still use it."""
        if self._sender is None:
            raise ClosedError("the session is closed")
        return self._sender

    def _check_open(self) -> None:
        if not self._is_open:
            raise ClosedError("the session is closed")

    def _connected(self, shares: bool = False) -> tuple[Sender, Any]:
        """Return a connection to a server that has the format of this release. With `shares`, threads may share it."""
        sender = self._open()
        if shares and self._client.lane == "direct" and self._checked == os.getpid():
            return sender, LANE
        connection = sender.borrow()
        if self._checked != os.getpid():
            try:
                self._check(sender, connection)
            except BaseException:
                sender.give_back(connection)
                raise
            self._checked = os.getpid()
        return sender, connection

    def _check(self, sender: Sender, connection: Any) -> None:
        name = self._names.version
        replies = sender.exchange(connection, [("SET", name, _VERSION, "NX"), ("GET", name)], False)
        for reply in replies:
            if isinstance(reply, Exception):
                raise sender.failed(reply, False) from reply
        found = replies[1]
        if found != _VERSION:
            version = found.decode("ascii", "replace") if isinstance(found, bytes) else found
            raise SessionError(
                f"the namespace has version {version} of sessions, which this flexcache-rs does not support"
            )

    def run(self, call: Any) -> Any:
        """Make a call. If the connection breaks, a call that only reads is repeated over a new one."""
        self._check_open()
        return self._run(call)

    def _run(self, call: Call) -> Any:
        plain = self._plans.plain(call)
        for attempt in (0, 1):
            sender, connection = self._connected(shares=True)
            try:
                if plain is not None:
                    (reply,) = sender.exchange(connection, [plain], call.writes)
                    if not isinstance(reply, Exception):
                        return self._plans.answer(call, reply)
                return sender.run(connection, self._plans.plan(call), call.writes)
            except TimedOut:
                raise
            except Unavailable:
                if call.writes or attempt:
                    raise
            finally:
                sender.give_back(connection)
        raise AssertionError("unreachable")

    def _run_all(self, calls: Sequence[Call]) -> list[Result]:
        """Make several calls in common round trips."""
        if len(calls) == 1:
            try:
                return [(self._run(calls[0]), None)]
            except BaseException as raised:  # noqa: BLE001 - it is its caller's
                return [(None, raised)]
        results: list[Result] = [(None, None)] * len(calls)
        sender, connection = self._connected()
        try:
            plans = [self._plans.plan(call) for call in calls]
            going: list[tuple[int, list[Any] | None]] = [(number, None) for number in range(len(calls))]
            while going:
                asked: list[tuple[int, list[Command]]] = []
                for number, replies in going:
                    commands, results[number] = _go_on(plans[number], replies, sender)
                    if commands is not None:
                        asked.append((number, commands))
                try:
                    found = sender.exchange(connection, [command for _, some in asked for command in some], True)
                except Unavailable as error:
                    for number, _ in asked:
                        results[number] = self._again(calls[number], error)
                    break
                going = []
                at = 0
                for number, some in asked:
                    going.append((number, found[at : at + len(some)]))
                    at += len(some)
        finally:
            sender.give_back(connection)
        return results

    def _again(self, call: Call, error: Unavailable) -> Result:
        """Return the result of a call whose connection failed. Repeats a reading call, except after a timeout."""
        if call.writes:
            return None, OutcomeUnknown(*error.args)
        if isinstance(error.__cause__, RemoteTimeoutError):
            return None, TimedOut(str(error.__cause__))
        try:
            return self._run(call), None
        except Exception as raised:  # noqa: BLE001 - it is its caller's
            return None, raised

    def _here(self) -> None:
        """Forget the threads of a parent process, which a forked child does not have."""
        if self._process != os.getpid():
            self._gatherer = self._threads = self._wakes = None
            self._process = os.getpid()

    async def arun(self, call: Any, undo: Undo | None = None) -> Any:
        """Make a call together with calls of other tasks. If the task is cancelled, `undo` gives back what it took."""
        self._check_open()
        self._here()
        gatherer = self._gatherer
        if gatherer is None:
            made = Gatherer(self._run_all, self._timeout)
            with self._starting:
                gatherer = self._gatherer = self._gatherer or made
        # A call must not overtake those that were asked before the event loop had a connection.
        if self._checked == os.getpid() and gatherer.is_idle:
            ask = self._client.asker(b"")
            if ask is not None:
                return await self._lane.run(call, ask, undo, gatherer.ask)
        return await taken(gatherer.ask(call), undo, gatherer.ask)

    def begin(self) -> RedisTransaction:
        """Begin a transaction, which has its own connection."""
        self._check_open()
        sender, connection = self._connected()
        transaction = RedisTransaction(sender, connection, self._names, self.codec)
        try:
            transaction.start()
        except BaseException:
            transaction.end(1)
            raise
        return transaction

    def waiting(self, key: str, is_lease: bool) -> Waker:
        """Return the object with which a call waits for an element of a key, or for a lease. The server notifies it."""
        self._check_open()
        sender = self._open()
        self._here()
        wakes = self._wakes
        if wakes is None:
            made = Wakes(sender.connect, self._names.wakes, weakref.ref(self))
            with self._starting:
                wakes = self._wakes = self._wakes or made
        return Waker(wakes, (self._names.lease if is_lease else self._names.data)(key_cell(key)))

    async def abegin(self) -> RedisTransaction:
        """Begin a transaction. Its calls are made in threads."""
        self._check_open()
        self._here()
        if self._threads is None:
            made = ThreadPoolExecutor(8, "flexcache transaction")
            with self._starting:
                self._threads = self._threads or made
        threads = self._threads
        begun = asyncio.get_running_loop().run_in_executor(threads, self.begin)
        try:
            transaction = await asyncio.shield(begun)
        except asyncio.CancelledError:
            # The transaction still begins in its thread, and is then rolled back.
            begun.add_done_callback(_give_up)
            raise
        transaction.threads = threads
        return transaction

    def stats(self) -> dict[str, Any]:
        """Return information about the store."""
        self._check_open()
        return {"backend": self.name, "namespace": self._names.base.decode()}

    def close(self) -> None:
        """Close the connections after the queued awaited calls are done."""
        self._is_open = False
        # Each is done, also if a signal interrupts one of them.
        with contextlib.ExitStack() as ends:
            ends.callback(self._disconnect)
            if self._process == os.getpid():
                if self._threads is not None:
                    ends.callback(self._threads.shutdown)
                if self._gatherer is not None:
                    ends.callback(self._gatherer.end)
                if self._wakes is not None:
                    ends.callback(self._wakes.close)
        self._gatherer = self._threads = self._wakes = None

    def _disconnect(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()
            self._client.close()

    async def aclose(self) -> None:
        """Close the connections in a thread, because this waits for queued calls."""
        if self._is_open:
            self._is_open = False
            try:
                pending = self._client.pending()
                if pending:
                    await asyncio.wait(pending)
            finally:
                await asyncio.to_thread(self.close)


def _give_up(begun: asyncio.Future[RedisTransaction]) -> None:
    if not begun.cancelled() and begun.exception() is None:
        begun.result().end(1)


class RedisTransaction:
    """A transaction. It watches each key that it uses, and works on a copy of it.

    If a client dies, its copies are removed by `purge`, or by a transaction that begins at least a minute later.
    """

    def __init__(self, sender: Sender, connection: Any, names: Names, codec: Codec) -> None:
        self._sender, self._connection, self._names = sender, connection, names
        self._id = os.urandom(8).hex().encode()
        # By level: the keys that were used, and whether they were written.
        self._levels: list[dict[bytes, bool]] = []
        self._plans = Plans(names, codec, self._copy)
        self._renewed = monotonic()
        self._is_whole = True
        self._lock = ForkSafeRLock()
        self.threads: ThreadPoolExecutor | None = None

    def start(self) -> None:
        """Register the transaction on the server."""
        self._send([script("BEGIN", [self._names.transactions], self._id)], False)
        self._levels.append({})

    def _send(self, commands: list[Command], writes: bool) -> list[Any]:
        replies = self._sender.exchange(self._connection, commands, writes)
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._sender.failed(reply, False) from reply
        return replies

    def _source(self, key: bytes, below: int) -> bytes | None:
        """Return the name of a key's copy on the highest level up to `below`, or None."""
        for level in range(below, 0, -1):
            if key in self._levels[level - 1]:
                return self._names.copy(self._id, level, key)
        return None

    def _copy(self, key: bytes) -> bytes:
        return self._names.copy(self._id, len(self._levels), key)

    def _script(self, name: str, keys: Sequence[bytes]) -> Command:
        return script(name, [self._names.transactions, *keys], self._id)

    def run(self, call: Any) -> Any:
        """Make a call in the transaction."""
        if call.name in _OF_KEYSPACE and not call.kind:
            raise UnsupportedError(f"{call.name}() cannot be part of a transaction on this backend")
        with self._lock:
            self._check()
            try:
                return self._follow(call)
            except Unavailable as error:
                # With its connection, the transaction has lost its watches.
                self._lose()
                raise type(error)(f"{error}; the transaction is rolled back") from error

    def _follow(self, call: Call) -> Any:
        """Follow the plan of a call. The commands that copy keys which are new to the transaction come first."""
        passed = monotonic() - self._renewed
        if passed > _OVER_AFTER:
            raise TimedOut("the transaction was not continued for a minute")
        level = self._levels[-1]
        new = [key for key in dict.fromkeys(call.keys) if key not in level]
        before = self._copying(new) if new or passed > _RENEWED_AFTER else []
        plan = self._plans.plan(call)
        try:
            commands = next(plan)
            while True:
                # If sending raises, it is unknown which commands were run, and the transaction is lost.
                self._is_whole = False
                replies = self._send([*before, *commands], False)
                if before and not replies[len(before) - 1]:
                    raise TimedOut("the transaction was not continued for a minute")
                if before:
                    self._renewed = monotonic()
                level.update(dict.fromkeys(new, False))
                if call.writes:
                    level.update(dict.fromkeys(call.keys, True))
                self._is_whole = True
                replies, before, new = replies[len(before) :], [], []
                commands = plan.send(replies)
        except StopIteration as stop:
            return stop.value

    def _copying(self, new: list[bytes]) -> list[Command]:
        sources = [(key, self._source(key, len(self._levels) - 1)) for key in new]
        watched = [self._names.data(key) for key, source in sources if source is None]
        names = [name for key, source in sources for name in (source or self._names.data(key), self._copy(key))]
        # With the script's text, because the commands after it could not wait until the server has the script.
        copying: Command = ("EVAL", TOUCH, 1 + len(names), self._names.transactions, *names, self._id)
        return [("WATCH", *watched), copying] if watched else [copying]

    def _check(self) -> None:
        if not self._levels or self._connection is None or not self._is_whole:
            raise ClosedError("the transaction has ended, or was interrupted")

    def _lose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    async def _there(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)

    async def arun(self, call: Any) -> Any:
        """Make a call in it."""
        return await self._there(self.run, call)

    def begin_inner(self) -> int:
        """Begin an inner transaction. Returns the number of open ones."""
        with self._lock:
            self._check()
            self._levels.append({})
            return len(self._levels)

    async def abegin_inner(self) -> int:
        """Begin an inner transaction. Returns the number of open ones."""
        return self.begin_inner()

    def commit(self) -> None:
        """Commit."""
        with self._lock:
            self._check()
            if len(self._levels) > 1:
                self._join()
            else:
                self._commit(self._levels[0])

    def _join(self) -> None:
        inner, outer = self._levels[-1], self._levels[-2]
        number = len(self._levels)
        written = [key for key, is_written in inner.items() if is_written]
        names = [self._names.copy(self._id, level, key) for key in written for level in (number, number - 1)]
        self._is_whole = False
        if names:
            self._send([self._script("JOIN", names)], False)
        outer.update(dict.fromkeys(written, True))
        self._levels.pop()
        self._is_whole = True

    def _commit(self, touched: dict[bytes, bool]) -> None:
        self._levels.clear()
        if not touched:
            self._leave()
            return
        keys = [
            name
            for key, is_written in touched.items()
            if is_written
            for name in (self._names.data(key), self._names.copy(self._id, 1, key))
        ]
        store: Command = ("EVAL", COMMIT, 1 + len(keys), self._names.transactions, *keys, self._id)
        self._is_whole = False
        *_, replies = self._send([("MULTI",), store, ("EXEC",)], True)
        self._is_whole = True
        if replies is not None and isinstance(replies[0], Exception):
            raise self._sender.failed(replies[0], False) from replies[0]
        if replies is None or replies[0] == 0:
            self._leave()
            raise ConflictError("another write changed what the transaction has read; nothing of it was stored")
        self._give_back()

    def roll_back(self) -> None:
        """Roll back."""
        with self._lock:
            if len(self._levels) > 1:
                # The keys stay watched, because the program may have read them and depend on their values.
                inner = self._levels.pop()
                names = [self._names.copy(self._id, len(self._levels) + 1, key) for key in inner]
                if names and self._connection is not None and self._is_whole:
                    self._is_whole = False
                    self._send([("UNLINK", *names)], False)
                    self._is_whole = True
                return
            self._levels.clear()
            self._leave()

    def _leave(self) -> None:
        """Remove the transaction's copies from the server. If that fails, a transaction removes them after a minute."""
        connection = self._connection
        if connection is None:
            return
        forget = self._script("FORGET", ())
        with contextlib.suppress(SessionError):
            if self._is_whole:
                self._is_whole = False
                self._send([forget, ("UNWATCH",)], False)
                self._is_whole = True
            else:
                # The connection may have unread replies, so use another one.
                self._lose()
                other = self._sender.borrow()
                try:
                    self._sender.exchange(other, [forget], False)
                finally:
                    self._sender.give_back(other)
        self._give_back()

    def _give_back(self) -> None:
        """Put the connection back for other calls, or close it if its state is unknown."""
        connection, self._connection = self._connection, None
        if connection is not None and self._is_whole:
            self._sender.give_back(connection)
        elif connection is not None:
            connection.disconnect()

    def end(self, level: int) -> None:
        """Roll back the open transactions from a level on."""
        with self._lock:
            while len(self._levels) >= max(level, 2):
                self.roll_back()
            if level == 1:
                self._levels.clear()
                self._leave()

    async def acommit(self) -> None:
        """Commit."""
        await self._there(self.commit)

    async def aroll_back(self) -> None:
        """Roll back."""
        await self._there(self.roll_back)

    async def aend(self, level: int) -> None:
        """Roll back the open transactions from a level on."""
        await self._there(self.end, level)
