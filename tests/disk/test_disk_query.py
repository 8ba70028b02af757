"""SQL of the user's, by the public name and by the names that programs for python-diskcache use."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.disk import Cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Any]:
    """A cache with three entries."""
    with Cache(tmp_path, disk_min_file_size=100) as made:
        made.set_many({"a": 1, b"b": 2.5, ("c", 1): "x" * 200}, tag="t")
        yield made


def test_rows(cache: Any) -> None:
    """Rows can be read in all the ways of a cursor of sqlite3."""
    sql = "SELECT key, value FROM Cache WHERE raw = 1 ORDER BY rowid"
    assert cache.query(sql).fetchall() == [("a", 1), (b"b", 2.5)]
    assert list(cache.query(sql)) == [("a", 1), (b"b", 2.5)]
    rows = cache.query(sql)
    assert [column[0] for column in rows.description] == ["key", "value"]
    assert (rows.fetchone(), rows.fetchmany(), rows.fetchone(), rows.fetchmany(3)) == (
        ("a", 1),
        [(b"b", 2.5)],
        None,
        [],
    )
    ((count,),) = cache._sql("SELECT COUNT(*) FROM Cache")
    assert (count, rows.rowcount) == (3, -1)
    with cache.transact():
        cache["d"] = 1
        assert cache.query("SELECT value FROM Settings WHERE key = 'count'").fetchone() == (4,)


def test_parameters(cache: Any) -> None:
    """Parameters are given by position or by name. Others are refused."""
    assert cache.query("SELECT value FROM Cache WHERE key = ? AND tag = ?", ["a", "t"]).fetchall() == [(1,)]
    assert cache.query("SELECT value FROM Cache WHERE key = :key", {"key": b"b", "more": 1}).fetchall() == [(2.5,)]
    assert cache.query("SELECT :none IS NULL", {"none": None}).fetchall() == [(1,)]
    for parameters in (["a"], ["a", "b", "c"], {"other": 1}):
        with pytest.raises(sqlite3.Error):
            cache.query("SELECT value FROM Cache WHERE key = ? AND tag = ?", parameters)
    with pytest.raises(TypeError, match="parameters must be a sequence"):
        cache.query("SELECT ?", "a")
    with pytest.raises(TypeError):
        cache.query("SELECT ?", [object()])


@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT one_write",
        "ATTACH ':memory:' AS other",
        "PRAGMA journal_mode = delete",
    ],
)
def test_what_is_not_a_statements_business(cache: Any, sql: str) -> None:
    """Statements cannot begin or end transactions, not even in a block, and cannot change settings."""
    with cache.transact():
        cache["d"] = 1
        for call in (cache.query, cache._sql):
            with pytest.raises(sqlite3.Error, match=r"not authorized|authorized"):
                call(sql)
    assert cache["d"] == 1
    assert cache._sql("PRAGMA journal_mode").fetchone() == ("wal",)
    assert cache.query("PRAGMA page_size").fetchone()[0] >= 512
    assert cache.query("PRAGMA table_info(Cache)").fetchall()[1][1] == "key"
    for wrong in ("SELEC", "SELECT 1; SELECT 2", "SELECT * FROM Nothing"):
        with pytest.raises(sqlite3.Error):
            cache.query(wrong)


def test_a_query_writes_nothing(cache: Any) -> None:
    """The public query cannot write.

    The private one can, and counters, copies in memory and other calls see its changes.
    """
    for sql in ("DELETE FROM Cache", "INSERT INTO Settings VALUES ('x', 1)", "DROP TABLE Cache"):
        with pytest.raises(ValueError, match="must be a statement that only reads"):
            cache.query(sql)
    front = FlexCache(max_items=10, store=cache, coherence="strict")
    assert (len(cache), front["a"]) == (3, 1)
    assert cache._sql("UPDATE Cache SET value = 7 WHERE key = ?", ("a",)).rowcount == 1
    assert (front["a"], cache["a"]) == (7, 7)
    assert cache._sql("DELETE FROM Cache WHERE raw = 1").rowcount == 2
    assert (front.get("a"), len(cache), cache.reset("count")) == (None, 1, 1)
    # What a statement deletes leaves its file, as in python-diskcache.
    cache._sql("DELETE FROM Cache")
    assert [warning.category.__name__ for warning in cache.check()] == ["UnknownFileWarning"]


def test_a_write_that_fails_is_undone_alone(cache: Any) -> None:
    """In a block, a failing write undoes only itself."""
    with cache.transact():
        cache["d"] = 1
        with pytest.raises(sqlite3.IntegrityError):
            cache._con.executemany("INSERT INTO Cache (key, raw) VALUES (?, 1)", [("new",), ("a",)])
        cache["e"] = 2
    assert [key in cache for key in ("d", "e", "new")] == [True, True, False]
    assert len(cache) == 5
    assert cache.check() == []


class Hashes(Cache):
    """Uses a cache of hashes as dvc-data does."""

    def get_many(self, keys: Any) -> Any:
        places = ", ".join("?" * len(keys))
        found = dict(self._sql(f"SELECT key, value FROM Cache WHERE key IN ({places}) and raw = 1", keys).fetchall())
        return [(key, found.get(key)) for key in keys]

    def set_many(self, items: Any, retry: bool = False) -> None:  # type: ignore[override]
        with self.transact(retry):
            self._con.executemany(
                "INSERT OR REPLACE INTO Cache"
                "(key, raw, store_time, expire_time, access_time, tag, mode, filename, value)"
                " VALUES (?, 1, 0, null, 0, null, 1, null, ?)",
                items,
            )


def test_a_subclass_as_programs_have_it(tmp_path: Path) -> None:
    """Rows that a subclass writes are entries, and are counted once."""
    with Hashes(tmp_path, cull_limit=0) as hashes:
        hashes.set_many((str(number), f"hash {number}") for number in range(1000))
        hashes.set_many([("1", "other"), ("new", "hash")])
        assert hashes.get_many(["1", "2", "absent"]) == [("1", "other"), ("2", "hash 2"), ("absent", None)]
        assert (hashes["1"], hashes.get("new"), len(hashes)) == ("other", "hash", 1001)
        assert hashes.check() == []
        (exists,) = hashes._sql("SELECT EXISTS (SELECT 1 FROM Cache)").fetchone()
        assert exists == 1
        assert hashes._sql_retry("WITH one AS (SELECT 1) SELECT * FROM one").fetchall() == [(1,)]


def test_transact_of_python_diskcache(cache: Any) -> None:
    """It yields a way to run statements, and removes files after the commit."""
    (filename,) = cache._sql("SELECT filename FROM Cache WHERE filename IS NOT NULL").fetchone()
    with pytest.raises(ZeroDivisionError), cache._transact() as (sql, cleanup):
        sql("DELETE FROM Cache")
        cleanup(filename)
        raise ZeroDivisionError
    assert (len(cache), cache.check()) == (3, [])
    with cache._transact(retry=True) as (sql, cleanup):
        sql("DELETE FROM Cache WHERE filename = ?", (filename,))
        cleanup(filename)
        cleanup(None)
    assert (len(cache), cache.check()) == (2, [])
    now = time.time()
    assert cache._sql("SELECT store_time FROM Cache").fetchone()[0] <= now
