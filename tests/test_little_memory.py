"""Memory grows with the stored entries, not with the limits. If it runs out, calls raise MemoryError."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flexcache_rs import FlexCache

if TYPE_CHECKING:
    from conftest import MakeCache

PROGRAM = Path(__file__).parent / "programs" / "little_memory.py"
HUGE = (10**9, 2**33, 2**40, 2**62, 2**64 - 1)
SMALL = 200_000


def test_a_limit_allocates_nothing(make_cache: MakeCache, policy: str) -> None:
    """No limit allocates memory in advance, however large it is."""
    nothing = sys.getsizeof(FlexCache(policy))
    for limit in (10, 10**6, *HUGE):
        for limits in ({"max_items": limit}, {"max_bytes": limit}, {"max_items": limit, "max_bytes": limit}):
            cache = make_cache(policy, **limits)
            assert sys.getsizeof(cache) == nothing, limits
            cache["a"], cache["b"] = 1, 2
            assert sys.getsizeof(cache) < SMALL, limits
            assert (cache["a"], cache["b"]) == (1, 2)


def test_another_limit_allocates_nothing(make_cache: MakeCache, policy: str) -> None:
    """The same holds for a cache with entries."""
    cache = make_cache(policy, max_items=9)
    cache.set_many(dict.fromkeys(range(9), 0))
    before = sys.getsizeof(cache)
    for limit in HUGE:
        cache.resize(max_items=limit)
        cache.resize(max_bytes=limit)
        assert sys.getsizeof(cache) <= before
    cache.set_many(dict.fromkeys(range(100), 0))
    assert (len(cache), sys.getsizeof(cache) < SMALL) == (100, True)
    assert len(cache.copy()) == 100


def test_what_was_evicted_takes_no_more_than_what_is_there(make_cache: MakeCache, policy: str) -> None:
    """If max_bytes keeps the cache small, a far larger max_items does not matter."""
    cache = make_cache(policy, max_items=2**40, max_bytes=100)
    for key in range(50_000):
        cache[key] = None
    assert (len(cache), sys.getsizeof(cache) < SMALL) == (100, True)


@pytest.mark.parametrize("limit", [0, 10**6, 10**9])
def test_a_small_cache_is_small(limit: int) -> None:
    """An empty cache is small for every limit, although some policies need more memory than others."""
    caches: list[FlexCache[str, int]] = [FlexCache(max_items=limit) for _ in range(30)]
    for cache in caches:
        cache["a"] = 1
    assert max(map(sys.getsizeof, caches)) <= 1024


HOLD = """
import sys
from flexcache_rs import FlexCache

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def some(policy, count):
    caches = [FlexCache(policy) for _ in range(count)]
    for cache in caches:
        cache["a"] = None
    return caches

policy = sys.argv[1]
first = some(policy, 100)
before = resident()
count = 20_000_000 // sys.getsizeof(first[0])
held = some(policy, count)
print((resident() - before) / sum(map(sys.getsizeof, held)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux what is resident")
def test_what_is_held_is_reported(policy: str) -> None:
    """sys.getsizeof() reports the memory of a cache, including its internal objects."""
    done = subprocess.run([sys.executable, "-c", HOLD, policy], capture_output=True, text=True, check=True)
    # The allocator rounds sizes up, and adds some bytes to each allocation.
    assert 0.5 < float(done.stdout) < 1.5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit of address space")
def test_without_memory_there_is_a_memory_error(policy: str) -> None:
    """The cache is intact after the MemoryError, and the process goes on."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), policy],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        # With these settings, freed memory returns to the system at once.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "0"},
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
