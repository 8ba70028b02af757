"""Memoized functions under eight threads: results are right, nothing is lost, nothing hangs."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from flexcache_rs import FlexCache, _core, cache, lru_cache, memoize
from flexcache_rs.testing import check

DECORATORS: dict[str, Callable[[Any], Any]] = {
    "lru_cache": lru_cache(maxsize=50),
    "lru_cache, typed": lru_cache(maxsize=50, typed=True),
    "cache": cache,
    "memoize": memoize(max_items=50),
    "memoize, ttl": memoize(max_items=50, ttl=0.001),
    "memoize, soft_ttl": memoize(max_items=50, soft_ttl=0.001, stale_if_error=1, ttl=0.002),
    "memoize, shards": memoize(max_items=64, shards=4),
    "memoize, shared": FlexCache("lfu", max_items=50).memoize,
}


def in_threads(work: Callable[[random.Random], None], count: int = 8) -> None:
    """Runs `work` in many threads, and raises what one of them raised."""
    errors: list[BaseException] = []
    together = threading.Barrier(count)

    def run(seed: int) -> None:
        together.wait()
        try:
            work(random.Random(seed))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


class Key:
    """Collides, switches threads while it is compared, and now and then raises."""

    def __init__(self, number: int, failing: bool) -> None:
        self.number = number
        self.failing = failing

    def __hash__(self) -> int:
        return self.number % 5

    def __eq__(self, other: object) -> bool:
        if self.failing:
            raise LookupError("no comparison")
        sys.getswitchinterval()
        return isinstance(other, Key) and self.number == other.number


@pytest.mark.parametrize("how", DECORATORS)
def test_results_are_right(how: str) -> None:
    """Whatever is evicted, refreshed or computed at the same time."""

    @DECORATORS[how]
    def square(number: int, *, offset: int = 0) -> tuple[int, int]:
        return number * number + offset, offset

    def work(chance: random.Random) -> None:
        for _ in range(3000):
            number, offset = chance.randrange(100), chance.randrange(3)
            if offset:
                assert square(number, offset=offset) == (number * number + offset, offset)
            else:
                assert square(number) == (number * number, 0)
            if chance.random() < 0.01 and hasattr(square, "invalidate"):
                square.invalidate(number)

    in_threads(work)
    check(vars(_core.Memoized)["cache"].__get__(square))


@pytest.mark.parametrize("how", ["lru_cache", "memoize", "memoize, shards"])
def test_hostile_arguments(how: str) -> None:
    """An exception of a comparison reaches its caller, and nobody else is hurt by it."""

    @DECORATORS[how]
    def number_of(key: Key, other: int) -> int:
        return key.number + other

    def work(chance: random.Random) -> None:
        for _ in range(300):
            key = Key(chance.randrange(40), chance.random() < 0.02)
            with suppress(LookupError):
                assert number_of(key, 1) == key.number + 1

    in_threads(work)


def test_instances_come_and_go() -> None:
    """While others are being called; nothing of them stays."""

    class Thing:
        @memoize(max_items=1000)
        def double(self, number: int) -> int:
            return 2 * number

    def work(chance: random.Random) -> None:
        things = [Thing() for _ in range(10)]
        for _ in range(1000):
            at = chance.randrange(10)
            if chance.random() < 0.1:
                things[at] = Thing()
            number = chance.randrange(5)
            assert things[at].double(number) == 2 * number

    in_threads(work)
    gc.collect()
    assert len(Thing.double.cache) == 0
    assert not Thing.double._instances


def test_threads_and_loops_in_a_shared_cache() -> None:
    """Eight threads, half of them with event loops, load the same few keys."""
    shared: FlexCache[int, int] = FlexCache(max_items=5)

    def work(chance: random.Random) -> None:
        async def load(key: int) -> int:
            await asyncio.sleep(0)
            return key

        async def main() -> None:
            for _ in range(100):
                keys = [chance.randrange(10) for _ in range(5)]
                found = await asyncio.gather(*(shared.aget_or_set(key, lambda key=key: load(key)) for key in keys))
                assert found == keys

        if chance.random() < 0.5:
            asyncio.run(main())
        else:
            for _ in range(500):
                key = chance.randrange(10)
                assert shared.get_or_set(key, lambda key=key: key) == key

    in_threads(work)
    assert not _core._loads_in_progress(shared)
    check(shared)


def test_results_are_given_back() -> None:
    """A memoized function that goes takes its results along; no call keeps any."""

    class Result:
        pass

    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def make(number: int) -> Result:
        result = Result()
        alive.add(result)
        return result

    for decorate in DECORATORS.values():
        function = decorate(make)
        for number in range(100):
            function(number)
            function(number)
            function(number) if number % 2 else function(number=number)
        del function
    gc.collect()
    shared = sum(1 for _ in alive)
    assert shared <= 50, "only the shared cache is left"
