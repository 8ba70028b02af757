"""Commands to one server, over connections made as those of the user's client."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from flexcache_rs._core import RemoteReplies, _remote_entry  # pyright: ignore[reportPrivateUsage]
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError
from flexcache_rs.remote.failures import failed, refusal, translated
from flexcache_rs.remote.resp import command, native_socket
from flexcache_rs.remote.resp import commands as as_bytes

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from flexcache_rs._core import RemoteSocket
    from flexcache_rs.remote.given import Given
    from flexcache_rs.remote.loop_connections import LoopConnections

_MOST_READ = 1 << 16
"""Bytes of one read."""

CLOSED_MEANWHILE = (AttributeError, TypeError, ValueError)
"""What redis-py and valkey-py raise, wherever they are, where another thread closes the connection that they use."""


class _Borrowed(NamedTuple):
    """A connection that one call uses."""

    pool: Any
    connection: Any
    socket: RemoteSocket | None
    """Its socket, if native code can use it."""
    is_new: bool = True


class Client:
    """Commands to one server.

    Attributes:
        is_divided: Whether keys are on several servers. While a slot moves, these refuse commands with two keys of it.
        lane: "client", where connections are the user's client's; "direct", where all threads share a native one.

    Args:
        given: What says how to connect.
        timeout: How many seconds a command or a connection attempt may take.
        name: What the connections are called in `CLIENT LIST`.
        address: The host and port, where what was given does not say them.
    """

    is_divided = False
    lane = "client"

    def __init__(self, given: Given, timeout: float, name: str, address: tuple[str, int] | None = None) -> None:
        self.name, self._given, self._timeout, self._is_named = name, given, timeout, True
        self._loops: LoopConnections | None = None
        self.exceptions: Any = importlib.import_module(f"{given.package}.exceptions")
        self._arguments = {**given.arguments, **given.timed(timeout), "client_name": name}
        if address is not None:
            self._arguments["host"], self._arguments["port"] = address
        self._pool = self._make_pool()
        self._is_closed = False
        """Whether connections are closed as soon as nobody uses them: nobody would close them later."""
        self._kept: list[tuple[int, _Borrowed]] = []
        """Connections that nobody uses, each with its process. For the pool they are in use: asking it for one takes
        longer than using one."""
        # What get_connection() takes differs between the packages.
        parameters = list(inspect.signature(self._pool.get_connection).parameters.values())
        needs_name = parameters and parameters[0].default is inspect.Parameter.empty
        self._what_get_takes = ("_",) if needs_name else ()

    @property
    def given(self) -> Any:
        """The user's client."""
        return self._given.client

    def _make_pool(self) -> Any:
        given = self._given
        return given.module.ConnectionPool(
            connection_class=given.connection_class, max_connections=given.most, **self._arguments
        )

    def _get(self) -> _Borrowed:
        """A connection, and where it is from."""
        while self._kept:
            with contextlib.suppress(IndexError):
                # Another thread may have taken the last one.
                process, borrowed = self._kept.pop()
                if process == os.getpid():
                    if borrowed.pool is self._pool:
                        return borrowed
                    self._return(borrowed)
        was_named, pool = self._is_named, self._pool
        try:
            return self._borrowed(pool, pool.get_connection(*self._what_get_takes))
        except self.exceptions.ResponseError as error:
            if not self._leave_unnamed(error, was_named):
                raise
        pool = self._pool
        return self._borrowed(pool, pool.get_connection(*self._what_get_takes))

    def _borrowed(self, pool: Any, connection: Any) -> _Borrowed:
        return _Borrowed(pool, connection, native_socket(connection._sock, self._refused))

    def _release(self, borrowed: _Borrowed) -> None:
        """Let others use a connection, unless it has ended."""
        if borrowed.socket is None or not self._is_current(borrowed) or borrowed.connection._sock is None:
            self._return(borrowed)
        else:
            self._kept.append((os.getpid(), borrowed._replace(is_new=False) if borrowed.is_new else borrowed))
            if not self._is_current(borrowed):
                # Another thread has ended those that were kept before this one was.
                self._return_kept()

    def _is_current(self, borrowed: _Borrowed) -> bool:
        """Whether later calls may use a connection."""
        return borrowed.pool is self._pool and not self._is_closed

    def _return(self, borrowed: _Borrowed) -> None:
        """Give a connection back to its pool."""
        borrowed.pool.release(borrowed.connection)
        if not self._is_current(borrowed):
            # Another pool has replaced it meanwhile, or the client was closed. Other calls keep what they use.
            borrowed.pool.disconnect(inuse_connections=False)

    def _return_kept(self) -> None:
        """Give all connections back that nobody uses."""
        with contextlib.suppress(IndexError):
            while True:
                process, borrowed = self._kept.pop()
                if process == os.getpid():
                    self._return(borrowed)

    def renew(self) -> None:
        """Make other connections from now on: there may be another server at the address. Calls that wait go on."""
        old, self._pool = self._pool, self._make_pool()
        self._return_kept()
        old.disconnect(inuse_connections=False)
        self._shut_down_loops()

    def _shut_down_loops(self) -> None:
        if self._loops is not None:
            self._loops.shut_down()

    def _leave_unnamed(self, error: Exception, was_named: bool) -> bool:
        """Leave connections without a name where the server refuses `CLIENT SETNAME`. Whether it was that."""
        if not was_named or not isinstance(error, self.exceptions.ResponseError) or "CLIENT" not in str(error).upper():
            return False
        self._is_named = False
        self._arguments.pop("client_name", None)
        self._pool = self._make_pool()
        return True

    def connect(self, timeout: float) -> Any:
        """A connection of its own, which nobody else uses."""
        was_named = self._is_named
        connection = self._given.connection_class(**{**self._arguments, "socket_timeout": timeout})
        try:
            connection.connect()
        except Exception as error:
            connection.disconnect()
            if self._leave_unnamed(error, was_named):
                return self.connect(timeout)
            raise self.translated(error) from error
        return connection

    def watched(self, connection: Any, period: float) -> AbstractContextManager[object]:  # noqa: ARG002
        """While a connection listens: ends it when it is one to the wrong server."""
        return contextlib.nullcontext()

    def translated(self, error: Exception) -> Exception:
        """The error of the package as one of ours; others as they are."""
        return translated(self.exceptions, error)

    def interrupted(self, error: Exception) -> Exception:
        """The error of an exchange as one of ours, also where another thread has closed the connection."""
        if isinstance(error, CLOSED_MEANWHILE):
            return RemoteConnectionError(f"the connection was closed while the server was asked: {error}")
        return self.translated(error)

    @staticmethod
    def failed(kinds: Any, kind: str, text: str) -> Exception:
        """The exception for a command that has no reply. See `failures.failed`."""
        return failed(kinds, kind, text)

    def execute(self, *parts: Any) -> Any:
        """Send one command and return its reply.

        Raises:
            RemoteError: It was refused, not answered in time, or the connection was lost.
        """
        # Not packed by hiredis, which crashes where a handler of a signal raises meanwhile.
        (reply,) = self._request(command(*parts), 1)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _request(self, packed: bytes, count: int) -> list[Any]:
        """Send commands over a connection of the pool, and return `count` replies."""
        try:
            while True:
                borrowed = self._get()
                _, connection, native, is_new = borrowed
                try:
                    if native is None:
                        connection.send_packed_command([packed])
                        return self._read(connection, count)
                    replies: list[Any] | None = native.exchange(packed, count, self._timeout)
                    if replies is not None:
                        return replies
                    # It had ended before anything was sent.
                    connection.disconnect()
                    if is_new:
                        raise RemoteConnectionError("the server ended a new connection")
                except BaseException:
                    # Also where a handler of a signal raised: a reply that was not read is nobody else's.
                    connection.disconnect()
                    raise
                finally:
                    self._release(borrowed)
        except RemoteError:
            raise
        except Exception as error:
            raise self.interrupted(error) from error

    def _read(self, connection: Any, count: int) -> list[Any]:
        """Read a number of replies. A command that was refused has an exception in its place.

        The package's own parsers take several times as long.
        """
        reader, sock = RemoteReplies(list, self._refused), connection._sock
        replies: list[Any] = []
        while len(replies) < count:
            data = sock.recv(_MOST_READ)
            if not data:
                raise RemoteConnectionError("the server closed the connection")
            replies += reader.feed(data)
        return replies

    def _refused(self, kind: str, text: str) -> Exception:
        """The error for a command that was refused, or for what is no reply."""
        if kind != "refused":
            return RemoteConnectionError(f"the server sent what is no reply: {text}")
        cause = refusal(self.exceptions, text)
        error = self.translated(cause)
        error.__cause__ = cause
        return error

    def entry(self, place: bytes, known: Any) -> Any:
        """Read an entry with what is known. See `RemoteLane.entry`."""
        return _remote_entry(self.execute("GET", place), known)

    def asker(self, place: bytes) -> Callable[..., Future[Any]] | None:  # noqa: ARG002
        """What sends a command about a place from the running event loop, and returns the future of its reply.

        It takes what is known for reading an entry, or None where the reply is none, and the parts of the command.
        Returns None where a thread must send it.
        """
        if self._is_closed:
            return None
        if self._loops is None:
            from flexcache_rs.remote.loop_connections import LoopConnections

            failed = functools.partial(self.failed, self.exceptions)
            self._loops = LoopConnections(weakref.WeakMethod(self.connect), failed, self._timeout)
            if self._is_closed:
                self._loops.close()
        connection = self._loops.current()
        return None if connection is None else connection.submit

    def doubt(self, place: bytes) -> None:
        """The server of a place did not answer an awaited command in time. There is no other."""

    def execute_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send several commands at a time and return their replies, an exception for each that was refused.

        Raises:
            RemoteError: They were not answered in time, or the connection was lost.
        """
        if not commands:
            return []
        return self._request(as_bytes(commands), len(commands))

    def exchange(self, connection: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The same as `execute_many`, over a connection of the caller's. After an error it is disconnected."""
        # Not packed by hiredis, as in `execute`.
        packed = as_bytes(commands)
        try:
            try:
                connection.send_packed_command([packed])
                return self._read(connection, len(commands))
            except BaseException:
                # Replies that were not read must not be taken for those to other commands.
                connection.disconnect()
                raise
        except RemoteError:
            raise
        except Exception as error:
            raise self.interrupted(error) from error

    def transaction(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands that the server executes without others in between. Exceptions stand for those that failed.

        Raises:
            RemoteError: None of them was executed, as far as is known.
        """
        *queued, replies = self.execute_many([("MULTI",), *commands, ("EXEC",)])
        if isinstance(replies, Exception):
            # `EXEC` says only that a command was refused. The reply to the command says why.
            raise next((reply for reply in queued if isinstance(reply, Exception)), replies)
        return [self.translated(reply) if isinstance(reply, Exception) else reply for reply in replies]

    def in_order(self, commands: Sequence[Sequence[Any]]) -> None:
        """Send commands, each of which is executed after the one before."""
        for reply in self.transaction(commands):
            if isinstance(reply, Exception):
                raise reply

    def values(self, places: Sequence[bytes]) -> list[bytes | None]:
        """What is in several places."""
        found: list[bytes | None] = self.execute("MGET", *places)
        return found

    def servers(self) -> list[Client]:
        """The clients of all servers that have keys."""
        return [self]

    def close(self) -> None:
        """Close all connections. A call that outlasts this, or comes later, has one of its own and closes it."""
        # First: a connection that comes back is either among those that are returned here, or sees this.
        self._is_closed = True
        self._return_kept()
        self._pool.disconnect()
        if self._loops is not None:
            self._loops.close()
