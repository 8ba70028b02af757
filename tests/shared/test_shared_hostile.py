"""What a shared cache refuses, and what it does with values that cannot be read: nothing is lost."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBERS = itertools.count()


@pytest.fixture
def cache() -> Iterator[SharedCache]:
    """A cache that no other test has, recounted at the end."""
    with SharedCache(f"test-hostile-{os.getpid()}-{next(NUMBERS)}", max_bytes=1 << 20) as cache:
        yield cache
        cache._check()
        cache.unlink()


class Grenade:
    """It cannot be read for as long as a test says so."""

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
    """Nothing is lost, whoever asks."""
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
    """Its threads are somewhere in a call, with the interpreter or without."""
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
def test_a_forked_child_does_not_hold_its_parents_lock(cache: SharedCache) -> None:
    """However it leaves the block."""
    with cache.lock("name", ttl=60) as lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if not lock.release() and not lock.renew() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not cache.lock("name", ttl=60).acquire(timeout=0)
        assert lock.renew()
    assert cache.lock("name", ttl=60).acquire(timeout=0)
