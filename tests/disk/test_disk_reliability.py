"""Guarantees that hold in any case: killed processes, full disks, missing files, forks, many writers at once."""

from __future__ import annotations

import errno
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
from typing import TYPE_CHECKING, Any

import pytest
from drivers import NEEDS_THEIRS, PROGRAMS, THEIRS
from scale import scaled
from waiting import until

from flexcache_rs import FlexCache
from flexcache_rs.disk import BoundedSemaphore, Cache, Disk, FanoutCache, RLock
from flexcache_rs.sessions import Unavailable, sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@pytest.mark.timeout(120 + 3 * float(SECONDS))
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 2 MB."""
    if shutil.which("mount") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(cache: Cache, size: int) -> tuple[int, Exception]:
    """Store values until there is no room. Returns how many, and the exception."""
    for number in range(100_000):
        try:
            cache.set((size, number), b"f" * size)
        except Exception as error:
            return number, error
    raise AssertionError("the disk does not fill")


def test_a_full_disk(small_disk: Path) -> None:
    """Writes raise the system's error, and stored entries stay readable. When there is room again, all calls work."""
    cache = Cache(small_disk / "cache", disk_min_file_size=1000, size_limit=10**9)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"b" * 500_000)
    for number in range(20):
        cache[number] = number
    files, error = fill(cache, 20_000)
    assert isinstance(error, OSError | sqlite3.OperationalError)
    with pytest.raises(OSError, match="No space") as raised:
        cache["too large"] = b"l" * 3_000_000
    assert raised.value.errno == errno.ENOSPC
    assert isinstance(raised.value.filename, str)
    assert raised.value.filename.startswith(str(small_disk / "cache"))
    rows, error = fill(cache, 900)
    assert isinstance(error, sqlite3.OperationalError)
    assert "full" in str(error)
    assert str(small_disk / "cache" / "cache.db") in str(error)
    with pytest.raises((sqlite3.OperationalError, OSError)), cache.transact():
        for number in range(20):
            cache[number] = b"n" * 900
    for _ in range(2):
        assert [cache[number] for number in range(20)] == list(range(20))
        assert all(len(cache[20_000, number]) == 20_000 for number in range(files))
        assert all(len(cache[900, number]) == 900 for number in range(rows))
        assert cache.check() == []
        ballast.unlink(missing_ok=True)
    cache["more"] = b"m" * 20_000
    assert cache.delete((20_000, 0))
    assert cache["more"] == b"m" * 20_000
    assert cache.check() == []
    cache.close()


@pytest.mark.parametrize(
    "settings",
    [{"statistics": 1}, {"eviction_policy": "least-recently-used"}, {"eviction_policy": "least-frequently-used"}],
)
def test_reads_that_write_on_a_full_disk(small_disk: Path, settings: dict[str, Any]) -> None:
    """They return what is stored. Hits and accesses are recorded when there is room again."""
    cache = Cache(small_disk / "cache", size_limit=10**9, **settings)
    cache.set("file", b"f" * 50_000)
    cache.set("expired", 1, expire=1e-9)
    stored, error = fill(cache, 900)
    assert isinstance(error, sqlite3.OperationalError)
    for number in range(stored):
        assert cache[900, number] == b"f" * 900
    assert cache["file"] == b"f" * 50_000
    assert cache.get("absent") is cache.get("expired") is None
    assert cache.peekitem(last=False) == ("file", b"f" * 50_000)
    with pytest.raises(sqlite3.OperationalError, match="full"), cache.transact():
        cache.set_many(dict.fromkeys(range(20), b"n" * 900))
    next((small_disk / "cache").rglob("*.val")).unlink()
    assert cache.get("file") is None
    cache.close()
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    before = cache.stats()
    assert cache[900, 0] == b"f" * 900
    assert cache.stats() == (before[0] + 1, before[1])


def occupy(place: Path) -> None:
    """Another program takes all the room that is left."""
    with pytest.raises(OSError, match="No space"), place.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"b" * 512)


@pytest.mark.parametrize("way", ["delete", "pop", "clear", "set", "delete in front", "pop in front", "put in front"])
def test_a_disk_that_others_have_filled(small_disk: Path, way: str) -> None:
    """The log is written back, which makes room in it, so entries can still be deleted and replaced."""
    cache = Cache(small_disk / "cache", size_limit=10**9)
    cache.set_many(dict.fromkeys(range(200), b"v" * 1000))
    cache.close()
    for number in range(5):
        cache[number] = b"n" * 1000
    occupy(small_disk / "ballast")
    if way == "clear":
        assert cache.clear() == 200
    else:
        front = FlexCache(max_items=10, store=cache)
        change: Callable[[int], object] = {
            "delete": cache.delete,
            "pop": cache.pop,
            "set": lambda number: cache.set(number, b"s" * 1000),
            "delete in front": front.delete,
            "pop in front": front.pop,
            "put in front": lambda number: front.put(number, b"s" * 1000) is None,
        }[way]
        assert all(change(number) for number in range(100))
    assert len(cache) == {"delete": 100, "pop": 100, "clear": 0, "set": 200, "put": 200}[way.split()[0]]
    assert cache.check() == []
    cache.close()


def test_a_transaction_on_a_disk_that_others_have_filled(small_disk: Path) -> None:
    """Only the caller can repeat it, so the log is written back for that."""
    cache = Cache(small_disk / "cache", size_limit=10**9)
    cache.set_many(dict.fromkeys(range(200), b"v" * 1000))
    cache.close()
    for number in range(10):
        cache[number] = b"n" * 1000
    occupy(small_disk / "ballast")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        cache.delete_many([1, 2])
    assert cache.delete_many([1, 2]) == 2
    cache.close()


@pytest.mark.parametrize("kind", [RLock, BoundedSemaphore])
def test_locks_on_a_disk_that_others_have_filled(small_disk: Path, kind: Any) -> None:
    """A `with` block that ends releases its lock, which nobody would do later."""
    cache = Cache(small_disk / "cache", size_limit=10**9)
    cache.set_many(dict.fromkeys(range(200), b"v" * 1000))
    cache.close()
    lock = kind(cache, "lock")
    for number in range(5):
        cache[number] = b"n" * 1000
    with lock:
        occupy(small_disk / "ballast")
    for _ in range(100):
        with lock:
            pass
    before = cache["lock"]
    with lock:
        assert cache["lock"] != before
    assert cache["lock"] == before
    cache.close()


@pytest.mark.parametrize("way", ["delete", "batch", "transaction"])
def test_a_session_on_a_disk_that_others_have_filled(small_disk: Path, way: str) -> None:
    """Keys can be deleted and replaced. A transaction has to be repeated."""
    url = f"disk://{small_disk / 'sessions'}"
    with sync.connect(url) as session, session.transaction():
        for number in range(200):
            session.set(str(number), b"v" * 1000)
    with sync.connect(url) as session:
        for number in range(150, 200):
            session.delete(str(number))
        occupy(small_disk / "ballast")
        if way == "delete":
            assert all(session.delete(str(number)) for number in range(100))
        elif way == "batch":
            with session.batch() as batch:
                deleted = [batch.delete(str(number)) for number in range(10)]
            assert [pending.result() for pending in deleted] == [1] * 10
        else:
            with pytest.raises(Unavailable, match="full"), session.transaction():
                session.delete("1")
            with session.transaction():
                session.delete("1")
            assert session.get("1") is None
        assert session.get("100") == b"v" * 1000


def test_a_read_only_directory(small_disk: Path) -> None:
    """A directory that other processes have open for writing can be read. Writes say why they fail."""
    writable, seen = small_disk / "writable", small_disk / "seen"
    writer = Cache(writable, disk_min_file_size=1000)
    writer["row"], writer["file"] = 1, b"f" * 5000
    seen.mkdir()
    subprocess.run(["mount", "--bind", str(writable), str(seen)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(seen)], check=True)
        cache = Cache(seen)
        assert cache["row"] == 1
        assert cache["file"] == b"f" * 5000
        assert list(cache) == ["row", "file"]
        writes = [
            lambda: cache.set("row", 2),
            lambda: cache.incr("row"),
            lambda: cache.pop("row"),
            lambda: cache.push("x"),
            lambda: cache.clear(),
        ]
        for write in writes:
            with pytest.raises(PermissionError, match="the cache directory cannot be written") as raised:
                write()
            assert raised.value.filename == str(seen)
        with pytest.raises(PermissionError, match="the cache directory cannot be written"):
            cache.set("file", b"g" * 5000)
        writer.incr("row")
        assert cache["row"] == 2
        assert len(cache) == 2
        cache.close()
        with pytest.raises(OSError, match=r"'.*new' does not exist and cannot be made: Read-only"):
            Cache(seen / "new")
    finally:
        subprocess.run(["umount", "--lazy", str(seen)], check=True)
    assert writer.check() == []
    writer.close()


def test_a_disk_that_becomes_read_only(small_disk: Path) -> None:
    """Stored entries can be read. When the disk is writable again, writes work."""
    cache = Cache(small_disk / "cache", disk_min_file_size=1000)
    cache["row"], cache["file"] = 1, b"f" * 5000
    cache.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert (cache["row"], Cache(small_disk / "cache")["row"], cache.read_only) == (1, 1, True)
    for value in (2, b"g" * 5000):
        with pytest.raises(PermissionError, match="the cache directory cannot be written") as raised:
            cache.set("row", value)
        assert raised.value.filename == str(small_disk / "cache")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert cache.incr("row") == 2
    assert cache["file"] == b"f" * 5000
    assert cache.check() == []
    cache.close()


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
