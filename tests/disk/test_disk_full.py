"""Disks without room for more, and disks that cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.disk import BoundedSemaphore, Cache, RLock
from flexcache_rs.sessions import Unavailable, sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


def with_a_log(disk: Path, changes: int) -> Cache:
    """Return a cache with 200 entries, whose log has some changes of them."""
    cache = Cache(disk / "cache", size_limit=10**9)
    cache.set_many(dict.fromkeys(range(200), b"v" * 1000))
    cache.close()
    for number in range(changes):
        cache[number] = b"n" * 1000
    return cache


@pytest.mark.parametrize("way", ["delete", "pop", "clear", "set", "delete in front", "pop in front", "put in front"])
def test_a_disk_that_others_have_filled(small_disk: Path, way: str) -> None:
    """The log is written back, which makes room in it, so entries can still be deleted and replaced."""
    cache = with_a_log(small_disk, 5)
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
    cache = with_a_log(small_disk, 10)
    occupy(small_disk / "ballast")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        cache.delete_many([1, 2])
    assert cache.delete_many([1, 2]) == 2
    cache.close()


@pytest.mark.parametrize("kind", [RLock, BoundedSemaphore])
def test_locks_on_a_disk_that_others_have_filled(small_disk: Path, kind: Any) -> None:
    """A `with` block that ends releases its lock, which nobody would do later."""
    cache = with_a_log(small_disk, 5)
    lock = kind(cache, "lock")
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
        with pytest.raises(OSError, match=r"does not exist and cannot be made: Read-only.*new'"):
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
