"""Invalid arguments raise a clear error, and change nothing."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from specimens import Sized

from flexcache_rs import FlexCache
from flexcache_rs.testing import advance

if TYPE_CHECKING:
    from specimens import MakeCache

NAN, INF = float("nan"), float("inf")


class Index:
    """An object whose __index__ returns any given object."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __index__(self) -> Any:
        return self.value


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"eviction_policy": "mru"}, ValueError, ["eviction_policy", "'mru'", "'lru'", "'random'"]),
        ({"eviction_policy": 5}, TypeError, ["eviction_policy", "on_insert", "int"]),
        ({"max_items": -1}, ValueError, ["max_items", "-1"]),
        ({"max_items": 1.5}, TypeError, ["max_items", "float"]),
        ({"max_items": "10"}, TypeError, ["max_items", "str"]),
        ({"max_items": True}, TypeError, ["max_items", "bool"]),
        ({"max_items": 2**64}, ValueError, ["max_items", str(2**64)]),
        pytest.param({"max_items": 10**5000}, ValueError, ["max_items"], id="huge max_items"),
        ({"max_items": int}, TypeError, ["max_items", "type"]),
        ({"max_items": Index("5")}, TypeError, ["max_items"]),
        ({"max_bytes": -5}, ValueError, ["max_bytes", "-5"]),
        ({"eviction_policy": None}, TypeError, ["eviction_policy", "NoneType"]),
        ({"max_bytes": None}, TypeError, ["max_bytes", "NoneType"]),
        ({"shards": 0}, ValueError, ["shards", "0"]),
        ({"shards": -1}, ValueError, ["shards", "-1"]),
        ({"shards": 10**9}, ValueError, ["shards", str(10**9)]),
        ({"shards": 8, "max_items": 4}, ValueError, ["shards", "max_items"]),
        ({"shards": 2.0}, TypeError, ["shards", "float"]),
        ({"scan_interval": -1}, ValueError, ["scan_interval", "-1"]),
        ({"scan_interval": NAN}, ValueError, ["scan_interval", "NaN"]),
        ({"scan_interval": "1"}, TypeError, ["scan_interval", "str"]),
        ({"scan_interval": dt.timedelta(seconds=-1)}, ValueError, ["scan_interval", "days=-1"]),
        pytest.param({"scan_interval": 10**5000}, OverflowError, ["scan_interval"], id="huge scan_interval"),
        pytest.param({"scan_interval": -(10**5000)}, ValueError, ["scan_interval"], id="huge negative interval"),
        ({"background_expiry": dt.timedelta(seconds=-1)}, ValueError, ["background_expiry", "days=-1"]),
        ({"background_expiry": -1}, ValueError, ["background_expiry", "-1"]),
        ({"background_expiry": "yes"}, TypeError, ["background_expiry", "str"]),
        ({"default_ttl": "1h"}, TypeError, ["default_ttl", "str"]),
        ({"default_ttl": NAN}, ValueError, ["default_ttl", "NaN"]),
        ({"default_ttl": 1e11}, OverflowError, ["default_ttl", "100000000000"]),
        ({"default_ttl": True}, TypeError, ["default_ttl", "bool"]),
        ({"on_evict": 5}, TypeError, ["on_evict", "int"]),
        ({"name": 5}, TypeError, ["name", "int"]),
        ({"thread_safe": "no"}, TypeError, ["thread_safe", "str"]),
        ({"nonsense": 1}, TypeError, ["nonsense"]),
    ],
)
def test_an_option_that_makes_no_sense(options: dict[str, Any], error: type[Exception], parts: list[str]) -> None:
    """The exception names the argument and the value, or its type."""
    with pytest.raises(error) as raised:
        FlexCache(**options)
    for part in parts:
        assert part in str(raised.value)


@pytest.fixture
def full(make_cache: MakeCache) -> Any:
    """A cache with entries, and its expected state."""
    cache = make_cache("lru", max_items=3, max_bytes=100)
    cache.put("a", 1, ttl=3600)
    cache.put("b", Sized(50))
    cache.put("c", 3)
    before = (list(cache.entries()), cache.bytes, cache.stats(), cache.max_items, cache.max_bytes)
    yield cache
    assert (list(cache.entries()), cache.bytes, cache.stats(), cache.max_items, cache.max_bytes) == before


@pytest.mark.parametrize("key", ["a", "new"])
@pytest.mark.parametrize(
    ("ttl", "error", "part"),
    [
        ("1h", TypeError, "str"),
        (True, TypeError, "bool"),
        ([], TypeError, "list"),
        (dt.date(2030, 1, 1), TypeError, "date"),
        (1j, TypeError, "complex"),
        (NAN, ValueError, "NaN"),
        (1e11, OverflowError, "100000000000"),
        (1e30, OverflowError, "1e"),
        (10**30, OverflowError, "ttl"),
        pytest.param(10**5000, OverflowError, "ttl", id="huge"),
        (int, TypeError, "type"),
        (Index("5"), TypeError, "Index"),
        (dt.timedelta.max, OverflowError, "ttl"),
        (dt.datetime.max, OverflowError, "ttl"),
    ],
)
def test_a_ttl_that_is_no_time(full: Any, key: str, ttl: Any, error: type[Exception], part: str) -> None:
    """Every call with a ttl refuses it."""
    calls = [
        lambda: full.put(key, 9, ttl),
        lambda: full.put(key, 9, ttl=ttl),
        lambda: full.set("new", 9, ttl),
        lambda: full.add("new", 9, ttl),
        lambda: full.touch(key, ttl),
        lambda: full.set_many({key: 9}, ttl),
    ]
    for call in calls:
        with pytest.raises(error) as raised:
            call()
        assert "ttl" in str(raised.value)
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("size", "error", "parts"),
    [
        (-1, ValueError, ["item_size() of Sized", "-1", "0 to 2**64 - 1"]),
        (2**64, ValueError, ["item_size() of Sized", str(2**64)]),
        pytest.param(10**5000, ValueError, ["item_size() of Sized"], id="huge"),
        (1.0, TypeError, ["item_size() of Sized", "float"]),
        (None, TypeError, ["item_size() of Sized", "NoneType"]),
        (Index("5"), TypeError, ["item_size() of Sized"]),
        ("5", TypeError, ["item_size() of Sized", "str"]),
        (101, ValueError, ["101", "max_bytes", "100"]),
        (LookupError("lost"), LookupError, ["lost"]),
    ],
)
def test_a_size_that_makes_no_sense(full: Any, size: Any, error: type[Exception], parts: list[str]) -> None:
    """It is refused whether the key is present or not."""
    for store in (full.put, full.__setitem__):
        for key in ("a", "new"):
            with pytest.raises(error) as raised:
                store(key, Sized(size))
            assert all(part in str(raised.value) for part in parts)
    for store in (full.set, full.add):
        with pytest.raises(error):
            store("new", Sized(size))


class Unhashable:
    """Raises when hashed."""

    def __hash__(self) -> int:
        raise LookupError("no hash")


@pytest.mark.parametrize(("key", "error"), [([], TypeError), (([],), TypeError), (Unhashable(), LookupError)])
def test_a_key_that_cannot_be_hashed(full: Any, key: Any, error: type[Exception]) -> None:
    """Every call that takes a key passes the exception on."""
    calls = [
        lambda: full[key], lambda: full.get(key), lambda: full.get(key, 1), lambda: full.peek(key),
        lambda: key in full, lambda: full.put(key, 1), lambda: full.set(key, 1), lambda: full.add(key, 1),
        lambda: full.__setitem__(key, 1), lambda: full.__delitem__(key), lambda: full.delete(key),
        lambda: full.pop(key), lambda: full.pop(key, 1), lambda: full.touch(key, 1), lambda: full.ttl(key),
        lambda: full.set_many({"new": 1, 5: 1}.items() | {(5, 1)} and [("new", 1), (key, 1)]),
        lambda: full.delete_many([key]),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(error):
            call()


def test_get_many_of_a_key_that_cannot_be_hashed(full: Any) -> None:
    """Raises before it has counted anything when the key is the first."""
    with pytest.raises(TypeError):
        full.get_many([[]])
    for bad in (5, None):
        with pytest.raises(TypeError, match="iterable"):
            full.get_many(bad)
        with pytest.raises(TypeError, match="iterable"):
            full.delete_many(bad)


@pytest.mark.parametrize(
    "limits", [{"max_items": -1}, {"max_bytes": 1.5}, {"max_items": "x"}, {"max_items": 1, "max_bytes": -1}]
)
def test_resize_to_nonsense(full: Any, limits: dict[str, Any]) -> None:
    """Refused before either limit has changed."""
    with pytest.raises((TypeError, ValueError)):
        full.resize(**limits)


def test_resize_below_the_number_of_shards(make_cache: MakeCache) -> None:
    """Each shard must be allowed one entry."""
    cache = make_cache(shards=8, max_items=16)
    with pytest.raises(ValueError, match="shards"):
        cache.resize(max_items=4)
    assert cache.max_items == 16


@pytest.mark.parametrize(
    ("seconds", "error"), [(-1, ValueError), (dt.timedelta(-1), ValueError), (NAN, ValueError), ("1", TypeError)]
)
def test_the_clock_of_tests_goes_forward_only(seconds: Any, error: type[Exception]) -> None:
    """advance() takes a duration."""
    with pytest.raises(error, match="seconds"):
        advance(seconds)
