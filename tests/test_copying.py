"""Copies and pickles."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from specimens import ORDERED

from flexcache_rs import FlexCache
from flexcache_rs.testing import advance, check

if TYPE_CHECKING:
    from collections.abc import Callable

    from specimens import MakeCache

WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": lambda cache: cache.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda cache, protocol=protocol: pickle.loads(pickle.dumps(cache, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.fixture(params=WAYS)
def duplicate(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Each way of copying a cache."""

    def duplicate(cache: Any) -> Any:
        other = WAYS[request.param](cache)
        check(other)
        return other

    return duplicate


def configuration(cache: FlexCache[Any, Any]) -> Any:
    """Return the arguments that would make an equal cache."""
    return cache.__reduce__()[1]


class Slotted(FlexCache[Any, Any]):
    """A subclass with state of its own, in a slot."""

    __slots__ = ("tag",)
    tag: str


class Special(FlexCache[Any, Any]):
    """A subclass with state of its own."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        self.tag = "new"


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("name", ORDERED)
def test_contents_order_and_configuration_are_the_same(
    make_cache: MakeCache, duplicate: Callable[[Any], Any], name: str, shards: int
) -> None:
    """The frequencies of LFU are copied too. Statistics begin at 0, and the two caches are independent."""
    # Shards divide the keys anew, so a full one may not have room for the same.
    most = 100 if shards == 1 else 1000
    cache = make_cache(name, scan_interval=2.5, max_items=most, max_bytes=5000, shards=shards, default_ttl=60, name="n")
    for key in range(200):
        cache.put(key % 120, str(key))
        for _ in range(key % 5):
            cache.get(key % 7)
    other = duplicate(cache)
    assert sorted(other.entries()) == sorted(cache.entries())
    if shards == 1:
        assert list(other) == list(cache)
    assert configuration(other) == configuration(cache)
    assert (other.items, other.bytes) == (cache.items, cache.bytes)
    before = list(cache.entries())
    other.clear()
    other["x"] = 1
    assert list(cache.entries()) == before


def test_statistics_begin_anew(make_cache: MakeCache, duplicate: Callable[[Any], Any]) -> None:
    """Making the copy is not counted either."""
    cache = make_cache()
    cache["a"] = 1
    _ = cache["a"], cache.get("b")
    counts, nothing = duplicate(cache).stats(), make_cache().stats()
    assert (counts.items, counts.bytes) == (1, 1)
    for count in ("hits", "misses", "insertions", "updates", "evictions", "expirations", "removals"):
        assert getattr(counts, count) == getattr(nothing, count) == 0


def test_the_order_goes_on_as_it_would_have(make_cache: MakeCache, duplicate: Callable[[Any], Any]) -> None:
    """Frequencies are kept: the same accesses lead to the same victims."""
    cache = make_cache("lfu", max_items=4)
    for key, times in zip("abcd", (5, 3, 4, 2), strict=True):
        for _ in range(times):
            cache.put(key, times)
    other = duplicate(cache)
    for one in (cache, other):
        for key in "efghe":
            one.put(key, 0)
            one.put(key, 0)
    assert list(other) == list(cache)


def test_frequencies_that_were_halved_are_kept(make_cache: MakeCache, duplicate: Callable[[Any], Any]) -> None:
    """An entry of frequency 0 needs one access more than one of frequency 1, in the copy too."""
    cache = make_cache("lfu")
    cache["old"] = cache["hot"] = 1
    for _ in range(1000):
        _ = cache["hot"]
    cache["new"] = 1
    other = duplicate(cache)
    for one in (cache, other):
        _ = one["old"]
        one["newest"] = 1
        assert list(one) == ["new", "old", "newest", "hot"]


def test_time_left_to_live_is_kept(make_cache: MakeCache, duplicate: Callable[[Any], Any]) -> None:
    """An entry expires in the copy at the same time. An entry without a deadline gets none from the default."""
    cache = make_cache(default_ttl=10, scan_interval=3600)
    cache.put("short", 1, ttl=1)
    cache.put("minute", 1, ttl=60)
    cache.put("ever", 1)
    cache.touch("ever", None)
    advance(5)
    other = duplicate(cache)
    assert other.ttl("minute") == pytest.approx(55, abs=0.5)
    assert other.ttl("ever") is None
    assert "short" not in other
    advance(60)
    assert list(other) == ["ever"]


def test_random_keeps_its_contents(make_cache: MakeCache, duplicate: Callable[[Any], Any]) -> None:
    """The random policy has no order, so only the contents are compared."""
    cache = make_cache("random", max_items=50)
    cache.set_many({key: key for key in range(100)})
    assert set(duplicate(cache)) == set(cache)


def test_a_subclass_keeps_its_class_and_attributes(duplicate: Callable[[Any], Any]) -> None:
    """As pickle treats any object: __init__ is not run again."""
    cache = Special("fifo", max_items=3)
    cache.tag = "changed"
    cache["a"] = 1
    other = duplicate(cache)
    assert (type(other), other.tag, dict(other.entries())) == (Special, "changed", {"a": 1})


def test_a_subclass_keeps_its_slots(duplicate: Callable[[Any], Any]) -> None:
    """Attributes need no __dict__."""
    cache = Slotted(max_items=3)
    cache.tag = "set"
    cache["a"] = 1
    assert duplicate(cache).tag == "set"


def test_the_configuration_is_kept(make_cache: MakeCache, duplicate: Callable[[Any], Any]) -> None:
    """The whole configuration is copied, however it was passed."""
    cache = make_cache("random", dt.timedelta(seconds=0.5), background_expiry=2, thread_safe=False, on_evict=print)
    assert configuration(duplicate(cache)) == configuration(cache)
    cache = make_cache(default_ttl=dt.datetime.now() + dt.timedelta(minutes=1), background_expiry=True)
    other = duplicate(cache)
    other["a"] = 1
    assert 59 < other.ttl("a") <= 60.1


def test_a_cache_in_its_own_values(make_cache: MakeCache) -> None:
    """A cycle survives pickle and deepcopy."""
    cache = make_cache()
    cache["self"] = [cache]
    for other in (pickle.loads(pickle.dumps(cache)), copy.deepcopy(cache)):
        assert other["self"][0] is other
        other.clear()
    cache.clear()


def test_a_shallow_copy_shares_its_values(make_cache: MakeCache) -> None:
    """A shallow copy shares its values with the original, and a deep copy does not."""
    cache = make_cache()
    cache["a"] = ["list"]
    assert cache.copy()["a"] is cache["a"]
    assert copy.deepcopy(cache)["a"] is not cache["a"]


def test_a_callback_that_cannot_be_pickled(make_cache: MakeCache) -> None:
    """Pickling raises pickle's own exception. A copy has the same callback."""
    told: list[Any] = []
    cache = make_cache(on_evict=lambda *leaver: told.append(leaver))
    cache["a"] = 1
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(cache)
    cache.copy().clear()
    assert told == [("a", 1, "cleared")]


@pytest.mark.parametrize(
    "state", [None, 5, (), ([(1, 2)], None, {}), ([5], None, {}), ({}, None, {}), ([(1, 2, "x", 0)], None, {})]
)
def test_a_state_that_is_none(make_cache: MakeCache, state: Any) -> None:
    """A damaged pickle gives a clear error."""
    cache = make_cache()
    with pytest.raises(ValueError, match="not the state of a FlexCache"):
        cache.__setstate__(state)
