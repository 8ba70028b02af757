"""The replies of a server (RESP3), as far as a connection that listens gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_BUFFERED = 1 << 29
"""No reply to what a listener asks is as long: the server's own limit for one text."""

_DEEPEST = 16


class ProtocolError(Exception):
    """These bytes are no reply."""


class ErrorReply(Exception):  # noqa: N818  # It is a reply.
    """The server refused a command."""


class Push(list[Any]):
    """What the server sends without having been asked."""


class _IncompleteError(Exception):
    """More has to come."""


def command(*parts: bytes | str | int) -> bytes:
    """The bytes of a command."""
    out = [b"*%d\r\n" % len(parts)]
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        out.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(out)


class ReplyReader:
    """Takes bytes as they come, and gives replies when they are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> Iterator[Any]:
        """Takes bytes. Gives each reply that is complete: an `ErrorReply` and a `Push` too.

        Raises:
            ProtocolError: They are none.
        """
        self._buffer += data
        while self._at < len(self._buffer):
            start = self._at
            try:
                reply = self._reply(0)
            except _IncompleteError:
                self._at = start
                if len(self._buffer) > _MOST_BUFFERED:
                    message = "a reply is too long"
                    raise ProtocolError(message) from None
                break
            yield reply
        del self._buffer[: self._at]
        self._at = 0

    def _line(self) -> bytes:
        end = self._buffer.find(b"\r\n", self._at)
        if end < 0:
            raise _IncompleteError
        line = bytes(self._buffer[self._at : end])
        self._at = end + 2
        return line

    def _number(self, text: bytes) -> int:
        try:
            return int(text)
        except ValueError:
            message = f"{text[:32]!r} is no number"
            raise ProtocolError(message) from None

    def _text(self, length: int) -> bytes:
        end = self._at + length
        if len(self._buffer) < end + 2:
            raise _IncompleteError
        if not self._buffer.startswith(b"\r\n", end):
            message = "a text does not end where it should"
            raise ProtocolError(message)
        text = bytes(self._buffer[self._at : end])
        self._at = end + 2
        return text

    def _reply(self, depth: int) -> Any:
        line = self._line()
        mark, rest = line[:1], line[1:]
        if mark in b"+(,#" and mark:
            return self._simple(mark, rest)
        if mark == b"-":
            return ErrorReply(rest.decode("utf-8", "replace"))
        if mark == b":":
            return self._number(rest)
        if mark == b"_":
            return None
        length = self._number(rest)
        if mark in b"$=!" and mark:
            if length == -1:
                return None
            if not 0 <= length <= _MOST_BUFFERED:
                message = f"a text cannot have {length} bytes"
                raise ProtocolError(message)
            text = self._text(length)
            return ErrorReply(text.decode("utf-8", "replace")) if mark == b"!" else text
        if mark not in b"*~>%|" or not mark:
            message = f"{line[:32]!r} begins no reply"
            raise ProtocolError(message)
        if length == -1:
            return None
        return self._many(mark, length, depth)

    def _simple(self, mark: bytes, rest: bytes) -> Any:
        if mark == b"#":
            return rest == b"t"
        if mark == b"(":
            return self._number(rest)
        return rest

    def _many(self, mark: bytes, length: int, depth: int) -> Any:
        if length < 0 or depth == _DEEPEST:
            message = "replies are nested too deeply" if length >= 0 else f"{length} is no length"
            raise ProtocolError(message)
        # Not sized by what it claims: it grows as parts come.
        parts = [self._reply(depth + 1) for _ in range(length * 2 if mark in b"%|" else length)]
        if mark == b">":
            return Push(parts)
        if mark in b"%|":
            try:
                pairs = dict(zip(parts[::2], parts[1::2], strict=True))
            except TypeError:
                message = "a key of a map cannot be hashed"
                raise ProtocolError(message) from None
            # An attribute is about the reply that follows it.
            return pairs if mark == b"%" else self._reply(depth)
        return parts
