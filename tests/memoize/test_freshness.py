"""Old results: refreshed in the background, early, or kept for when computing fails."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest

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
