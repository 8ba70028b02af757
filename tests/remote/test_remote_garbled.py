"""A server whose first replies cannot be parsed."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from flexcache_rs.remote import RemoteCache, RemoteError
from flexcache_rs.sessions import SessionError
from flexcache_rs.sessions.sync import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

GARBLED = {
    "nested without end": b"*1\r\n" * 100_000,
    "no int": b":abc\r\n",
    "no length": b"*abc\r\n",
    "text": b"HTTP/1.1\r\n",
}


@contextlib.contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """Run a server that sends the same bytes to every client. Yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(1000)
                        connection.sendall(reply)
                        # Until the other side ends the connection.
                        while connection.recv(1000):
                            pass

        threading.Thread(target=answer, daemon=True).start()
        yield listening.getsockname()[1]
        # Not every system wakes the thread by this.
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("reply", GARBLED)
def test_it_is_a_failure_of_the_connection(reply: str) -> None:
    """No error of the package, which would look like one of the arguments."""
    with answering(GARBLED[reply]) as port:
        with pytest.raises(RemoteError):
            RemoteCache(f"redis://127.0.0.1:{port}", "garbled", timeout=30)
        with connect(f"redis://127.0.0.1:{port}", timeout=30) as session, pytest.raises(SessionError):
            session.get("key")
