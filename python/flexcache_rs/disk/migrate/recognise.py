"""Detects which library has written a directory."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING

from flexcache_rs.disk.migrate import diskcache_rs, diskcache_rs_fast, sciqlop_cache
from flexcache_rs.disk.migrate.source import Item, Source
from flexcache_rs.disk.raw_directory import UnusableError, check_is_directory, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def recognise(directory: Path, *, trust: bool = False) -> Source:
    """Detect which library wrote a directory, and return its content as a `Source`. Raises UnusableError."""
    check_is_directory(directory)
    for file, name, read, open_source in _kinds(trust):
        folders = [directory] if (directory / file).is_file() else []
        shards = [] if folders else sorted(path.parent for path in directory.glob(f"*/{file}"))
        if folders or shards:
            source = Source(name, folders or shards, bool(shards), read)
            try:
                open_source(source)
            except sqlite3.DatabaseError as error:
                raise UnusableError(f"{source.folders[0]}: the database cannot be read: {error}") from error
            return source
    if holds_cache(directory):
        raise UnusableError(
            f"{directory} is a directory of python-diskcache, which flexcache_rs.disk uses as it is; "
            "to copy it, use export and import"
        )
    raise UnusableError(
        f"{directory}: neither a SciQLop-cache ({sciqlop_cache.DATABASE}) nor a diskcache_rs "
        f"({diskcache_rs.DATABASE}) directory"
    )


def holds_cache(directory: Path) -> bool:
    """Whether a directory has a cache in python-diskcache's format."""
    try:
        return bool(find(directory))
    except UnusableError:
        return False


def _kinds(
    trust: bool,
) -> Iterator[tuple[str, str, Callable[[Path], Iterator[Item]], Callable[[Source], None]]]:
    """Return for each kind of source: the file that identifies it, its name, and the functions to read and open it."""
    yield (
        sciqlop_cache.DATABASE,
        sciqlop_cache.NAME,
        sciqlop_cache.read,
        partial(sciqlop_cache.open_source, trust=trust),
    )
    yield diskcache_rs.DATABASE, diskcache_rs.NAME, diskcache_rs.read, diskcache_rs.open_source
    yield diskcache_rs_fast.INDEX, diskcache_rs_fast.NAME, diskcache_rs_fast.read, diskcache_rs_fast.open_source
