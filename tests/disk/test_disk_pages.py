"""The pages of the database that a call touches, as far as its file and SQLite show."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from flexcache_rs.disk import Cache

STATEMENTS_OF_PYTHON_DISKCACHE = [
    "SELECT rowid FROM Cache WHERE expire_time IS NOT NULL AND expire_time < ? ORDER BY expire_time LIMIT ?",
    "SELECT rowid, filename FROM Cache WHERE ? < expire_time AND expire_time < 9 ORDER BY expire_time LIMIT ?",
]


def is_mapped(directory: Path) -> bool:
    """Return True if the database itself is mapped into this process, and not only the index of its log."""
    return any(line.endswith(f"{directory}/cache.db") for line in Path("/proc/self/maps").read_text().splitlines())


@pytest.mark.skipif(sys.platform != "linux", reason="Linux says what is mapped")
@pytest.mark.parametrize(("journal", "mapped"), [("wal", False), ("delete", True)])
def test_a_database_with_a_log_is_not_mapped(tmp_path: Path, journal: str, mapped: bool) -> None:
    """SQLite would look for every page in the log first, which contains pages that every write changes many times."""
    for _ in range(2):
        with Cache(tmp_path, sqlite_journal_mode=journal, sqlite_mmap_size=2**20) as cache:
            cache["key"] = "value"
            assert (cache["key"], cache.sqlite_mmap_size) == ("value", 2**20)
            assert is_mapped(tmp_path) is mapped


def test_what_never_expires_is_in_no_index_of_times(tmp_path: Path) -> None:
    """Only entries that expire are in the index. python-diskcache's statements use the index nevertheless."""
    with Cache(tmp_path) as cache:
        for number in range(10):
            cache.set(number, number, expire=None if number % 2 else 1000)
    with closing(sqlite3.connect(tmp_path / "cache.db")) as connection:
        ((index,),) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'Cache_expire_time'").fetchall()
        assert index.endswith("WHERE expire_time IS NOT NULL")
        for statement in STATEMENTS_OF_PYTHON_DISKCACHE:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", (1, 1)).fetchall()
            assert "Cache_expire_time" in plan[0][-1], plan
