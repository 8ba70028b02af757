"""Encodes commands, and decodes the replies (RESP3) that a listening connection gets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from flexcache_rs import _core
from flexcache_rs._core import (
    RemoteReplies,
    _remote_command,  # pyright: ignore[reportPrivateUsage]
    _remote_commands,  # pyright: ignore[reportPrivateUsage]
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexcache_rs._core import PushTracker, RemoteSocket

_NATIVE: Any = getattr(_core, "RemoteSocket", None)
"""None on Windows."""


def native_socket(sock: Any, failed: Callable[[str, str], Exception]) -> RemoteSocket | None:
    """A socket for native code, or None if Python must use it.

    Args:
        sock: A connected socket.
        failed: Makes the exceptions, of a word and a text.
    """
    # Bytes of TLS sockets are encrypted.
    if _NATIVE is None or type(sock) is not socket.socket:
        return None
    native: RemoteSocket = _NATIVE(sock.fileno(), failed)
    return native


class ProtocolError(Exception):
    """These bytes are no reply."""


class ErrorReply(Exception):  # noqa: N818  # It is a reply.
    """The server refused a command."""


class Push(list[Any]):
    """What the server sends without having been asked."""


command = _remote_command
"""The bytes of a command."""

commands = _remote_commands
"""The bytes of several commands."""


def _failed(kind: str, text: str) -> Exception:
    return ProtocolError(text) if kind == "protocol" else ErrorReply(text)


class ReplyReader:
    """Takes bytes as they come, and gives replies when they are complete."""

    def __init__(self) -> None:
        self._native = RemoteReplies(Push, _failed)

    def feed(self, data: bytes) -> list[Any]:
        """Take bytes. Return each reply that is complete: an `ErrorReply` and a `Push` too.

        Raises:
            ProtocolError: They are none.
        """
        return self._native.feed(data)


class NewsReader:
    """What comes over the socket of a connection that listens.

    Keys of values that were written are told to the tracker, without the interpreter's lock where that can be.

    Args:
        sock: The socket.
        tracker: What is told.
        start: What the keys of values begin with.
    """

    def __init__(self, sock: Any, tracker: PushTracker, start: bytes) -> None:
        self._sock, self._tracker, self._start = sock, tracker, start
        self._reader = ReplyReader()
        self._native = native_socket(sock, _failed)

    @property
    def invalidated(self) -> int:
        """How many keys were told to the tracker, and not returned."""
        return 0 if self._native is None else self._native.invalidated

    def receive(self, seconds: float) -> list[Any]:
        """Wait for replies: an `ErrorReply` and a `Push` too, unless the tracker was told. There may be none yet.

        Raises:
            TimeoutError: Nothing has come for `seconds` seconds.
            OSError: The connection has ended.
            ProtocolError: What has come are no replies.
        """
        if self._native is not None:
            return self._native.receive(seconds, self._tracker, self._start, Push)
        self._sock.settimeout(seconds)
        data = self._sock.recv(1 << 16)
        if not data:
            message = "the server closed the connection"
            raise ConnectionResetError(message)
        return self._reader.feed(data)
