"""How transactions end while other processes read, and when their thread ends first."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from scale import scaled

from flexcache_rs.disk import Averager, BoundedSemaphore, Cache, Deque, Index, RLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

READER = """
import sys
from flexcache_rs.disk import Cache
cache = Cache(sys.argv[1])
while True:
    for number in range(100):
        cache.get(f"key {number}", retry=True)
    print("read", flush=True)
"""

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1] + "/cache.db", isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT * FROM Cache").fetchall()
print("reading", flush=True)
sys.stdin.read()
"""

WITHOUT_LOG: dict[str, dict[str, Any]] = {
    "network": {"network": True},
    "delete": {"sqlite_journal_mode": "delete"},
    "truncate": {"sqlite_journal_mode": "truncate"},
}


@contextmanager
def process(code: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process, and wait for its first line of output."""
    command = [sys.executable, "-c", code, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        try:
            assert started.stdout.readline()
            yield started
        finally:
            started.kill()


def in_transaction(cache: Cache) -> None:
    with cache.transact(retry=True):
        cache["a"] = 1
        cache["b"] = 2


def in_two_levels(cache: Cache) -> None:
    with cache.transact(retry=True), cache.transact(retry=True):
        cache["a"] = 1


def rolled_back(cache: Cache) -> None:
    with pytest.raises(LookupError), cache.transact(retry=True):
        cache["a"] = 1
        raise LookupError


def in_deque(cache: Cache) -> None:
    deque = Deque.fromcache(cache)
    deque.extend([1, 2, 3])
    deque.rotate(1)
    deque.reverse()
    deque.clear()


def in_index(cache: Cache) -> None:
    index = Index.fromcache(cache)
    index["k"] = 1
    index.popitem()
    index.setdefault("k", 2)
    index.pop("k")


def in_averager(cache: Cache) -> None:
    averager = Averager(cache, "average")
    averager.add(1.0)
    averager.pop()


def in_lock(cache: Cache) -> None:
    with RLock(cache, "lock"), BoundedSemaphore(cache, "semaphore"):
        pass


def without_transaction(cache: Cache) -> None:
    cache.set("a", 1, retry=True)
    cache.incr("n", retry=True)
    cache.add("c", 1, retry=True)
    cache.touch("a", retry=True)
    cache.delete("c", retry=True)
    cache.push(1, retry=True)
    cache.pull(retry=True)
    len(cache)
    cache.volume()
    cache.stats()
    cache.reset("cull_limit", 10)


CALLS = [
    in_transaction,
    in_two_levels,
    rolled_back,
    in_deque,
    in_index,
    in_averager,
    in_lock,
    without_transaction,
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", WITHOUT_LOG)
def test_commits_wait_for_readers(tmp_path: Path, kind: str, call: Callable[[Cache], None]) -> None:
    """Without a shared log, a reader keeps a writer from committing for a moment."""
    with Cache(tmp_path, **WITHOUT_LOG[kind]) as cache:
        for number in range(100):
            cache[f"key {number}"] = number
        with process(READER, tmp_path):
            for _ in range(scaled(100)):
                call(cache)
        assert cache.check() == []


@pytest.mark.parametrize("kind", WITHOUT_LOG)
def test_a_commit_that_cannot_be(tmp_path: Path, kind: str) -> None:
    """It raises after `timeout`, nothing of the transaction is stored, and others may write."""
    with Cache(tmp_path, timeout=0.1, **WITHOUT_LOG[kind]) as cache:
        cache["a"] = 1
        cache.close()
        with process(HOLDER, tmp_path):
            with pytest.raises(Timeout), cache.transact():
                cache["a"] = 2
            with pytest.raises(Timeout):
                cache.set("a", 3)
            assert cache["a"] == 1
        with cache.transact():
            cache["a"] = 4
        assert cache["a"] == 4
        assert cache.check() == []


SETS = """
import sys
from flexcache_rs.disk import Cache
print(Cache(sys.argv[1], timeout=30).set("by another process", 1))
"""


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("kind", ["wal", *WITHOUT_LOG])
def test_a_thread_that_ends_in_a_transaction(tmp_path: Path, kind: str, levels: int) -> None:
    """Its transaction is rolled back, and all other writers may write."""
    with Cache(tmp_path, timeout=30, disk_min_file_size=10, **WITHOUT_LOG.get(kind, {})) as cache:
        cache["a"] = 1

        blocks = [cache.transact() for _ in range(levels)]

        def leave() -> None:
            for block in blocks:
                block.__enter__()
            cache["a"] = "of a transaction that nobody ends"

        thread = threading.Thread(target=leave)
        thread.start()
        thread.join()
        command = [sys.executable, "-c", SETS, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "True\n"
        cache.set("by this one", 2)
        assert cache["a"] == 1
        assert cache.check() == [], "its file is removed as well"
