"""The replies of a server (RESP3), as far as a connection that listens gets them."""

from __future__ import annotations

from typing import Any

from flexcache_rs._core import RemoteReplies, _remote_command  # pyright: ignore[reportPrivateUsage]


class ProtocolError(Exception):
    """These bytes are no reply."""


class ErrorReply(Exception):  # noqa: N818  # It is a reply.
    """The server refused a command."""


class Push(list[Any]):
    """What the server sends without having been asked."""


command = _remote_command
"""The bytes of a command."""


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
