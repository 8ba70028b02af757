"""Removed entries leave nothing behind: no memory, no references, no arguments of hooks."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import logging
import random
import sys
import sysconfig
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import flexcache_rs
from flexcache_rs import FlexCache
from flexcache_rs.testing import advance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class Unequal:
    """A key whose comparison raises at random."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return self.number % 5

    def __eq__(self, other: object) -> bool:
        if self.number % 17 == 3:
            raise LookupError
        return self is other


class Value:
    """A value with hooks."""

    def item_size(self) -> int:
        return 2

    def close(self) -> None:
        pass


class Refusing(Value):
    """A value that is never stored."""

    def item_size(self) -> int:
        return -1


def everything(cache: Any, draw: random.Random, value: object, sentinel: object) -> None:
    """Make a random call, which may fail."""
    key: Any = draw.choice([draw.randrange(300), f"key {draw.randrange(300)}", (draw.randrange(300), "x")])
    ttl = draw.choice([None, None, 5, "never"])
    calls: list[Callable[[], Any]] = [
        lambda: cache.get(key, sentinel),
        lambda: cache.get(key=key, default=sentinel),
        lambda: cache[key],
        lambda: cache.put(key, value, ttl),
        lambda: cache.put(key, value=value, ttl=ttl),
        lambda: cache.put(key, Value(), ttl=ttl),
        lambda: cache.__setitem__(key, value),
        lambda: cache.set(key, value),
        lambda: cache.add(key, value),
        lambda: cache.put(key, Refusing()),
        lambda: cache.put([], value),
        lambda: cache.get([], value),
        lambda: cache.get(key, value, value),
        lambda: cache.get(nonsense=value),
        lambda: cache.put(Unequal(draw.randrange(100)), value),
        lambda: cache.delete(key),
        lambda: cache.__delitem__(key),
        lambda: cache.pop(key),
        lambda: cache.pop(key, sentinel),
        lambda: cache.popitem(),
        lambda: cache.touch(key, ttl),
        lambda: cache.ttl(key),
        lambda: cache.set_many({key: value, "a": value}, ttl),
        lambda: cache.get_many([key, "a", "b"]),
        lambda: cache.delete_many([key, "b"]),
        lambda: key in cache,
        lambda: next(iter(cache.entries()), None),
        lambda: (cache.stats(), cache.keys(), cache.items, cache.bytes, repr(cache)),
    ]
    with suppress(KeyError, TypeError, ValueError, LookupError):
        draw.choice(calls)()


@pytest.mark.parametrize("shards", [1, 4])
def test_references_are_given_back(policy: str, shards: int) -> None:
    """After many calls of all kinds and a clear, every object has the references it had before."""
    value, sentinel, draw = object(), object(), random.Random(policy)
    cache: FlexCache[Any, Any] = FlexCache(policy, max_items=100, max_bytes=150, shards=shards)
    watched = [value, sentinel, None, "a", FlexCache, Value, cache]
    before: list[int] = []
    for round_ in range(2):
        for step in range(6000):
            everything(cache, draw, value, sentinel)
            if step % 500 == 0:
                advance(6)
        cache.clear()
        gc.collect()
        if round_ == 0:
            before = [sys.getrefcount(object_) for object_ in watched]
    after = [sys.getrefcount(object_) for object_ in watched]
    for object_, was, now in zip(watched, before, after, strict=True):
        assert abs(now - was) < 50, f"{object_!r} had {was} references and has {now}"


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_million_operations_leave_the_memory_where_it_was(policy: str) -> None:
    """Entries come and go; blocks and resident memory do not grow."""
    cache: FlexCache[Any, Any] = FlexCache(policy, max_items=5000)

    def round_(first: int) -> None:
        for key in range(first, first + 125_000):
            cache.put(key, key, 3600 if key % 10 == 0 else None)
            cache.get(key - 100)

    round_(0)
    gc.collect()
    blocks, memory = sys.getallocatedblocks(), resident()
    for first in range(125_000, 500_000, 125_000):
        round_(first)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 2000
    assert resident() - memory < 4 * 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_caches_come_and_go() -> None:
    """A thousand caches are filled and dropped, some of them in reference cycles."""

    def make(cyclic: bool) -> None:
        cache: FlexCache[Any, Any] = FlexCache(max_items=1000, background_expiry=True, default_ttl=3600)
        cache.set_many({key: str(key) for key in range(300)})
        if cyclic:
            cache["self"] = cache

    def many() -> None:
        for number in range(200):
            make(number % 2 == 0)
        gc.collect()

    many()
    blocks, memory = sys.getallocatedblocks(), resident()
    for _ in range(5):
        many()
    assert sys.getallocatedblocks() - blocks < 2000
    assert resident() - memory < 4 * 2**20


def test_clear_gives_the_memory_back() -> None:
    """After clear(), the memory of an unbounded cache is free again."""
    cache: FlexCache[Any, Any] = FlexCache()
    empty = sys.getsizeof(cache)
    cache.set_many({key: key for key in range(100_000)})
    full = sys.getsizeof(cache)
    cache.clear()
    assert full > 3_000_000
    assert sys.getsizeof(cache) < empty + 100_000


def rarer_things(draw: random.Random, value: object) -> None:
    """Make a cache, and use one of its rarer features."""
    told: list[Any] = []

    class Policy:
        """A first-in-first-out policy with every possible fault."""

        def __init__(self) -> None:
            self.order: dict[Any, None] = {}
            self.fault = draw.choice(["on_insert", "on_access", "on_remove", "victim", "name", None])

        def on_insert(self, key: Any) -> None:
            if self.fault == "on_insert" and len(self.order) > 2:
                raise LookupError
            self.order[key] = None

        def on_access(self, key: Any) -> None:
            if self.fault == "on_access":
                raise LookupError

        def on_remove(self, key: Any) -> None:
            self.order.pop(key, None)
            if self.fault == "on_remove":
                raise LookupError

        def victim(self) -> Any:
            if self.fault == "victim":
                raise LookupError
            return [] if self.fault == "name" else next(iter(self.order))

    cache: FlexCache[Any, Any] = FlexCache(
        draw.choice([Policy(), "lru", "lfu"]), max_items=4, on_evict=lambda *leaver: told.append(leaver), default_ttl=60
    )
    for number in range(10):
        with suppress(RuntimeError):
            cache[number, "key"] = value
        with suppress(RuntimeError):
            cache.get((number - 1, "key"))
    uses: list[Callable[[], Any]] = [
        lambda: cache.pop((9, "key")),
        lambda: cache.popitem(),
        lambda: cache.copy().clear(),
        lambda: copy.deepcopy(cache),
        lambda: next(iter(cache.values())),
        lambda: value in cache.values(),
        lambda: repr(cache.entries()),
        lambda: cache.resize(max_items=1),
        lambda: cache.__setstate__(([(1, value)], None)),
        lambda: cache.__setstate__(([(1, value, None, 0)], None)),
        lambda: FlexCache("lru", on_evict=value),  # type: ignore[arg-type]
        lambda: FlexCache(value),  # type: ignore[arg-type]
        lambda: cache.set_many([(1, value), value]),  # type: ignore[list-item]
        lambda: cache.__exit__(None, None, None),
    ]
    with suppress(RuntimeError, LookupError, TypeError, ValueError):
        draw.choice(uses)()


@pytest.fixture
def no_records() -> Iterator[None]:
    """Switch logging off, because pytest keeps log records. The library caches the level until it is reset."""
    logger = logging.getLogger("flexcache_rs")
    logger.disabled = True
    flexcache_rs.reset_logging()
    yield
    logger.disabled = False
    flexcache_rs.reset_logging()


@pytest.mark.usefixtures("no_records")
def test_references_of_rarer_things_are_given_back() -> None:
    """The calls cover policies in Python and their faults, listeners, copies, views, states, and refused arguments."""
    value, draw = object(), random.Random(3)
    watched = [value, None, FlexCache, LookupError]
    before: list[int] = []
    blocks: list[int] = []
    for round_ in range(5):
        for _ in range(400):
            rarer_things(draw, value)
        gc.collect()
        blocks.append(sys.getallocatedblocks())
        if round_ == 2:
            before = [sys.getrefcount(object_) for object_ in watched]
    for object_, was in zip(watched, before, strict=True):
        assert abs(sys.getrefcount(object_) - was) < 50, f"{object_!r} had {was} references"
    if sysconfig.get_config_var("Py_GIL_DISABLED") and sys.version_info < (3, 14):
        # On this build, functions and classes are immortal after the process has had a second thread.
        return
    # A leak grows with every round, unlike memory that the allocator keeps for later.
    assert min(later - sooner for sooner, later in itertools.pairwise(blocks)) < 100


def test_values_that_are_awaited_are_given_back() -> None:
    """Tasks, coroutines and loops are freed after the hook, in the background and on a loop."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    class Awaited:
        def __init__(self, cache: Any) -> None:
            self.cache = cache
            alive.add(self)

        async def aclose(self) -> None:
            await asyncio.sleep(0)
            if draw.random() < 0.2:
                raise LookupError("lost")

    draw = random.Random(4)

    async def main() -> None:
        async with FlexCache[Any, Any](max_items=2) as cache:
            for number in range(50):
                cache[number] = Awaited(cache)

    asyncio.run(main())
    with FlexCache[Any, Any](max_items=2) as cache:
        for number in range(50):
            cache[number] = Awaited(cache)
    del cache
    gc.collect()
    assert len(alive) == 0
