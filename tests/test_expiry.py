"""Time to live: how it is passed, and when entries expire."""

from __future__ import annotations

import datetime as dt
import pickle
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from specimens import Sized

from flexcache_rs.testing import advance

if TYPE_CHECKING:
    from specimens import MakeCache

MINUTE = dt.timedelta(minutes=1)


def in_a_minute(zone: dt.tzinfo | None) -> dt.datetime:
    """Return the time in a minute in a time zone. None means naive local time."""
    return dt.datetime.now(zone) + MINUTE


TTLS: dict[str, Any] = {
    "int": lambda: 60,
    "float": lambda: 60.0,
    "timedelta": lambda: MINUTE,
    "aware datetime": lambda: in_a_minute(dt.timezone.utc),
    "datetime of another zone": lambda: in_a_minute(dt.timezone(dt.timedelta(hours=5, minutes=30))),
    "naive datetime": lambda: in_a_minute(None),
}


@pytest.fixture(params=TTLS)
def ttl(request: pytest.FixtureRequest) -> Any:
    """A minute, in each accepted form."""
    return TTLS[request.param]()


def gone(cache: Any, key: Any) -> bool:
    """Check that no call finds the key."""
    answers = {
        cache.get(key, "no") == "no",
        cache.peek(key, "no") == "no",
        key not in cache,
        key not in list(cache),
        key not in dict(cache.entries()),
        key not in cache.get_many([key]),
        not cache.touch(key, 1),
        not cache.delete(key),
    }
    assert len(answers) == 1
    return answers.pop()


def test_an_entry_lives_as_long_as_it_was_given(make_cache: MakeCache, policy: str, ttl: Any) -> None:
    """A minute is a minute, to within the clock's tick."""
    cache = make_cache(policy)
    cache.put("minute", 1, ttl)
    cache.put("ever", 2)
    assert 59 < cache.ttl("minute") <= 60.1
    assert cache.ttl("ever") is None
    advance(59)
    assert cache["minute"] == 1
    advance(1.1)
    assert gone(cache, "minute")
    assert cache["ever"] == 2


def test_the_default_is_used_where_a_call_says_nothing(make_cache: MakeCache, ttl: Any) -> None:
    """The default also applies to assignment, add and set_many. The ttl of a call takes precedence."""
    cache = make_cache(default_ttl=ttl)
    cache["assigned"] = 1
    cache.add("added", 1)
    cache.set("set", 1)
    cache.set_many({"many": 1})
    cache.put("own", 1, ttl=3600)
    advance(61)
    assert list(cache) == ["own"]


def test_every_storing_call_takes_a_ttl(make_cache: MakeCache) -> None:
    """put, set, add and set_many, by position and by name."""
    cache = make_cache()
    cache.put("a", 1, 60)
    cache.set("b", 1, 60)
    cache.add("c", 1, 60)
    cache.set_many({"d": 1}, 60)
    cache.put("e", 1, ttl=60)
    cache.set("f", 1, ttl=60)
    cache.add("g", 1, ttl=60)
    cache.set_many({"h": 1}, ttl=60)
    assert all(cache.ttl(key) is not None for key in cache)
    advance(61)
    assert len(cache) == 0
    assert cache.stats().expirations == 8


@pytest.mark.parametrize(
    "past", [0, -1, -1e300, dt.timedelta(days=-1), dt.datetime(1970, 1, 2, tzinfo=dt.timezone.utc)]
)
def test_what_is_not_after_now_has_expired(make_cache: MakeCache, past: Any) -> None:
    """A time in the past is no error. The entry expires at once."""
    told: list[Any] = []
    cache = make_cache(on_evict=lambda *leaver: told.append(leaver))
    cache.put("a", 1, past)
    assert gone(cache, "a")
    cache.scan()
    assert told == [("a", 1, "expired")]


def test_storing_anew_replaces_the_deadline(make_cache: MakeCache) -> None:
    """An update takes the new ttl, and none if it has none."""
    cache = make_cache()
    cache.put("a", 1, 60)
    cache.put("a", 2)
    assert cache.ttl("a") is None
    cache.put("b", 1)
    cache.put("b", 2, 60)
    advance(61)
    assert (cache.get("a"), cache.get("b")) == (2, None)


def test_touch(make_cache: MakeCache) -> None:
    """Sets another deadline, or none, and counts as no access."""
    cache = make_cache("lru", default_ttl=10)
    cache["a"], cache["b"] = 1, 2
    assert cache.touch("a", 60)
    assert cache.touch("b", None)
    assert not cache.touch("c", 60)
    assert list(cache) == ["a", "b"]
    advance(30)
    assert cache.ttl("a") == pytest.approx(30, abs=0.1)
    advance(31)
    assert list(cache) == ["b"]
    assert cache.touch("b", 0)
    assert len(cache) == 0


def test_an_absent_or_expired_key_can_be_added_again(make_cache: MakeCache) -> None:
    """set and add see no entry that has expired."""
    cache = make_cache(scan_interval=3600)
    cache.put("a", 1, 1)
    cache.put("b", 1, 1)
    advance(2)
    cache.set("a", 2)
    assert cache.add("b", 2)
    assert (cache["a"], cache["b"], cache.ttl("a")) == (2, 2, None)
    assert cache.stats().updates == 0


def test_expired_entries_leave_before_anything_is_evicted(make_cache: MakeCache, policy: str) -> None:
    """Expired entries, which no call can read, are removed first."""
    cache = make_cache(policy, max_items=4, scan_interval=3600)
    cache.put("a", 1)
    cache.put("short", 1, ttl=1)
    cache.put("b", 1)
    cache.put("brief", 1, ttl=1)
    advance(2)
    cache.put("c", 1)
    cache.put("d", 1)
    assert set(cache) == {"a", "b", "c", "d"}
    assert (cache.stats().evictions, cache.stats().expirations) == (0, 2)


def test_all_that_has_expired_leaves_before_anything_is_evicted(make_cache: MakeCache, policy: str) -> None:
    """There may be any number of expired entries, and each of them may be small."""
    cache = make_cache(policy, max_bytes=1000, scan_interval=3600)
    cache.put("stays", Sized(100))
    cache.set_many(dict.fromkeys(range(900)), ttl=1)
    advance(2)
    cache.put("large", Sized(500))
    assert "stays" in cache
    assert cache.stats().evictions == 0


def test_scan_removes_all_that_has_expired(make_cache: MakeCache, policy: str) -> None:
    """scan() removes all expired entries, and returns how many."""
    cache = make_cache(policy, scan_interval=3600)
    for key in range(3000):
        cache.put(key, key, ttl=1 + key % 3)
    assert cache.scan() == 0
    advance(1.5)
    assert cache.scan() == 1000
    assert cache.scan() == 0
    assert cache.stats().items == 2000


def test_automatic_scans(make_cache: MakeCache) -> None:
    """Storing and counting remove what has expired, at most every scan_interval seconds."""
    always, seldom = make_cache(), make_cache(scan_interval=100)
    for cache in (always, seldom):
        cache.put("x", 1, ttl=1000)
        cache.put("a", 1, ttl=1)
    advance(2)
    assert (len(always), len(seldom)) == (1, 2)
    advance(100)
    assert len(seldom) == 1
    seldom.put("b", 1, ttl=1)
    advance(2)
    assert seldom.items == 2
    assert list(seldom) == ["x"]


def test_ttl_of_nothing(make_cache: MakeCache) -> None:
    """ttl() raises KeyError for an absent or expired key."""
    cache = make_cache(scan_interval=3600)
    cache.put("a", 1, ttl=1)
    advance(2)
    for key in ("a", "b"):
        with pytest.raises(KeyError):
            cache.ttl(key)


def test_a_moment_is_converted_once(make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines use a monotonic clock, so setting the system's clock does not change them."""
    cache = make_cache()
    cache.put("a", 1, ttl=in_a_minute(dt.timezone.utc))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 59 < cache.ttl("a") <= 60.1
    advance(3600 * 24 * 365 * 100)
    assert gone(cache, "a")


def test_many_deadlines_against_a_model(make_cache: MakeCache, policy: str) -> None:
    """Lifetimes from milliseconds to years, and a clock that jumps."""
    cache, model = make_cache(policy), dict[int, float]()
    draw, now = random.Random(policy), 0.0
    for step in range(2000):
        lifetime = 10 ** draw.uniform(-1, 8)
        cache.put(step, step, ttl=lifetime)
        model[step] = now + lifetime
        if step % 50 == 0:
            by = 10 ** draw.uniform(-1, 6)
            advance(by)
            now += by
        # The real clock advances a little, so entries that are due within a second may be present or not.
        assert set(cache).issuperset(key for key, due in model.items() if due > now + 5)
        assert set(cache).issubset(key for key, due in model.items() if due > now - 0.1)
        if step % 50 == 0:
            model = {key: due for key, due in model.items() if due > now - 0.1}


INFINITY = float("inf")


def test_infinity_is_no_end(make_cache: MakeCache) -> None:
    """Every call that takes a time to live accepts infinity, also if the cache has a default."""
    cache = make_cache(default_ttl=60)
    cache.put("put", 1, ttl=INFINITY)
    cache.set("set", 1, ttl=INFINITY)
    cache.add("add", 1, ttl=INFINITY)
    cache.set_many({"set_many": 1}, ttl=INFINITY)
    cache.get_or_set("get_or_set", lambda: 1, ttl=INFINITY)
    cache["expire"] = 1
    cache.touch("expire", INFINITY)
    cache["default"] = 1
    assert {key for key in cache if cache.ttl(key) is None} == set(cache) - {"default"}
    advance(10**9)
    assert set(cache) == {"put", "set", "add", "set_many", "get_or_set", "expire"}


def test_infinity_as_a_default_or_an_interval(make_cache: MakeCache) -> None:
    """No entry expires, and no automatic scan happens. Copies behave in the same way."""
    cache = make_cache(default_ttl=INFINITY, scan_interval=INFINITY, background_expiry=INFINITY)
    cache["a"] = 1
    cache.put("b", 2, ttl=1)
    copies = (cache, cache.copy(), pickle.loads(pickle.dumps(cache)))
    advance(10**9)
    for each in copies:
        assert (each.ttl("a"), each["a"], "b" in each, len(each)) == (None, 1, False, 2)
        assert (each.scan(), len(each)) == (1, 1)


def test_less_than_nothing_has_expired(make_cache: MakeCache) -> None:
    """A negative time to live, even minus infinity, has expired at once."""
    cache = make_cache()
    cache.put("a", 1, ttl=-INFINITY)
    assert "a" not in cache


def test_what_is_too_long_says_what_to_give_instead(make_cache: MakeCache) -> None:
    """The longest time is 292 years. The error suggests infinity instead."""
    cache = make_cache()
    with pytest.raises(OverflowError, match=r"ttl must be less than 292 years.*float\('inf'\)"):
        cache.put("a", 1, ttl=10**12)
