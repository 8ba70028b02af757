"""The command line reads directories whose rows have values of kinds that the format does not have.

SQLite stores a value of any kind in any column, whatever program wrote it.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal

import pytest
from commands import flexcache, program

from flexcache_rs.disk import Cache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILLED = """
from flexcache_rs.disk import Cache
with Cache(sys.argv[1], disk_min_file_size=1000) as cache:
    for number in range(3):
        cache.set(number, number, expire=1000, tag="tag")
    cache["long"] = b"x" * 2000
"""
EDIT = """
import sqlite3
connection = sqlite3.connect(sys.argv[1] + "/cache.db")
connection.execute(sys.argv[2])
connection.commit()
"""
DAMAGE = {
    "store_time": "UPDATE Cache SET store_time = 'abc' WHERE key = 1",
    "expire_time": "UPDATE Cache SET expire_time = 'abc' WHERE key = 1",
    "access_time": "UPDATE Cache SET access_time = X'ff' WHERE key = 1",
    "access_count": "UPDATE Cache SET access_count = 'abc' WHERE key = 1",
    "mode": "UPDATE Cache SET mode = 'abc' WHERE key = 1",
    "mode of another format": "UPDATE Cache SET mode = 9223372036854775807 WHERE key = 1",
    "size": "UPDATE Cache SET size = 'abc' WHERE key = 'long'",
    "largest sizes": "UPDATE Cache SET size = 9223372036854775807",
    "infinite times": "UPDATE Cache SET store_time = -9e999, expire_time = 9e999",
    "infinite settings": "UPDATE Settings SET value = 9e999 WHERE key IN ('count', 'size', 'size_limit', 'hits')",
    "bytes in settings": "UPDATE Settings SET value = X'1b5b' WHERE key = 'eviction_policy'",
    "tag": "UPDATE Cache SET tag = CAST(X'1b5b33316d0a' AS TEXT)",
}
UNREADABLE = {"store_time", "expire_time", "access_time", "access_count", "mode", "mode of another format"}


def no_constant(name: str) -> Any:
    raise AssertionError(f"JSON has no {name}")


@pytest.mark.parametrize("damage", DAMAGE)
def test_rows_of_other_kinds(damage: str, tmp_path: Path) -> None:
    """Statistics are JSON, nothing controls the terminal, and an export can be imported."""
    directory, file = tmp_path / "cache", tmp_path / "export"
    program(FILLED, directory)
    program(EDIT, directory, DAMAGE[damage])
    (cache,) = json.loads(flexcache("stats", directory, "--json").stdout, parse_constant=no_constant)["caches"]
    assert cache["entries"] == 4
    shown = flexcache("stats", directory).stdout
    assert all(char.isprintable() or char == "\n" for char in shown)
    written = 3 if damage in UNREADABLE else 4
    assert flexcache("export", directory, file).stderr.startswith(f"flexcache: {written} entries exported")
    assert flexcache("import", tmp_path / "new", file).stderr.startswith(f"flexcache: {written} entries imported")


CALLS: dict[str, Callable[[Cache], object]] = {
    "delete": lambda cache: [cache.delete(key) for key in ("long", 1, 2)],
    "pop": lambda cache: [cache.pop(key) for key in ("long", 1, 2)],
    "set": lambda cache: [cache.set(key, b"y" * 2000) for key in ("long", 1, 2)],
    "set in a transaction": lambda cache: cache.set_many(dict.fromkeys(("long", 1, 2), 1)),
    "clear": Cache.clear,
    "evict": lambda cache: cache.evict("tag"),
    "check": Cache.check,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("size", [-(2**63), 2**63 - 1])
def test_sizes_beyond_all_bounds(tmp_path: Path, size: int, call: str) -> None:
    """The calls do their work, and afterwards `check` makes the counters right."""
    program(FILLED, tmp_path)
    program(EDIT, tmp_path, f"UPDATE Cache SET size = {size}")
    with Cache(tmp_path) as cache:
        CALLS[call](cache)
        assert len(cache) == {"delete": 1, "pop": 1, "clear": 0, "evict": 1}.get(call, 4)
        cache.check(fix=True)
        assert cache.check() == []
        assert len(cache) == len(list(cache))


@pytest.mark.parametrize("side", ["back", "front"])
def test_the_last_key_of_a_queue(tmp_path: Path, side: Literal["back", "front"]) -> None:
    """A key of the program's own looks like one of the queue."""
    with Cache(tmp_path) as cache:
        cache[f"jobs-{2**63 - 1}"] = 1
        if side == "front":
            assert cache.push(2, "jobs", side) == f"jobs-{2**63 - 2}"
            return
        for _ in range(2):
            with pytest.raises(ValueError, match=f"jobs-{2**63 - 1}"):
                cache.push(2, "jobs", side)
        assert list(cache) == [f"jobs-{2**63 - 1}"]
        cache["still"] = "writes"


def test_an_export_that_nests_without_end(tmp_path: Path) -> None:
    file = tmp_path / "export"
    file.write_bytes(b"[" * 200_000)
    assert "not a JSON object" in flexcache("import", tmp_path / "new", file, status=1).stderr


@pytest.mark.parametrize("option", [("--shards", 1001), ("--shards", 10**30)])
def test_more_shards_than_a_directory_has(option: tuple[str, int], tmp_path: Path) -> None:
    assert "from 0 to 1000" in flexcache("import", tmp_path / "new", "-", *option, status=2).stderr


SCIQLOP = "CREATE TABLE meta (key, value); CREATE TABLE cache (key PRIMARY KEY, path, value, expire, tag, size);"
PICKLED = "X'80054b012e'"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (f"('a', NULL, {PICKLED}, 'soon', NULL, 5)", "an expiry time that is no number"),
        (f"('a', NULL, {PICKLED}, X'00', NULL, 5)", "an expiry time that is no number"),
        ("('a', 5, NULL, NULL, NULL, 5)", "a file of a value is missing"),
        ("('a', X'61', NULL, NULL, NULL, 5)", "a file of a value is missing"),
    ],
)
def test_rows_of_other_kinds_are_not_migrated(tmp_path: Path, rows: str, reason: str) -> None:
    """The other entries are, and the command says why these are not."""
    (tmp_path / "source").mkdir()
    fill = f"{SCIQLOP} INSERT INTO cache VALUES {rows}, ('b', NULL, {PICKLED}, NULL, NULL, 5)"
    with closing(sqlite3.connect(tmp_path / "source" / "sciqlop-cache.db")) as connection:
        connection.executescript(fill)
    done = flexcache("migrate", tmp_path / "source", tmp_path / "new")
    assert f"left out: {reason}" in done.stderr
    with Cache(tmp_path / "new") as cache:
        assert {key: cache[key] for key in cache} == {"b": 1}


@pytest.mark.parametrize("limit", ["-1", "9e999", "9223372036854775808", "'much'"])
def test_a_limit_that_is_none_is_not_migrated(tmp_path: Path, limit: str) -> None:
    (tmp_path / "source").mkdir()
    with closing(sqlite3.connect(tmp_path / "source" / "sciqlop-cache.db")) as connection:
        connection.executescript(f"{SCIQLOP} INSERT INTO meta VALUES ('max_size', {limit})")
    flexcache("migrate", tmp_path / "source", tmp_path / "new")
    with Cache(tmp_path / "new") as cache:
        assert cache.size_limit == 2**30


@pytest.mark.parametrize("value", ["5", "'text'", "NULL", "9.5"])
def test_records_of_other_kinds_are_not_migrated(tmp_path: Path, value: str) -> None:
    (tmp_path / "source").mkdir()
    with closing(sqlite3.connect(tmp_path / "source" / "index.sqlite3")) as connection:
        connection.executescript(
            f"CREATE TABLE cache_index (key, value); INSERT INTO cache_index VALUES ('a', {value})"
        )
    done = flexcache("migrate", tmp_path / "source", tmp_path / "new")
    assert "left out: damaged record: 1" in done.stderr
