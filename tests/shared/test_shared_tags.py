"""Tags of a SharedCache: the effect of an eviction on callers that compute, wait or keep copies at that moment."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.shared import SharedCache
from tests.scale import scaled
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBERS = itertools.count()


@pytest.fixture
def cache() -> Iterator[SharedCache]:
    """A cache that only this test uses. It is recounted at the end."""
    with SharedCache(f"test-tags-{os.getpid()}-{next(NUMBERS)}", max_bytes=8 << 20) as cache:
        yield cache
        cache._check()
        cache.unlink()


@pytest.mark.parametrize("in_front", [False, True])
def test_a_tag_evicted_during_a_computation_ends_its_lease(cache: SharedCache, in_front: bool) -> None:
    """The caller gets the result. Nothing is stored, not even an unreadable entry."""
    caller = FlexCache[str, str](store=cache) if in_front else cache
    runs: list[str] = []

    def compute() -> str:
        runs.append("run")
        if len(runs) == 1:
            assert cache.evict_tag("other") == cache.evict_tag("t") == 0
        return "computed"

    assert caller.get_or_set("k", compute, tags=("t",)) == "computed"
    assert (len(cache), cache.get("k"), caller.get("k")) == (0, None, None)
    assert caller.get_or_set("k", compute, tags=("t",)) == "computed"
    assert caller.get_or_set("k", compute, tags=("t",)) == cache["k"] == "computed"
    assert len(runs) == 2


@pytest.mark.parametrize("in_front", [False, True])
def test_a_tag_evicted_during_a_refresh_ends_its_lease(cache: SharedCache, in_front: bool) -> None:
    """The same holds if there was a value with the tag."""
    caller = FlexCache[str, int](store=cache) if in_front else cache
    calls = itertools.count(1)
    evicts = False

    @caller.memoize(name="tests.refreshed", tags=("t",))
    def number() -> int:
        if evicts:
            cache.evict_tag("t")
        return next(calls)

    assert (number(), number(), number.refresh(), number()) == (1, 1, 2, 2)
    evicts = True
    assert number.refresh() == 3
    assert [key for key in cache.keys() if "memoizes" not in str(key)] == []
    evicts = False
    assert (number(), number()) == (4, 4)


KILLED = """
import pickle, sys
cache = pickle.loads({cache!r})
print("evicting", flush=True)
while True:
    cache.evict_tag("t")
"""


def test_a_process_killed_while_it_evicts_leaves_no_stale_copy(cache: SharedCache) -> None:
    """Wherever the kill hits, a cache in front returns only values that the shared memory has."""
    import pickle

    program = KILLED.format(cache=pickle.dumps(cache))
    front: FlexCache[int, int] = FlexCache(store=cache)
    for number in range(scaled(40, 3)):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"evicting\n"
            for key in range(200):
                front.put(key, number, tags=("t",))
            child.send_signal(signal.SIGKILL)
            child.wait()
        served = {key: front.get(key) for key in range(200)}
        assert {key: cache.get(key) for key in range(200)} == served
        # And copies are kept again.
        front.put(0, number, tags=("t",))
        assert front.get(0) == cache.get(0) == number
        cache.evict_tag("t")
        assert front.get(0) is None
        until(lambda: len(front) == 0 or all(front.get(key) is None for key in range(200)))
