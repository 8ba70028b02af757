"""The garbage collector, and destructors at odd moments."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache
from flexcache_rs._core import AwaitedBlock

if TYPE_CHECKING:
    from collections.abc import Generator


class Node:
    """An object that supports weak references."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class OwnPolicy:
    """First in, first out, with room for a reference."""

    def __init__(self) -> None:
        self.order: dict[Any, None] = {}

    def on_insert(self, key: Any) -> None:
        self.order[key] = None

    def on_access(self, key: Any) -> None:
        pass

    def on_remove(self, key: Any) -> None:
        self.order.pop(key, None)

    def victim(self) -> Any:
        return next(iter(self.order))


class Subclass(FlexCache[Any, Any]):
    """A subclass, with a dict."""


class Slotted(FlexCache[Any, Any]):
    """A subclass without one."""

    __slots__ = ()


class WithDestructor(FlexCache[Any, Any]):
    """A subclass with a destructor that does not call the cache's."""

    def __del__(self) -> None:
        pass


class Mixed(Node, Slotted):
    """A subclass with a second base."""


def through_a_value() -> Any:
    cache: FlexCache[Any, Any] = FlexCache()
    cache["node"] = Node(cache=cache)
    return cache["node"]


def through_a_key() -> Any:
    cache: FlexCache[Any, Any] = FlexCache()
    node = Node(cache=cache)
    cache[node] = 1
    return node


def through_the_listener() -> Any:
    node = Node()
    node.cache = FlexCache(on_evict=lambda *_: node)
    return node


def through_the_policy() -> Any:
    policy = OwnPolicy()
    cache: FlexCache[Any, Any] = FlexCache(policy)
    policy.cache = cache  # type: ignore[attr-defined]
    cache["a"] = Node()
    return cache["a"]


def through_an_attribute() -> Any:
    cache = Subclass()
    cache.node = Node(cache=cache)  # type: ignore[attr-defined]
    return cache.node  # type: ignore[attr-defined]


def through_an_iterator() -> Any:
    cache: FlexCache[Any, Any] = FlexCache()
    cache["node"] = Node(iterator=iter(cache), view=cache.entries())
    return cache["node"]


def through_shards() -> Any:
    cache: FlexCache[Any, Any] = FlexCache(shards=16)
    node = Node(cache=cache)
    for number in range(100):
        cache[number] = node
    return node


@pytest.mark.parametrize(
    "make",
    [
        through_a_value,
        through_a_key,
        through_the_listener,
        through_the_policy,
        through_an_attribute,
        through_an_iterator,
        through_shards,
    ],
)
def test_cycles_are_collected(make: Any) -> None:
    """A cycle through any part of a cache is collected."""
    alive = weakref.ref(make())
    gc.collect()
    assert alive() is None


def test_the_collector_sees_what_a_cache_holds() -> None:
    """The garbage collector visits keys, values and callbacks."""
    key, value, listener = Node(), Node(), Node(__call__=None)
    cache: FlexCache[Any, Any] = FlexCache(on_evict=lambda *_: listener)
    cache[key] = value
    referents = gc.get_referents(cache)
    assert key in referents
    assert value in referents
    assert gc.is_tracked(cache)


def test_hooks_run_before_a_cycle_is_taken_apart() -> None:
    """Each hook runs once, and finds all objects intact."""
    seen: list[Any] = []

    class Value:
        def __init__(self, cache: Any) -> None:
            self.cache = cache
            self.text = "whole"

        def close(self) -> None:
            seen.append((self.text, self.cache.get("other"), len(self.cache)))

    cache: FlexCache[Any, Any] = FlexCache()
    cache["value"], cache["other"] = Value(cache), 1
    del cache
    gc.collect()
    gc.collect()
    assert seen == [("whole", None, 0)]


def test_a_hook_may_bring_its_cache_back_to_life() -> None:
    """The resurrected cache is empty and works."""
    kept: list[Any] = []

    class Value:
        def __init__(self, cache: Any) -> None:
            self.cache = cache

        def close(self) -> None:
            kept.append(self.cache)

    cache: FlexCache[Any, Any] = FlexCache(max_items=2)
    cache["a"] = Value(cache)
    del cache
    gc.collect()
    (cache,) = kept
    cache["b"] = 1
    assert list(cache) == ["b"]


def test_collections_in_the_middle_of_everything() -> None:
    """A collection at almost every allocation does no harm."""
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        cache: FlexCache[Any, Any] = FlexCache("lfu", max_items=20)
        for number in range(2000):
            cache[(number % 50, str(number % 50))] = Node(cache=cache)
            cache.get((number % 7, str(number % 7)))
            if number % 100 == 0:
                list(cache.entries())
        assert len(cache) == 20
    finally:
        gc.set_threshold(*before)


def test_weak_references_to_a_cache() -> None:
    """Weak references to a cache die with it, and their callbacks are called."""
    called: list[Any] = []
    cache: FlexCache[Any, Any] = FlexCache()
    reference = weakref.ref(cache, called.append)
    assert reference() is cache
    del cache
    gc.collect()
    assert called == [reference]
    assert reference() is None


def test_a_subclass_with_a_destructor() -> None:
    """Its own __del__ runs, and the hooks as well."""
    log: list[str] = []

    class Value:
        def close(self) -> None:
            log.append("close")

    class WithDel(FlexCache[Any, Any]):
        def __del__(self) -> None:
            log.append(f"del {len(self)}")

    cache = WithDel()
    cache["a"] = Value()
    del cache
    gc.collect()
    assert log == ["del 1", "close"]


@pytest.mark.parametrize("in_cycle", [False, True])
@pytest.mark.parametrize("class_", [FlexCache, Subclass, Slotted, WithDestructor, Mixed])
def test_subclasses_close_their_values_too(class_: type[FlexCache[Any, Any]], in_cycle: bool) -> None:
    """Whatever kind of cache it was, and however it became garbage, each value is closed once."""
    closed: list[Any] = []
    told: list[Any] = []

    class Value:
        def close(self) -> None:
            closed.append(self)

    cache = class_(on_evict=lambda key, value, reason: told.append((key, reason)))
    cache["a"] = Value()
    if in_cycle:
        cache["self"] = cache
    del cache
    gc.collect()
    assert len(closed) == 1
    assert ("a", "closed") in told
    assert len(told) == 1 + in_cycle


def test_a_listener_that_stores_while_its_cache_ends() -> None:
    """Entries that the listener stores meanwhile are removed as well."""
    told: list[Any] = []

    def make() -> None:
        def listener(key: int, _value: Any, reason: str) -> None:
            told.append((key, reason))
            if key < 5:
                cache[key + 1] = None

        cache: FlexCache[Any, Any] = FlexCache(on_evict=listener)
        cache[0] = None

    make()
    gc.collect()
    assert told == [(key, "closed") for key in range(6)]


def test_an_iterator_outlives_its_cache() -> None:
    """An unfinished iterator keeps the keys alive, but not longer than itself."""
    key = Node()
    alive = weakref.ref(key)
    cache: FlexCache[Any, Any] = FlexCache()
    cache[0], cache[key] = 0, 1
    iterator = iter(cache.entries())
    next(iterator)
    cache.clear()
    del cache, key
    assert alive() is not None
    assert list(iterator) == []
    gc.collect()
    assert alive() is None


class Never:
    """Something that is awaited in vain."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class FailingBlock(AwaitedBlock):
    """A block whose end fails, and what is left after that waits."""

    def __init__(self) -> None:
        self.used: Any = None
        self.node = Node()

    def _before(self) -> None:
        pass

    async def _aenter(self) -> None:
        pass

    async def _aleave(self, _: bool) -> None:
        raise ValueError

    async def _aend(self, _: None) -> None:
        await Never()


def test_a_block_is_collected_with_the_exception_of_its_end() -> None:
    async def use(block: FailingBlock) -> None:
        async with block:
            pass

    block = FailingBlock()
    block.used = use(block)
    block.used.send(None)
    node = weakref.ref(block.node)
    del block
    gc.collect()
    assert node() is None
