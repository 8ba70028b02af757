"""Decompression of a block of LZ4."""

from __future__ import annotations

import struct

from flexcache_rs.disk.migrate.plain_values import UnreadableError


def decompress(data: bytes) -> bytes:
    """A block of LZ4, with its length in front."""
    if len(data) < 4:
        raise UnreadableError("damaged compressed value")
    (length,) = struct.unpack_from("<I", data)
    result = bytearray()
    at = 4
    try:
        while True:
            token = data[at]
            at += 1
            count, at = _lz4_length(data, at, token >> 4)
            if at + count > len(data):
                raise IndexError
            result += data[at : at + count]
            at += count
            if at == len(data):
                break
            offset = data[at] | data[at + 1] << 8
            count, at = _lz4_length(data, at + 2, token & 15)
            count += 4
            if not 0 < offset <= len(result) or len(result) + count > length:
                raise IndexError
            if offset >= count:
                start = len(result) - offset
                result += result[start : start + count]
            else:
                # The copy overlaps itself: a pattern that repeats.
                pattern = bytes(result[-offset:])
                result += (pattern * (count // offset + 1))[:count]
    except IndexError:
        raise UnreadableError("damaged compressed value") from None
    if len(result) != length:
        raise UnreadableError("damaged compressed value")
    return bytes(result)


def _lz4_length(data: bytes, at: int, count: int) -> tuple[int, int]:
    if count == 15:
        while True:
            more = data[at]
            at += 1
            count += more
            if more != 255:
                break
    return count, at
