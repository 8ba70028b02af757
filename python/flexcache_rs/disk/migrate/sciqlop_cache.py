"""Directories of SciQLop-cache."""

from __future__ import annotations

import base64
import contextlib
import importlib
import pickle
from typing import TYPE_CHECKING, Any

from flexcache_rs.disk.migrate.plain_values import ClassNeededError, UnreadableError, Value, plain, repickled
from flexcache_rs.disk.migrate.source import Item, Source, file_loader, loader
from flexcache_rs.disk.raw_directory import UnusableError, reading

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "SciQLop-cache"
DATABASE = "sciqlop-cache.db"


def open_source(source: Source, *, trust: bool) -> None:
    """Set the decoders of a source's keys and values, and its number and size of entries."""
    names: set[str] = set()
    encoded = False
    limit = 0
    for folder in source.folders:
        with reading(folder / DATABASE) as connection:
            meta = dict(connection.execute("SELECT key, value FROM meta"))
            names.add(str(meta.get("serializer", "pickle")))
            encoded = encoded or "encoded_keys" in meta
            with contextlib.suppress(ValueError, OverflowError):
                limit += int(meta.get("max_size") or 0)
            # SQLite stores anything in any column, and `SUM` fails beyond 64 bits.
            ((count, size),) = connection.execute("SELECT COUNT(*), CAST(TOTAL(size) AS INTEGER) FROM cache")
            source.evicts = _has_expiry(connection)
        source.total += count
        source.size += size
    source.size_limit = limit if 0 < limit < 2**63 else None
    if len(names) > 1:
        raise UnusableError(f"the shards have different serializers: {', '.join(sorted(names))}")
    (serializer,) = names
    if serializer != "pickle":
        source.decode = _with_package(serializer, source.folders[0])
    if encoded:
        source.decode_key = lambda key: _sciqlop_key(key, trust=trust)


def _has_expiry(connection: sqlite3.Connection) -> bool:
    """Whether the directory is a cache rather than an Index."""
    return any(name == "expire" for _, name, *_ in connection.execute("PRAGMA table_info(cache)"))


def _with_package(serializer: str, folder: Path) -> Callable[[bytes], Value]:
    """Return the `loads` of a serializer from its package."""
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
        return repickled(value)

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
        return pickle.loads(data) if trust else plain(data)
    except ClassNeededError as error:
        raise UnreadableError("a key that needs a class; --trust loads it") from error
    except UnreadableError:
        raise
    except Exception as error:
        raise UnreadableError("a key whose class cannot be loaded") from error


def read(folder: Path) -> Iterator[Item]:
    """Yield the entries of a folder."""
    with reading(folder / DATABASE) as connection:
        # An Index has no expire and tag. Its other columns are internal numbers.
        columns = "key, path, value, expire, tag" if _has_expiry(connection) else "key, path, value, NULL, NULL"
        # Read in pages, because a long read would prevent checkpoints of the source's write-ahead log.
        page: tuple[str, tuple[str, ...]] = "", ()
        while True:
            where, last = page
            rows = connection.execute(f"SELECT {columns} FROM cache {where} ORDER BY key LIMIT 100", last).fetchall()
            if not rows:
                return
            for key, path, value, expire, tag in rows:
                yield Item(key, file_loader(folder, path) if path else loader(value), expire, tag)
            page = "WHERE key > ?", (rows[-1][0],)
