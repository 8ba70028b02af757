"""Tags: entries that are removed together."""

from __future__ import annotations

import copy
import pickle
import random
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Sized
from hypothesis import given
from hypothesis import strategies as st
from test_custom_policy import Recency

from flexcache_rs import FlexCache
from flexcache_rs.testing import advance, check

if TYPE_CHECKING:
    from conftest import MakeCache


def test_evict_tag(make_cache: MakeCache, policy: str) -> None:
    """Removes what has the tag and nothing else, and says how many."""
    cache = make_cache(policy)
    for number in range(1000):
        cache.put(number, number, tags=(f"mod {number % 7}", "all") if number % 2 else ())
    odd = [number for number in range(1000) if number % 2 and number % 7 == 3]
    assert cache.evict_tag("mod 3") == len(odd)
    assert sorted(cache) == [number for number in range(1000) if number not in odd]
    assert cache.evict_tag("mod 3") == 0
    assert cache.evict_tag("all") == 500 - len(odd)
    assert cache.items == 500
    assert cache.stats().removals == 500


def test_tags_of_an_entry(make_cache: MakeCache) -> None:
    """Those it came with, once each; none where it is absent."""
    cache = make_cache()
    cache.put("a", 1, tags=["x", "y", "x"])
    cache.set("b", 1, tags={"x"})
    assert cache.add("c", 1, tags=(tag for tag in "x"))
    assert sorted(cache.tags("a")) == ["x", "y"]
    assert cache.tags("b") == cache.tags("c") == ("x",)
    assert cache.tags("d") == ()
    assert cache.evict_tag("x") == 3


@pytest.mark.parametrize("replace", ["put", "[]", "set_many"])
def test_a_value_that_replaces_another_has_its_own_tags(make_cache: MakeCache, replace: str) -> None:
    cache = make_cache()
    cache.put("a", 1, tags=("x",))
    if replace == "put":
        cache.put("a", 2, tags=("y",))
    elif replace == "[]":
        cache["a"] = 2
    else:
        cache.set_many({"a": 2})
    assert cache.evict_tag("x") == 0
    assert cache["a"] == 2
    assert cache.evict_tag("y") == int(replace == "put")


def test_whatever_way_an_entry_leaves_its_tags_leave_with_it(make_cache: MakeCache) -> None:
    """Evicted, expired, deleted, popped, cleared, resized: nothing is counted that is gone."""
    cache = make_cache("fifo", max_items=10)
    for number in range(30):
        cache.put(number, number, ttl=10 if number == 25 else None, tags=("t",))
    del cache[20]
    cache.pop(21)
    cache.popitem()
    advance(11)
    cache.resize(max_items=3)
    assert cache.evict_tag("t") == 3
    cache.put("a", 1, tags=("t",))
    cache.clear()
    cache.put("a", 1)
    assert cache.evict_tag("t") == 0


class Closing:
    closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("policy_", ["lru", Recency])
@pytest.mark.parametrize("shards", [1, 8])
def test_hooks_and_listeners_are_told(make_cache: MakeCache, policy_: Any, shards: int) -> None:
    """Each value is closed once, and the reason is that of a deletion; with every kind of policy."""
    if policy_ is Recency and shards > 1:
        pytest.skip("a policy written in Python has one order")
    told: list[Any] = []
    policy = policy_() if policy_ is Recency else policy_
    cache = make_cache(policy, shards=shards, on_evict=lambda *leaver: told.append(leaver))
    values = [Closing() for _ in range(200)]
    for number, value in enumerate(values):
        cache.put(number, value, tags=("even",) if number % 2 == 0 else ("odd",))
    assert cache.evict_tag("even") == 100
    assert [value.closed for value in values] == [1, 0] * 100
    assert sorted(key for key, _, _ in told) == list(range(0, 200, 2))
    assert {reason for _, _, reason in told} == {"deleted"}
    if policy_ is Recency:
        assert set(policy.order) == set(cache)


@pytest.mark.parametrize(
    "duplicate", [lambda cache: cache.copy(), copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))]
)
def test_copies_have_the_tags(make_cache: MakeCache, duplicate: Any) -> None:
    """Their own ones."""
    cache = make_cache(max_items=100)
    for number in range(10):
        cache.put(number, number, tags=(f"{number % 2}",))
    other = duplicate(cache)
    assert other.evict_tag("0") == 5
    assert cache.evict_tag("0") == 5
    assert sorted(other) == sorted(cache) == [1, 3, 5, 7, 9]
    check(other)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("user", r"tags must be an iterable of str, such as \('user',\), not a str"),
        (3, "tags must be an iterable of str, not int"),
        ((1,), "a tag must be a str, not int"),
        (("a", None), "a tag must be a str, not NoneType"),
    ],
)
def test_tags_that_make_no_sense(make_cache: MakeCache, tags: Any, message: str) -> None:
    """Are refused, and nothing has changed."""
    cache = make_cache()
    cache.put("a", 1, tags=("t",))
    for call in (cache.put, cache.set, lambda *a, **k: cache.add(*a, **k)):
        with pytest.raises(TypeError, match=message):
            call("a" if call == cache.put else "b", 2, tags=tags)
    assert (cache["a"], cache.tags("a"), len(cache)) == (1, ("t",), 1)
    with pytest.raises(TypeError, match="a tag must be a str, not int"):
        cache.evict_tag(1)


def test_a_refused_entry_has_no_tags(make_cache: MakeCache) -> None:
    cache = make_cache(max_bytes=10)
    with pytest.raises(ValueError, match="larger than max_bytes"):
        cache.put("a", Sized(11), tags=("t",))
    assert cache.evict_tag("t") == 0


def test_tags_are_counted_and_given_back(make_cache: MakeCache) -> None:
    """What they take shows in the size of the cache, and is bounded by what is in it."""
    cache = make_cache(max_items=100)
    plain = cache.__sizeof__()
    for number in range(10_000):
        cache.put(number, number, tags=(f"unique {number}", "all"))
    assert plain < cache.__sizeof__() < plain + 100 * 1000
    assert cache.evict_tag("all") == 100


keys, names = st.integers(0, 20), st.sets(st.sampled_from("abcde"))
calls = st.one_of(
    st.tuples(st.just("put"), keys, names),
    st.tuples(st.just("add"), keys, names),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("evict"), st.sampled_from("abcdef")),
    st.tuples(st.just("clear")),
)


@given(st.lists(calls, max_size=80), st.sampled_from([1, 4]))
def test_against_a_plain_model(history: list[Any], shards: int) -> None:
    """A dict of sets."""
    cache: FlexCache[int, int] = FlexCache(shards=shards)
    model: dict[int, set[str]] = {}
    for call, *arguments in history:
        if call == "put":
            key, tags = arguments
            cache.put(key, key, tags=tags)
            model[key] = set(tags)
        elif call == "add":
            key, tags = arguments
            assert cache.add(key, key, tags=tags) is (key not in model)
            model.setdefault(key, set(tags))
        elif call == "delete":
            assert cache.delete(arguments[0]) is (model.pop(arguments[0], None) is not None)
        elif call == "evict":
            gone = [key for key, tags in model.items() if arguments[0] in tags]
            assert cache.evict_tag(arguments[0]) == len(gone)
            for key in gone:
                del model[key]
        else:
            cache.clear()
            model.clear()
        check(cache)
    assert {key: set(cache.tags(key)) for key in cache} == model


def test_many_members_are_removed_in_their_own_number(make_cache: MakeCache) -> None:
    """Also from caches of which they are a small part."""
    cache = make_cache(max_items=200_000)
    chance = random.Random(1)
    marked = set(chance.sample(range(100_000), 777))
    for number in range(100_000):
        cache.put(number, number, tags=("marked",) if number in marked else None)
    assert cache.evict_tag("marked") == 777
    assert cache.items == 100_000 - 777
