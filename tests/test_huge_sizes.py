"""Sizes near the largest possible one, whose sums would not fit 64 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from specimens import MakeCache

HALF = 2**63


class Sized:
    """A value with a size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def item_size(self) -> int:
        return self.size


def test_a_sum_that_does_not_fit_is_refused(make_cache: MakeCache, policy: str) -> None:
    """The entry that would exceed the sum is not stored, and all else is unchanged."""
    cache = make_cache(policy)
    cache["a"], cache["b"] = Sized(HALF), Sized(HALF - 1)
    before = (list(cache.entries()), cache.stats())
    for refused in (
        lambda: cache.put("c", Sized(1)),
        lambda: cache.add("c", Sized(1)),
        lambda: cache.set("c", Sized(1)),
    ):
        with pytest.raises(OverflowError, match="64 bits"):
            refused()
    assert (list(cache.entries()), cache.stats()) == before
    assert cache.bytes == 2**64 - 1
    cache["c"] = Sized(0)
    cache["a"] = Sized(HALF)
    del cache["a"]
    cache["d"] = Sized(HALF)
    assert cache.bytes == 2**64 - 1


def test_a_limit_keeps_the_sum_small(make_cache: MakeCache, policy: str) -> None:
    """With max_bytes, entries are evicted instead."""
    cache = make_cache(policy, max_bytes=2**64 - 2)
    for key in range(5):
        cache[key] = Sized(HALF)
        assert cache.bytes == HALF
    cache["whole"] = Sized(2**64 - 2)
    assert list(cache) == ["whole"]


def test_set_many_is_refused_as_a_whole(make_cache: MakeCache) -> None:
    """Before anything is stored."""
    cache = make_cache()
    with pytest.raises(OverflowError, match="64 bits"):
        cache.set_many({"a": Sized(HALF), "b": Sized(HALF)})
    assert (len(cache), cache.stats().insertions) == (0, 0)


def test_set_many_takes_what_put_takes(make_cache: MakeCache) -> None:
    """A replaced value makes room for the new one."""
    cache = make_cache()
    cache["a"] = Sized(HALF)
    cache["a"] = Sized(HALF)
    cache.set_many({"a": Sized(HALF), "b": Sized(1)})
    assert cache.bytes == HALF + 1


def test_the_sum_of_all_shards(make_cache: MakeCache) -> None:
    """The sum is right, or the entry was refused. No other call fails."""
    cache = make_cache(shards=16)
    stored = 0
    for key in range(64):
        try:
            cache[key] = Sized(HALF)
            stored += 1
        except OverflowError:
            pass
    assert cache.bytes == cache.stats().bytes == stored * HALF
    assert len(cache) == stored > 0
