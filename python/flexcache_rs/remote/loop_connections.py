"""Awaited commands on the client lane, without a thread.

Each event loop has a connection, made as those of the user's client, and reads it itself. It is made in a thread; until
it is there, calls go through threads. What is asked in one turn of the loop goes out in two parts: the first command at
once, all others together.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from flexcache_rs._core import RemoteReplies, _remote_entries  # pyright: ignore[reportPrivateUsage]
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteTimeoutError
from flexcache_rs.remote.failures import failed
from flexcache_rs.remote.resp import command

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_READ = 1 << 16

_BETWEEN_ATTEMPTS = 1.0
"""Seconds after an attempt to connect that has failed."""


class LoopConnection:
    """A connection of one event loop, used in its thread only.

    It must not refer to its loop while nothing is asked, or neither of them would ever go.

    Args:
        connection: One of the client's package, which nobody else uses.
        kinds: The package's module of exceptions.
        timeout: How many seconds an answer may take.
    """

    def __init__(self, connection: Any, kinds: Any, timeout: float) -> None:
        # Closes its socket when it goes.
        self._connection, self._timeout = connection, timeout
        self._socket: Any = connection._sock
        self._socket.setblocking(False)
        self._replies = RemoteReplies(list, functools.partial(failed, kinds))
        self._waiting: deque[tuple[asyncio.Future[Any], float, Any]] = deque()
        self._held: list[bytes] = []
        self._is_held = self._is_timed = False
        self.is_open = True

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop read it."""
        loop.add_reader(self._socket.fileno(), self._read)

    def submit(self, known: Any, parts: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Send a command, or put it in line until the end of this turn of the loop. The future of its reply."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((future, loop.time() + self._timeout, known))
        if self._is_held:
            self._held.append(command(*parts))
        else:
            self._write(command(*parts))
            loop.call_soon(self._flush)
            self._is_held = True
        if not self._is_timed:
            loop.call_later(self._timeout, self._look)
            self._is_timed = True
        return future

    def _flush(self) -> None:
        self._is_held = False
        held, self._held = self._held, []
        if held:
            self._write(b"".join(held))

    def _write(self, data: bytes) -> None:
        try:
            if self.is_open and self._socket.send(data) == len(data):
                return
            error: OSError = ConnectionError("the server does not read what is sent")
        except OSError as raised:
            error = raised
        self._end(error)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_MOST_READ)
            replies = self._replies.feed(data)
        except (BlockingIOError, InterruptedError):
            return
        except Exception as error:  # noqa: BLE001  # What was read is no reply, or the connection was lost.
            self._end(error)
            return
        for reply in replies:
            if self._waiting:
                self._answer(*self._waiting.popleft(), reply)
        if not data:
            self._end(ConnectionError("the server closed the connection"))

    def _answer(self, future: asyncio.Future[Any], _: float, known: Any, reply: Any) -> None:
        if future.done():
            # Nobody waits any more.
            return
        if isinstance(reply, Exception):
            future.set_exception(reply)
            return
        try:
            future.set_result(reply if known is None else _remote_entries((reply,), known)[0])
        except Exception as error:  # noqa: BLE001  # It is the caller's.
            future.set_exception(error)

    def _look(self) -> None:
        """End the connection where an answer is late, and look again when the next may be."""
        self._is_timed = False
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        left = self._waiting[0][1] - loop.time()
        if left > 0:
            loop.call_later(left, self._look)
            self._is_timed = True
        else:
            self._end(TimeoutError("the server did not answer in time"))

    def _end(self, error: Exception) -> None:
        """The connection is of no use any more."""
        loop = asyncio.get_running_loop()
        if self.is_open:
            self.is_open = False
            loop.remove_reader(self._socket.fileno())
            self._connection.disconnect()
        waiting, self._waiting = self._waiting, deque()
        now = loop.time()
        for future, deadline, _ in waiting:
            if future.done():
                continue
            if isinstance(error, TimeoutError) and deadline <= now:
                future.set_exception(RemoteTimeoutError(str(error)))
            else:
                future.set_exception(RemoteConnectionError(f"the connection to the server was lost: {error}"))

    def shut_down(self) -> None:
        """Have the loop notice that the connection is of no use. For any thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(2)


class LoopConnections:
    """The connections of a client to one server, one for each event loop.

    Args:
        connect: Makes one, as long as its client lives.
        kinds: The package's module of exceptions.
        timeout: How many seconds a connection attempt, or an answer, may take.
    """

    def __init__(self, connect: weakref.WeakMethod[Callable[[float], Any]], kinds: Any, timeout: float) -> None:
        self._make, self._kinds, self._timeout = connect, kinds, timeout
        self._shut_downs = 0
        self._begin()
        _ALL.add(self)

    def _begin(self) -> None:
        self._of: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopConnection] = weakref.WeakKeyDictionary()
        self._next: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, float] = weakref.WeakKeyDictionary()
        """When a loop without a connection may try to make one."""

    def after_fork(self) -> None:
        """Start over in a child, which must not read what is its parent's."""
        self._begin()

    def current(self) -> LoopConnection | None:
        """The connection of the running loop. The first call has it made."""
        loop = asyncio.get_running_loop()
        found = self._of.get(loop)
        if found is not None and found.is_open:
            return found
        if loop.time() >= self._next.get(loop, 0.0):
            self._next[loop] = float("inf")
            self._connect(loop)
        return None

    def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        connect = self._make()
        if connect is not None:
            making = loop.run_in_executor(None, connect, self._timeout)
            making.add_done_callback(functools.partial(self._connected, weakref.ref(loop), self._shut_downs))

    def _connected(
        self, of: weakref.ref[asyncio.AbstractEventLoop], shut_downs: int, making: asyncio.Future[Any]
    ) -> None:
        loop = of()
        if loop is None:
            return
        if making.cancelled() or making.exception() is not None:
            # Calls go through threads meanwhile, which say what is wrong.
            self._next[loop] = loop.time() + _BETWEEN_ATTEMPTS
            return
        made = LoopConnection(making.result(), self._kinds, self._timeout)
        self._next[loop] = 0.0
        self._of[loop] = made
        made.begin(loop)
        if shut_downs != self._shut_downs:
            # It may lead to a server that was replaced meanwhile, or the cache was closed.
            made.shut_down()

    def shut_down(self) -> None:
        """End all connections, for any thread: the loops notice it."""
        # First: a connection that is being made is either among those, or sees this.
        self._shut_downs += 1
        of, self._of = self._of, weakref.WeakKeyDictionary()
        for connection in list(of.values()):
            connection.shut_down()


_ALL: weakref.WeakSet[LoopConnections] = weakref.WeakSet()


def _after_fork() -> None:
    for connections in list(_ALL):
        connections.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
