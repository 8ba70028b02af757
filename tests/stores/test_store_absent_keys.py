"""Negative caching: that a store does not have a key is remembered, and is no entry otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_kinds import Complete, Dictionary, Kind

from flexcache_rs import FlexCache
from flexcache_rs.testing import advance, check

if TYPE_CHECKING:
    from collections.abc import Callable

    from store_process import OtherProcess

LONG = 1e6

COUNTED: dict[str, tuple[Callable[[], Any], Any]] = {
    "trusting": (Dictionary, None),
    "seconds": (Dictionary, LONG),
    "strict": (Complete, "strict"),
}


@pytest.fixture(params=COUNTED)
def counted(request: pytest.FixtureRequest) -> tuple[FlexCache[Any, Any], Any]:
    """A cache that remembers absent keys for a minute, and its store, which counts its loads."""
    make, coherence = COUNTED[request.param]
    store = make()
    return FlexCache(store=store, coherence=coherence, negative_ttl=60), store


def test_the_store_is_asked_once(counted: tuple[FlexCache[Any, Any], Any]) -> None:
    """By whatever reads; each read counts as a miss."""
    cache, store = counted
    assert [cache.get("a"), cache.get("a", 0)] == [None, 0]
    assert "a" not in cache
    assert cache.peek("a") is None
    assert cache.get_many(["a"]) == {}
    for read in (lambda: cache["a"], lambda: cache.ttl("a")):
        with pytest.raises(KeyError):
            read()
    assert store.loads == 1
    stats = cache.stats()
    assert (stats.hits, stats.misses) == (0, 4)
    advance(61)
    assert cache.get("a") is None
    assert store.loads == 2
    check(cache)


def test_without_it_the_store_is_asked_each_time() -> None:
    """The default."""
    for options in ({}, {"negative_ttl": None}, {"negative_ttl": 0}):
        store = Dictionary()
        cache: FlexCache[Any, Any] = FlexCache(store=store, coherence=None, **options)
        assert (cache.get("a"), cache.get("a")) == (None, None)
        assert store.loads == 2


def test_awaited_reads_ask_once(counted: tuple[FlexCache[Any, Any], Any]) -> None:
    """`aget_or_set` asks before it computes, and what it computes is found."""
    cache, store = counted
    cache.get("a")

    async def main() -> None:
        assert await cache.aget_or_set("a", lambda: 1) == 1
        assert await cache.aget_or_set("a", lambda: 2) == 1

    before = store.loads
    asyncio.run(main())
    assert store.loads == before
    assert cache["a"] == 1


WRITES: dict[str, Callable[[Any], Any]] = {
    "put": lambda cache: cache.put("a", 1),
    "set": lambda cache: cache.set("a", 1),
    "add": lambda cache: cache.add("a", 1),
    "item": lambda cache: cache.__setitem__("a", 1),
    "set_many": lambda cache: cache.set_many({"a": 1}),
    "get_or_set": lambda cache: cache.get_or_set("a", lambda: 1),
    "aget_or_set": lambda cache: asyncio.run(cache.aget_or_set("a", lambda: 1)),
}


@pytest.mark.parametrize("how", WRITES)
def test_a_write_ends_an_absence(kind: Kind, store: Any, how: str) -> None:
    """Of the cache, and of another one over the store object where caches notice those."""
    cache = kind.front(store, negative_ttl=LONG)
    for writer in (cache, kind.front(store)) if kind.notices else (cache,):
        assert (cache.get("a"), "a" in cache) == (None, False)
        WRITES[how](writer)
        assert "a" in cache
        assert (cache.get("a"), cache["a"]) == (1, 1)
        cache.delete("a")
    check(cache)


@pytest.mark.parametrize("coherence", [None, LONG])
def test_a_write_that_finds_an_entry_ends_an_absence(coherence: Any) -> None:
    """Whoever stored it, unseen; memoized functions find the nonce of another cache so."""
    store = Dictionary()
    cache: FlexCache[Any, Any] = FlexCache(store=store, coherence=coherence, negative_ttl=LONG)
    assert cache.get("a") is None
    store.save("a", 1, None, ())
    assert cache.get("a") is None
    assert cache.add("a", 2) is False
    assert cache.get("a") == 1


@pytest.mark.needs(tells=True)
def test_a_write_of_the_store_itself_ends_an_absence(kind: Kind, store: Any) -> None:
    """It is seen at once."""
    cache = kind.front(store, negative_ttl=LONG)
    assert cache.get("a") is None
    kind.write(store, "a", 1)
    assert cache.get("a") == 1


@pytest.mark.needs(shared=True, lags=True)
def test_another_process_ends_an_absence(kind: Kind, store: Any, other: OtherProcess) -> None:
    """With strict coherence at the next read; with a number of seconds after these, or after negative_ttl."""
    strict, bound = kind.front(store, negative_ttl=LONG), kind.front(store, negative_ttl=LONG, coherence=30)
    short = kind.front(store, negative_ttl=30, coherence=LONG)
    for cache in (strict, bound, short):
        assert (cache.get("a"), "a" in cache) == (None, False)
    other.ask("write", "a", "theirs")
    assert (strict.get("a"), bound.get("a"), short.get("a")) == ("theirs", None, None)
    advance(31)
    assert (strict.get("a"), bound.get("a"), short.get("a")) == ("theirs",) * 3


def test_it_is_no_entry() -> None:
    """Neither in length and iteration, nor to listeners, hooks, tags, copies and pickles."""
    told: list[Any] = []
    cache: FlexCache[Any, Any] = FlexCache(
        max_items=8,
        store=FlexCache(),
        coherence=None,
        negative_ttl=60,
        on_evict=lambda *entry: told.append(entry),
        background_expiry=True,
    )
    cache.listen(lambda *event: told.append(event), "hit", "insert", "update", "evict", "expire", "remove")
    for number in range(20):
        assert cache.get(number) is None
    assert (len(cache), cache.items, cache.bytes) == (0, 0, 0)
    assert list(cache) == list(cache.keys()) == list(cache.values()) == list(cache.entries()) == []
    assert cache.evict_tag("any") == 0
    advance(61)
    cache.scan()
    with pytest.raises(KeyError):
        cache.popitem()
    cache.clear()
    assert told == []
    stats = cache.stats()
    assert (stats.evictions, stats.expirations, stats.removals, stats.insertions) == (0, 0, 0, 0)
    check(cache)


def test_copies_and_pickles_remember_their_own() -> None:
    """They have the option, and none of the keys."""
    cache: FlexCache[Any, Any] = FlexCache(store=FlexCache(), coherence=None, negative_ttl=60)
    assert cache.get("a") is None
    for each in (copy.copy(cache), copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert len(each) == 0
        each.store["a"] = 1
        assert each.get("a") == 1
        assert each.get("b") is None
        # Behind its back.
        each.store["b"] = 1
        assert each.get("b") is None
        del each.store["a"], each.store["b"]


def test_it_takes_a_place() -> None:
    """Up to a quarter of them is taken from entries, and any entry takes it back."""
    store = Dictionary()
    cache: FlexCache[Any, Any] = FlexCache(max_items=8, store=store, coherence=None, negative_ttl=60)
    for number in range(8):
        cache[number] = number
    assert cache.items == 8
    for number in range(100, 200):
        assert cache.get(number) is None
    assert cache.items == 6
    before = store.loads
    assert (cache.get(199), cache.get(198)) == (None, None)
    assert store.loads == before
    assert cache.get(197) is None
    assert store.loads == before + 1
    for number in range(8):
        cache[number] = number
    assert cache.items == 8
    before = store.loads
    assert cache.get(199) is None
    assert store.loads == before + 1
    check(cache)


def test_it_weighs_one_and_limits_may_change() -> None:
    store = Dictionary()
    cache: FlexCache[Any, Any] = FlexCache(max_bytes=4, store=store, coherence=None, negative_ttl=60)
    for number in range(10):
        assert cache.get(number) is None
    before = store.loads
    assert [cache.get(number) for number in range(6, 10)] == [None] * 4
    assert store.loads == before
    cache.resize(max_bytes=1)
    before = store.loads
    assert cache.get(9) is None
    assert store.loads == before
    assert cache.get(8) is None
    assert store.loads == before + 1
    cache["a"] = 1
    assert (cache.items, cache["a"]) == (1, 1)


@pytest.mark.needs(transactions=True)
def test_absences_in_a_transaction(kind: Kind, store: Any) -> None:
    """What is absent in one thread's transaction, or was absent before its commit, is not so for others."""
    cache = kind.front(store, negative_ttl=LONG)
    cache["a"] = 1
    assert cache.get("b") is None
    with contextlib.suppress(ZeroDivisionError), kind.transaction(store):
        cache.delete("a")
        cache["b"] = 2
        assert (cache.get("a"), "a" in cache, cache.get("b"), "b" in cache) == (None, False, 2, True)
        raise ZeroDivisionError
    assert (cache.get("a"), cache.get("b")) == (1, None)
    with kind.transaction(store):
        assert cache.get("b") is None
        cache["b"] = 2
    assert cache.get("b") == 2


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"negative_ttl": 1}, ValueError, "negative_ttl=1 has no effect without store="),
        ({"negative_ttl": 1, "store": None}, ValueError, "negative_ttl=1 has no effect without store="),
        ({"negative_ttl": -1, "store": FlexCache()}, ValueError, "negative_ttl must be 0 or more seconds, not -1"),
        ({"negative_ttl": "1", "store": FlexCache()}, TypeError, "negative_ttl must be a number of seconds"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        FlexCache(**options)


KEYS = st.sampled_from(["a", 1, True, (1,), (1.0,), "b"])
STEPS = st.tuples(
    st.sampled_from(["get", "in", "peek", "put", "add", "delete", "pop", "clear", "second", "get_or_set", "later"]),
    KEYS,
)


@given(st.sampled_from(["dictionary", "complete", "memory"]), st.integers(0, 3), st.lists(STEPS, max_size=40))
def test_a_cache_with_absent_keys_is_its_store(behind: str, most: int, steps: list[tuple[str, Any]]) -> None:
    """Whatever happens through it, and through another cache over the store, it says what the store says."""
    store: Any = {"dictionary": Dictionary, "complete": Complete, "memory": FlexCache}[behind]()
    coherence = None if behind == "dictionary" else "strict"
    cache, second = (
        FlexCache[Any, Any](max_items=most, store=store, coherence=coherence, negative_ttl=5) for _ in range(2)
    )
    model: dict[Any, int] = {}
    for number, (step, key) in enumerate(steps):
        if step in {"put", "second"}:
            (second if step == "second" else cache)[key] = model[key] = number
        elif step == "add":
            assert cache.add(key, number) is (key not in model)
            model.setdefault(key, number)
        elif step == "get_or_set":
            assert cache.get_or_set(key, lambda number=number: number) == model.setdefault(key, number)
        elif step == "delete":
            assert cache.delete(key) is (model.pop(key, None) is not None)
        elif step == "pop":
            assert cache.pop(key, None) == model.pop(key, None)
        elif step == "clear":
            cache.clear()
            model.clear()
        elif step == "later":
            advance(3)
        elif step == "in":
            assert (key in cache, key in second) == (key in model, key in model)
        else:
            assert getattr(cache, step)(key) == getattr(second, step)(key) == model.get(key)
        assert most == 0 or (cache.items <= most and second.items <= most)
    check(cache)
    check(second)
