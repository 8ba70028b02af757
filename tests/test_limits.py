"""Limits by count and by size."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import pytest
from specimens import Sized

if TYPE_CHECKING:
    from specimens import MakeCache


def test_zero_means_no_limit(make_cache: MakeCache, policy: str) -> None:
    """Without limits no entry is evicted."""
    cache = make_cache(policy, max_items=0, max_bytes=0)
    cache.set_many({key: Sized(10**6) for key in range(20_000)})
    assert (len(cache), cache.bytes, cache.stats().evictions) == (20_000, 2 * 10**10, 0)


@pytest.mark.parametrize("shards", [1, 4])
def test_both_limits_hold_after_every_call(make_cache: MakeCache, policy: str, shards: int) -> None:
    """Count and sum stay within their limits, and the sum is exact."""
    cache = make_cache(policy, max_items=40, max_bytes=400, shards=shards)
    draw = random.Random(1)
    for _ in range(3000):
        cache.put(draw.randrange(100), Sized(draw.choice([0, 1, 5, 20, 100])))
        assert len(cache) <= 40
        assert cache.bytes == sum(value.size for value in cache.values()) <= 400


def test_a_value_without_a_size_counts_as_one(make_cache: MakeCache) -> None:
    """A value needs no method for its size."""
    cache = make_cache(max_bytes=3)
    cache.set_many(dict.fromkeys(range(5)))
    assert list(cache) == [2, 3, 4]
    assert cache.bytes == 3


def test_a_growing_entry_makes_the_others_leave(make_cache: MakeCache) -> None:
    """An update with another size counts correctly, and never evicts its own entry."""
    cache = make_cache("lru", max_bytes=10)
    cache["a"], cache["b"], cache["c"] = Sized(2), Sized(3), Sized(4)
    cache["a"] = Sized(6)
    assert (list(cache), cache.bytes) == (["c", "a"], 10)
    cache["a"] = Sized(10)
    assert (list(cache), cache.bytes) == (["a"], 10)
    cache["a"] = Sized(0)
    assert cache.bytes == 0


def test_size_zero_takes_no_room(make_cache: MakeCache) -> None:
    """Entries of size 0 are limited by count alone."""
    cache = make_cache(max_bytes=1)
    cache.set_many({key: Sized(0) for key in range(100)})
    cache["full"] = Sized(1)
    assert (len(cache), cache.bytes) == (101, 1)


def test_an_entry_larger_than_the_limit_changes_nothing(make_cache: MakeCache, policy: str) -> None:
    """It is refused before any entry is evicted, whether the key is present or not."""
    cache = make_cache(policy, max_bytes=10)
    cache["a"], cache["b"] = Sized(4), Sized(6)
    before = (list(cache.entries()), cache.bytes, cache.stats())
    for store in (cache.put, cache.set, cache.__setitem__, cache.add):
        with pytest.raises(ValueError, match=r"size of 11 .* max_bytes .*10"):
            store("c", Sized(11))
    with pytest.raises(ValueError, match="size of 11"):
        cache["a"] = Sized(11)
    assert (list(cache.entries()), cache.bytes, cache.stats()) == before


def test_the_sum_of_sizes_fits_64_bits(make_cache: MakeCache) -> None:
    """A sum beyond them is refused."""
    cache = make_cache()
    cache["a"] = Sized(2**64 - 1)
    with pytest.raises(OverflowError, match="64 bits"):
        cache["b"] = 1
    assert (list(cache), cache.bytes) == (["a"], 2**64 - 1)
    cache["a"] = 1
    cache["b"] = 1
    assert cache.bytes == 2


def test_the_sum_of_all_shards_is_exact(make_cache: MakeCache) -> None:
    """The sum over all shards is exact, whatever each shard admits."""
    cache = make_cache(shards=4)
    for key in range(100):
        with contextlib.suppress(OverflowError):
            cache[key] = Sized(2**63)
    assert cache.bytes == cache.stats().bytes == len(cache) * 2**63


def test_resize(make_cache: MakeCache, policy: str) -> None:
    """Entries that no longer fit are evicted before the call returns. None keeps a limit."""
    cache = make_cache(policy, max_items=10)
    cache.set_many({key: key for key in range(10)})
    cache.resize(max_items=4)
    assert (len(cache), cache.max_items, cache.max_bytes) == (4, 4, 0)
    cache.resize(max_bytes=3)
    assert (len(cache), cache.max_items, cache.max_bytes) == (3, 4, 3)
    cache.resize()
    assert (cache.max_items, cache.max_bytes) == (4, 3)
    cache.resize(max_items=0, max_bytes=0)
    cache.set_many({key: key for key in range(1000)})
    assert len(cache) == 1000
    cache.resize(max_items=1)
    assert len(cache) == 1


def test_resize_evicts_in_order(make_cache: MakeCache) -> None:
    """The policy chooses the victims."""
    cache = make_cache("lru", max_items=5)
    cache.set_many({key: key for key in range(5)})
    _ = cache[0]
    cache.resize(max_items=2)
    assert list(cache) == [4, 0]


def test_shards_divide_the_limits(make_cache: MakeCache) -> None:
    """The limits of the shards add up to the whole limit, even if it is not divisible."""
    cache = make_cache(max_items=103, max_bytes=1003, shards=16)
    assert (cache.max_items, cache.max_bytes) == (103, 1003)
    cache.set_many({key: key for key in range(5000)})
    assert len(cache) == 103
    cache.resize(max_items=50)
    assert (len(cache), cache.max_items) == (50, 50)
    assert len(list(cache)) == 50
