"""User code that runs in the middle of a call, and uses the same cache."""

from __future__ import annotations

import gc
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.testing import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from specimens import MakeCache


class Key:
    """A key that hashes like all the others and does something when compared."""

    during_eq: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, name: object) -> None:
        self.name = name

    def __hash__(self) -> int:
        return 42

    def __eq__(self, other: object) -> bool:
        Key.during_eq()
        return isinstance(other, Key) and self.name == other.name

    def __repr__(self) -> str:
        return f"Key({self.name!r})"


@pytest.fixture
def cache(make_cache: MakeCache, policy: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cache with some keys that all collide."""
    cache = make_cache(policy, max_items=8)
    monkeypatch.setattr(Key, "during_eq", staticmethod(lambda: None))
    for name in range(6):
        cache[Key(name)] = name
    yield cache
    Key.during_eq = staticmethod(lambda: None)
    names = [key.name for key in cache if isinstance(key, Key)]
    assert len(names) == len(set(names)), "a key is there twice"


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "get": lambda cache, key: cache.get(key),
    "peek": lambda cache, key: cache.peek(key),
    "subscript": lambda cache, key: cache[key],
    "contains": lambda cache, key: key in cache,
    "put": lambda cache, key: cache.put(key, "new"),
    "assign": lambda cache, key: cache.__setitem__(key, "new"),
    "set": lambda cache, key: cache.set(key, "new"),
    "add": lambda cache, key: cache.add(key, "new"),
    "delete": lambda cache, key: cache.delete(key),
    "del": lambda cache, key: cache.__delitem__(key),
    "pop": lambda cache, key: cache.pop(key, None),
    "touch": lambda cache, key: cache.touch(key, 60),
    "ttl": lambda cache, key: cache.ttl(key),
    "get_many": lambda cache, key: cache.get_many([key]),
    "set_many": lambda cache, key: cache.set_many([(key, "new")]),
    "delete_many": lambda cache, key: cache.delete_many([key]),
    "view": lambda cache, key: key in cache.keys(),
}
INTERFERENCES: dict[str, Callable[[Any], Any]] = {
    "get": lambda cache: cache.get(Key(1)),
    "put": lambda cache: cache.put(Key(3), "meanwhile"),
    "put new": lambda cache: cache.put(object(), 1),
    "put colliding": lambda cache: cache.put(Key(random.random()), 1),
    "delete": lambda cache: cache.delete(Key(3)),
    "clear": lambda cache: cache.clear(),
    "popitem": lambda cache: len(cache) and cache.popitem(),
    "resize": lambda cache: (cache.resize(max_items=2), cache.resize(max_items=8)),
    "iterate": lambda cache: list(cache.entries()),
    "copy": lambda cache: cache.copy(),
    "collect": lambda cache: gc.collect(0),
    "scan": lambda cache: cache.scan(),
    "sleep": lambda cache: time.sleep(0),
}


@pytest.mark.in_turn("interference", "policy")
@pytest.mark.parametrize("interference", INTERFERENCES)
@pytest.mark.parametrize("call", CALLS)
def test_equality_that_uses_the_cache(cache: Any, call: str, interference: str) -> None:
    """Every call survives every other call in the middle of it. It succeeds, or raises the reason why it gave up."""
    calls = 0

    def during_eq() -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 1:
            outer, Key.during_eq = Key.during_eq, staticmethod(lambda: None)
            try:
                INTERFERENCES[interference](cache)
            finally:
                Key.during_eq = staticmethod(outer)

    for name in (3, 5, "absent"):
        Key.during_eq = staticmethod(during_eq)
        try:
            CALLS[call](cache, Key(name))
        except KeyError:
            assert call in {"subscript", "del", "ttl", "set"}
        except RuntimeError:
            # With new colliding keys at every comparison, the lookup gives up instead of going on for ever.
            assert interference == "put colliding"
        Key.during_eq = staticmethod(lambda: None)
        check(cache)
        assert len(cache) <= 8


@pytest.mark.parametrize("call", CALLS)
def test_equality_that_raises_changes_nothing(cache: Any, call: str) -> None:
    """The caller gets the exception. Contents, order and statistics are unchanged."""

    def fail() -> None:
        raise LookupError("no comparison")

    before = ([key.name for key in cache], list(cache.values()), cache.stats())
    Key.during_eq = staticmethod(fail)
    with pytest.raises(LookupError, match="no comparison"):
        CALLS[call](cache, Key("absent"))
    Key.during_eq = staticmethod(lambda: None)
    assert ([key.name for key in cache], list(cache.values()), cache.stats()) == before


@pytest.mark.parametrize("call", CALLS)
def test_a_hash_that_raises_changes_nothing(cache: Any, call: str) -> None:
    """The caller gets the exception. Contents, order and statistics are unchanged."""

    class Unhashable(Key):
        def __hash__(self) -> int:
            raise LookupError("no hash")

    before = ([key.name for key in cache], list(cache.values()), cache.stats())
    with pytest.raises(LookupError, match="no hash"):
        CALLS[call](cache, Unhashable(3))
    assert ([key.name for key in cache], list(cache.values()), cache.stats()) == before


def test_a_truth_that_raises_or_uses_the_cache(make_cache: MakeCache) -> None:
    """The result of __eq__ may have a __bool__ method."""
    cache = make_cache()

    class Answer:
        failing = True

        def __bool__(self) -> bool:
            if self.failing:
                raise LookupError("no truth")
            cache.clear()
            return True

    class Asked:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> Any:
            return Answer()

    cache[Asked()] = "old"
    with pytest.raises(LookupError, match="no truth"):
        cache[Asked()] = "new"
    assert list(cache.values()) == ["old"]
    Answer.failing = False
    cache[Asked()] = "new"
    assert list(cache.values()) == ["new"]


def test_a_hash_that_changes(make_cache: MakeCache, policy: str) -> None:
    """As in a dict, a key whose hash has changed is not found. It can still be evicted."""
    cache = make_cache(policy, max_items=3)
    key = Key("changing")
    cache[key] = "lost"
    Key.__hash__, before = lambda self: 43, Key.__hash__  # type: ignore[method-assign]
    try:
        assert key not in cache
        cache[key] = "found"
        assert sorted(cache.values()) == ["found", "lost"]
        check(cache)
        for number in range(10):
            cache[number] = number
        assert len(cache) == 3
        cache.clear()
        assert len(cache) == 0
    finally:
        Key.__hash__ = before  # type: ignore[method-assign]


def test_equality_that_says_something_else_than_a_bool(make_cache: MakeCache) -> None:
    """The truth value of the result counts, as everywhere in Python. NotImplemented falls back to identity."""

    class Odd:
        def __init__(self, answer: Any) -> None:
            self.answer = answer

        def __hash__(self) -> int:
            return 7

        def __eq__(self, other: object) -> Any:
            return self.answer

    cache = make_cache()
    truthy, falsy, neither = Odd([1]), Odd([]), Odd(NotImplemented)
    cache[neither] = 1
    assert falsy not in cache
    assert truthy in cache
    assert neither in cache
    assert Odd(NotImplemented) not in cache


def test_a_key_that_equals_and_then_vanishes(make_cache: MakeCache) -> None:
    """A key that compared equal and was removed meanwhile is stored again, once."""
    cache = make_cache()

    class Vanishing:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            cache.clear()
            return True

    cache[Vanishing()] = "old"
    cache[Vanishing()] = "new"
    assert list(cache.values()) == ["new"]


def test_a_hash_that_uses_the_cache(make_cache: MakeCache) -> None:
    """The hash is computed before anything is locked."""
    cache = make_cache(max_items=3)

    class Hashing:
        def __hash__(self) -> int:
            cache["inner"] = cache.get("inner", 0) + 1
            cache.delete("inner")
            return 5

    key = Hashing()
    cache[key] = 1
    assert cache[key] == 1
    assert key in cache
    assert len(cache) == 1


def test_destructors_that_use_the_cache(make_cache: MakeCache, policy: str) -> None:
    """Values and keys are dropped while no lock is held."""
    cache, runs = make_cache(policy, max_items=5), 0

    class Resurrecting:
        def __init__(self, depth: int) -> None:
            self.depth = depth

        def __del__(self) -> None:
            nonlocal runs
            runs += 1
            cache.get(1)
            len(cache)
            if self.depth:
                cache[Resurrecting(0)] = Resurrecting(self.depth - 1)

    for number in range(200):
        cache[number % 7] = Resurrecting(number % 3)
        cache[Resurrecting(1)] = number
    cache.clear()
    cache.clear()
    gc.collect()
    assert runs > 400


def test_hooks_that_use_the_cache(make_cache: MakeCache, policy: str) -> None:
    """A listener may store, remove, clear and resize. Each removal is reported once."""
    told: list[Any] = []

    def listener(key: Any, value: Any, reason: str) -> None:
        told.append(key)
        if isinstance(key, int) and len(told) < 500:
            cache.put(("again", key), value)
            cache.delete(("again", key - 2))
            cache.get(key)
            if key % 50 == 0:
                cache.clear()

    cache = make_cache(policy, max_items=10, on_evict=listener)
    for number in range(200):
        cache[number] = number
    cache.clear()
    numbers = [key for key in told if isinstance(key, int)]
    assert sorted(numbers) == list(range(200))


def test_sizes_that_use_the_cache(make_cache: MakeCache) -> None:
    """item_size runs before the entry is stored."""
    cache = make_cache(max_bytes=100)

    class Nosy:
        def item_size(self) -> int:
            cache["inner"] = 1
            return cache.bytes + 1

        def close(self) -> None:
            cache["closed"] = 1

    cache["a"] = Nosy()
    assert cache.bytes == 3
    del cache["a"]
    assert set(cache) == {"inner", "closed"}


def test_a_long_chain_of_values_that_close_each_other(make_cache: MakeCache) -> None:
    """A chain of a thousand nested caches is freed without exhausting the stack."""
    outer = make_cache()
    inner = outer
    for _ in range(1000):
        inner["next"] = type(inner)()
        inner = inner["next"]
    del inner
    outer.clear()
    assert len(outer) == 0


def test_another_thread_while_equality_runs(make_cache: MakeCache) -> None:
    """No lock is held: another thread can use the cache while this one compares."""
    cache, done = make_cache(), threading.Event()

    def use() -> None:
        cache["other"] = 1
        cache.get("other")
        len(cache)
        done.set()

    class Waiting:
        def __hash__(self) -> int:
            return 3

        def __eq__(self, other: object) -> bool:
            threading.Thread(target=use).start()
            assert done.wait(30), "the other thread is locked out"
            return True

    cache[Waiting()] = 1
    assert cache[Waiting()] == 1
    assert cache["other"] == 1


def test_a_value_that_puts_itself_back(make_cache: MakeCache, policy: str) -> None:
    """It stores itself under the same key again. It is closed as often as it is removed."""
    cache = make_cache(policy, max_items=2)

    class Clinging:
        closed = 0

        def close(self) -> None:
            self.closed += 1
            if self.closed < 4:
                cache["key"] = self

    value = Clinging()
    cache["key"] = value
    cache["key"] = "other"
    assert (value.closed, cache["key"]) == (1, value)
    cache.delete("key")
    assert (value.closed, cache["key"]) == (2, value)
    cache.clear()
    assert (value.closed, cache["key"]) == (3, value)
    cache.close()
    assert (value.closed, len(cache)) == (4, 0)


def test_keys_and_mappings_that_use_the_cache_as_they_are_read(make_cache: MakeCache) -> None:
    """Calls with many entries read them while no lock is held, and propagate exceptions."""
    cache = make_cache(max_items=5)

    def reading(item: Callable[[int], Any]) -> Any:
        for number in range(20):
            cache[("meanwhile", number)] = number
            if number == 10:
                cache.clear()
            if number == 15:
                raise LookupError("no more")
            yield item(number)

    for call, item in (
        (cache.get_many, lambda number: number),
        (cache.delete_many, lambda number: number),
        (cache.set_many, lambda number: (number, number)),
    ):
        with pytest.raises(LookupError, match="no more"):
            call(reading(item))
        check(cache)
        assert set(cache) <= {("meanwhile", number) for number in range(20)}
    cache.set_many(cache)
    assert cache.delete_many(cache) == 5
    assert len(cache) == 0


def test_comparing_values_that_use_the_cache(make_cache: MakeCache) -> None:
    """`in` on views compares values while no lock is held."""
    cache = make_cache()

    class Value:
        def __eq__(self, other: object) -> bool:
            cache.clear()
            return False

        __hash__ = None  # type: ignore[assignment]

    for view in (cache.values(), cache.entries()):
        cache.set_many({number: Value() for number in range(10)})
        assert Value() not in view
        assert (3, Value()) not in view
        cache.clear()
