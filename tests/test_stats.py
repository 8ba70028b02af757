"""Statistics are counts, not estimates."""

from __future__ import annotations

import copy
import pickle
import random
import sys
from typing import TYPE_CHECKING

import pytest

from flexcache_rs import CacheStats
from flexcache_rs.testing import advance

if TYPE_CHECKING:
    from specimens import MakeCache


@pytest.mark.parametrize("shards", [1, 8])
def test_counts_against_a_model(make_cache: MakeCache, policy: str, shards: int) -> None:
    """After any sequence of calls, the counters equal those of the model."""
    cache, draw = make_cache(policy, max_items=64, shards=shards), random.Random(policy)
    hits = misses = stored = replaced = removed = 0
    for _ in range(5000):
        key, what = draw.randrange(200), draw.random()
        present = key in cache
        if what < 0.5:
            cache.get(key)
            hits, misses = hits + present, misses + (not present)
        elif what < 0.9:
            cache[key] = 1
            stored, replaced = stored + (not present), replaced + present
        else:
            cache.delete(key)
            removed += present
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.insertions, stats.updates, stats.removals) == (
        hits,
        misses,
        stored,
        replaced,
        removed,
    )
    assert stats.items == len(cache) == stored - removed - stats.evictions
    assert stats.hit_ratio == hits / (hits + misses)
    assert stats.hook_errors == stats.expirations == 0


def test_every_way_out_is_counted_once(make_cache: MakeCache) -> None:
    """Evictions, expirations and removals are counted separately."""
    cache = make_cache("fifo", max_items=3)
    for key in range(5):
        cache[key] = key
    cache.put("short", 1, ttl=1)
    advance(2)
    cache.scan()
    cache.pop(3)
    cache.popitem()
    cache["a"], cache["b"] = 1, 2
    cache.clear()
    stats = cache.stats()
    assert (stats.evictions, stats.expirations, stats.removals, stats.items) == (3, 1, 4, 0)


def test_reset(make_cache: MakeCache) -> None:
    """The counters begin at 0 again, and the entries stay."""
    cache = make_cache()
    cache["a"] = 1
    _ = cache["a"], cache.get("b")
    cache.reset_stats()
    assert cache.stats().hit_ratio == 0.0
    assert cache.stats() == make_stats(items=1, bytes=1)
    assert cache["a"] == 1


def make_stats(**counts: int) -> str:
    """Return statistics with these counters, and 0 for all others."""
    names = "hits misses insertions updates evictions expirations removals hook_errors items bytes".split()
    return _Same("CacheStats(" + ", ".join(f"{name}={counts.get(name, 0)}" for name in names) + ")")


class _Same(str):
    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return str(self) == repr(other)


def test_statistics_are_values(make_cache: MakeCache) -> None:
    """Statistics are read-only snapshots that compare by their counters."""
    cache = make_cache()
    before = cache.stats()
    assert isinstance(before, CacheStats)
    assert before == cache.stats()
    cache["a"] = 1
    assert before != cache.stats()
    assert before.items == 0
    with pytest.raises(AttributeError):
        before.hits = 5  # type: ignore[misc]


def test_counts_are_copied_and_pickled(make_cache: MakeCache) -> None:
    """A worker can send them to another process."""
    cache = make_cache("lru", max_items=2, max_bytes=2**40)
    cache.set_many({key: key for key in range(5)})
    cache.get(4), cache.get(7), cache.get_or_set(8, lambda: 8), cache.delete(8)
    stats = cache.stats()
    for other in (pickle.loads(pickle.dumps(stats)), copy.copy(stats), copy.deepcopy(stats)):
        assert type(other) is CacheStats
        assert (other, repr(other), other.hit_ratio) == (stats, repr(stats), stats.hit_ratio)


def test_the_size_of_the_cache_itself(make_cache: MakeCache, policy: str) -> None:
    """getsizeof counts tables and nodes, and grows with them."""
    cache = make_cache(policy)
    empty = sys.getsizeof(cache)
    cache.set_many({key: key for key in range(100_000)})
    each = (sys.getsizeof(cache) - empty) / 100_000
    assert 24 < each < 100


def test_repr(make_cache: MakeCache) -> None:
    """repr() shows the configuration and the number of entries."""
    cache = make_cache("lfu", max_items=10, max_bytes=20, name="pages")
    cache["a"] = 1
    assert repr(cache) == "FlexCache(name='pages', eviction_policy='lfu', max_items=10, max_bytes=20; 1 items)"
    assert cache.name == "pages"
    assert make_cache().name is None
