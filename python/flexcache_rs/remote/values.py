"""The format of values on the server: a header, the nonces of the tags, and a body.

| bytes | what |
| --- | --- |
| 1 | `FC`, in hexadecimal |
| 1 | the kind of the body; 16 more where there are tags, 32 where the body is compressed by zstd, 64 by LZ4 |
| 8 | when it expires: milliseconds since 1970 of the server's clock, little-endian; 0 for never |
| 4 | random, others for every write |
| 8 | the nonce of the namespace |
| 2 | where there are tags: their length |
| … | of each tag: 2 bytes for the length of its name, the name in UTF-8, 8 bytes for its nonce |
| … | the body |

A value is live while its nonces are those that the server has.

| kind | body |
| --- | --- |
| 0 | what the serializer made |
| 1 | bytes |
| 2 | text in UTF-8 |
| 3 | an int in decimal digits |
| 4 | a float, as its shortest text |
| 5 | None |
"""

from __future__ import annotations

import os
import pickle
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from flexcache_rs._core import _compress, _decompress
from flexcache_rs.remote.errors import RemoteValueError

if TYPE_CHECKING:
    from flexcache_rs.disk.serializers import Serializer

_HEAD = struct.Struct("<BBq4s8s")
_LENGTH = struct.Struct("<H")

HEAD_BYTES = _HEAD.size
"""The length of the first bytes of a value, which are unique to it."""

NONCE_BYTES = 8

MOST_HEAD = 1024
"""The number of bytes that are read first if only the header of a value matters."""

DEADLINE_AT = 2
"""The position of the deadline in a value."""

_LEAST_COMPRESSED = 256
"""The length of a body in bytes below which compression is not worth its cost."""

_MAGIC = 0xFC
_HAS_TAGS = 16
_COMPRESSED = {32: "zstd", 64: "lz4"}
_MARKS = {name: mark for mark, name in _COMPRESSED.items()}
_MARKS_OF_ALL = _HAS_TAGS | 32 | 64
_SERIALIZED, _BYTES, _TEXT, _INT, _FLOAT, _NONE = range(6)

_MOST_TAG_BYTES = 65_535
"""The largest length that a header can store."""

_MOST_DIGITS = 4000
"""The largest number of digits of an int that is stored as text. Python refuses to parse much longer ones."""


class _Pickle:
    """Pickle, which loads everything."""

    name = "pickle"

    def dumps(self, value: Any, protocol: int, /) -> bytes:
        return pickle.dumps(value, protocol)

    def loads(self, data: bytes, /) -> Any:
        return pickle.loads(data)


def serializer_of(given: Any) -> Serializer:
    """Return the serializer for the argument `serializer`.

    Raises:
        TypeError: The argument is not a serializer.
        ValueError: No serializer has that name.
    """
    if given is None or given == "pickle":
        return _Pickle()
    if isinstance(given, str):
        from flexcache_rs.disk.serializers import JSONSerializer, MsgspecSerializer

        if given == "json":
            return JSONSerializer()
        if given == "msgspec":
            return MsgspecSerializer()
        message = f"serializer must be 'pickle', 'json', 'msgspec' or an object with dumps and loads, not {given!r}"
        raise ValueError(message)
    if not all(callable(getattr(given, name, None)) for name in ("dumps", "loads")):
        message = f"serializer must have the methods dumps and loads, unlike {type(given).__name__}"
        raise TypeError(message)
    serializer: Serializer = given
    return serializer


class Head(NamedTuple):
    """The header of a value."""

    kind: int
    deadline: int
    """The deadline in milliseconds of the server's clock, 0 for never."""
    epoch: bytes
    tags: tuple[tuple[str, bytes], ...]
    """The names and nonces of the tags."""
    size: int
    """The position at which the body begins."""
    compression: str | None


def unreadable(key: Any, why: str) -> RemoteValueError:
    """Return an error that names the key."""
    return RemoteValueError(f"the server has something under the key {key!r} that is no value of this cache: {why}")


def head_bytes(raw: bytes) -> int:
    """Return the length of a header, given its first bytes."""
    if len(raw) < HEAD_BYTES + 2 or not raw[1] & _HAS_TAGS:
        return HEAD_BYTES
    return HEAD_BYTES + 2 + int(_LENGTH.unpack_from(raw, HEAD_BYTES)[0])


def is_cut(raw: bytes) -> bool:
    """Whether the first `MOST_HEAD` bytes of a value are not its whole header."""
    return len(raw) == MOST_HEAD and head_bytes(raw) > MOST_HEAD


def read_head(key: Any, raw: bytes) -> Head:
    """Decode the header of a value.

    Raises:
        RemoteValueError: The bytes are not a value.
    """
    if len(raw) < HEAD_BYTES:
        raise unreadable(key, f"it has {len(raw)} bytes, fewer than a header")
    magic, kind, deadline, _, epoch = _HEAD.unpack_from(raw)
    if magic != _MAGIC or kind & ~_MARKS_OF_ALL > _NONE or kind & 96 == 96 or deadline < 0:
        raise unreadable(key, f"it begins with {bytes(raw[:4])!r}, as no header does")
    tags: list[tuple[str, bytes]] = []
    at = HEAD_BYTES
    if kind & _HAS_TAGS:
        end = head_bytes(raw)
        if end > len(raw) or end == HEAD_BYTES:
            raise unreadable(key, "its tags are truncated")
        at += 2
        while at < end:
            length = _LENGTH.unpack_from(raw, at)[0] if at + 2 <= end else end
            name, nonce = raw[at + 2 : at + 2 + length], raw[at + 2 + length : at + 2 + length + NONCE_BYTES]
            at += 2 + length + NONCE_BYTES
            if at > end or len(nonce) < NONCE_BYTES:
                raise unreadable(key, "its tags are truncated")
            try:
                tags.append((name.decode("utf-8", "surrogatepass"), bytes(nonce)))
            except UnicodeDecodeError:
                raise unreadable(key, "the name of a tag is not UTF-8") from None
    return Head(kind & ~_MARKS_OF_ALL, deadline, epoch, tuple(tags), at, _COMPRESSED.get(kind & ~_HAS_TAGS & ~7))


class Values:
    """Encodes and decodes values."""

    def __init__(self, serializer: Serializer, compression: str | None = None) -> None:
        self.serializer, self._compression = serializer, compression
        name = getattr(serializer, "name", None) or type(serializer).__qualname__
        self.format = f"flexcache 1 {name}".encode()
        """The description of this format, which the server stores for the namespace."""

    def write(self, value: Any, deadline: int, epoch: bytes, tags: tuple[tuple[str, bytes], ...]) -> bytes:
        """Encode a value. An exception of the serializer propagates."""
        kind, body = self._body(value)
        if self._compression is not None and kind <= _TEXT and len(body) >= _LEAST_COMPRESSED:
            smaller = _compress(body, self._compression)
            if smaller is not None:
                kind, body = kind | _MARKS[self._compression], smaller
        section = b""
        if tags:
            kind |= _HAS_TAGS
            parts: list[bytes] = []
            for name, nonce in tags:
                text = name.encode("utf-8", "surrogatepass")
                if len(text) > _MOST_TAG_BYTES:
                    message = f"a tag must not have more than {_MOST_TAG_BYTES} bytes of UTF-8, unlike {name[:40]!r}..."
                    raise ValueError(message)
                parts += (_LENGTH.pack(len(text)), text, nonce)
            section = b"".join(parts)
            if len(section) > _MOST_TAG_BYTES:
                message = f"tags must not take more than {_MOST_TAG_BYTES} bytes together, not {len(section)}"
                raise ValueError(message)
            section = _LENGTH.pack(len(section)) + section
        return _HEAD.pack(_MAGIC, kind, deadline, os.urandom(4), epoch) + section + body

    def _body(self, value: Any) -> tuple[int, bytes]:
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is bytes:
            return _BYTES, value
        if kind is str:
            try:
                return _TEXT, value.encode()
            except UnicodeEncodeError:  # Lone surrogates.
                pass
        elif kind is int and value.bit_length() < _MOST_DIGITS * 3:
            return _INT, b"%d" % value
        elif kind is float:
            return _FLOAT, repr(value).encode()
        elif value is None:
            return _NONE, b""
        return _SERIALIZED, self.serializer.dumps(value, pickle.HIGHEST_PROTOCOL)

    def read(self, key: Any, head: Head, raw: bytes) -> Any:
        """Decode a value.

        Raises:
            RemoteValueError: The body is not what the header says, or the serializer cannot read it.
        """
        body = raw[head.size :]
        try:
            if head.compression is not None:
                body = _decompress(body, head.compression)
            if head.kind == _SERIALIZED:
                return self.serializer.loads(body)
            if head.kind == _BYTES:
                return body
            if head.kind == _TEXT:
                return body.decode()
            if head.kind == _NONE:
                return None
            return int(body) if head.kind == _INT else float(body)
        except Exception as error:
            raise unreadable(key, f"{type(error).__name__}: {error}") from error


def is_int(head: Head) -> bool:
    """Whether the value is an int."""
    return head.kind == _INT
