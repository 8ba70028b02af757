"""The thread that writes logs back: when it exists, what it leaves behind, and what a fork finds."""

import atexit
import contextlib
import gc
import os
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path

from flexcache_rs.disk import Cache, FanoutCache

directory, way = Path(sys.argv[1]), sys.argv[2]
signal.alarm(60)
warnings.simplefilter("error")
PATIENCE = 20
"""Seconds."""
kept = []
"""Objects that live until the program ends."""


def threads():
    """Return the number of threads with the name."""
    count = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            count += (task / "comm").read_text() == "flexcache-disk\n"
    return count


def open_files():
    """Return the open files in the directory."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(str(directory))]


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.001)


def log_size():
    try:
        return (directory / "cache.db-wal").stat().st_size
    except FileNotFoundError:
        return 0


def write_until(cache, condition):
    number = 0
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        cache[number % 500] = bytes(300)
        number += 1


def reads():
    """A program that writes little and reads a lot has no thread."""
    cache = Cache(directory)
    cache["a"] = 1
    for _ in range(3000):
        assert cache["a"] == 1
        assert "b" not in cache
    assert threads() == 0
    cache.close()


def writes():
    """A program that writes has a thread, which ends when it has no more work. close() closes its files."""
    cache = Cache(directory)
    write_until(cache, lambda: threads() == 1)
    cache.close()
    assert open_files() == []
    wait_for(lambda: threads() == 0)
    write_until(cache, lambda: threads() == 1)
    del cache
    gc.collect()
    assert open_files() == []


def shards():
    """The shards of a cache share one thread."""
    cache = FanoutCache(directory, shards=8, sqlite_wal_autocheckpoint=1)
    for number in range(400):
        cache[number] = number
        assert threads() <= 1
    assert threads() == 1
    assert cache.check() == []
    cache.close()
    assert open_files() == []


def closes():
    """A cache that is closed while the thread works can be removed at once, and used again."""
    for turn in range(60):
        cache = Cache(directory, sqlite_wal_autocheckpoint=1)
        for number in range(turn % 5 + 1):
            cache[number] = turn
        if turn % 3 == 0:
            cache.close()
            assert cache[0] == turn
        cache.close()
        assert open_files() == []
        if turn % 2:
            shutil.rmtree(directory)


def forks():
    """The thread ends before a fork, so that Python does not warn. Child and parent start a new one when needed."""
    cache = Cache(directory, sqlite_wal_autocheckpoint=2)
    for turn in range(10):
        write_until(cache, lambda: threads() == 1)
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(40)
                assert threads() == 0
                write_until(cache, lambda: threads() == 1)
                cache.set(("child", turn), turn, retry=True)
                if turn % 2:
                    cache.close()
            except BaseException as error:
                print("child:", repr(error), file=sys.stderr)
                os._exit(1)
            os._exit(0)
        cache.set(("parent", turn), turn, retry=True)
        write_until(cache, lambda: threads() == 1)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
    for turn in range(10):
        assert cache["child", turn] == cache["parent", turn] == turn
    assert cache.check() == []


def bound():
    """The size of the log is limited. The log starts again without a pause of the writers."""
    every, page = 50, 4096
    cache = Cache(directory, sqlite_wal_autocheckpoint=every)
    longest = 0
    for number in range(6000):
        cache[number % 3000] = number
        longest = max(longest, log_size())
    # The limit allows for writes while the log is too long, and for a whole transaction.
    assert longest < 20 * every * page, longest
    cache.close()


def names():
    """The files of values."""
    return list(directory.rglob("*.val"))


def files():
    """A few files are removed before the calls return, and many soon after, at the latest when this must be visible.

    It is visible to `check`, a fork, a call that removes many entries, and `close`.
    """

    def value_files():
        return [path for path in open_files() if ".val" in path]

    cache = Cache(directory)
    for number in range(10):
        cache[number] = bytes(40_000)
    for number in range(10):
        del cache[number]
    assert not names()
    looks = [
        lambda: wait_for(lambda: len(names()) == 1),
        cache.check,
        lambda: cache.clear() and names(),
        cache.close,
    ]
    for turn in range(8):
        for number in range(101):
            cache[number] = bytes(40_000)
        for number in range(100):
            del cache[number]
        pid = os.fork() if turn >= len(looks) else None
        if pid == 0:
            os._exit(len(value_files()) + len(names()) - 1)
        if pid is None:
            assert not looks[turn]()
        else:
            _, status = os.waitpid(pid, 0)
            assert status == 0, status
        assert len(names()) == (0 if turn == 2 else 1), turn
        wait_for(lambda: not value_files())
        assert cache.check() == []
    cache.close()
    assert open_files() == []


def exits():
    """A program that ends leaves no file."""
    # The first registered function is called last. The process then exits at once, so nothing else can remove files.
    atexit.register(os._exit, 0)
    cache = Cache(directory)
    # A cache that is dropped before has removed them.
    kept.append(cache)
    for number in range(100):
        cache[number] = bytes(1_000_000)
    # This is faster than the thread can remove files of this size.
    for number in range(100):
        del cache[number]


def never():
    """If write-back is switched off, the log is not written back before the cache is closed."""
    cache = Cache(directory, sqlite_wal_autocheckpoint=0)
    for number in range(1500):
        cache[number] = bytes(300)
    assert threads() == 0
    assert log_size() > 4 * 2**20
    cache.close()
    assert log_size() == 0


globals()[way]()
print("done", flush=True)
