"""The effect of each call of a cache on its store, for every store, and the check of store objects."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from store_kinds import Complete, Dictionary, Kind

from flexcache_rs import FlexCache
from flexcache_rs.testing import advance

if TYPE_CHECKING:
    from store_process import OtherProcess


def empty(kind: Kind, store: Any) -> bool:
    """Whether the store has none of the keys that the tests use."""
    return kind.front(store).get_many([*"abcdxyz", *range(10)]) == {}


def test_a_write_goes_to_both(kind: Kind, store: Any) -> None:
    """Memory keeps the same object."""
    cache = kind.front(store, max_items=10)
    value = [1, 2]
    cache["a"] = value
    if kind.coherence != 0.0 and kind.keeps_written:
        assert cache["a"] is value
    assert cache["a"] == kind.read(store, "a") == value
    assert cache.store is store


@pytest.mark.needs(keeps=True)
def test_a_restart_finds_what_was_written(kind: Kind, store: Any) -> None:
    """The store also has entries that memory has evicted."""
    cache = kind.front(store, max_items=2)
    for number in range(10):
        cache[number] = number
    assert len(cache) == 2
    kind.close(store)
    assert kind.front(store).get_many(range(10)) == {number: number for number in range(10)}


def test_a_hit_is_served_from_memory() -> None:
    """The store is not asked again."""
    store = Dictionary()
    store.save("a", 1, None, ())
    cache: FlexCache[str, int] = FlexCache(store=store, coherence=None)
    assert [cache["a"], cache["a"], cache.get("a")] == [1, 1, 1]
    assert store.loads == 1
    assert (cache.stats().hits, cache.stats().misses) == (2, 1)


def test_a_write_leaves_the_copies_of_other_keys() -> None:
    """Nearly all copies stay. A few keys share a counter with the written one, and are loaded again."""
    store = Dictionary()
    cache: FlexCache[int, int] = FlexCache(store=store, coherence=None)
    for key in range(1000):
        cache[key] = key
    loads = store.loads
    assert [cache[key] for key in range(1000)] == [*range(1000)]
    assert store.loads - loads < 200


@pytest.mark.needs(shared=True, lags=True)
def test_membership_notices_another_process(kind: Kind, store: Any, other: OtherProcess) -> None:
    """The key may be in memory, or known to be absent."""
    cache = kind.front(store, negative_ttl=60)
    cache["a"] = 1
    assert (cache.get("b"), "a" in cache, "b" in cache) == (None, True, False)
    other.ask("erase", "a")
    other.ask("write", "b", 2)
    assert ("a" in cache, "b" in cache) == (False, True)
    assert (cache.get("a"), cache.get("b")) == (None, 2)


@pytest.mark.parametrize("value", [None, 0, "", b"", float("nan"), [], (1, "a"), {"a": None}])
def test_values_of_all_kinds(kind: Kind, store: Any, value: Any) -> None:
    """None is a value too."""
    kind.front(store)["a"] = value
    cache = kind.front(store)
    assert repr(cache["a"]) == repr(value)
    assert "a" in cache


@pytest.mark.needs(notices=True)
def test_calls_reach_the_store(kind: Kind, store: Any) -> None:
    """Each call does what its documentation says, with and without the entry in memory."""
    for fresh in (False, True):
        cache = kind.front(store)

        def in_front(cache: Any = cache, fresh: bool = fresh) -> Any:
            return kind.front(store) if fresh else cache

        cache["a"], cache["b"], cache["c"] = 1, 2, 3
        assert in_front().add("a", 9) is False
        assert in_front().add("d", 4) is True
        with pytest.raises(KeyError):
            in_front().set("a", 9)
        assert in_front().peek("a") == 1
        assert "a" in in_front()
        assert "z" not in in_front()
        assert in_front().pop("a") == 1
        assert in_front().get("a") is None
        with pytest.raises(KeyError):
            in_front().pop("a")
        assert in_front().pop("a", None) is None
        assert in_front().delete("b") is True
        assert in_front().delete("b") is False
        with pytest.raises(KeyError):
            del in_front()["b"]
        assert in_front().delete_many(["c", "d", "e"]) == 2
        assert empty(kind, store)
        in_front().set_many({"x": 1, "y": 2})
        assert in_front().get_many(["x", "y", "z"]) == {"x": 1, "y": 2}
        in_front().clear()
        assert empty(kind, store)


@pytest.mark.needs(keeps=True)
def test_popitem_takes_it_from_the_store(kind: Kind, store: Any) -> None:
    """popitem() removes the entry that memory would evict next."""
    cache = kind.front(store)
    cache["a"], cache["b"] = 1, 2
    assert cache.popitem() == ("a", 1)
    assert kind.front(store).get_many("ab") == {"b": 2}


@pytest.mark.needs(notices=True)
def test_times_to_live_are_the_stores_too(kind: Kind, store: Any) -> None:
    """The store returns the time to live with the entry."""
    kind.front(store, default_ttl=60)["a"] = 1
    cache = kind.front(store)
    assert 30 < cache.ttl("a") <= 60
    assert cache["a"] == 1
    assert 30 < cache.ttl("a") <= 60
    assert cache.touch("a", 600) is True
    assert 500 < cache.ttl("a") <= 600
    assert 500 < kind.front(store).ttl("a") <= 600
    assert cache.touch("a", None) is True
    assert kind.front(store).ttl("a") is None
    assert cache.touch("z", 1) is False
    with pytest.raises(KeyError):
        cache.ttl("z")
    cache.put("b", 2, ttl=0)
    assert cache.get("b") is None


def test_what_expires_in_memory_is_asked_for_again() -> None:
    """The store may have a later deadline."""
    store = Dictionary()
    cache: FlexCache[str, int] = FlexCache(store=store, coherence=None)
    cache.put("a", 1, ttl=60)
    store.save("a", 2, None, ())
    advance(61.0)
    assert cache["a"] == 2


@pytest.mark.needs(evicts_tags=True)
def test_a_tag_is_the_stores_too(kind: Kind, store: Any) -> None:
    """The store returns tags with the entry. evict_tag() also removes entries that are not in memory."""
    kind.front(store).put("a", 1, tags=("x",))
    cache = kind.front(store)
    assert cache["a"] == 1
    if kind.tells_tags:
        assert cache.tags("a") == ("x",)
    cache.put("b", 2, tags=("x",))
    assert kind.front(store).evict_tag("x") == (2 if kind.counts_evicted else 0)
    assert (cache.get("a"), cache.get("b")) == (None, None)


def test_computed_values_are_kept(kind: Kind, store: Any) -> None:
    """By `get_or_set` and by memoized functions."""
    calls = []

    def compute(number: int = 0) -> int:
        calls.append(number)
        return number + 1

    compute.__module__, compute.__qualname__ = "tests_of_stores", "compute"
    assert kind.front(store).get_or_set("a", compute) == 1
    assert kind.front(store).get_or_set("a", compute) == 1
    assert calls == [0]
    memo = kind.front(store).memoize(compute)
    assert (memo(1), memo(1)) == (2, 2)
    assert calls == [0, 1]


@pytest.mark.needs(shared=True)
def test_others_writes_are_seen_at_once(kind: Kind, store: Any, other: OtherProcess) -> None:
    """With the default coherence."""
    cache = kind.front(store)
    cache["a"] = "ours"
    assert other.ask("read", "a") == ("ours", "ours")
    for number in range(20):
        other.ask("write", "a", number)
        assert (cache["a"], cache["a"]) == (number, number)
    other.ask("erase", "a")
    assert "a" not in cache
    assert cache.get("a") is None


@pytest.mark.needs(shared=True, lags=True)
def test_others_writes_are_seen_in_time(kind: Kind, store: Any, other: OtherProcess) -> None:
    """With `coherence` in seconds, a write is visible only after this time."""
    cache = kind.front(store, coherence=30)
    cache["a"] = "ours"
    other.ask("write", "a", "theirs")
    assert cache["a"] == "ours"
    advance(31.0)
    assert cache["a"] == "theirs"


def test_a_bound_in_seconds_is_no_time_to_live(kind: Kind, store: Any) -> None:
    """Neither `ttl()` nor a listener sees it."""
    told: list[Any] = []
    cache = kind.front(store, coherence=30)
    cache.listen(lambda *event: told.append(event), "expire")
    cache["a"] = 1
    assert cache.ttl("a") is None
    advance(31.0)
    assert cache["a"] == 1
    assert cache.ttl("a") is None
    assert told == []


@pytest.mark.needs(notices=True)
def test_writes_through_the_store_itself_are_seen(kind: Kind, store: Any) -> None:
    """Caches see writes through the store object that was passed to them."""
    cache, other = kind.front(store), kind.front(store)
    cache["a"] = 1
    assert other["a"] == 1
    kind.write(store, "a", 2)
    assert (cache["a"], other["a"]) == (2, 2)
    other["a"] = 3
    assert cache["a"] == 3
    kind.wipe(store)
    assert (cache.get("a"), other.get("a")) == (None, None)


def test_a_value_that_memory_cannot_take() -> None:
    """A too large value is refused before it is stored. One that comes from the store is returned."""

    class Large:
        def item_size(self) -> int:
            return 100

    store = Dictionary()
    cache: FlexCache[str, Any] = FlexCache(max_bytes=10, store=store, coherence=None)
    with pytest.raises(ValueError, match="100"):
        cache["a"] = Large()
    assert store.rows == {}
    store.save("a", Large(), None, ())
    assert isinstance(cache["a"], Large)
    assert len(cache) == 0


@pytest.mark.needs(keeps=True)
def test_hooks_run_for_memory_alone(kind: Kind, store: Any) -> None:
    """An eviction leaves the store as it is."""
    told: list[Any] = []
    cache = kind.front(store, max_items=1, on_evict=lambda *event: told.append(event))
    cache["a"], cache["b"] = 1, 2
    assert told == [("a", 1, "evicted")]
    assert cache["a"] == 1


def test_listeners_hear_of_what_was_found(kind: Kind, store: Any) -> None:
    """In memory or in the store."""
    kind.write(store, "a", 1)
    told: list[Any] = []
    cache = kind.front(store)
    cache.listen(lambda event, key, value: told.append((event, key, value)), "hit", "miss")
    _ = cache.get("a"), cache.get("a"), cache.get("b")
    assert told == [("hit", "a", 1), ("hit", "a", 1), ("miss", "b", None)]


def test_absent_keys_are_not_entries(kind: Kind, store: Any) -> None:
    """It does not matter whether memory remembers that the key is absent."""
    told: list[Any] = []
    cache = kind.front(store, on_evict=lambda *event: told.append(event))
    cache.listen(lambda *event: told.append(event), "insert", "evict", "expire", "remove")
    for _ in range(3):
        assert cache.get("absent") is None
        assert "absent" not in cache
    assert (len(cache), list(cache), list(cache.entries()), told) == (0, [], [], [])


@pytest.mark.needs(durable=True)
def test_copies_and_pickles_share_the_store(kind: Kind, store: Any) -> None:
    """And its coherence."""
    cache = kind.front(store, coherence=30, max_items=5)
    cache["a"] = 1
    for twin in (
        cache.copy(),
        copy.copy(cache),
        *((pickle.loads(pickle.dumps(cache)),) if kind.pickles else ()),
    ):
        assert kind.place(twin.store) == kind.place(store)
        assert twin["a"] == 1
        twin["b"] = 2
        assert kind.read(store, "b") == 2
        del twin["b"]
        if twin.store is not store:
            kind.close(twin.store)


@pytest.mark.parametrize(
    ("options", "error", "names"),
    [
        ({"store": 5}, TypeError, "load$"),
        ({"store": "cache"}, TypeError, r"did you mean store=flexcache_rs\.disk\.Cache\('cache'\)\?$"),
        ({"store": Dictionary()}, TypeError, "version"),
        ({"store": Complete(), "coherence": "loose"}, ValueError, "loose"),
        ({"store": Complete(), "coherence": -1}, ValueError, "coherence"),
        ({"store": Complete(), "coherence": float("nan")}, ValueError, "coherence"),
        ({"store": Complete(), "coherence": []}, TypeError, "coherence"),
        ({"coherence": "loose"}, ValueError, "loose"),
    ],
)
def test_what_is_no_store(options: Any, error: type[Exception], names: str) -> None:
    """An object without the required methods is refused with a clear error."""
    with pytest.raises(error, match=names):
        FlexCache(**options)


def test_a_policy_in_python_has_no_store() -> None:
    """A policy in Python is refused, because store and policy would have to know each other."""

    class Policy:
        def on_insert(self, key: Any) -> None: ...
        def on_access(self, key: Any) -> None: ...
        def on_remove(self, key: Any) -> None: ...
        def victim(self) -> Any: ...

    with pytest.raises(ValueError, match="store"):
        FlexCache(Policy(), store=Complete())


def test_a_store_may_use_the_cache() -> None:
    """No lock is held while the store runs."""

    class Curious(Complete):
        cache: FlexCache[Any, Any]

        def load(self, key: Any) -> Any:
            if key == "outer":
                return self.cache["inner"] + 1, None, ()
            return super().load(key)

        def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
            if key == "outer":
                self.cache["inner"] = value
            super().save(key, value, ttl, tags)

    store = Curious()
    cache = store.cache = FlexCache(store=store)
    cache["outer"] = 1
    assert cache["inner"] == 1
    cache.close()
    assert cache["outer"] == 2


def test_a_chain_of_caches() -> None:
    """A write through any of them is seen through all."""
    first: FlexCache[str, int] = FlexCache()
    second: FlexCache[str, int] = FlexCache(store=first)
    third: FlexCache[str, int] = FlexCache(store=second)
    third["a"] = 1
    assert (first["a"], second["a"], third["a"]) == (1, 1, 1)
    first["a"] = 2
    assert (third["a"], second["a"]) == (2, 2)
    assert second.delete("a") is True
    assert third.get("a") is None


def test_a_chain_of_caches_is_not_longer_than_a_stack() -> None:
    """Each cache asks the next one. A chain of a hundred works, even in a thread with a small stack."""
    last = first = FlexCache[str, int]()
    for _ in range(100):
        last = FlexCache(store=last)
    with pytest.raises(ValueError, match=r"store is the last of 101 caches .* at most 100"):
        FlexCache(store=last)
    first["a"] = 1
    found: list[object] = []
    before = threading.stack_size(256 << 10)
    try:
        thread = threading.Thread(target=lambda: found.append(last.get("a")))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert found == [1]


def test_a_store_that_holds_the_cache_is_collected() -> None:
    """A cycle through the store is garbage like any other."""
    store = Complete()
    store.cache = FlexCache(store=store)  # type: ignore[attr-defined]
    store.cache["a"] = 1  # type: ignore[attr-defined]
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
