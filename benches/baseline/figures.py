"""The figures of one build. Runs in an interpreter that has the build, and imports nothing of the benchmarks.

`figures.py NAME …` prints nanoseconds an operation of each, as JSON. To add a figure, write a function under
`@figure(NAME)` that yields its loop: a function of no arguments and the number of operations in it.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from time import perf_counter_ns, thread_time_ns
from typing import Any

import flexcache_rs
from flexcache_rs import FlexCache
from flexcache_rs import disk as on_disk

ENTRIES = 10_000
OPERATIONS = 20_000
WRITES = 300
"""Operations on disk in a loop."""
REPEATS = 5
"""Loops of which the fastest counts: the others were disturbed."""

Loop = tuple[Callable[[], object], int]
FIGURES: dict[str, Callable[[], Iterator[Loop]]] = {}
random = Random(7)
KEYS = [f"key {number:08}" for number in range(ENTRIES)]
ORDER = random.choices(KEYS, k=OPERATIONS)
NEW = [f"new {number:08}" for number in range(OPERATIONS)]


def figure(name: str) -> Callable[[Callable[[], Iterator[Loop]]], Callable[[], Iterator[Loop]]]:
    """Return a decorator that registers a figure."""

    def register(function: Callable[[], Iterator[Loop]]) -> Callable[[], Iterator[Loop]]:
        FIGURES[name] = function
        return function

    return register


def full(policy: str = "lru", **options: Any) -> FlexCache[Any, Any]:
    """Return a full cache."""
    cache: FlexCache[Any, Any] = FlexCache(policy, max_items=ENTRIES, **options)
    for key in KEYS:
        cache[key] = key
    return cache


def over(function: Callable[[Any], object], keys: list[Any]) -> Loop:
    """Return a loop that calls a function with each key, and the number of calls."""

    def loop() -> None:
        for key in keys:
            function(key)

    return loop, len(keys)


@figure("get")
def get() -> Iterator[Loop]:
    yield over(full().get, ORDER)


@figure("get-int")
def get_int() -> Iterator[Loop]:
    cache: FlexCache[int, int] = FlexCache(max_items=ENTRIES)
    cache.set_many(dict.fromkeys(range(ENTRIES), 1))
    yield over(cache.get, random.choices(range(ENTRIES), k=OPERATIONS))


@figure("item")
def item() -> Iterator[Loop]:
    cache = full()

    def loop() -> None:
        for key in ORDER:
            cache[key]

    yield loop, OPERATIONS


@figure("in")
def contains() -> Iterator[Loop]:
    cache = full()

    def loop() -> None:
        for key in ORDER:
            key in cache  # noqa: B015

    yield loop, OPERATIONS


@figure("miss")
def miss() -> Iterator[Loop]:
    yield over(full().get, NEW)


@figure("put-replace")
def put_replace() -> Iterator[Loop]:
    put = full().put
    yield over(lambda key: put(key, 1), ORDER)


@figure("assign-replace")
def assign_replace() -> Iterator[Loop]:
    cache = full()

    def loop() -> None:
        for key in ORDER:
            cache[key] = 1

    yield loop, OPERATIONS


def evicting(policy: str) -> Iterator[Loop]:
    """Stores new keys in a full cache."""
    cache = full(policy)
    rounds = iter(range(1 << 30))

    def loop() -> None:
        number = next(rounds)
        for key in range(number * OPERATIONS, (number + 1) * OPERATIONS):
            cache[key] = 1

    yield loop, OPERATIONS


@figure("put-evict-lru")
def put_evict_lru() -> Iterator[Loop]:
    yield from evicting("lru")


@figure("put-evict-auto")
def put_evict_auto() -> Iterator[Loop]:
    yield from evicting("auto")


@figure("put-grow")
def put_grow() -> Iterator[Loop]:
    def loop() -> None:
        cache: FlexCache[str, int] = FlexCache()
        for key in NEW:
            cache[key] = 1

    yield loop, OPERATIONS


@figure("get-ttl")
def get_ttl() -> Iterator[Loop]:
    yield over(full(default_ttl=3600).get, ORDER)


@figure("put-ttl")
def put_ttl() -> Iterator[Loop]:
    put = full().put
    yield over(lambda key: put(key, 1, ttl=3600), ORDER)


@figure("put-tagged")
def put_tagged() -> Iterator[Loop]:
    put = full().put
    yield over(lambda key: put(key, 1, tags=("one", "other")), ORDER)


@figure("delete-put")
def delete_put() -> Iterator[Loop]:
    cache = full()

    def loop() -> None:
        for key in KEYS:
            del cache[key]
            cache[key] = 1

    yield loop, ENTRIES


@figure("iterate")
def iterate() -> Iterator[Loop]:
    cache = full()
    yield lambda: list(cache.entries()), ENTRIES


@figure("memoized")
def memoized() -> Iterator[Loop]:
    function = flexcache_rs.memoize(max_items=ENTRIES)(lambda key: key)
    for key in KEYS:
        function(key)
    yield over(function, ORDER)


@figure("memoized-keyword")
def memoized_keyword() -> Iterator[Loop]:
    function = flexcache_rs.memoize(max_items=ENTRIES)(lambda key, other=0: key)
    for key in KEYS:
        function(key, other=1)
    yield over(lambda key: function(key, other=1), ORDER)


@figure("lru_cache")
def lru_cache() -> Iterator[Loop]:
    function = flexcache_rs.lru_cache(maxsize=ENTRIES)(lambda key: key)
    for key in KEYS:
        function(key)
    yield over(function, ORDER)


@figure("get_or_set")
def get_or_set() -> Iterator[Loop]:
    call = full().get_or_set
    yield over(lambda key: call(key, int), ORDER)


@contextmanager
def directory(entries: int = 1000, **options: Any) -> Iterator[Any]:
    """Make a cache on disk with this number of entries."""
    with tempfile.TemporaryDirectory() as path, on_disk.Cache(path, **options) as cache:
        with cache.transact():
            for key in KEYS[:entries]:
                cache[key] = b"x" * 256
        yield cache


def hits_in_front(entries: int, operations: int = OPERATIONS, **options: Any) -> Iterator[Loop]:
    """Hits in memory in front of a cache on disk, each of which makes sure that no process has written since."""
    with directory(entries, **options) as store:
        cache: FlexCache[Any, Any] = FlexCache(store=store)
        keys = KEYS[:entries]
        for key in keys:
            cache.get(key)
        yield over(cache.get, random.choices(keys, k=operations))


def hits_in_memory(entries: int) -> Iterator[Loop]:
    """Hits without a store, for comparison with hits in front of one. Keys and values are the same."""
    cache: FlexCache[Any, Any] = FlexCache()
    keys = KEYS[:entries]
    for key in keys:
        # A new object for each key, like those from a store.
        cache[key] = bytes(256)
    yield over(cache.get, random.choices(keys, k=OPERATIONS))


@figure("memory-hit")
def memory_hit() -> Iterator[Loop]:
    yield from hits_in_memory(1000)


@figure("memory-hit-10000")
def memory_hit_10000() -> Iterator[Loop]:
    yield from hits_in_memory(10_000)


@figure("store-hit")
def store_hit() -> Iterator[Loop]:
    yield from hits_in_front(1000)


@figure("store-hit-10000")
def store_hit_10000() -> Iterator[Loop]:
    yield from hits_in_front(10_000)


@figure("store-hit-network")
def store_hit_network() -> Iterator[Loop]:
    """Without a shared log, a hit reads the version of the database."""
    yield from hits_in_front(1000, 1000, network=True)


@figure("disk-set")
def disk_set() -> Iterator[Loop]:
    with directory() as cache:
        yield over(lambda key: cache.set(key, b"y" * 256), NEW[:WRITES])


@figure("disk-get")
def disk_get() -> Iterator[Loop]:
    with directory() as cache:
        yield over(cache.get, KEYS[:1000])


@figure("disk-delete")
def disk_delete() -> Iterator[Loop]:
    with directory() as cache:

        def loop() -> None:
            for key in NEW[:WRITES]:
                cache[key] = 1
                del cache[key]

        yield loop, WRITES


@figure("disk-incr")
def disk_incr() -> Iterator[Loop]:
    with directory() as cache:
        yield over(cache.incr, ["counter"] * WRITES)


@figure("disk-transaction")
def disk_transaction() -> Iterator[Loop]:
    with directory() as cache:

        def loop() -> None:
            with cache.transact():
                for key in NEW[:1000]:
                    cache.set(key, b"y" * 256)

        yield loop, 1000


def measure(name: str) -> float:
    """Return the nanoseconds of an operation."""
    generator = FIGURES[name]()
    loop, operations = next(generator)
    loop()
    # Use wall-clock time for figures that wait for the disk. Elsewhere other programs must not count.
    clock = perf_counter_ns if name.startswith("disk") else thread_time_ns
    fastest = min(timed(loop, clock) for _ in range(REPEATS))
    generator.close()
    return fastest / operations


def timed(loop: Callable[[], object], clock: Callable[[], int]) -> int:
    """Return the nanoseconds of one loop, with the garbage collector off."""
    gc.collect()
    gc.disable()
    start = clock()
    loop()
    elapsed = clock() - start
    gc.enable()
    return elapsed


if __name__ == "__main__":
    figures = {name: measure(name) for name in sys.argv[1:]}
    print(json.dumps({"at": flexcache_rs.__file__, "names": list(FIGURES), "figures": figures}))
