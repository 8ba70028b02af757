"""The commit of a write meets a reader of another process, without a shared log."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.disk import Cache, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT COUNT(*) FROM Cache").fetchall()
print("reads", flush=True)
sys.stdin.readline() if sys.argv[2] == "until told" else __import__("time").sleep(1.3)
connection.execute("COMMIT")
"""
LARGE = b"x" * 100_000

WRITES: dict[str, Callable[[Cache], Any]] = {
    "set": lambda cache: cache.set("key", LARGE, retry=True),
    "setitem": lambda cache: cache.__setitem__("key", LARGE),
    "add": lambda cache: cache.add("key", LARGE, retry=True),
    "push": lambda cache: cache.push(LARGE, prefix="key", retry=True),
    "set_many": lambda cache: FlexCache[str, bytes](store=cache).set_many({"key": LARGE}),
    "front": lambda cache: FlexCache[str, bytes](store=cache).put("key", LARGE),
}


@contextmanager
def reading(directory: Path, until: str) -> Iterator[None]:
    """Let another process read until the block ends, or for longer than SQLite waits at a time."""
    command = [sys.executable, "-c", READER, str(directory / "cache.db"), until]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reads\n"
        yield
        reader.stdin.close()


@pytest.mark.parametrize(
    ("options", "write"),
    [*(({"sqlite_journal_mode": "delete"}, write) for write in WRITES), ({"network": True}, "set")],
    ids=str,
)
def test_a_large_value_outlives_a_commit_that_was_repeated(tmp_path: Path, options: dict[str, Any], write: str) -> None:
    """The file that was written for the value still exists."""
    with Cache(tmp_path, disk_min_file_size=1000, **options) as cache:
        cache["other"] = 1
        with reading(tmp_path, "for a while"):
            WRITES[write](cache)
        found = [cache[key] for key in cache if key != "other"]
        assert found == [LARGE]
        assert cache.check() == []


@pytest.mark.parametrize("options", [{"sqlite_journal_mode": "delete"}, {"network": True}], ids=str)
def test_a_write_that_gives_up_leaves_no_file(tmp_path: Path, options: dict[str, Any]) -> None:
    """The write leaves no file, and the next one succeeds."""
    with Cache(tmp_path, timeout=0.05, disk_min_file_size=1000, **options) as cache:
        cache["other"] = 1
        with reading(tmp_path, "until told"), pytest.raises(Timeout):
            cache.set("key", LARGE)
        assert cache.check() == []
        assert cache.set("key", LARGE, retry=True)
        assert cache["key"] == LARGE
