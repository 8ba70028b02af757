"""Computations in progress whose task is cancelled, dropped, or in a loop that ends."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from slow import Slow, in_loop, waiting
from waiting import MANY, until

from flexcache_rs import FlexCache, LoadCancelled, _core

if TYPE_CHECKING:
    pass


@pytest.mark.parametrize("how", ["memoize", "aget_or_set"])
def test_a_computation_that_raises_cancelled_error_ends(how: str) -> None:
    """It is called once; all who wait get an error that a TaskGroup does not swallow."""
    calls = 0

    async def main() -> None:
        cache: FlexCache[Any, Any] = FlexCache()

        async def compute(_: int = 0) -> Any:
            nonlocal calls
            calls += 1
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            await asyncio.sleep(0)
            return await gone

        function = cache.memoize(compute)
        asked = [cache.aget_or_set("key", compute) if how == "aget_or_set" else function(1) for _ in range(3)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [LoadCancelled] * 3
        assert all(isinstance(outcome.__cause__, asyncio.CancelledError) for outcome in outcomes)  # type: ignore[union-attr]
        assert not _core._loads_in_progress(cache)

    in_loop(main)
    assert calls == 1


def test_a_thread_that_waits_gets_load_cancelled() -> None:
    cache: FlexCache[Any, Any] = FlexCache()
    slow = Slow(asyncio.CancelledError())
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get_or_set, "key", slow)
        assert slow.begun.wait(MANY)
        second = pool.submit(cache.get_or_set, "key", slow)
        until(lambda: waiting(cache) == 1)
        slow.go.set()
        assert isinstance(second.exception(MANY), LoadCancelled)
        assert isinstance(first.exception(MANY), asyncio.CancelledError)


def test_the_end_of_a_loop_is_no_error_of_a_computation() -> None:
    """A thread that waits for a task computes itself when the task's loop ends."""
    cache: FlexCache[Any, Any] = FlexCache()
    begun = threading.Event()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(cache.aget_or_set("key", never))
        while waiting(cache) != 2:
            await asyncio.sleep(0.001)
        task.cancel()

    with ThreadPoolExecutor(1) as pool:
        loop = asyncio.new_event_loop()
        second: Any = None

        async def both() -> None:
            nonlocal second
            running = asyncio.create_task(main())
            await asyncio.to_thread(begun.wait, MANY)
            second = pool.submit(cache.get_or_set, "key", lambda: "second")
            await running

        asyncio.run(both())
        loop.close()
        if sys.version_info >= (3, 11):
            assert second.result(MANY) == "second"
        else:  # A task does not tell whether it was cancelled from outside.
            assert isinstance(second.exception(MANY), LoadCancelled)


def test_a_task_that_is_dropped_lands_its_load() -> None:
    """Its loop is neither closed nor running any more."""
    cache: FlexCache[Any, Any] = FlexCache()

    async def never() -> None:
        await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    # The collector may close them before the loop, which then fails to stop listening to them.
    sockets = loop._ssock, loop._csock  # type: ignore[attr-defined]
    task = loop.create_task(cache.aget_or_set("key", never))
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    assert waiting(cache) == 1
    for one in asyncio.all_tasks(loop):
        one._log_destroy_pending = False  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        # A loop says so where nobody has closed it.
        warnings.simplefilter("ignore", ResourceWarning)
        del loop, task, one
        gc.collect()
    del sockets
    assert not _core._loads_in_progress(cache)
    assert cache.get_or_set("key", lambda: 1) == 1
