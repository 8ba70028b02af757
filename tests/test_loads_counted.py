"""Statistics of computations, and of callers that wait for one."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from flexcache_rs import FlexCache, memoize
from flexcache_rs._core import _loads_in_progress


def waiting(cache: Any) -> int:
    return sum(count for _, count in _loads_in_progress(cache))


def run_together(cache: Any, call: Any, computes: threading.Event, goes_on: threading.Event, others: int = 5) -> None:
    """Let one thread compute while others wait for it."""
    threads = [threading.Thread(target=call) for _ in range(others + 1)]
    threads[0].start()
    assert computes.wait(60)
    for thread in threads[1:]:
        thread.start()
    while waiting(cache) < others:
        threading.Event().wait(0.001)
    goes_on.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("kind", ["get_or_set", "memoize", "with ttl"])
def test_threads_that_wait_are_hits(kind: str) -> None:
    computes, goes_on = threading.Event(), threading.Event()

    def compute(*_: Any) -> str:
        computes.set()
        assert goes_on.wait(60)
        return "value"

    cache: Any
    if kind == "get_or_set":
        cache = FlexCache()
        run_together(cache, lambda: cache.get_or_set("key", compute), computes, goes_on)
    else:
        function = memoize(ttl=60, soft_ttl=30)(compute) if kind == "with ttl" else memoize(compute)
        cache = function.cache
        run_together(cache, lambda: function(1), computes, goes_on)
    stats = cache.stats()
    assert (stats.loads, stats.misses, stats.hits) == (1, 1, 5)
    assert repr(stats).endswith(", loads=1)")
    cache.reset_stats()
    assert (cache.stats().loads, cache.stats().misses, cache.stats().hits) == (0, 0, 0)


def test_tasks_that_wait_are_hits() -> None:
    async def main(memoized: bool) -> Any:
        async def compute(*_: Any) -> str:
            await asyncio.sleep(0)
            return "value"

        if memoized:
            function = memoize(compute)
            await asyncio.gather(*(function(1) for _ in range(6)))
            return function.cache.stats()
        cache: FlexCache[str, str] = FlexCache()
        await asyncio.gather(*(cache.aget_or_set("key", compute) for _ in range(6)))
        return cache.stats()

    for memoized in (False, True):
        stats = asyncio.run(main(memoized))
        assert (stats.loads, stats.misses, stats.hits) == (1, 1, 5)


def test_who_waits_in_vain_is_a_miss() -> None:
    computes, goes_on = threading.Event(), threading.Event()
    cache: FlexCache[str, str] = FlexCache()

    def fail() -> str:
        computes.set()
        assert goes_on.wait(60)
        raise LookupError

    def call() -> None:
        with pytest.raises(LookupError):
            cache.get_or_set("key", fail)

    run_together(cache, call, computes, goes_on)
    stats = cache.stats()
    assert (stats.loads, stats.misses, stats.hits) == (0, 6, 0)


def test_what_is_not_kept_counts() -> None:
    @memoize(condition=bool)
    def zero() -> int:
        return 0

    zero()
    zero()
    zero.refresh()
    assert (zero.cache.stats().loads, zero.cache.stats().misses) == (3, 2)
