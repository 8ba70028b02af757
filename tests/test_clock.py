"""A cache with a user's clock."""

from __future__ import annotations

import copy
import gc
import pickle
import time
import weakref
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache, memoize

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """A clock that returns the time to which it was set."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now


@pytest.fixture(params=[0.0, -5.0, 1.9e9, 1e12], ids=str)
def clock(request: pytest.FixtureRequest) -> Clock:
    return Clock(request.param)


READS: list[Callable[[FlexCache[str, Any]], object]] = [
    lambda cache: cache.get("a") is not None,
    lambda cache: "a" in cache,
    lambda cache: cache.peek("a") is not None,
    lambda cache: bool(cache.get_many(["a"])),
    lambda cache: len(cache),
    lambda cache: list(cache),
    lambda cache: list(cache.values()),
    lambda cache: list(cache.entries()),
    lambda cache: cache.bytes,
    lambda cache: cache.items,
    lambda cache: cache.tags("a"),
    lambda cache: cache.touch("a", 10),
    lambda cache: cache.delete("a"),
    lambda cache: cache.pop("a", None) is not None,
    lambda cache: cache.evict_tag("t"),
    lambda cache: not cache.add("a", 2),
    lambda cache: not cache.scan(),
    lambda cache: cache.copy().get("a"),
    lambda cache: cache.get_or_set("a", lambda: None),
    lambda cache: cache.setdefault("a", None),
]


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("policy", ["lru", "s3fifo", "mine"])
def test_every_call_asks_the_clock(read: Callable[[FlexCache[str, Any]], object], policy: str, clock: Clock) -> None:
    class Mine:
        def __init__(self) -> None:
            self.keys: list[Any] = []

        def on_insert(self, key: Any) -> None:
            self.keys.append(key)

        def on_access(self, key: Any) -> None: ...

        def on_remove(self, key: Any) -> None:
            self.keys.remove(key)

        def victim(self) -> Any:
            return self.keys[0]

    chosen: Any = Mine() if policy == "mine" else policy
    for passed, is_there in ((9.5, True), (10, False)):
        cache: FlexCache[str, Any] = FlexCache(chosen, clock=clock, default_ttl=10)
        cache.put("a", 1, tags=("t",))
        clock.now += passed
        assert bool(read(cache)) is is_there
        cache.clear()


def test_the_time_left(clock: Clock) -> None:
    cache: FlexCache[str, int] = FlexCache(clock=clock)
    cache.put("a", 1, ttl=60)
    cache.put("b", 1, ttl=timedelta(seconds=90))
    cache.put("c", 1, ttl=datetime.now() + timedelta(seconds=120))
    clock.now += 15
    assert (cache.ttl("a"), cache.ttl("b")) == pytest.approx((45, 75), abs=1e-3)
    assert cache.ttl("c") == pytest.approx(105, abs=2)


def test_an_iterator_asks_it_at_each_step(clock: Clock) -> None:
    cache: FlexCache[str, int] = FlexCache(clock=clock)
    cache.put("a", 1, ttl=10)
    cache.put("b", 2, ttl=5)
    found = iter(cache)
    assert next(found) == "a"
    clock.now += 5
    assert list(found) == []


def test_a_clock_that_goes_back_stands_still(clock: Clock) -> None:
    cache: FlexCache[str, int] = FlexCache(clock=clock, default_ttl=10)
    cache["a"] = 1
    clock.now += 6
    assert cache["a"] == 1
    clock.now -= 1000
    assert cache.ttl("a") == pytest.approx(4, abs=1e-3)
    clock.now += 1004
    assert "a" not in cache


def test_copies_and_pickles_keep_it() -> None:
    cache: FlexCache[str, int] = FlexCache(clock=time.monotonic)
    cache.put("a", 1, ttl=60)
    for made in (cache.copy(), copy.copy(cache), pickle.loads(pickle.dumps(cache))):
        assert 50 < made.ttl("a") <= 60


def test_a_copy_goes_on_with_the_clock(clock: Clock) -> None:
    cache: FlexCache[str, int] = FlexCache(clock=clock, default_ttl=10)
    cache["a"] = 1
    clock.now += 5
    made = cache.copy()
    made["b"] = 2
    clock.now += 5
    assert (dict(made.entries()), len(cache)) == ({"b": 2}, 0)


@pytest.mark.parametrize("option", ["ttl", "soft_ttl", "default_ttl"])
def test_results_of_functions(option: str, clock: Clock) -> None:
    calls: list[int] = []
    options: dict[str, Any] = {"ttl": 20, option: 10} if option == "soft_ttl" else {option: 10}

    @memoize(clock=clock, **options)
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    assert double(2) == double(2) == 4
    clock.now += 9
    assert (double(2), calls) == (4, [2])
    clock.now += 12
    assert (double(2), calls) == (4, [2, 2])


def test_stale_results_and_exceptions(clock: Clock) -> None:
    fails = False

    @memoize(clock=clock, ttl=10, stale_if_error=30, cache_exceptions=KeyError, exception_ttl=5)
    def load(key: str) -> str:
        if fails:
            raise OSError
        return key

    assert load("a") == "a"
    fails = True
    clock.now += 20
    assert load("a") == "a"
    clock.now += 25
    with pytest.raises(OSError):
        load("a")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (3, TypeError, r"clock must be callable or None, not int \(3\)"),
        (str, TypeError, "clock <class 'str'> must return a number of seconds, not str"),
        (lambda: None, TypeError, "clock .* must return a number of seconds, not NoneType"),
        (lambda: float("nan"), ValueError, "clock .* must return a number of seconds, not nan"),
        (lambda: float("inf"), ValueError, "clock .* must return a number of seconds, not inf"),
        (lambda: 10**400, ValueError, "clock .* must return a number of seconds, not 1000"),
    ],
)
def test_what_is_no_clock(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FlexCache(clock=given)


@pytest.mark.parametrize("option", ["background_expiry", "store"])
def test_what_it_does_not_go_with(option: str, clock: Clock) -> None:
    given: Any = True if option == "background_expiry" else FlexCache()
    with pytest.raises(ValueError, match=f"clock must be None with {option}="):
        FlexCache(clock=clock, **{option: given})


def test_what_the_clock_raises_is_raised_and_nothing_has_changed() -> None:
    fails = False

    def clock() -> float:
        if fails:
            raise RuntimeError("no time")
        return 0.0

    cache: FlexCache[str, int] = FlexCache(clock=clock)
    cache["a"] = 1
    fails = True
    for call in (lambda: cache["a"], lambda: cache.put("a", 2), lambda: cache.delete("a"), lambda: len(cache)):
        with pytest.raises(RuntimeError, match="no time"):
            call()
    fails = False
    assert cache["a"] == 1


def test_a_clock_may_use_its_cache_and_is_collected_with_it() -> None:
    class Holder(Clock):
        cache: FlexCache[str, int] | None = None
        inside = False

        def __call__(self) -> float:
            if self.cache is not None and not self.inside:
                self.inside = True
                self.cache.get("a")
                self.inside = False
            return self.now

    holder = Holder()
    holder.cache = FlexCache(clock=holder, default_ttl=10)
    holder.cache["a"] = 1
    assert holder.cache["a"] == 1
    alive = weakref.ref(holder)
    del holder
    gc.collect()
    assert alive() is None
