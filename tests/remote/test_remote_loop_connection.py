"""The connection of one event loop, over a pair of sockets."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs._core import PushTracker
from flexcache_rs.remote import RemoteConnectionError, RemoteError
from flexcache_rs.remote.failures import failed
from flexcache_rs.remote.loop_connections import LoopConnection, LoopConnections

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a thread reads elsewhere")


class Connection:
    """A connection to no server, as the packages have it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def disconnect(self) -> None:
        self._sock.close()


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    """Return a connection and the server's end of it."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with ours, theirs:
        yield Connection(ours), theirs


def test_what_was_not_sent_is_told(pair: tuple[Connection, socket.socket]) -> None:
    """If no byte of a command was sent, the error says that the server has not executed it."""
    ours, theirs = pair
    told: list[str] = []

    def of_word(word: str, text: str) -> Exception:
        told.append(word)
        return failed(pytest.importorskip("redis.exceptions"), word, text)

    async def main() -> None:
        connection = LoopConnection(ours, of_word, 60, lambda: None)
        connection.begin(asyncio.get_running_loop())
        asking = [connection.submit(None, ("SET", number, b"x" * 1_000_000)) for number in range(3)]
        await asyncio.sleep(0)
        theirs.close()
        for each in asking:
            with pytest.raises(RemoteConnectionError):
                await each

    asyncio.run(main())
    assert told == ["lost", "unsent", "unsent"]


def test_a_reply_whose_check_is_interrupted_leaves_nobody_waiting(
    pair: tuple[Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a signal handler. The loop logs what it raised."""
    ours, theirs = pair
    logged: list[Any] = []

    class Interrupted(Exception):  # noqa: N818
        pass

    def interrupted(*_: object) -> None:
        raise Interrupted

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: logged.append(context["exception"]))
        of_kind = functools.partial(failed, pytest.importorskip("redis.exceptions"))
        connection = LoopConnection(ours, of_kind, 600, lambda: None)
        connection.begin(loop)
        monkeypatch.setattr("flexcache_rs.remote.loop_connections.check", interrupted)
        asking = connection.submit(None, ("GET", "key"))
        theirs.sendall(b"$-1\r\n")
        with pytest.raises(RemoteConnectionError):
            await asyncio.wait_for(asking, 60)
        assert not connection.is_open

    asyncio.run(main())
    assert [type(error) for error in logged] == [Interrupted]


def test_a_reply_to_no_command_ends_the_connection(pair: tuple[Connection, socket.socket]) -> None:
    """Earlier replies may have belonged to other commands, so what was read is forgotten."""
    ours, theirs = pair
    told: list[str] = []

    async def main() -> None:
        of_kind = functools.partial(failed, pytest.importorskip("redis.exceptions"))
        connection = LoopConnection(ours, of_kind, 60, lambda: lambda: told.append("forget"))
        connection.begin(asyncio.get_running_loop())
        asking = connection.submit(None, ("GET", "key"))
        theirs.sendall(b"$-1\r\n$-1\r\n")
        assert await asking is None
        assert told == ["forget"]
        assert not connection.is_open

    asyncio.run(main())


def test_a_wrong_reply_ends_the_connection(pair: tuple[Connection, socket.socket]) -> None:
    """The commands after it fail, because their replies may belong to others. Its write ends."""
    ours, theirs = pair
    told: list[str] = []
    tracker = PushTracker(1)

    async def main() -> None:
        of_kind = functools.partial(failed, pytest.importorskip("redis.exceptions"))
        connection = LoopConnection(ours, of_kind, 60, lambda: lambda: told.append("forget"))
        connection.begin(asyncio.get_running_loop())
        first = connection.submit(None, ("GET", "key"))
        second = connection.submit(None, ("SET", "key", 1), before=[("SET", "key", 2)], write=tracker.write([b"key"]))
        third = connection.submit(None, ("GET", "key"))
        theirs.sendall(b"$-1\r\n+OK\r\n:1\r\n$1\r\nx\r\n")
        assert await first is None
        with pytest.raises(RemoteError, match="reply to SET"):
            await second
        with pytest.raises(RemoteConnectionError, match="reply to SET"):
            await third
        assert told == ["forget"]
        assert not connection.is_open
        tracker.believe_until(tracker.now() + 10**9)
        assert tracker.is_live(tracker.stamp(b"key"))

    asyncio.run(main())


def test_two_attempts_to_connect_leave_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler may raise after an attempt has begun, and the next call makes another one."""
    monkeypatch.setattr("flexcache_rs.remote.loop_connections._BETWEEN_ATTEMPTS", 0)
    made: list[tuple[Connection, socket.socket]] = []
    may_connect = threading.Event()

    class Connecting:
        def connect(self, timeout: float) -> Connection:
            assert may_connect.wait(60)
            ours, theirs = socket.socketpair()
            made.append((Connection(ours), theirs))
            return made[-1][0]

    def is_open(connection: Connection) -> bool:
        return connection._sock.fileno() != -1

    async def main() -> None:
        connecting = Connecting()
        connections = LoopConnections(
            weakref.WeakMethod(connecting.connect), lambda _, text: OSError(text), 60, lambda: None
        )
        connect = connections._connect

        def interrupted(loop: asyncio.AbstractEventLoop) -> None:
            connect(loop)
            raise KeyboardInterrupt

        assert connections.current() is None
        monkeypatch.setattr(connections, "_connect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            connections.current()
        monkeypatch.setattr(connections, "_connect", connect)
        assert connections.current() is None
        may_connect.set()
        while len(made) < 2 or all(is_open(connection) for connection, _ in made):
            await asyncio.sleep(0.001)
        current = connections.current()
        assert current is not None
        assert current.is_open
        connections.close()
        while current.is_open:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), 60))
    assert not any(is_open(connection) for connection, _ in made)
    for _, theirs in made:
        theirs.close()


def test_replies_to_several_commands_come_together(pair: tuple[Connection, socket.socket]) -> None:
    """The bytes of the server may be split anywhere, and other commands may run at the same time."""
    ours, theirs = pair
    replies = b":1\r\n:2\r\n-ERR no\r\n:3\r\n:4\r\n:5\r\n"

    async def main() -> None:
        connection = LoopConnection(
            ours, functools.partial(failed, pytest.importorskip("redis.exceptions")), 60, lambda: None
        )
        connection.begin(asyncio.get_running_loop())
        for size in (1, 2, 7, 9, 100):
            one, many, alone, cancelled, last = (
                connection.submit(None, ("A",)),
                connection.submit(None, ("C",), before=[("B",)]),
                connection.submit(None, ("D",), before=()),
                connection.submit(None, ("E",), before=()),
                connection.submit(None, ("F",)),
            )
            cancelled.cancel()
            for start in range(0, len(replies), size):
                theirs.sendall(replies[start : start + size])
                await asyncio.sleep(0)
            assert (await one, await alone, await last) == (1, [3], 5)
            number, refusal = await many
            assert number == 2
            assert isinstance(refusal, RemoteError)

    asyncio.run(main())


def test_nothing_is_written_over_a_connection_that_has_ended(pair: tuple[Connection, socket.socket]) -> None:
    """The server may have closed an idle connection. A command that is sent then would be lost unnoticed."""
    ours, theirs = pair
    tracker = PushTracker(1)

    async def main() -> None:
        connection = LoopConnection(
            ours, functools.partial(failed, pytest.importorskip("redis.exceptions")), 60, lambda: None
        )
        connection.begin(asyncio.get_running_loop())
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(RemoteConnectionError) as raised:
            await connection.submit(None, ("SET", "key", 1), write=tracker.write([b"key"]))
        # The exact class: an exception may reach the user.
        assert type(raised.value) is RemoteConnectionError
        assert raised.value._is_unsent
        assert tracker.stamp(b"key")
        assert not connection.is_open

    asyncio.run(main())
    assert theirs.recv(1) == b""
