"""Commands to one server, over connections made as those of the user's client."""

from __future__ import annotations

import contextlib
import functools
import importlib
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from flexcache_rs._core import RemoteReplies, _remote_entry  # pyright: ignore[reportPrivateUsage]
from flexcache_rs.remote import replies as checked
from flexcache_rs.remote.connections import Connections
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError
from flexcache_rs.remote.failures import failed, refusal, translated
from flexcache_rs.remote.resp import command
from flexcache_rs.remote.resp import commands as as_bytes

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from flexcache_rs.remote.connections import Borrowed
    from flexcache_rs.remote.given import Given
    from flexcache_rs.remote.loop_connections import LoopConnections

_MOST_READ = 1 << 16
"""The largest number of bytes of one read."""

CLOSED_MEANWHILE = (AttributeError, TypeError, ValueError)
"""Exceptions that redis-py and valkey-py raise if another thread closes the connection that they are using."""


def _raise_as(ours: Exception, error: Exception) -> NoReturn:
    """Raise our exception for an error, or the error itself if it is that exception."""
    if ours is error:
        # It would be its own cause, and keep itself alive, and with it the connection.
        raise error
    raise ours from error


class Client:
    """Sends commands to one server.

    Attributes:
        is_divided: Whether keys are on several servers. While a slot moves, these refuse commands with two of its keys.
        lane: "client" for connections of the user's client, "direct" for one native connection of all threads.

    Args:
        given: The user's client, which has the arguments of connections.
        timeout: The largest number of seconds for a command or a connection attempt.
        name: The name of the connections in `CLIENT LIST`.
        address: The host and port, if they are not those of the user's client.
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
        self._connections = Connections(given.most)
        self._is_closed = False
        self._when_out_of_step: list[weakref.WeakMethod[Callable[[], object]]] = []

    @property
    def given(self) -> Any:
        """The user's client."""
        return self._given.client

    def _get(self) -> Borrowed:
        """Return a connection, idle or new."""
        return self._connections.take(self._connected, self._refused)

    def _replace_connections(self) -> Connections:
        """Use new connections from now on. Returns the place of the old ones."""
        old, self._connections = self._connections, Connections(self._given.most)
        if self._is_closed:
            # Nobody would close them later.
            self._connections.close()
        return old

    def renew(self) -> None:
        """Use new connections from now on, because the address may have another server. Running calls go on."""
        self._replace_connections().close()
        self._shut_down_loops()

    def when_out_of_step(self, forget: Callable[[], object]) -> None:
        """Call a method, as long as its object lives, after a connection got replies that belong to other commands."""
        self._when_out_of_step.append(weakref.WeakMethod(forget))

    def out_of_step(self) -> None:
        """Let what was read be forgotten. A connection, which has ended, got replies that belong to other commands."""
        for reference in self._when_out_of_step:
            forget = reference()
            if forget is not None:
                forget()

    def _shut_down_loops(self) -> None:
        if self._loops is not None:
            self._loops.shut_down()

    def _leave_unnamed(self, error: Exception, was_named: bool) -> bool:
        """If the server refused `CLIENT SETNAME`, leave connections unnamed from now on. Returns True in that case."""
        if not was_named or not isinstance(error, self.exceptions.ResponseError) or "CLIENT" not in str(error).upper():
            return False
        self._is_named = False
        self._arguments.pop("client_name", None)
        return True

    def connect(self, timeout: float) -> Any:
        """Return a new connection, which only the caller uses."""
        return self._connected(lambda _: None, timeout)

    def _connected(self, note: Callable[[Any], object], timeout: float | None = None) -> Any:
        """Return a new connection. It is passed to `note` before it connects."""
        was_named = self._is_named
        own = {} if timeout is None else {"socket_timeout": timeout}
        connection = self._given.connection_class(**{**self._arguments, **own})
        note(connection)
        try:
            connection.connect()
        except Exception as error:  # noqa: BLE001 - it is raised as one of ours
            connection.disconnect()
            if self._leave_unnamed(error, was_named):
                return self._connected(note, timeout)
            failure = self.translated(error)
            if isinstance(failure, (ValueError, RecursionError)):
                # The package could not parse a reply, or encode the name of the host.
                failure = RemoteConnectionError(f"no connection to the server: {error}")
            _raise_as(failure, error)
        return connection

    def watched(self, connection: Any, period: float) -> AbstractContextManager[object]:  # noqa: ARG002
        """Watch a listening connection during a `with` block, and end it if it leads to the wrong server."""
        return contextlib.nullcontext()

    def translated(self, error: Exception) -> Exception:
        """Convert an error of the package to one of ours. Returns other errors unchanged."""
        return translated(self.exceptions, error)

    def interrupted(self, error: Exception) -> Exception:
        """Convert an error of an exchange to one of ours, including those of a connection closed by another thread."""
        if isinstance(error, CLOSED_MEANWHILE):
            return RemoteConnectionError(f"the connection was closed while the server was asked: {error}")
        return self.translated(error)

    @staticmethod
    def failed(kinds: Any, kind: str, text: str) -> Exception:
        """Return the exception for a command without a reply. See `failures.failed`."""
        return failed(kinds, kind, text)

    def execute(self, *parts: Any) -> Any:
        """Send one command and return its reply.

        Raises:
            RemoteError: It was refused, not answered in time, or the connection was lost.
        """
        # Do not pack with hiredis, which crashes if a signal handler raises during the call.
        (reply,) = self._request(command(*parts), [parts])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _request(self, packed: bytes, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send packed commands over an idle or a new connection, and return their replies."""
        count = len(commands)
        try:
            while True:
                borrowed = self._get()
                _, connection, native, is_new = borrowed
                try:
                    replies: list[Any] | None
                    if native is None:
                        connection.send_packed_command([packed])
                        replies = self._read(connection, count)
                    else:
                        replies = native.exchange(packed, count, self._timeout)
                except BaseException:
                    connection.disconnect()
                    raise
                if replies is not None:
                    try:
                        checked.check_all(commands, replies)
                    except RemoteError:
                        connection.disconnect()
                        self.out_of_step()
                        raise
                    # Only now: an unread reply must not go to another command. A signal handler may interrupt
                    # `disconnect` too.
                    borrowed.give_back()
                    return replies
                # The connection had ended before anything was sent.
                connection.disconnect()
                if is_new:
                    raise RemoteConnectionError("the server ended a new connection")
        except Exception as error:  # noqa: BLE001 - it is raised as one of ours
            _raise_as(self.interrupted(error), error)

    def _read(self, connection: Any, count: int) -> list[Any]:
        """Read `count` replies, and those that arrive with them. A refused command has an exception as its reply.

        The package's own parsers are several times slower.
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
        """Return the error for a refused command, or for an invalid reply."""
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
        """Return a function that sends a command about a server key from the running event loop.

        The function takes the known nonces for reading an entry, or None if the reply is not an entry, and the parts of
        the command. It returns the future of the reply. The result is None if a thread must send the command.
        """
        if self._is_closed:
            return None
        if self._loops is None:
            from flexcache_rs.remote.loop_connections import LoopConnections

            failed = functools.partial(self.failed, self.exceptions)
            self._loops = LoopConnections(
                weakref.WeakMethod(self.connect), failed, self._timeout, weakref.WeakMethod(self.out_of_step)
            )
            if self._is_closed:
                self._loops.close()
        connection = self._loops.current()
        return None if connection is None else connection.submit

    def pending(self) -> list[Future[Any]]:
        """Return the futures of the running event loop's commands that have no reply."""
        return [] if self._loops is None else self._loops.pending()

    def doubt(self, place: bytes) -> None:
        """Note that an awaited command about a server key timed out. This does nothing, because there is one server."""

    def execute_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send several commands at once, and return their replies. A refused command has an exception as its reply.

        Raises:
            RemoteError: The replies did not arrive in time, or the connection was lost.
        """
        if not commands:
            return []
        return self._request(as_bytes(commands), commands)

    def exchange(self, connection: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The same as `execute_many`, over a connection of the caller's, which may watch keys.

        After an error it is disconnected.

        `has_unread` of the connection is True from before the commands are sent until all replies have been read.
        """
        # Not packed by hiredis, as in `execute`.
        packed = as_bytes(commands)
        try:
            # Unread replies must not go to other commands. A signal handler may interrupt `disconnect` too.
            connection.has_unread = True
            try:
                connection.send_packed_command([packed])
                replies = self._read(connection, len(commands))
                checked.check_all(commands, replies, watches=True)
            except BaseException:
                connection.disconnect()
                raise
            connection.has_unread = False
            return replies
        except Exception as error:  # noqa: BLE001 - it is raised as one of ours
            _raise_as(self.interrupted(error), error)

    def transaction(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands as a transaction of the server. A failed command has an exception as its reply.

        Raises:
            RemoteError: None of them was executed, as far as is known.
        """
        *queued, made = self.execute_many([("MULTI",), *commands, ("EXEC",)])
        if isinstance(made, Exception):
            # `EXEC` says only that a command was refused. The reply to the command says why.
            raise next((reply for reply in queued if isinstance(reply, Exception)), made)
        made = checked.parts("EXEC", made, *(object for _ in commands))
        return [self.translated(reply) if isinstance(reply, Exception) else reply for reply in made]

    def in_order(self, commands: Sequence[Sequence[Any]]) -> None:
        """Send commands that are executed in their order."""
        for reply in self.transaction(commands):
            if isinstance(reply, Exception):
                raise reply

    def values(self, places: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of several server keys."""
        found: list[bytes | None] = self.execute("MGET", *places)
        return found

    def scan(self, cursor: bytes, pattern: bytes, count: int) -> list[Any]:
        """Return the next cursor of `SCAN`, and a list of server keys."""
        found: list[Any] = self.execute("SCAN", cursor, "MATCH", pattern, "COUNT", count)
        return found

    def unlink(self, places: Sequence[bytes]) -> int:
        """Remove server keys. Returns the number of those that were there."""
        return sum(
            checked.number("UNLINK", reply) for reply in self.execute_many([("UNLINK", each) for each in places])
        )

    def servers(self) -> list[Client]:
        """Return the clients of all servers that have keys."""
        return [self]

    def close(self) -> None:
        """Close all connections. A call that outlasts this, or comes later, has one of its own and closes it."""
        self.drop()

    def drop(self) -> None:
        """The same as `close`, for the garbage collector: it takes no lock that the interrupted thread may have."""
        # First: a connection that comes back is either among those that are returned here, or sees this.
        self._is_closed = True
        self._connections.shut_down()
        if self._loops is not None:
            self._loops.close()
