"""Migration from directories of SciQLop-cache and diskcache_rs, read as files; nothing in them is changed."""

from __future__ import annotations

import base64
import contextlib
import importlib
import io
import json
import math
import os
import pickle
import pickletools
import shutil
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from flexcache_rs.disk.core import DBNAME, MODE_PICKLE
from flexcache_rs.disk.table import Entry, Found, UnusableError, Writer, create, find, reading

SCIQLOP, DISKCACHE_RS, DISKCACHE_RS_FAST = "sciqlop-cache.db", "index.sqlite3", "index.json"
NAMES = {
    SCIQLOP: "SciQLop-cache",
    DISKCACHE_RS: "diskcache_rs",
    DISKCACHE_RS_FAST: "diskcache_rs (FastCache or PickleCache)",
}

SPARE = 1.1
"""What the new directory may need, by what the values take."""

PROTOCOL = 5
"""Of pickled keys; what python-diskcache records in new directories."""


class UnreadableError(Exception):
    """An entry that cannot be read, for whatever reason."""


@dataclass
class Item:
    """An entry of a source, still as it lies there."""

    key: str
    load: Callable[[], bytes]
    expire_time: float | None = None
    tag: str | None = None
    store_time: float | None = None


Value = tuple[bool, Any]
"""Either (True, a str, bytes, int or float) or (False, a pickle)."""


@dataclass
class Source:
    """A directory to migrate from."""

    kind: str
    folders: list[Path]
    sharded: bool
    total: int = 0
    size: int = 0
    size_limit: int | None = None
    evicts: bool = True
    decode: Callable[[bytes], Value] = field(default=lambda data: _unpickled(data))
    decode_key: Callable[[str], Any] = field(default=lambda key: key)

    @property
    def name(self) -> str:
        """Whose directory it is."""
        return NAMES[self.kind]

    def items(self) -> Iterator[Item]:
        """All entries."""
        reader = {SCIQLOP: _of_sciqlop, DISKCACHE_RS: _of_diskcache_rs, DISKCACHE_RS_FAST: _of_index_json}[self.kind]
        for folder in self.folders:
            yield from reader(folder)


@dataclass
class Summary:
    """What came of a migration."""

    source: str
    total: int
    migrated: int = 0
    skipped: int = 0
    errors: int = 0
    seconds: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict[str, int])

    def note(self, reason: str) -> None:
        """Counts why an entry was left out."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


def recognise(directory: Path, *, trust: bool = False) -> Source:
    """Whose directory it is, and what is in it. Raises UnusableError."""
    if not directory.is_dir():
        raise UnusableError(f"{directory}: no such directory")
    for kind in NAMES:
        if (directory / kind).is_file():
            return _opened(Source(kind, [directory], sharded=False), trust=trust)
        shards = sorted(path.parent for path in directory.glob(f"*/{kind}"))
        if shards:
            return _opened(Source(kind, shards, sharded=True), trust=trust)
    if _holds_cache(directory):
        raise UnusableError(
            f"{directory} is a directory of python-diskcache, which flexcache_rs.disk uses as it is; "
            "to copy it, use export and import"
        )
    raise UnusableError(
        f"{directory}: neither a SciQLop-cache ({SCIQLOP}) nor a diskcache_rs ({DISKCACHE_RS}) directory"
    )


def _holds_cache(directory: Path) -> bool:
    try:
        return bool(find(directory))
    except UnusableError:
        return False


def _opened(source: Source, *, trust: bool) -> Source:
    try:
        if source.kind == SCIQLOP:
            _open_sciqlop(source, trust=trust)
        elif source.kind == DISKCACHE_RS:
            _open_diskcache_rs(source)
        else:
            _open_index_json(source)
    except sqlite3.DatabaseError as error:
        raise UnusableError(f"{source.folders[0]}: the database cannot be read: {error}") from error
    return source


# Values ---------------------------------------------------------------------------------------------------------------


class _ClassNeededError(Exception):
    pass


class _Plain(pickle.Unpickler):
    """Loads what needs no class; runs no code."""

    def find_class(self, module: str, name: str) -> Any:
        raise _ClassNeededError(f"{module}.{name}")

    def persistent_load(self, _pid: Any) -> Any:
        raise UnreadableError("a pickle that refers to something outside")


def _plain(data: bytes) -> Any:
    try:
        return _Plain(io.BytesIO(data)).load()
    except (_ClassNeededError, UnreadableError):
        raise
    except Exception as error:
        raise UnreadableError("damaged pickle") from error


_SIMPLE = (str, bytes, int, float)


def _is_simple(value: Any) -> bool:
    """Whether a directory holds it as it is."""
    if type(value) is str:
        return not any("\ud800" <= char <= "\udfff" for char in value) if not value.isascii() else True
    if type(value) is int:
        return -(2**63) <= value < 2**63
    if type(value) is float:
        return not math.isnan(value)
    return type(value) is bytes


def _unpickled(data: bytes) -> Value:
    """A value from its pickle, which stays one where it has to."""
    try:
        value = _plain(data)
    except _ClassNeededError:
        return False, data
    return (True, value) if _is_simple(value) else (False, data)


def _repickled(value: Any) -> Value:
    if _is_simple(value):
        return True, value
    try:
        return False, pickle.dumps(value, PROTOCOL)
    except Exception as error:
        raise UnreadableError("a value that cannot be pickled") from error


# SciQLop-cache --------------------------------------------------------------------------------------------------------


def _open_sciqlop(source: Source, *, trust: bool) -> None:
    names: set[str] = set()
    encoded = False
    limit = 0
    for folder in source.folders:
        with reading(folder / SCIQLOP) as connection:
            meta = dict(connection.execute("SELECT key, value FROM meta"))
            names.add(str(meta.get("serializer", "pickle")))
            encoded = encoded or "encoded_keys" in meta
            with contextlib.suppress(ValueError):
                limit += int(meta.get("max_size") or 0)
            ((count, size),) = connection.execute("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM cache")
            source.evicts = _has_expiry(connection)
        source.total += count
        source.size += size
    source.size_limit = limit or None
    if len(names) > 1:
        raise UnusableError(f"the shards have different serializers: {', '.join(sorted(names))}")
    (serializer,) = names
    if serializer != "pickle":
        source.decode = _with_package(serializer, source.folders[0])
    if encoded:
        source.decode_key = lambda key: _sciqlop_key(key, trust=trust)


def _has_expiry(connection: sqlite3.Connection) -> bool:
    """Whether it is a cache, not an Index."""
    return any(name == "expire" for _, name, *_ in connection.execute("PRAGMA table_info(cache)"))


def _with_package(serializer: str, folder: Path) -> Callable[[bytes], Value]:
    """The loads of a serializer, which only its own package has."""
    try:
        module = importlib.import_module("pysciqlop_cache.serializers")
        loads = module.get_serializer_by_name(serializer).loads
        if serializer == "msgspec":
            importlib.import_module("msgspec")
    except ImportError as error:
        raise UnusableError(
            f"{folder}: the values are written by the serializer {serializer!r}; to read them, install what wrote "
            f"them: pip install pysciqlop-cache{' msgspec' if serializer == 'msgspec' else ''}"
        ) from error
    except (AttributeError, KeyError, ValueError) as error:
        raise UnusableError(f"{folder}: the installed pysciqlop-cache has no serializer {serializer!r}") from error

    def decode(data: bytes) -> Value:
        try:
            value = loads(data)
        except Exception as error:
            raise UnreadableError(f"the serializer {serializer!r} cannot read the value") from error
        return _repickled(value)

    return decode


def _sciqlop_key(key: str, *, trust: bool) -> Any:
    if not key.startswith("\x00"):
        return key
    kind, text = key[1:2], key[2:]
    try:
        if kind == "i":
            return int(text)
        if kind == "f":
            return float(text)
        if kind == "b":
            return text.encode("latin-1")
        data = base64.b64decode(text, validate=True) if kind == "p" else b""
    except ValueError as error:
        raise UnreadableError("damaged key") from error
    if not data:
        raise UnreadableError("a key of an unknown kind")
    try:
        return pickle.loads(data) if trust else _plain(data)
    except _ClassNeededError as error:
        raise UnreadableError("a key that needs a class; --trust loads it") from error
    except UnreadableError:
        raise
    except Exception as error:
        raise UnreadableError("a key whose class cannot be loaded") from error


def _of_sciqlop(folder: Path) -> Iterator[Item]:
    with reading(folder / SCIQLOP) as connection:
        # Its other columns are numbers of its own, not times.
        columns = "key, path, value, expire, tag" if _has_expiry(connection) else "key, path, value, NULL, NULL"
        # By pages, so that no long read keeps the source's log from being emptied.
        page: tuple[str, tuple[str, ...]] = "", ()
        while True:
            where, last = page
            rows = connection.execute(f"SELECT {columns} FROM cache {where} ORDER BY key LIMIT 100", last).fetchall()
            if not rows:
                return
            for key, path, value, expire, tag in rows:
                yield Item(key, _file_loader(folder / path) if path else _loader(value), expire, tag)
            page = "WHERE key > ?", (rows[-1][0],)


def _loader(value: Any) -> Callable[[], bytes]:
    def load() -> bytes:
        if isinstance(value, bytes):
            return value
        raise UnreadableError("no value")

    return load


def _file_loader(path: Path) -> Callable[[], bytes]:
    def load() -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise UnreadableError(f"a file of a value: {error.strerror}") from error

    return load


# diskcache_rs ---------------------------------------------------------------------------------------------------------

_INLINE = b"memory://"
_RS_BYTES, _RS_PICKLE = b"\x00diskcache_rs:bytes\x00", b"\x00diskcache_rs:pickle\x00"


def _open_diskcache_rs(source: Source) -> None:
    source.decode = _diskcache_rs_value
    for folder in source.folders:
        with reading(folder / DISKCACHE_RS) as connection:
            ((count, size),) = connection.execute("SELECT COUNT(*), COALESCE(SUM(LENGTH(value)), 0) FROM cache_index")
            for (record,) in connection.execute("SELECT value FROM cache_index WHERE INSTR(value, ?) = 0", (_INLINE,)):
                # One that cannot be read is found again later.
                with contextlib.suppress(UnreadableError, OSError):
                    path, _, _, compressed = _diskcache_rs_record(record)
                    size += _unpacked_size(folder / "data" / Path(path).name, compressed=compressed)
        source.total += count
        source.size += size


def _unpacked_size(path: Path, *, compressed: bool) -> int:
    if not compressed:
        return path.stat().st_size
    with path.open("rb") as file:
        return int.from_bytes(file.read(4), "little")


def _diskcache_rs_value(data: bytes) -> Value:
    if data.startswith(_RS_BYTES):
        return True, data[len(_RS_BYTES) :]
    if data.startswith(_RS_PICKLE):
        return _unpickled(data[len(_RS_PICKLE) :])
    # Written by an earlier version, without saying how.
    with contextlib.suppress(UnreadableError):
        return _unpickled(data)
    with contextlib.suppress(ValueError):
        return _repickled(json.loads(data))
    with contextlib.suppress(UnicodeDecodeError):
        return True, data.decode()
    return True, data


def _number(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned integer of variable length, and where it ends."""
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
    """A record's path, where its value begins, when it was stored, and whether it is compressed."""
    try:
        length, at = _number(record, 0)
        path, at = record[at : at + length].decode(), at + length
        _, at = _number(record, at)
        stored, at = _number(record, at)
        return path, at + 1, float(stored), record[at] == 1
    except (IndexError, UnicodeDecodeError) as error:
        raise UnreadableError("damaged record") from error


def _of_diskcache_rs(folder: Path) -> Iterator[Item]:
    with reading(folder / DISKCACHE_RS) as connection:
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
        return Item(key, _failing(error))
    # A path is relative to wherever the program ran.
    in_file = not path.encode().startswith(_INLINE)
    load = _file_loader(folder / "data" / Path(path).name) if in_file else _loader(record[at:])
    return Item(key, (lambda: decompress(load())) if compressed else load, store_time=stored)


def _failing(error: UnreadableError) -> Callable[[], bytes]:
    def load() -> bytes:
        raise error

    return load


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


def _read_index_json(folder: Path) -> dict[str, Any]:
    try:
        content: Any = json.loads((folder / DISKCACHE_RS_FAST).read_bytes())
    except (OSError, ValueError) as error:
        raise UnusableError(f"{folder / DISKCACHE_RS_FAST}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UnusableError(f"{folder / DISKCACHE_RS_FAST}: not what diskcache_rs writes")
    return cast("dict[str, Any]", content)


def _open_index_json(source: Source) -> None:
    for folder in source.folders:
        content = _read_index_json(folder)
        source.total += len(content)
        source.size += sum(map(_json_size, content.values()))


def _json_size(item: Any) -> int:
    try:
        return len(item["data"])
    except (KeyError, TypeError):
        return 0


def _of_index_json(folder: Path) -> Iterator[Item]:
    for key, item in _read_index_json(folder).items():
        yield _of_json(key, item)


def _of_json(key: str, item: Any) -> Item:
    try:
        data, expires = bytes(item["data"]), item.get("expires_at")
        expire_time = None if expires is None else _timestamp(expires)
        return Item(key, _loader(data), expire_time, store_time=_timestamp(item["created_at"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        return Item(key, _failing(UnreadableError("damaged record")))


def _timestamp(text: str) -> float:
    # Before Python 3.11 only three or six digits are read after the point, and no Z.
    moment, point, rest = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{moment}{point}{rest[:6].ljust(6, '0') if point else ''}+00:00").timestamp()


# Both -----------------------------------------------------------------------------------------------------------------


def _key(entry: Entry, key: Any) -> None:
    """Puts a key into an entry, as python-diskcache would write it."""
    if _is_simple(key):
        entry.key, entry.raw = key, True
    else:
        entry.key, entry.raw = pickletools.optimize(pickle.dumps(key, PROTOCOL)), False


def _check_room(source: Source, directory: Path) -> None:
    there = directory.absolute()
    while not there.exists():
        there = there.parent
    free, needed = shutil.disk_usage(there).free, int(source.size * SPARE)
    if needed > free:
        raise UnusableError(f"{directory}: {free:,} bytes are free there, and about {needed:,} are needed")


def check_target(source: Path, directory: Path) -> None:
    """Raises UnusableError where a cache is already, or where the source would be changed."""
    inner, outer = directory.resolve(), source.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise UnusableError(f"{directory}: must be apart from the source {source}")
    if _holds_cache(directory):
        raise UnusableError(f"{directory}: there is a cache already; give a new directory")


def migrate(
    source: Source,
    directory: Path,
    *,
    shards: int | None,
    size_limit: int | None,
    dry_run: bool,
    report: Callable[[int], None],
) -> Summary:
    """Copies what can be read. `report` is told how many entries have been looked at."""
    _check_room(source, directory)
    began = time.monotonic()
    if shards is None:
        shards = len(source.folders) if source.sharded else 0
    summary = Summary(source.name, source.total)
    with contextlib.ExitStack() as stack:
        writer = None
        if not dry_run:
            writer = stack.enter_context(Writer(_made(source, directory, shards, size_limit), replace=True))
        now = time.time()
        for number, item in enumerate(source.items(), 1):
            try:
                if item.expire_time is not None and item.expire_time <= now:
                    summary.skipped += 1
                    summary.note("expired")
                else:
                    _copy(source, item, writer)
                    summary.migrated += 1
            except (UnreadableError, OverflowError) as error:
                summary.errors += 1
                summary.note(str(error))
            report(number)
    summary.seconds = time.monotonic() - began
    return summary


def _copy(source: Source, item: Item, writer: Writer | None) -> None:
    entry = Entry(
        None,
        raw=True,
        mode=MODE_PICKLE,
        expire_time=item.expire_time,
        tag=item.tag,
        store_time=item.store_time,
        access_time=item.store_time,
    )
    _key(entry, source.decode_key(item.key))
    simple, value = source.decode(item.load())
    if writer is None:
        return
    if simple:
        writer.store(entry, value)
    else:
        entry.value = value
        writer.put(entry)


def _made(source: Source, directory: Path, shards: int, size_limit: int | None) -> Found:
    """The new directory."""
    if size_limit is None:
        size_limit = source.size_limit or max(2**30, 2 * source.size)
    given: dict[str, Any] = {"size_limit": size_limit / shards if shards else size_limit}
    if not source.evicts:
        given["eviction_policy"] = "none"
    folders = [directory / f"{number:03d}" for number in range(shards)] or [directory]
    for folder in folders:
        create(folder, given)
        if not (folder / DBNAME).exists():
            raise UnusableError(f"{folder}: the database could not be made")
    return Found("", tuple(Path(os.fspath(folder)) for folder in folders), shards or None)
