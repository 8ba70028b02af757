"""Tags of copied and pickled caches."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.testing import check

if TYPE_CHECKING:
    from specimens import MakeCache


@pytest.mark.parametrize("way", ["copy", "deepcopy", *range(pickle.HIGHEST_PROTOCOL + 1)], ids=str)
@pytest.mark.parametrize("shards", [1, 4])
def test_copies_have_the_same_tags(make_cache: MakeCache, any_policy: Any, way: Any, shards: int) -> None:
    """Copies have the same tags, independently of the original."""
    cache = make_cache(any_policy, shards=shards if isinstance(any_policy, str) else 1, default_ttl=60)
    for key in range(100):
        cache.put(key, key, tags=[tag for tag, divisor in (("two", 2), ("three", 3)) if key % divisor == 0])
    other: FlexCache[Any, Any] = (
        cache.copy()
        if way == "copy"
        else copy.deepcopy(cache)
        if way == "deepcopy"
        else pickle.loads(pickle.dumps(cache, way))
    )
    assert {key: other.tags(key) for key in other} == {key: cache.tags(key) for key in range(100)}
    assert other.evict_tag("two") == 50
    check(other)
    assert cache.evict_tag("three") == 34
    assert other.evict_tag("three") == 17
    check(other)


class Special(FlexCache[Any, Any]):
    """A subclass, which is copied another way."""


def test_subclasses_copy_their_tags() -> None:
    """A copy of a subclass goes through the same state as a pickle."""
    cache = Special()
    cache.put("a", 1, tags=("x", "y"))
    assert cache.copy().tags("a") == ("x", "y")


def test_pickles_from_before_there_were_tags(make_cache: MakeCache) -> None:
    """The state of an entry without tags has the old form."""
    cache = make_cache()
    cache["a"] = 1
    cache.put("b", 2, tags=("x",))
    restore, arguments, (entries, attributes, slots) = cache.__reduce__()
    assert [len(entry) for entry in entries] == [4, 5]
    old = restore(*arguments)
    old.__setstate__((entries[:1], attributes, slots))
    assert (dict(old.entries()), old.tags("a")) == ({"a": 1}, ())


@pytest.mark.parametrize("tags", ["x", 5, [5], ["x", None]])
def test_a_state_with_bad_tags(make_cache: MakeCache, tags: Any) -> None:
    """A state with invalid tags is refused."""
    cache = make_cache()
    with pytest.raises(ValueError, match="not the state"):
        cache.__setstate__(([("a", 1, None, 0, tags)], None, {}))
    assert len(cache) == 0


def test_a_state_gives_tags_to_what_is_there(make_cache: MakeCache) -> None:
    """A state also removes the tags of existing entries, like any other write."""
    cache = make_cache()
    cache.put("a", 1, tags=("x",))
    cache.put("b", 1, tags=("x",))
    cache.__setstate__(([("a", 2, None, 0), ("b", 2, None, 0, ("y",)), ("c", 2, None, 0, ["x"])], None, {}))
    assert [cache.tags(key) for key in "abc"] == [(), ("y",), ("x",)]
