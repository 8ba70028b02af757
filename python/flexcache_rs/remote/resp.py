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
"""The native class, or None on Windows."""


def native_socket(sock: Any, failed: Callable[[str, str], Exception]) -> RemoteSocket | None:
    """Return a socket for native code, or None if only Python can use it.

    Args:
        sock: A connected socket.
        failed: Makes an exception from its kind and text.
    """
    # Native code would get the encrypted bytes of a TLS socket.
    if _NATIVE is None or type(sock) is not socket.socket:
        return None
    native: RemoteSocket = _NATIVE(sock.fileno(), failed)
    return native


class ProtocolError(Exception):
    """The bytes are not a valid reply."""


class ErrorReply(Exception):  # noqa: N818  # It is a reply.
    """The server refused a command."""


class Push(list[Any]):
    """A message that the server sends without a request."""


command = _remote_command
"""Encodes a command as bytes."""

commands = _remote_commands
"""The bytes of several commands."""


def _failed(kind: str, text: str) -> Exception:
    return ProtocolError(text) if kind == "protocol" else ErrorReply(text)


class ReplyReader:
    """An incremental parser of replies."""

    def __init__(self) -> None:
        self._native = RemoteReplies(Push, _failed)

    def feed(self, data: bytes) -> list[Any]:
        """Parse bytes, and return the replies that are complete, including each `ErrorReply` and `Push`.

        Raises:
            ProtocolError: The bytes are not valid.
        """
        return self._native.feed(data)


class NewsReader:
    """Reads the socket of a listening connection.

    It passes the keys of announced writes to the tracker, without the GIL if possible.

    Args:
        sock: The socket.
        tracker: The tracker.
        start: The prefix of the keys of values.
    """

    def __init__(self, sock: Any, tracker: PushTracker, start: bytes) -> None:
        self._sock, self._tracker, self._start = sock, tracker, start
        self._reader = ReplyReader()
        self._native = native_socket(sock, _failed)

    @property
    def invalidated(self) -> int:
        """The number of keys that were passed directly to the tracker."""
        return 0 if self._native is None else self._native.invalidated

    def receive(self, seconds: float) -> list[Any]:
        """Wait for data, and return the complete replies, possibly none.

        An `ErrorReply` is returned too, and so is a `Push` that was not passed to the tracker.

        Raises:
            TimeoutError: Nothing has come for `seconds` seconds.
            OSError: The connection has ended.
            ProtocolError: The data is not valid.
        """
        if self._native is not None:
            return self._native.receive(seconds, self._tracker, self._start, Push)
        self._sock.settimeout(seconds)
        data = self._sock.recv(1 << 16)
        if not data:
            message = "the server closed the connection"
            raise ConnectionResetError(message)
        return self._reader.feed(data)
