"""A proxy between a cache and its server, which tests let send wrong replies."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

from flexcache_rs._core import RemoteReplies

if TYPE_CHECKING:
    from collections.abc import Callable

    from own_server import Server

_FOR_CONNECTIONS = frozenset((b"HELLO", b"AUTH", b"CLIENT", b"SELECT", b"PING"))
"""Commands that set up connections."""


def encoded(reply: Any) -> bytes:
    """Return the bytes of a reply."""
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(encoded, reply))
    if reply is None:
        return b"$-1\r\n"
    if reply == {}:
        return b"%0\r\n"
    return (b":%d\r\n" if isinstance(reply, int) else b",%r\r\n") % reply


class Proxy:
    """A proxy on a port of its own.

    Attributes:
        answer: Returns the bytes to send for a command, and whether to forward it. Listening connections do not use it.
        accepted: The number of connections so far.
    """

    def __init__(self, server: Server) -> None:
        self._server, self.accepted = server, 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}"
        self.be_right()
        threading.Thread(target=self._accept, daemon=True).start()

    def be_right(self) -> None:
        """Send right replies from now on."""
        self.answer: Callable[[list[bytes]], tuple[bytes, bool]] = lambda _: (b"", True)

    def be_wrong(self, reply: Any) -> None:
        """Send one reply to each command from now on."""
        sent = encoded(reply)
        self.answer = lambda _: (sent, False)

    def be_wrong_once(self, name: bytes, sent: bytes, *, forwards: bool = True) -> None:
        """Send these bytes before the reply to the next command of a name, or instead of it."""

        def answer(command: list[bytes]) -> tuple[bytes, bool]:
            if command[0] != name:
                return b"", True
            self.be_right()
            return sent, forwards

        self.answer = answer

    def close(self) -> None:
        """Accept no more connections."""
        # Not every system wakes the thread by closing alone.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                self.accepted += 1
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        """Serve a connection until one side ends it."""
        with near, socket.socket(socket.AF_UNIX) as far, contextlib.suppress(OSError):
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            far.connect(self._server.path)
            replying = threading.Thread(target=_copy_replies, args=(near, far), daemon=True)
            replying.start()
            try:
                self._pass_commands(near, far)
            finally:
                _end(near, far)
                replying.join()

    def _pass_commands(self, near: socket.socket, far: socket.socket) -> None:
        reader: Any = RemoteReplies(list, lambda _, text: ValueError(text))
        is_listening = False
        while data := near.recv(1 << 16):
            for command in reader.feed(data):
                is_listening |= b"TRACKING" in command
                sent, forwards = b"", True
                if not is_listening and command[0] not in _FOR_CONNECTIONS:
                    sent, forwards = self.answer(command)
                if sent:
                    near.sendall(sent)
                if forwards:
                    far.sendall(encoded(command))


def _copy_replies(near: socket.socket, far: socket.socket) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := far.recv(1 << 16):
                near.sendall(data)
    finally:
        _end(near, far)


def _end(*sockets: socket.socket) -> None:
    """End connections, which wakes the threads that read them."""
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
