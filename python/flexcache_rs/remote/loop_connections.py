"""Awaited commands without a thread.

Each event loop has a connection, made as those of the user's client, and reads it itself. It is made in a thread; until
it is there, calls go through threads. A command is sent at once if none is in line. What is asked meanwhile goes out
together at the end of the loop's iteration.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import weakref
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from flexcache_rs._core import RemoteReplies, _remote_entry  # pyright: ignore[reportPrivateUsage]
from flexcache_rs.remote.errors import RemoteError
from flexcache_rs.remote.given import shut_down
from flexcache_rs.remote.replies import check, check_all
from flexcache_rs.remote.resp import command, commands

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flexcache_rs._core import WriteInFlight

    _OutOfStep = Callable[[], Callable[[], object] | None]
    _Connections = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref["LoopConnection"]]

_MOST_READ = 1 << 16
"""The largest number of bytes of one read. A TLS record is smaller, so one read never leaves a part of it behind."""

_BETWEEN_ATTEMPTS = 1.0
"""Seconds before another attempt to connect after a failure."""

_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""Exceptions of a socket operation that would block."""

_UNSENT = {"timeout": "unsent_timeout", "lost": "unsent"}
"""The kinds of failures for commands that were not sent."""


class _Asked(NamedTuple):
    """A command whose reply has not come, or several commands."""

    future: asyncio.Future[Any]
    until: float
    known: Any
    """The known nonces for reading the reply as an entry, or None."""
    start: int
    """The position of its first byte in the stream of the connection."""
    heard: int
    """How often something had come before it was asked."""
    commands: Sequence[tuple[Any, ...]]
    """The commands, each of which has one reply."""
    replies: list[Any] | None
    """The replies that have come, if the future is to return all of them; None where it returns the only one."""
    write: WriteInFlight | None
    """What ends when the reply has come, also if its task does not wait any more."""


class LoopConnection:
    """A connection of one event loop, used in its thread only.

    Only the loop keeps it alive, because its pending commands refer to the loop.

    Args:
        connection: A connection of the client's package, which is not used elsewhere.
        failed: Makes an exception from its kind and text. See `failures.failed`.
        timeout: The largest number of seconds for a reply.
        out_of_step: Returns a function to call after the connection got replies that belong to other commands, or None.
    """

    def __init__(
        self, connection: Any, failed: Callable[[str, str], Exception], timeout: float, out_of_step: _OutOfStep
    ) -> None:
        # The connection closes its socket when it is collected, so keep a reference.
        self._connection, self._failed, self._timeout = connection, failed, timeout
        self._out_of_step = out_of_step
        self._socket: Any = connection._sock
        self._socket.setblocking(False)
        self._replies = RemoteReplies(list, failed)
        self._waiting: deque[_Asked] = deque()
        self._heard = 0
        self._held: list[bytes] = []
        """Commands that wait for the end of the loop's iteration, or for the socket."""
        self._unsent: bytes | memoryview = b""
        """Bytes that the socket has not accepted yet."""
        self._queued = self._sent = 0
        """Numbers of bytes since the beginning of the connection."""
        self._is_held = self._is_full = self._is_timed = False
        self.is_open = True

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the event loop read the connection.

        Raises:
            NotImplementedError: The loop cannot read sockets.
        """
        loop.add_reader(self._socket.fileno(), self._read)

    def submit(
        self,
        known: Any,
        parts: tuple[Any, ...],
        *,
        before: Sequence[tuple[Any, ...]] | None = None,
        write: WriteInFlight | None = None,
    ) -> asyncio.Future[Any]:
        """Send a command, or queue it. Returns the future of its reply.

        Args:
            known: The known nonces for reading the reply as an entry, or None.
            parts: The command.
            before: Commands that are sent before it. If they are given, the future returns a list of all replies, in
                which a refusal is an exception. Otherwise, it raises a refusal.
            write: Ends when the reply has come, or never will.
        """
        loop = asyncio.get_running_loop()
        all_parts = (*(before or ()), parts)
        data = command(*parts) if before is None else commands(all_parts)
        future: asyncio.Future[Any] = loop.create_future()
        is_first = not self._waiting
        if is_first and write is not None and self._has_ended():
            self._end("the server closed the connection")
            future.set_exception(self._failed("unsent", "the server closed the connection"))
            write.end()
            return future
        now = loop.time()
        until = now + self._timeout
        try:
            replies: list[Any] | None = None if before is None else []
            self._waiting.append(_Asked(future, until, known, self._queued, self._heard, all_parts, replies, write))
            self._queued += len(data)
            self._held.append(data)
            if is_first:
                self._flush()
            elif not self._is_held:
                loop.call_soon(self._flush)
                self._is_held = True
            if not self._is_timed:
                loop.call_later(self._timeout, self._look)
                self._is_timed = True
        except BaseException:
            # A signal handler has raised, so replies can no longer be assigned to commands.
            self._end("sending a command was interrupted")
            raise
        return future

    def _has_ended(self) -> bool:
        """Whether unexpected data has arrived, such as the end of the connection. TLS hides this, so then False."""
        if type(self._socket) is not socket.socket:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except _NOT_NOW:
            return False
        except OSError:
            return True
        return True

    def _flush(self) -> None:
        self._is_held = False
        # If the socket is full, the loop calls `_write` when it accepts more.
        if not self._is_full:
            self._write()

    def _write(self) -> None:
        """Send queued bytes until the socket accepts no more."""
        loop = asyncio.get_running_loop()
        try:
            while self._unsent or self._held:
                if not self._unsent:
                    held, self._held = self._held, []
                    self._unsent = held[0] if len(held) == 1 else b"".join(held)
                count = self._socket.send(self._unsent)
                self._sent += count
                self._unsent = memoryview(self._unsent)[count:] if count < len(self._unsent) else b""
        except _NOT_NOW:
            if not self._is_full:
                loop.add_writer(self._socket.fileno(), self._write)
                self._is_full = True
        except OSError as error:
            self._end(f"the connection to the server was lost: {error}")
        else:
            if self._is_full:
                loop.remove_writer(self._socket.fileno())
                self._is_full = False

    def _read(self) -> None:
        try:
            data = self._socket.recv(_MOST_READ)
            replies = self._replies.feed(data)
        except _NOT_NOW:
            return
        except Exception as error:  # noqa: BLE001  # What was read is no reply, or the connection was lost.
            self._end(f"the connection to the server was lost: {error}")
            return
        self._heard += 1
        try:
            self._hand_out(replies)
        except BaseException:
            self._end("reading replies was interrupted")
            raise
        if not data:
            self._end("the server closed the connection")

    def _hand_out(self, replies: list[Any]) -> None:
        """Give replies to those who wait for them, in their order. End the connection after a reply to nobody."""
        at = 0
        while at < len(replies) and self._waiting:
            asked = self._waiting[0]
            reply, end = replies[at], at + 1
            if asked.replies is not None:
                end = at + len(asked.commands) - len(asked.replies)
                asked.replies.extend(replies[at:end])
                if end > len(replies):
                    return
                reply = asked.replies
            at = end
            try:
                if asked.replies is None:
                    check(asked.commands[0], reply)
                else:
                    check_all(asked.commands, reply)
            except RemoteError as error:
                self._waiting.popleft()
                self._answer(asked, error)
                self._end_out_of_step(str(error))
                return
            # If a signal handler raises above, the caller that waits for the reply is still in the queue, and is told
            # when the connection ends.
            self._waiting.popleft()
            self._answer(asked, reply)
        if at < len(replies):
            self._end_out_of_step("the server sent a reply to no command")

    def _end_out_of_step(self, why: str) -> None:
        """End the connection, because its replies belong to other commands. Let what was read be forgotten."""
        self._end(why)
        forget = self._out_of_step()
        if forget is not None:
            forget()

    def _answer(self, asked: _Asked, reply: Any) -> None:
        future, known = asked.future, asked.known
        if asked.write is not None:
            asked.write.end()
        if future.done():
            # Nobody waits any more.
            return
        if isinstance(reply, Exception):
            future.set_exception(reply)
            return
        try:
            future.set_result(reply if known is None else _remote_entry(reply, known))
        except Exception as error:  # noqa: BLE001  # It is the caller's.
            future.set_exception(error)

    def _look(self) -> None:
        """Fail commands whose replies are late, and schedule the next check."""
        self._is_timed = False
        loop = asyncio.get_running_loop()
        now = loop.time()
        for asked in self._waiting:
            if asked.until > now:
                loop.call_later(asked.until - now, self._look)
                self._is_timed = True
                return
            if asked.heard == self._heard:
                # Nothing has arrived since the command was sent, so the connection may be dead.
                self._end("the server did not answer in time", now)
                return
            # Other replies arrive, so keep the connection. The late reply is dropped when it arrives.
            self._fail(asked, "timeout", "the server did not answer in time")

    def _fail(self, asked: _Asked, word: str, text: str) -> None:
        if not asked.future.done():
            asked.future.set_exception(self._failed(word, text))

    def _end(self, why: str, now: float = float("-inf")) -> None:
        """End the connection, and fail all pending commands. Those that are late get a timeout."""
        loop = asyncio.get_running_loop()
        if self.is_open:
            self.is_open = False
            loop.remove_reader(self._socket.fileno())
            loop.remove_writer(self._socket.fileno())
            self._connection.disconnect()
        self._held.clear()
        self._unsent = b""
        waiting, self._waiting = self._waiting, deque()
        for asked in waiting:
            if asked.write is not None:
                asked.write.end()
            word = "timeout" if asked.until <= now else "lost"
            self._fail(asked, word if asked.start < self._sent else _UNSENT[word], why)

    def pending(self) -> list[asyncio.Future[Any]]:
        """Return the futures of the commands that have no reply."""
        return [asked.future for asked in self._waiting]

    def shut_down(self) -> None:
        """Shut the socket down, which the event loop notices. Any thread may call this."""
        shut_down(self._socket)

    def disconnect(self) -> None:
        """Close it, where no loop reads it."""
        self.is_open = False
        self._connection.disconnect()


def _of_loop(connections: _Connections, loop: asyncio.AbstractEventLoop) -> LoopConnection | None:
    """Return the connection of a loop. None if there is none, or if the loop was closed."""
    reference = connections.get(loop)
    return None if reference is None else reference()


class LoopConnections:
    """The connections of a client to one server, one for each event loop.

    Args:
        connect: Makes a connection, as long as its client lives.
        failed: Makes an exception from its kind and text. See `failures.failed`.
        timeout: The largest number of seconds for a connection attempt or a reply.
        out_of_step: Returns a function to call after a connection got replies that belong to other commands, or None.
    """

    def __init__(
        self,
        connect: weakref.WeakMethod[Callable[[float], Any]],
        failed: Callable[[str, str], Exception],
        timeout: float,
        out_of_step: _OutOfStep,
    ) -> None:
        self._make, self._failed, self._timeout, self._out_of_step = connect, failed, timeout, out_of_step
        self._shut_downs, self._is_closed = 0, False
        self._begin()
        _ALL.add(self)

    def _begin(self) -> None:
        self._of: _Connections = weakref.WeakKeyDictionary()
        self._next: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, float] = weakref.WeakKeyDictionary()
        """For each loop, the time at which it may try to connect."""

    def after_fork(self) -> None:
        """Reset the state in a forked child, which must not read its parent's connections."""
        self._begin()

    def current(self) -> LoopConnection | None:
        """Return the connection of the running loop, or None.

        Only the second call starts to make one, because some loops end after one call.
        """
        loop = asyncio.get_running_loop()
        found = _of_loop(self._of, loop)
        if found is not None and found.is_open:
            return found
        may_connect_at = self._next.get(loop)
        if may_connect_at is None:
            self._next[loop] = 0.0
        elif loop.time() >= may_connect_at:
            self._next[loop] = float("inf")
            try:
                self._connect(loop)
            except BaseException:
                # No thread can be started, or a signal handler has raised.
                self._next[loop] = loop.time() + _BETWEEN_ATTEMPTS
                raise
        return None

    def pending(self) -> list[asyncio.Future[Any]]:
        """Return the futures of the running loop's commands that have no reply."""
        found = _of_loop(self._of, asyncio.get_running_loop())
        return [] if found is None else found.pending()

    def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        connect = self._make()
        if connect is not None:
            making = loop.run_in_executor(None, connect, self._timeout)
            making.add_done_callback(partial(self._connected, weakref.ref(loop), self._shut_downs))

    def _connected(
        self, of: weakref.ref[asyncio.AbstractEventLoop], shut_downs: int, making: asyncio.Future[Any]
    ) -> None:
        loop = of()
        if loop is None:
            return
        # Calls go through threads meanwhile, and raise the error there. Set this first, because a signal handler may
        # raise below.
        self._next[loop] = loop.time() + _BETWEEN_ATTEMPTS
        if making.cancelled() or making.exception() is not None:
            return
        made = LoopConnection(making.result(), self._failed, self._timeout, self._out_of_step)
        earlier = _of_loop(self._of, loop)
        if earlier is not None and earlier.is_open:
            # A signal handler raised after an attempt had begun, so there were two. Nobody would close the other one.
            made.disconnect()
            self._next[loop] = 0.0
            return
        try:
            made.begin(loop)
        except NotImplementedError:
            # Such as the one of Windows that waits for completions. Its calls go through threads.
            made.disconnect()
            self._next[loop] = float("inf")
            return
        self._next[loop] = 0.0
        self._of[loop] = weakref.ref(made)
        if shut_downs != self._shut_downs or self._is_closed:
            # It may lead to a server that was replaced meanwhile, or the cache was closed.
            made.shut_down()

    def shut_down(self) -> None:
        """Shut all connections down, which the loops notice. Any thread may call this."""
        # Count first. A connection that is just being made is then either in `_of`, or sees the new count.
        self._shut_downs += 1
        of, self._of = self._of, weakref.WeakKeyDictionary()
        # Another thread may add one to it meanwhile, which then sees the new count.
        for key in of.keyrefs():
            loop = key()
            connection = None if loop is None else _of_loop(of, loop)
            if connection is not None:
                connection.shut_down()

    def close(self) -> None:
        """End all connections, and those that are made later."""
        self._is_closed = True
        self.shut_down()


_ALL: weakref.WeakSet[LoopConnections] = weakref.WeakSet()


def _after_fork() -> None:
    for connections in list(_ALL):
        connections.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
