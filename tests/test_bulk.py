"""Many keys in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from specimens import Sized

if TYPE_CHECKING:
    from collections.abc import Iterator

    from specimens import MakeCache


def test_set_many_takes_mappings_and_pairs(make_cache: MakeCache, policy: str) -> None:
    """set_many() takes the same arguments as dict()."""
    for given in ({"a": 1, "b": 2}, [("a", 1), ("b", 2)], iter([("a", 1), ("b", 2)]), {"a": 1, "b": 2}.items()):
        cache = make_cache(policy)
        cache.set_many(given)
        assert dict(cache.entries()) == {"a": 1, "b": 2}
    cache.set_many(cache.copy().entries())
    assert len(cache) == 2


def test_get_many_returns_what_is_there(make_cache: MakeCache) -> None:
    """The result is a dict in the order of the requested keys. Each lookup counts as an access."""
    cache = make_cache("lru")
    cache.set_many({"a": 1, "b": 2, "c": 3})
    assert list(cache.get_many(["c", "x", "a"]).items()) == [("c", 3), ("a", 1)]
    assert list(cache) == ["b", "c", "a"]
    assert (cache.stats().hits, cache.stats().misses) == (2, 1)
    assert cache.get_many([]) == {}


def test_delete_many_counts_what_was_there(make_cache: MakeCache) -> None:
    """Absent keys are ignored."""
    cache = make_cache()
    cache.set_many({"a": 1, "b": 2, "c": 3})
    assert cache.delete_many(iter(["a", "x", "c", "a"])) == 2
    assert list(cache) == ["b"]


@pytest.mark.parametrize("bad", [[("a", 1), 5], [("b", 1), (1, 2, 3)], 5, None, [([], 1)]])
def test_set_many_stores_all_or_nothing(make_cache: MakeCache, bad: Any) -> None:
    """An invalid entry is found before any entry is stored."""
    cache = make_cache()
    with pytest.raises(TypeError if not isinstance(bad, list) or bad[0][0] != "b" else ValueError):
        cache.set_many(bad)
    assert (len(cache), cache.stats().insertions) == (0, 0)


def test_set_many_checks_sizes_and_ttl_first(make_cache: MakeCache) -> None:
    """After a value that is too large, or an invalid ttl, the cache is unchanged."""
    cache = make_cache(max_bytes=10)
    with pytest.raises(ValueError, match="11"):
        cache.set_many({"a": 1, "b": Sized(11)})
    with pytest.raises(TypeError, match="ttl"):
        cache.set_many({"a": 1}, ttl="soon")
    assert len(cache) == 0


def test_set_many_adds_the_sizes_up_first(make_cache: MakeCache) -> None:
    """Sizes that are too large together, and only together, are refused before anything is stored."""
    cache = make_cache()
    with pytest.raises(OverflowError, match="64 bits"):
        cache.set_many({"a": Sized(2**64 - 1), "b": 1})
    assert len(cache) == 0
    cache["a"] = Sized(2**64 - 1)
    cache.set_many({"a": Sized(2**64 - 2), "b": 1})
    assert cache.bytes == 2**64 - 1


def test_set_many_asks_each_value_once(make_cache: MakeCache) -> None:
    """The size is requested once, so that the checked size is the stored one."""
    cache, value = make_cache(), Sized(5)
    cache.set_many({"a": value})
    assert value.asked == 1


def test_an_iterator_that_fails_has_changed_nothing(make_cache: MakeCache) -> None:
    """The pairs are read before any is stored."""

    def pairs() -> Iterator[tuple[str, int]]:
        yield "a", 1
        raise LookupError

    cache = make_cache()
    with pytest.raises(LookupError):
        cache.set_many(pairs())
    assert len(cache) == 0
