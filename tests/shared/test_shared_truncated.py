"""Another program truncates the file of an open cache: no process dies, and calls tell or begin an empty cache."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from collections.abc import Callable

TOO_SHORT = (0, 1, 100)
"""Lengths with which less than a header is left."""
HALVED = (4096, 5000, 1 << 19)
"""Lengths with which the file still begins as that of a cache."""

QUIET = ("__len__", "__repr__", "stats", "unlink")
"""Calls that count nothing in a file that was lost, and the one that removes it."""


def told(call: Callable[[], Any], path: Path, length: int) -> bool:
    """Whether a call raises the exception for a file that was truncated."""
    try:
        call()
    except RuntimeError as error:
        return str(path) in str(error) and f"truncated the file of the open cache: it has {length} bytes" in str(error)
    return False


def idle(folder: Path) -> None:
    """Every call raises, other caches go on, and the cache can be removed and used again."""
    from test_shared_damaged import calls, fill

    other = SharedCache(folder / "other", max_bytes=1 << 20)
    other["key"] = "value"
    for length in TOO_SHORT:
        path = folder / f"cache{length}"
        cache = SharedCache(path, max_bytes=1 << 20)
        fill(cache)
        near = FlexCache[Any, Any](max_items=100, store=cache)
        near["near"] = ["a", "list"]
        assert near["near"] is near["near"]
        assert near.get("absent") is None
        os.truncate(path, length)
        assert told(lambda near=near: near["near"], path, length)
        assert told(lambda near=near: near.get("absent"), path, length)
        for name, call in calls(cache):
            if name not in QUIET:
                assert told(call, path, length), (name, length)
        assert (len(cache), cache.stats().entries, "entries=0" in repr(cache)) == (0, 0, True)
        assert told(lambda cache=cache: asyncio.run(cache.aput("key", 1)), path, length)
        assert path.stat().st_size == length, "it is left as it is"
        with pytest.raises(OSError, match="not a cache"):
            SharedCache(path)
        second = SharedCache(folder / f"closed{length}", max_bytes=1 << 20)
        second["key"] = 1
        os.truncate(second.path, length)
        assert told(lambda second=second: second.put("key", 1), second.path, length)
        second.close()
        with pytest.raises(ValueError, match="closed"):
            second.get("key")
        assert cache.unlink()
        assert cache.get("key0") is None
        cache["key"] = near["near"] = "new"
        assert SharedCache(path)["key"] == cache["key"] == near["key"] == "new"
        assert other["key"] == "value"


def halved(folder: Path) -> None:
    """The next call that finds out begins an empty cache, and so do all other users."""
    for length in HALVED:
        caches = [SharedCache(folder / f"cache{length}", max_bytes=1 << 20) for _ in range(2)]
        for number in range(5000):
            caches[0][number] = "x" * 100
        near = FlexCache[Any, Any](max_items=100, store=caches[1])
        near["near"] = "old"
        os.truncate(caches[0].path, length)
        # Until the last part of the file is used, what is left is a cache.
        for number in range(5000):
            caches[0].put(number, "y" * 100)
        assert Path(caches[0].path).stat().st_size > 1 << 19
        caches[0]["near"] = "new"
        assert (caches[1]["near"], near["near"]) == ("new", "new")


def named(folder: Path) -> None:
    """A cache by its name is replaced by an empty one, whatever is left of the file."""
    cache = SharedCache(f"test-truncated-{os.getpid()}-{folder.name}", max_bytes=1 << 20)
    for length in TOO_SHORT + HALVED:
        cache["key"] = "old"
        near = FlexCache[Any, Any](max_items=100, store=cache)
        assert near["key"] == "old"
        os.truncate(cache.path, length)
        for number in range(5000):
            cache[number] = "x" * 100
        assert "key" not in cache
        cache["key"] = "new"
        assert near["key"] == "new"
    assert cache.unlink()


def forked(folder: Path) -> None:
    """A child has the handler, and its loss is not its parent's."""
    path = folder / "cache"
    cache = SharedCache(path, max_bytes=1 << 20)
    cache["key"] = 1
    child = os.fork()
    if child == 0:
        os.truncate(path, 0)
        os._exit(3 if told(lambda: cache.put("key", 2), path, 0) else 4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert told(lambda: cache.put("key", 2), path, 0)


def without_handler(folder: Path) -> None:
    """The control: with the default action of the signal the process dies."""
    cache = SharedCache(folder / "cache", max_bytes=1 << 20)
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    os.truncate(cache.path, 0)
    cache["key"] = 1


def handler_again(folder: Path) -> None:
    """Opening a cache installs the handler again if the signal has its default action."""
    cache = SharedCache(folder / "cache", max_bytes=1 << 20)
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    SharedCache(folder / "second", max_bytes=1 << 20)
    os.truncate(cache.path, 0)
    assert told(lambda: cache.put("key", 1), folder / "cache", 0)


def another_mapping(folder: Path) -> None:
    """Lose a mapping that is no cache's."""
    import faulthandler
    import mmap

    faulthandler.enable()
    cache = SharedCache(folder / "cache", max_bytes=1 << 20)
    os.truncate(cache.path, 0)
    assert told(lambda: cache.put("key", 1), folder / "cache", 0)
    with (folder / "other").open("w+b") as file:
        file.truncate(4096)
        mapped = mmap.mmap(file.fileno(), 4096)
        file.truncate(0)
        mapped[0]


def sent(folder: Path) -> None:
    """A program sends the signal."""
    SharedCache(folder / "cache", max_bytes=1 << 20)
    os.kill(os.getpid(), signal.SIGBUS)


def use(path: Path, calls: list[int], number: int, is_over: Callable[[], bool]) -> None:
    """Read and write until it is over. Values depend on their keys, so that a wrong one is noticed."""
    cache = SharedCache(path, max_bytes=1 << 20)
    near = FlexCache[Any, Any](max_items=50, store=cache)
    while not is_over():
        key = calls[number] % 97
        value = [key, "x" * (key * 20)]
        try:
            for found in (cache.get(key), near.get(key), cache.pop(key, None) if key % 5 == 0 else None):
                assert found in (None, value), found
            (near if key % 2 else cache).put(key, value)
            assert cache.get_or_set(key, lambda value=value: value) == value
            cache.incr("visits")
        except (RuntimeError, OSError) as error:
            # `TimeoutError` is an `OSError`.
            assert str(path) in str(error), error
        calls[number] += 1


def used(folder: Path) -> None:
    """Use a cache in threads until the test closes the pipe."""
    calls, over = [0, 0, 0], threading.Event()
    threads = [
        threading.Thread(target=use, args=(folder / "cache", calls, number, over.is_set), daemon=True)
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    for _ in sys.stdin:
        before = list(calls)
        while any(now < then + 50 for now, then in zip(calls, before, strict=True)):
            if not all(thread.is_alive() for thread in threads):
                sys.exit("a thread has failed")
            over.wait(0.001)
        print("went on", flush=True)
    over.set()
    for thread in threads:
        thread.join()
    with SharedCache(folder / "cache", max_bytes=1 << 20) as cache:
        cache["key"] = "value"
        assert cache["key"] == "value"


def program(name: str, folder: Path) -> list[str]:
    return [sys.executable, __file__, name, str(folder)]


@pytest.mark.parametrize(
    ("name", "signal_number"),
    [
        ("idle", 0),
        ("halved", 0),
        ("named", 0),
        ("forked", 0),
        ("handler_again", 0),
        ("without_handler", signal.SIGBUS),
        ("another_mapping", signal.SIGBUS),
        ("sent", signal.SIGBUS),
    ],
)
def test_a_truncated_file(tmp_path: Path, name: str, signal_number: int) -> None:
    done = subprocess.run(program(name, tmp_path), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal_number, done.stderr
    assert ("Fatal Python error: Bus error" in done.stderr) == (name == "another_mapping")


def test_readers_and_writers_of_a_file_that_is_truncated_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    SharedCache(path, max_bytes=1 << 20)
    users = [
        subprocess.Popen(
            program("used", tmp_path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for _ in range(2)
    ]
    for length in (1 << 19, 0, 4096, 100, 1 << 19, 0):
        for user in users:
            assert user.stdin is not None
            assert user.stdout is not None
            user.stdin.write("\n")
            if user.stdout.readline() != "went on\n":
                pytest.fail(f"{user.wait()}: {user.communicate()}")
        if path.exists():
            os.truncate(path, length)
            # The users replace it unless it is too short.
            if path.stat().st_size < HALVED[0]:
                path.unlink()
    for user in users:
        output, errors = user.communicate("\n", timeout=300)
        assert (user.returncode, output, errors) == (0, "went on\n", "")


def main(name: str, folder: str) -> None:
    """Run one of the functions, in a process that may die."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    globals()[name](Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
