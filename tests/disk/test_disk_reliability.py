"""Guarantees that hold in any case: killed processes, missing files, forks, many writers at once."""

from __future__ import annotations

import gc
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from drivers import NEEDS_THEIRS, PROGRAMS, THEIRS
from scale import scaled
from waiting import until

from flexcache_rs import FlexCache
from flexcache_rs.disk import Cache, Disk, FanoutCache

if TYPE_CHECKING:
    pass

SECONDS = os.environ.get("FLEXCACHE_SECONDS", "2")
"""How long many writers are at work."""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def run(name: str, *arguments: object) -> str:
    """Return what a program prints. The program must succeed."""
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", str(PROGRAMS / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100 + 2 * float(SECONDS), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_fork
@pytest.mark.parametrize("every", [None, 1])
@pytest.mark.parametrize("way", ["writes", "transactions", "queue"])
def test_killed_writers(tmp_path: Path, way: str, every: int | None) -> None:
    """Completed writes are stored, transactions are whole, and the next process can write.

    This also holds if a thread writes the log back all the time and is killed too.
    """
    seed = random.randrange(10**6)
    print("seed", seed)
    rounds = 35
    if every is not None:
        Cache(tmp_path, sqlite_wal_autocheckpoint=every).close()
        rounds = scaled(200, least=10)
    assert run("disk_killed_writers.py", tmp_path, way, rounds, seed).startswith("done")


def test_a_killed_transaction_is_over(tmp_path: Path) -> None:
    """A waiting writer is next, and finds nothing of the killed transaction."""
    cache = Cache(tmp_path, timeout=10)
    cache["counter"] = 5
    command = [sys.executable, str(PROGRAMS / "disk_holder.py"), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"inside\n"
        assert cache["counter"] == 5
        assert "mine" not in cache
        holder.kill()
        holder.wait(30)
    assert cache.incr("counter") == 6
    assert "mine" not in cache
    # Its file is of no entry.
    assert len(cache.check(fix=True).unknown_files) == 1
    assert cache.check() == []
    cache.close()


@needs_fork
@pytest.mark.parametrize("way", ["transaction", "threads"])
def test_forks(tmp_path: Path, way: str) -> None:
    """The process forks in a transaction, and while threads write."""
    assert run("disk_forks.py", tmp_path, way) == "done\n"


@pytest.mark.skipif(sys.platform != "linux", reason="the program looks at /proc")
@pytest.mark.parametrize("way", ["hits", "two", "sessions"])
def test_forks_beside_other_threads(tmp_path: Path, way: str) -> None:
    """A thread forks during a hit of another thread, and two threads fork at once.

    A child has no open file of its parent.
    """
    assert run("disk_fork_hooks.py", tmp_path, way) == "done\n"


@pytest.mark.timeout(300 + 3 * float(SECONDS))
@pytest.mark.parametrize("kind", ["cache", "fanout"])
def test_many_writers(tmp_path: Path, kind: str) -> None:
    """Eight processes with eight threads each write. Every completed write is accounted for."""
    assert run("disk_soak.py", tmp_path, kind, "all", 8, 8, SECONDS).startswith("done")


def test_the_log_stays_short_while_many_write(tmp_path: Path) -> None:
    """The log is restarted although there is always a writer. Otherwise it would grow to 500 MB."""
    cache = Cache(tmp_path)

    def write(thread: int) -> None:
        for number in range(8_000):
            cache.set((thread, number % 250), b"v" * 256)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(write, range(5)))
    assert (tmp_path / "cache.db-wal").stat().st_size < 200_000_000
    cache.close()


@pytest.mark.skipif(not THEIRS, reason=NEEDS_THEIRS)
@pytest.mark.skipif(sys.platform != "linux", reason="what is open can be seen there")
def test_two_libraries_in_one_process(tmp_path: Path) -> None:
    """Their locks do not exclude each other.

    The second library is refused as long as the first has the directory open.
    """
    assert run("disk_neighbours.py", tmp_path) == "done\n"


def value_files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.val"))


@pytest.mark.parametrize("damage", ["deleted", "empty", "cut off"])
@pytest.mark.parametrize("value", ["t" * 2000, b"b" * 2000, [None] * 2000, "\xe4" * 2000], ids=repr)
@pytest.mark.filterwarnings("error")
def test_a_value_whose_file_is_damaged(tmp_path: Path, damage: str, value: object) -> None:
    """Every way to read the value finds nothing.

    `check` finds and repairs the damage, and the key can be stored again.
    """
    cache = Cache(tmp_path, disk_min_file_size=1000)
    cache.stats(enable=True)
    cache["other"] = "o" * 2000
    before = set(value_files(tmp_path))
    cache["key"] = value
    (path,) = set(value_files(tmp_path)) - before

    def harm() -> None:
        if damage == "deleted":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else 700])

    harm()
    assert cache.get("key", "gone") == "gone"
    assert cache.get("key", "gone", read=True) == "gone"
    assert cache.stats(enable=False) == (0, 2)
    with pytest.raises(KeyError):
        cache["key"]
    with pytest.raises(KeyError):
        cache.read("key")
    report = cache.check()
    assert len(report) == 1
    assert bool(report.missing_files) == (damage == "deleted")
    assert bool(report.wrong_sizes) == (damage != "deleted")
    cache.check(fix=True)
    assert cache.check() == []
    assert cache.set("key", value)
    assert cache["key"] == value
    assert cache["other"] == "o" * 2000
    cache.close()


@pytest.mark.parametrize("damage", ["deleted", "cut off"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "after others"])
@pytest.mark.parametrize("kind", [Cache, FlexCache], ids=["disk", "in front"])
def test_a_key_whose_file_is_damaged_can_be_added(tmp_path: Path, damage: str, first: bool, kind: type) -> None:
    """It has no value, so `add` stores one. Otherwise the key would have none until somebody replaced it."""
    with Cache(tmp_path, disk_min_file_size=1000) as disk:
        disk["key"] = b"v" * 2000
        (path,) = value_files(tmp_path)
        if not first:
            # Afterwards `add` looks before it locks.
            disk["other"] = 1
            for _ in range(2):
                assert not disk.add("other", 2)
        cache = disk if kind is Cache else FlexCache(store=disk)
        assert not cache.add("key", "kept")
        if damage == "deleted":
            path.unlink()
        else:
            path.write_bytes(b"v" * 700)
        cache = disk if kind is Cache else FlexCache(store=disk)
        assert cache.add("key", "new")
        assert cache.get("key") == disk["key"] == "new"
        assert not cache.add("key", "newer")
        # The directory of the deleted file is empty.
        assert {str(type(finding.message).__name__) for finding in disk.check()} <= {"EmptyDirWarning"}


def test_a_value_that_is_replaced_while_it_is_read(tmp_path: Path) -> None:
    """The file of the old value is gone when the reader opens it. The reader returns the new value, and it is a hit."""
    large = b"x" * 100_000

    class Slow(Disk):
        def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> object:
            for number in writes:
                writer["a"] = large + bytes([number])
            return super().fetch(mode, filename, value, read)

    writes = iter(())
    writer = Cache(tmp_path)
    writer["a"] = large
    reader = Cache(tmp_path, disk=Slow, statistics=True)
    for number in range(5):
        writes = iter([number])
        assert reader.get("a") == large + bytes([number])
    assert reader.stats() == (5, 0)
    (tmp_path / next(iter(reader.query("SELECT filename FROM Cache")))[0]).unlink()
    assert reader.get("a") is None
    assert reader.stats() == (5, 1)


def test_a_queue_whose_files_are_gone(tmp_path: Path) -> None:
    """The values that still exist are returned in their order."""
    cache = Cache(tmp_path, disk_min_file_size=1000)
    for number in range(6):
        before = set(value_files(tmp_path))
        cache.push(f"{number} " + "v" * 2000)
        if number in {0, 3, 5}:
            (path,) = set(value_files(tmp_path)) - before
            path.unlink()
    _, value = cache.peek()
    assert value[0] == "1"
    found = [cache.pull()[1] for _ in range(4)]
    assert [value and value[0] for value in found] == ["1", "2", "4", None]
    assert len(cache) == 0
    cache.check(fix=True)
    assert cache.check() == []
    cache.close()


DAMAGES = {
    "garbage": lambda data: random.Random(1).randbytes(len(data)),
    "text": lambda data: b"this is no database\n" * 500,
    "cut off": lambda data: data[: len(data) // 2],
    "garbage inside": lambda data: data[:4096] + random.Random(1).randbytes(40_000) + data[44_096:],
    "only the header": lambda data: data[:100] + bytes(len(data) - 100),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", [Cache, FanoutCache])
def test_a_damaged_database(tmp_path: Path, damage: str, kind: type[Cache | FanoutCache]) -> None:
    """Opening or reading it raises an exception that names it and says what to do, which is to delete it."""
    cache = kind(tmp_path)
    for number in range(1000):
        cache[number] = "v" * 100
    cache.close()
    for path in tmp_path.rglob("cache.db"):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(sqlite3.DatabaseError) as raised:
        for key in kind(tmp_path):
            cache[key]
    assert "cache.db" in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    assert "delete it" in str(raised.value)
    for path in tmp_path.rglob("cache.db*"):
        path.unlink()
    again = kind(tmp_path)
    assert list(again) == []
    again["new"] = 1
    assert again["new"] == 1
    assert again.check() == []
    again.close()


def test_damage_that_shows_later(tmp_path: Path) -> None:
    """`check` reports the damage and names the database."""
    cache = Cache(tmp_path)
    for number in range(2000):
        cache[number] = "v" * 100
    cache.close()
    path = tmp_path / "cache.db"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = bytes(4096)
    path.write_bytes(data)
    try:
        report = Cache(tmp_path).check()
    except sqlite3.DatabaseError as error:
        assert str(path) in str(error)
    else:
        assert report.damaged
        assert not report.ok


def test_a_database_deleted_while_open(tmp_path: Path) -> None:
    """After it is opened again, the error says so, and what to do."""
    cache = Cache(tmp_path)
    cache["key"] = 1
    cache.close()
    for path in tmp_path.glob("cache.db*"):
        path.unlink()
    for call in (lambda: cache["key"], lambda: cache.set("key", 2), lambda: len(cache), lambda: list(cache)):
        with pytest.raises(sqlite3.OperationalError, match="deleted while the cache was open") as raised:
            call()
        assert str(tmp_path) in str(raised.value)
    again = Cache(tmp_path)
    assert list(again) == []
    cache["key"] = 3
    assert again["key"] == 3
    again.close()
    cache.close()


def test_a_directory_deleted_while_open(tmp_path: Path) -> None:
    """No call crashes. After it is opened again, it is like a new one."""
    directory = tmp_path / "cache"
    cache = Cache(directory, disk_min_file_size=100)
    cache["key"] = "v" * 1000
    cache.close()
    shutil.rmtree(directory)
    with pytest.raises(sqlite3.OperationalError, match="unable to open") as raised:
        cache["key"]
    assert str(directory) in str(raised.value)
    assert list(Cache(directory)) == []
    cache["key"] = 1
    assert cache["key"] == 1
    cache.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors cannot be counted here")
def test_descriptors_are_given_back(tmp_path: Path) -> None:
    """`close` and the garbage collector close the files. A thread that ends leaves no open file."""
    gc.collect()
    before, threads = descriptors(), threading.active_count()
    for number in range(30):
        short = Cache(tmp_path / str(number % 3), disk_min_file_size=100)
        short["key"] = "v" * 1000
        with short.transact():
            short.incr("count")
        if number % 2:
            short.close()
        del short
        with FanoutCache(tmp_path / "fanout", shards=3) as fanout:
            fanout["key"] = 1
            fanout.deque("d").append(1)
            fanout.index("i")["k"] = 1
    cache = Cache(tmp_path / "0")
    for _ in range(10):
        working = [threading.Thread(target=lambda: cache.incr("threads", retry=True)) for _ in range(10)]
        for thread in working:
            thread.start()
        for thread in working:
            thread.join()
    assert cache["threads"] == 100
    assert descriptors() - before <= 3 * 10, "never more connections than calls at a time"
    cache.close()
    cache = fanout = None
    gc.collect()
    assert descriptors() == before
    assert threading.active_count() == threads


def test_failures_leave_no_descriptors(tmp_path: Path) -> None:
    """A failed attempt to open a directory leaves no open file."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "cache.db").write_bytes(b"no database at all" * 1000)
    gc.collect()
    before = descriptors() if Path("/proc/self/fd").exists() else 0
    for _ in range(20):
        with pytest.raises(sqlite3.DatabaseError):
            Cache(tmp_path / "bad")
    gc.collect()
    assert not before or descriptors() == before


@pytest.mark.skipif(os.name != "posix", reason="a file in use cannot be removed")
@pytest.mark.parametrize("removed", ["", "cache.db"])
def test_a_cache_whose_directory_is_removed_says_so(tmp_path: Path, removed: str) -> None:
    """Writes raise within about a second, because no later process would find the entries.

    A new cache at the same place is used.
    """
    with Cache(tmp_path / "cache") as cache:
        cache["a"] = 1
        gone = tmp_path / "cache" / removed
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()

        def is_refused() -> bool:
            try:
                cache["a"] = 2
            except sqlite3.OperationalError:
                return True
            return False

        until(is_refused)
        with pytest.raises(sqlite3.OperationalError):
            cache.get("a")
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        with Cache(tmp_path / "cache") as other:
            other["a"] = 3
            until(lambda: not is_refused())
            assert other["a"] == 2
