"""Old results: refreshed in the background, early, or kept for when computing fails."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import pickle
import threading
from typing import Any

import pytest
from slow import waiting
from waiting import until

from flexcache_rs import FlexCache, _core, memoize
from flexcache_rs.testing import advance


class Numbers:
    """A function that counts its calls, and fails when told to."""

    def __init__(self) -> None:
        self.count = 0
        self.failing = False
        self.called = threading.Semaphore(0)
        self.__qualname__ = "numbers"

    def __call__(self, *_: Any) -> int:
        self.count += 1
        self.called.release()
        if self.failing:
            raise ValueError("wrong")
        return self.count


def settle(function: Any) -> None:
    """Waits until no refresh is in progress."""
    waiter = threading.Event()
    for _ in range(60_000):
        if not _core._loads_in_progress(function.cache):
            return
        waiter.wait(0.001)
    pytest.fail("a refresh did not end")


def test_soft_ttl_serves_the_old_and_refreshes_once() -> None:
    """In the background; the next call gets the new."""
    numbers = Numbers()
    function = memoize(numbers, ttl=100, soft_ttl=10)
    assert function(1) == 1
    advance(9)
    assert (function(1), numbers.count) == (1, 1)
    advance(2)
    assert function(1) == 1
    settle(function)
    assert (function(1), numbers.count) == (2, 2)
    advance(101)
    assert (function(1), numbers.count) == (3, 3)


def test_soft_ttl_starts_one_refresh_however_many_ask() -> None:
    numbers, opened = Numbers(), threading.Event()
    opened.set()

    def compute(_: int) -> int:
        assert opened.wait(60)
        return numbers()

    function = memoize(compute, soft_ttl=10)
    assert function(1) == 1
    opened.clear()
    advance(11)
    assert [function(1) for _ in range(20)] == [1] * 20
    opened.set()
    settle(function)
    assert (function(1), numbers.count) == (2, 2)


def test_a_refresh_that_fails_keeps_the_old(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and tried again by the next call."""
    numbers = Numbers()
    function = memoize(numbers, ttl=100, soft_ttl=10)
    function(1)
    numbers.failing = True
    advance(11)
    assert function(1) == 1
    settle(function)
    assert "refreshing numbers() failed" in caplog.text
    numbers.failing = False
    assert function(1) == 1
    settle(function)
    assert function(1) == 3


def test_soft_ttl_of_coroutines() -> None:
    """Refreshed by a task of the loop that asks."""
    count = 0

    @memoize(ttl=100, soft_ttl=10)
    async def load() -> int:
        nonlocal count
        count += 1
        return count

    async def main() -> None:
        assert [await load(), await load()] == [1, 1]
        advance(11)
        assert [await load(), await load()] == [1, 1]
        while _core._loads_in_progress(load.cache):
            await asyncio.sleep(0)
        assert await load() == 2
        assert load.peek() == 2

    asyncio.run(main())


def test_stale_if_error() -> None:
    """The old result replaces an exception, for as long as it was said."""
    numbers = Numbers()
    function = memoize(numbers, ttl=10, stale_if_error=20)
    assert function(1) == 1
    numbers.failing = True
    advance(11)
    assert function(1) == 1
    assert function(1) == 1
    assert numbers.count == 3, "each call tries anew"
    numbers.failing = False
    assert function(1) == 4
    numbers.failing = True
    advance(31)
    with pytest.raises(ValueError, match="wrong"):
        function(1)


def test_stale_if_error_of_a_function_without_a_name() -> None:
    """What is logged of it is its class."""
    numbers = Numbers()
    del numbers.__qualname__
    for nameless in (functools.partial(numbers), numbers):
        function = memoize(nameless, ttl=10, stale_if_error=20)
        numbers.failing = False
        result = function(1)
        numbers.failing = True
        advance(11)
        assert function(1) == result


def test_stale_if_error_of_coroutines() -> None:
    failing = False

    @memoize(ttl=10, stale_if_error=20)
    async def load() -> str:
        if failing:
            raise ValueError("wrong")
        return "fresh"

    async def main() -> None:
        nonlocal failing
        assert await load() == "fresh"
        failing = True
        advance(11)
        assert await load() == "fresh"
        advance(21)
        with pytest.raises(ValueError, match="wrong"):
            await load()

    asyncio.run(main())


def test_early_refresh_happens_before_the_end_and_not_at_the_start() -> None:
    """The likelier the nearer the end is."""
    refreshed = {60: 0, 5: 0}
    for left in refreshed:
        for _ in range(200):
            numbers = Numbers()

            def compute(_: int, numbers: Numbers = numbers) -> int:
                return numbers()

            function = memoize(compute, ttl=100, early_refresh=1.0)
            function(1)
            # As if it had taken five seconds.
            key = function.cache_key(1)
            found = function.cache[key]
            function.cache[key] = type(found)(found.value, False, 0.0, 100.0, 5.0)
            advance(100 - left)
            function(1)
            refreshed[left] += numbers.count == 2
    assert refreshed[60] <= 3
    assert 30 < refreshed[5] < 130


def test_a_result_that_costs_nothing_is_not_refreshed_early() -> None:
    numbers = Numbers()
    function = memoize(numbers, ttl=1000, early_refresh=1.0)
    function(1)
    for _ in range(99):
        advance(10)
        function(1)
    assert numbers.count == 1


def test_what_is_remembered_can_be_pickled() -> None:
    """With the cache it is in, and the time that is left."""
    cache: FlexCache[Any, Any] = FlexCache()
    function = cache.memoize(lambda number: number, ttl=100, soft_ttl=10)
    function(1)
    key = function.cache_key(1)
    found = pickle.loads(pickle.dumps(cache))[key]
    assert (found.value, found.raised) == (1, False)
    assert 99 < found.good_for <= 100
    assert repr(found) == "<remembered: 1>"


TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


def test_a_refresh_runs_in_the_context_of_its_caller() -> None:
    """Of threads and of tasks; what it changes there stays there."""

    def tenant(_: int) -> str:
        found = TENANT.get()
        TENANT.set("changed")
        return found

    async def atenant(_: int) -> str:
        return tenant(1)

    function, afunction = memoize(tenant, soft_ttl=5), memoize(atenant, soft_ttl=5)

    async def main() -> None:
        assert await afunction(1) == "nobody"
        advance(6)
        TENANT.set("task")
        assert await afunction(1) == "nobody"
        while _core._loads_in_progress(afunction.cache):
            await asyncio.sleep(0)
        assert (await afunction(1), TENANT.get()) == ("task", "task")

    contextvars.copy_context().run(function, 1)
    advance(6)
    contextvars.copy_context().run(lambda: (TENANT.set("thread"), function(1)))
    settle(function)
    assert (function(1), TENANT.get()) == ("thread", "nobody")
    asyncio.run(main())


def test_a_refresh_that_a_computation_starts_is_not_part_of_it() -> None:
    """It may wait for the computation, which does not wait for it."""
    outer_functions: list[Any] = []
    inner = memoize(lambda number: outer_functions[0](number) if outer_functions else "first", soft_ttl=5)
    assert inner(1) == "first"
    advance(6)

    def load(_: int) -> str:
        assert inner(1) == "first"
        until(lambda: waiting(outer_functions[0].cache))
        return "outer"

    outer_functions.append(memoize(load))
    assert outer_functions[0](1) == "outer"
    settle(inner)
    assert inner(1) == "outer"


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_a_thread_that_cannot_be_started(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, what is good is served, and the next call tries again."""
    numbers = Numbers()
    function = memoize(numbers, ttl=1000, soft_ttl=5)
    function(1)
    advance(6)

    def refuse(_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        if isinstance(error, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                function(1)
        else:
            assert function(1) == 1
            assert "refreshing numbers() failed" in caplog.text
    assert not _core._loads_in_progress(function.cache)
    assert function(1) == 1
    settle(function)
    assert function(1) == 2


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    ("options", "later"),
    [
        ({"ttl": 100, "early_refresh": 1e9}, 99),
        ({"ttl": 10, "stale_if_error": 1000}, 11),
        ({"ttl": 1000, "soft_ttl": 5}, 6),
    ],
    ids=["early_refresh", "stale_if_error", "soft_ttl"],
)
@pytest.mark.parametrize("awaited", [False, True])
def test_an_error_never_replaces_what_is_good(options: Any, later: int, kept: bool, awaited: bool) -> None:
    """Nor what may still replace an error, whether or not exceptions are kept."""
    numbers = Numbers()
    options = {**options, "cache_exceptions": kept}
    if awaited:

        async def load(_: int) -> int:
            return numbers()

        memoized: Any = memoize(load, **options)

        def function(number: int) -> Any:
            async def main() -> Any:
                value = await memoized(number)
                while _core._loads_in_progress(memoized.cache):
                    await asyncio.sleep(0)
                return value

            return asyncio.run(main())
    else:
        memoized = memoize(numbers, **options)

        def function(number: int) -> Any:
            value = memoized(number)
            settle(memoized)
            return value

    assert function(1) == 1
    numbers.failing = True
    advance(later)
    assert [function(1), function(1)] == [1, 1]
    with pytest.raises(ValueError, match="wrong"):
        asyncio.run(memoized.refresh(1)) if awaited else memoized.refresh(1)
    assert function(1) == 1
    numbers.failing = False
    for _ in range(3):
        function(1)
    assert function(1) > 1


def test_options_take_the_caches_default_ttl() -> None:
    """Wherever a ttl counts, given to the function or to a cache that it shares."""
    shared: FlexCache[Any, Any] = FlexCache(default_ttl=100)
    for function in (memoize(Numbers(), default_ttl=100, jitter=0.9), memoize(Numbers(), cache=shared, jitter=0.9)):
        for number in range(50):
            function(number)
        left = [function.cache.ttl(function.cache_key(number)) or 0.0 for number in range(50)]
        assert min(left) < 90
        assert max(left) <= 100
    numbers = Numbers()
    stale = memoize(numbers, default_ttl=10, stale_if_error=5)
    stale(1)
    numbers.failing = True
    advance(11)
    assert stale(1) == 1
    advance(10)
    with pytest.raises(ValueError, match="wrong"):
        stale(1)
    memoize(Numbers(), cache=shared, early_refresh=1.0)
    for options in ({"stale_if_error": 5}, {"early_refresh": 1.0}):
        with pytest.raises(ValueError, match="needs a ttl"):
            memoize(Numbers(), cache=FlexCache(), **options)


@pytest.mark.parametrize("tags", ["user:7", ("user:7",), lambda _: "user:7", lambda _: ["user:7"]])
def test_a_str_is_one_tag(tags: Any) -> None:
    cache: FlexCache[Any, Any] = FlexCache()
    function = memoize(Numbers(), cache=cache, tags=tags)
    function(1)
    assert cache.tags(function.cache_key(1)) == ("user:7",)
    assert cache.evict_tag("user:7") == 1
