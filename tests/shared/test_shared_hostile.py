"""Input that a shared cache refuses, and values that cannot be read. No entry is lost."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from waiting import MANY

from flexcache_rs import FlexCache, _shared_files
from flexcache_rs.__main__ import main
from flexcache_rs._shared_files import directory
from flexcache_rs._shared_locks import SharedLock
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from collections.abc import Callable


class Grenade:
    """A value that cannot be unpickled while a test says so."""

    is_armed = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        if Grenade.is_armed:
            raise ZeroDivisionError
        self.__dict__.update(state)

    def __getstate__(self) -> dict[str, Any]:
        return {"content": 1}


@pytest.mark.parametrize("in_front", [False, True])
def test_pop_leaves_what_cannot_be_read(cache: SharedCache, monkeypatch: pytest.MonkeyPatch, in_front: bool) -> None:
    target: Any = FlexCache(store=cache) if in_front else cache
    cache["key"] = Grenade()
    monkeypatch.setattr(Grenade, "is_armed", True)
    with pytest.raises(ZeroDivisionError):
        target.pop("key")
    monkeypatch.setattr(Grenade, "is_armed", False)
    assert target.pop("key").content == 1
    assert "key" not in cache


def test_more_tags_than_an_entry_can_have(cache: SharedCache) -> None:
    """No entry is lost, whichever call has the tags."""
    for number in range(1000):
        cache[number] = number
    tags = tuple(map(str, range(256)))
    with pytest.raises(ValueError, match="at most 255"):
        cache.put("key", 1, tags=tags)
    front = FlexCache[Any, Any](store=cache)
    for _ in range(3):
        with pytest.raises(ValueError, match="at most 255"):
            front.get_or_set("key", lambda: 1, tags=tags)
    assert len(cache) == 1000
    assert cache.stats().resets == 0


ENDS = """
import sys, threading
from flexcache_rs.shared import SharedCache
cache = SharedCache(sys.argv[1])
began = threading.Barrier(5)
def work(number):
    began.wait()
    while True:
        cache.incr("n")
        cache[number] = ["value"] * 10
        assert cache.get(number) in (None, ["value"] * 10)
        cache.get_or_set("computed", list)
        cache.delete("computed")
for number in range(4):
    threading.Thread(target=work, args=(number,), daemon=True).start()
began.wait()
"""


def test_a_program_that_ends_during_calls(cache: SharedCache) -> None:
    """Its threads are in the middle of calls, with the GIL or without."""
    for _ in range(5):
        ended = subprocess.run(
            [sys.executable, "-c", ENDS, str(cache.path)], capture_output=True, text=True, timeout=60, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        cache["next"] = 1
        assert cache["next"] == 1
        cache._check()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_the_lock_of_a_child_that_has_ended_is_free(cache: SharedCache) -> None:
    """Its parent, which has used locks before the fork, still lives."""
    with cache.lock("first"):
        pass
    child = os.fork()
    if child == 0:
        os._exit(not cache.lock("name", ttl=3600).acquire(timeout=0))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cache.lock("name", ttl=3600).acquire(timeout=MANY)


def test_what_is_written_while_a_removed_value_is_unpickled_is_returned(cache: SharedCache) -> None:
    """The value that was unpickled is not the one that was removed."""
    cache["key"] = Replaced(cache)
    assert cache.pop("key") == "newer"
    assert "key" not in cache


class Replaced:
    """A value that replaces itself when it is unpickled."""

    def __init__(self, cache: SharedCache) -> None:
        self.cache = cache

    def __reduce__(self) -> Any:
        return replace, (self.cache,)


def replace(cache: SharedCache) -> str:
    cache["key"] = "newer"
    return "older"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_hold_its_parents_lock(cache: SharedCache) -> None:
    """The parent keeps the lock, however the child leaves the block."""
    with cache.lock("name", ttl=60) as lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if not lock.release() and not lock.renew() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not cache.lock("name", ttl=60).acquire(timeout=0)
        assert lock.renew()
    assert cache.lock("name", ttl=60).acquire(timeout=0)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition. Fails after half a minute."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


WAITS = """
import sys
from flexcache_rs import FlexCache
from flexcache_rs.shared import SharedCache
cache = SharedCache(sys.argv[1], lock_timeout=3600)
calls = {
    "put": lambda: cache.put("key", 1),
    "get_or_set": lambda: cache.get_or_set("absent", int),
    "in front": lambda: FlexCache(store=cache).put("key", 1),
    "clear": cache.clear,
}
print("ready", flush=True)
try:
    calls[sys.argv[2]]()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("call", ["put", "get_or_set", "in front", "clear"])
def test_ctrl_c_ends_a_wait_for_a_writer(cache: SharedCache, call: str) -> None:
    """Ctrl-C ends the wait of each call, however long it would be."""
    cache["key"] = 0
    libc = ctypes.CDLL(None)
    with cache.path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        # The mutex of the only stripe: behind the header, the version words and the tag words.
        memory = (ctypes.c_char * len(mapped)).from_buffer(mapped)
        mutex = ctypes.byref(memory, (512 + 4096 + 4096) * 8)
        assert libc.pthread_mutex_trylock(mutex) == 0
        try:
            waiting = subprocess.Popen(
                [sys.executable, "-c", WAITS, str(cache.path), call], stdout=subprocess.PIPE, text=True
            )
            try:
                assert waiting.stdout is not None
                assert waiting.stdout.readline() == "ready\n"
                wait_until(lambda: ") S " in Path(f"/proc/{waiting.pid}/stat").read_text())
                waiting.send_signal(signal.SIGINT)
                assert waiting.communicate(timeout=30)[0] == "interrupted\n"
            finally:
                waiting.kill()
                waiting.wait()
        finally:
            assert libc.pthread_mutex_unlock(mutex) == 0
            del memory, mutex
    assert cache["key"] == 0


def test_damaged_parts_of_a_value(cache: SharedCache) -> None:
    """A length that is too large, or an unknown kind, raises. The next write repairs the entry."""
    makes: list[Callable[[str], object]] = [
        lambda text: ("first", text),
        lambda text: ["first", text],
        lambda text: {"first": text},
        lambda text: {text: 1},
        lambda text: [[], {"a": (1, text)}],
    ]
    for number, make in enumerate(makes):
        for before, damage in ((4, b"\xff\xff\xff\x7f"), (5, b"\x63")):
            text = f"part {number} {before}"
            cache["key"] = make(text)
            with cache.path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
                at = mapped.find(text.encode()) - before
                mapped[at : at + len(damage)] = damage
            with pytest.raises(RuntimeError, match="damaged"):
                cache["key"]
            cache["key"] = make(text)
            assert cache["key"] == make(text)


class InterruptedAfterwards:
    """A cache in which a signal follows each call that acquires a lock."""

    def __init__(self, cache: SharedCache) -> None:
        self._cache = cache

    def _take_lock(self, *args: Any) -> bool:
        self._cache._take_lock(*args)
        raise KeyboardInterrupt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


def test_a_lock_is_not_lost_to_a_signal(cache: SharedCache) -> None:
    """Either the lock is released, or its object knows that it holds it."""
    interrupted: Any = InterruptedAfterwards(cache)
    with pytest.raises(KeyboardInterrupt), SharedLock(interrupted, "name", 60, None):
        pass
    lock = SharedLock(interrupted, "name", 60, None)
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()
    assert not cache.lock("name").acquire(timeout=0)
    assert lock.release()
    with cache.lock("name") as lock:
        with pytest.raises(RuntimeError, match="already holds"), lock:
            pass
        assert lock.renew(), "the one who had it still does"


def test_looking_creates_nothing(cache: SharedCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache may be removed between two steps of a command that lists, watches or describes it."""
    cache["key"] = 1
    path = cache.path
    assert cache.unlink()
    assert (len(cache), cache.stats().entries, path.exists()) == (0, 0, False)
    for module in ("_shared_command", "_shared_watch"):
        monkeypatch.setattr(f"flexcache_rs.{module}.files", lambda: [path])
    monkeypatch.setattr("flexcache_rs._shared_command._path_of", lambda _name: path)
    assert main(["shared", "list"]) == 0
    assert main(["shared", "watch", "--count", "1"]) == 0
    for action in ("stats", "clear", "unlink"):
        assert main(["shared", action, "any"]) == 1
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        SharedCache(path, create=False)
    cache["key"] = 2
    with SharedCache(path, create=False) as other:
        assert other["key"] == 2
        assert cache.unlink()
        with pytest.raises(FileNotFoundError):
            other["key"] = 3
    assert not path.exists()
    cache["key"] = 4


def test_a_file_elsewhere_is_not_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no cache is removed only from the directory of caches with names."""
    file = tmp_path / "file"
    file.write_bytes(b"no cache" * 1000)
    file.chmod(0o600)
    assert main(["shared", "unlink", str(file)]) == 1
    assert str(file) in capsys.readouterr().err
    assert file.exists()


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_other_users_may_use_is_refused(tmp_path: Path, what: str) -> None:
    """The exception has a number and names the file or directory, as those of the system do."""
    path = tmp_path / "cache"
    with SharedCache(path, max_bytes=1 << 20):
        pass
    loose = path if what == "file" else tmp_path
    loose.chmod(0o777)
    with pytest.raises(PermissionError, match="its mode 777 lets other users in") as raised:
        SharedCache(path)
    assert (raised.value.errno, raised.value.filename) == (errno.EACCES, str(loose))


def test_a_file_in_place_of_the_directory_is_not_called_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another user may have put it there."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(_shared_files, "directory", lambda: tmp_path / "file")
    assert main(["shared", "list"]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_what_cannot_be_opened_is_listed_and_removed(capsys: pytest.CaptureFixture[str]) -> None:
    """Files of another version or container are removed, unless a process has them open."""
    name = f"test-left-{os.getpid()}"
    with SharedCache(name, max_bytes=1 << 20):
        pass
    retired = next(directory().glob(f"{name}.*"))
    with retired.open("r+b") as file:
        file.seek(16 * 8)
        file.write(b"\x01")
    other = directory() / f"{name}-other.ffff.1"
    other.write_bytes(b"of another version" * 1000)
    other.chmod(0o600)
    assert main(["shared", "list"]) == 0
    listed = capsys.readouterr().out
    assert f"{name}: it is being removed" in listed
    assert f"{name}-other: " in listed
    with other.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert main(["shared", "unlink", f"{name}-other"]) == 1
        assert other.exists()
    assert main(["shared", "unlink", f"{name}-other"]) == 0
    assert main(["shared", "unlink", name]) == 0
    assert not list(directory().glob(f"{name}*"))


def test_a_file_that_others_may_read_is_removed() -> None:
    """A cache refuses such a file, and the command removes it, so that its name can be used again."""
    name = f"test-mode-{os.getpid()}"
    with SharedCache(name, max_bytes=1 << 20):
        next(directory().glob(f"{name}.*")).chmod(0o644)
        assert main(["shared", "unlink", name]) == 1
    assert main(["shared", "unlink", name]) == 0
    assert not list(directory().glob(f"{name}*"))


@pytest.mark.parametrize("other", ["0.1", "ffff.ffff"])
def test_the_commands_use_the_file_of_this_version(capsys: pytest.CaptureFixture[str], other: str) -> None:
    """Another version, or a container that shares the memory, may have a file of the same name."""
    name = f"test-several-{os.getpid()}"
    of_other = directory() / f"{name}.{other}"
    with SharedCache(name, max_bytes=1 << 20) as cache:
        cache["key"] = 1
        of_other.write_bytes(b"of another version" * 1000)
        of_other.chmod(0o600)
        try:
            assert main(["shared", "clear", name]) == 0
            assert "1 entries removed" in capsys.readouterr().out
            assert main(["shared", "unlink", name]) == 0
            assert of_other.exists()
            assert not cache.unlink()
        finally:
            of_other.unlink()


def test_a_cache_that_replaces_a_damaged_file_is_not_removed() -> None:
    """It is created between the two steps of the command: it cannot open the damaged file, then it removes the file."""
    name = f"test-replaced-{os.getpid()}"
    with SharedCache(name, max_bytes=1 << 20) as cache:
        path = Path(cache.path)
        cache.unlink()
    path.write_bytes(b"damaged" * 1000)
    path.chmod(0o600)
    with SharedCache(name, max_bytes=1 << 20) as replacing:
        assert not _shared_files.remove_left(path)
        assert path.exists()
        replacing.unlink()


def test_a_limiter_takes_what_it_says_it_takes(cache: SharedCache) -> None:
    """All documented values are accepted, including a period of a hundred years."""
    assert cache.limiter("name", 1, per=36_525 * 86_400).acquire(timeout=0)
    assert not cache.limiter("name", 1, per=36_525 * 86_400).acquire(timeout=0)
