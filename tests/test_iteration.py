"""Iteration and views."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import pytest
from specimens import ORDERED

from flexcache_rs.testing import advance

if TYPE_CHECKING:
    from specimens import MakeCache


@pytest.mark.parametrize("name", ORDERED)
def test_the_next_victim_comes_first(make_cache: MakeCache, name: str) -> None:
    """Iteration is in the order in which entries would be evicted."""
    cache = make_cache(name, max_items=10)
    cache.set_many({key: -key for key in range(10)})
    for key in (3, 3, 5, 1):
        _ = cache[key]
    expected = list(cache)
    assert list(cache.keys()) == expected
    assert list(cache.values()) == [-key for key in expected]
    assert list(cache.entries()) == [(key, -key) for key in expected]
    assert [cache.popitem()[0] for _ in range(10)] == expected


def test_changes_while_iterating(make_cache: MakeCache, policy: str) -> None:
    """The iterator returns neither removed entries nor later ones, and raises no error."""
    cache = make_cache(policy)
    cache.set_many({key: key for key in range(100)})
    seen = []
    for key in cache:
        seen.append(key)
        cache.delete(99 - key)
        cache[1000 + key] = 0
    assert len(seen) == len(set(seen)) == 50
    assert all(key < 100 for key in seen)


def test_an_entry_that_was_replaced_is_shown_with_its_new_value(make_cache: MakeCache) -> None:
    """The iterator remembers entries, not values."""
    cache = make_cache("fifo")
    cache.set_many({"a": 1, "b": 2})
    entries = iter(cache.entries())
    cache["b"] = 3
    assert list(entries) == [("a", 1), ("b", 3)]


def test_clearing_ends_an_iteration(make_cache: MakeCache) -> None:
    """All entries of the iterator were removed, so it ends."""
    cache = make_cache()
    cache.set_many({key: key for key in range(10)})
    keys = iter(cache)
    next(keys)
    cache.clear()
    cache["a"] = 1
    assert list(keys) == []
    assert list(keys) == []


def test_expired_entries_are_not_shown(make_cache: MakeCache) -> None:
    """Neither entries that have expired before, nor those that expire during the iteration, are returned."""
    cache = make_cache(scan_interval=3600)
    cache.put("a", 1)
    cache.put("b", 2, ttl=60)
    cache.put("c", 3)
    keys = iter(cache)
    assert next(keys) == "a"
    advance(61)
    assert list(keys) == ["c"]
    assert list(cache.values()) == [1, 3]


def test_length_hint(make_cache: MakeCache) -> None:
    """list() uses the length hint to allocate."""
    cache = make_cache()
    cache.set_many({key: key for key in range(10)})
    keys = iter(cache)
    assert operator.length_hint(keys) == 10
    next(keys)
    assert operator.length_hint(keys) == 9


def test_views_show_the_cache_as_it_is(make_cache: MakeCache) -> None:
    """Views are live, have a length and answer `in`."""
    cache = make_cache()
    keys, values, entries = cache.keys(), cache.values(), cache.entries()
    cache["a"], cache["b"] = 1, [2]
    assert len(keys) == len(values) == len(entries) == 2
    assert "a" in keys
    assert "c" not in keys
    assert [2] in values
    assert 3 not in values
    assert ("b", [2]) in entries
    assert ("b", 2) not in entries
    assert ("c", 1) not in entries
    assert 5 not in entries
    assert (repr(keys), repr(values), repr(entries)) == (
        "keys(['a', 'b'])",
        "values([1, [2]])",
        "entries([('a', 1), ('b', [2])])",
    )
    assert list(iter(iter(keys))) == ["a", "b"]
    assert (cache.stats().hits, cache.stats().misses) == (0, 0)


def test_views_find_what_does_not_equal_itself(make_cache: MakeCache) -> None:
    """As in views of a dict, `in` finds an object by identity, even a NaN."""
    cache, nan = make_cache(), float("nan")
    cache["a"] = nan
    assert nan in cache.values()
    assert ("a", nan) in cache.entries()
    assert float("nan") not in cache.values()


def test_iterating_does_not_count_as_access(make_cache: MakeCache) -> None:
    """Iterating over everything changes neither the order nor the statistics."""
    cache = make_cache("lru")
    cache.set_many({key: key for key in range(5)})
    _ = list(cache), list(cache.entries()), 3 in cache.values()
    assert list(cache) == [0, 1, 2, 3, 4]


def test_views_need_a_hashable_key(make_cache: MakeCache) -> None:
    """As in views of a dict, an unhashable key raises TypeError."""
    with pytest.raises(TypeError, match="unhashable"):
        _ = [] in make_cache().keys()
