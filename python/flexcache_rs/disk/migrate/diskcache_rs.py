"""Directories of diskcache_rs: its `Cache` and `FanoutCache`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from flexcache_rs._core import disk_decompress_lz4
from flexcache_rs.disk.migrate.plain_values import UnreadableError, Value, repickled, unpickled
from flexcache_rs.disk.migrate.source import Item, Source, failing, file_loader, loader
from flexcache_rs.disk.raw_directory import reading

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "diskcache_rs"
DATABASE = "index.sqlite3"

_INLINE = b"memory://"
_RS_BYTES, _RS_PICKLE = b"\x00diskcache_rs:bytes\x00", b"\x00diskcache_rs:pickle\x00"


def open_source(source: Source) -> None:
    """Set the decoder of a source, and its number and size of entries."""
    source.decode = _diskcache_rs_value
    for folder in source.folders:
        with reading(folder / DATABASE) as connection:
            ((count, size),) = connection.execute("SELECT COUNT(*), COALESCE(SUM(LENGTH(value)), 0) FROM cache_index")
            for (record,) in connection.execute("SELECT value FROM cache_index WHERE INSTR(value, ?) = 0", (_INLINE,)):
                # read() reports an unreadable entry later.
                with contextlib.suppress(UnreadableError, OSError):
                    path, _, _, compressed = _diskcache_rs_record(record)
                    size += _unpacked_size(folder / "data" / Path(path).name, compressed=compressed)
        source.total += count
        source.size += size


def decompressed(data: bytes) -> bytes:
    """Decompress a block of LZ4 that begins with its length.

    Raises:
        UnreadableError: It is damaged, or there is no memory for it.
    """
    try:
        return disk_decompress_lz4(data)
    except (ValueError, MemoryError) as error:
        raise UnreadableError("damaged compressed value" if isinstance(error, ValueError) else str(error)) from None


def _unpacked_size(path: Path, *, compressed: bool) -> int:
    if not compressed:
        return path.stat().st_size
    with path.open("rb") as file:
        return int.from_bytes(file.read(4), "little")


def _diskcache_rs_value(data: bytes) -> Value:
    if data.startswith(_RS_BYTES):
        return True, data[len(_RS_BYTES) :]
    if data.startswith(_RS_PICKLE):
        return unpickled(data[len(_RS_PICKLE) :])
    # An earlier version wrote this, without a mark of its format.
    with contextlib.suppress(UnreadableError):
        return unpickled(data)
    with contextlib.suppress(ValueError):
        return repickled(json.loads(data))
    with contextlib.suppress(UnicodeDecodeError):
        return True, data.decode()
    return True, data


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return an unsigned integer of variable length, and the position of its end."""
    first = data[at]
    width = {0xFB: 2, 0xFC: 4, 0xFD: 8}.get(first, 0)
    if not width:
        if first > 0xFB:
            raise UnreadableError("damaged record")
        return first, at + 1
    end = at + 1 + width
    if end > len(data):
        raise UnreadableError("damaged record")
    return int.from_bytes(data[at + 1 : end], "little"), end


def _diskcache_rs_record(record: bytes) -> tuple[str, int, float, bool]:
    """Return a record's path, the position of its value, its store time, and whether the value is compressed."""
    try:
        length, at = _number(record, 0)
        path, at = record[at : at + length].decode(), at + length
        _, at = _number(record, at)
        stored, at = _number(record, at)
        return path, at + 1, float(stored), record[at] == 1
    except (AttributeError, IndexError, TypeError, UnicodeDecodeError) as error:
        raise UnreadableError("damaged record") from error


def read(folder: Path) -> Iterator[Item]:
    """Yield the entries of a folder."""
    with reading(folder / DATABASE) as connection:
        last = -(2**63)
        while True:
            rows = connection.execute(
                "SELECT rowid, key, value FROM cache_index WHERE rowid > ? ORDER BY rowid LIMIT 100", (last,)
            ).fetchall()
            if not rows:
                return
            for rowid, key, record in rows:
                last = rowid
                yield _of_record(folder, key, record)


def _of_record(folder: Path, key: str, record: bytes) -> Item:
    try:
        path, at, stored, compressed = _diskcache_rs_record(record)
    except UnreadableError as error:
        return Item(key, failing(error))
    # The path is relative to the program's working directory, so use its last part only.
    in_file = not path.encode().startswith(_INLINE)
    load = file_loader(folder / "data", Path(path).name) if in_file else loader(record[at:])
    return Item(key, (lambda: decompressed(load())) if compressed else load, store_time=stored)
