"""One computation a key: threads, tasks, both; errors, cancellation, circles, forks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from waiting import until

from flexcache_rs import CircularLoadError, FlexCache, _core, memoize

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

PROGRAMS = Path(__file__).parent.parent / "programs"


class Gate:
    """A computation that waits until it is let go, and counts itself."""

    def __init__(self, result: Any = "result") -> None:
        self.result = result
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()
        self.count = 0

    def __call__(self, *_: Any) -> Any:
        self.count += 1
        self.begun.release()
        assert self.open.wait(60)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def waiting(cache: FlexCache[Any, Any], key: Any) -> int:
    """How many wait for the computation of a key."""
    return dict(_core._loads_in_progress(cache)).get(key, 0)


def loading(cache: FlexCache[Any, Any]) -> bool:
    """Whether something is being computed."""
    return bool(_core._loads_in_progress(cache))


def assert_shared(outcomes: list[Any], result: Any) -> None:
    """Everybody got the result; of an exception, each has an object of its own."""
    if isinstance(result, Exception):
        assert all(type(outcome) is type(result) and outcome.args == result.args for outcome in outcomes)
        assert len({id(outcome) for outcome in outcomes}) == len(outcomes)
    else:
        assert all(outcome is result for outcome in outcomes)


@pytest.mark.parametrize("how", ["get_or_set", "memoize"])
@pytest.mark.parametrize("result", ["result", None, ValueError("wrong")], ids=str)
def test_fifty_threads_cause_one_call(how: str, result: Any) -> None:
    """And share what came of it, be it an exception."""
    cache: FlexCache[Any, Any] = FlexCache()
    gate = Gate(result)
    memoized = memoize(gate, cache=cache)
    key = "key" if how == "get_or_set" else memoized.cache_key(1)
    ask = (lambda: cache.get_or_set("key", gate)) if how == "get_or_set" else (lambda: memoized(1))
    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(ask) for _ in range(50)]
        until(lambda: waiting(cache, key) == 49)
        gate.open.set()
        outcomes = [one.exception() or one.result() for one in asked]
    assert gate.count == 1
    assert_shared(outcomes, result)
    assert not loading(cache)
    assert (key in cache) is not isinstance(result, Exception)


def in_loop(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("result", ["result", ValueError("wrong")], ids=str)
def test_fifty_tasks_cause_one_call(result: Any) -> None:
    calls = []

    async def main() -> None:
        opened = asyncio.Event()

        @memoize
        async def load(number: int) -> Any:
            calls.append(number)
            await opened.wait()
            if isinstance(result, Exception):
                raise result
            return result

        tasks = [asyncio.create_task(load(1)) for _ in range(50)]
        while waiting(load.cache, 1) < 50:
            await asyncio.sleep(0)
        opened.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert_shared(outcomes, result)

    in_loop(main)
    assert calls == [1]


@pytest.mark.parametrize("leader", ["thread", "task"])
def test_threads_and_tasks_of_several_loops_share(leader: str) -> None:
    """One call, whoever came first."""
    cache: FlexCache[str, Any] = FlexCache()
    gate = Gate()

    async def compute() -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, gate)

    async def many() -> list[Any]:
        return await asyncio.gather(*(cache.aget_or_set("key", compute) for _ in range(10)))

    with ThreadPoolExecutor(20) as pool:
        first: Any = pool.submit(cache.get_or_set, "key", gate) if leader == "thread" else pool.submit(in_loop, many)
        assert gate.begun.acquire(timeout=60)
        loops = [pool.submit(in_loop, many) for _ in range(3)]
        threads = [pool.submit(cache.get_or_set, "key", gate) for _ in range(10)]
        until(lambda: waiting(cache, "key") >= 40)
        gate.open.set()
        assert all(one.result() == "result" for one in threads)
        assert all(one.result() == ["result"] * 10 for one in loops)
        first.result()
    assert gate.count == 1


def test_a_hit_of_another_is_seen() -> None:
    """What was stored while a call was on its way is not computed."""
    cache: FlexCache[str, int] = FlexCache()

    def factory() -> int:
        cache["b"] = 2
        return 1

    assert cache.get_or_set("a", factory) == 1
    assert cache.get_or_set("b", factory) == 2


def test_get_or_set_takes_ttl_and_tags() -> None:
    cache: FlexCache[str, int] = FlexCache()
    assert cache.get_or_set("a", lambda: 1, 60, tags=("t",)) == 1
    assert cache.get_or_set("b", factory=lambda: 2, ttl=60) == 2
    remaining = cache.ttl("a")
    assert remaining is not None
    assert 59 < remaining <= 60
    assert cache.evict_tag("t") == 1
    with pytest.raises(TypeError, match="missing required argument: 'factory'"):
        cache.get_or_set("c")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="factory must be callable"):
        cache.get_or_set("c", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unhashable"):
        cache.get_or_set([], lambda: 1)  # type: ignore[arg-type]


def test_aget_or_set_takes_plain_functions() -> None:
    cache: FlexCache[str, int] = FlexCache()

    async def main() -> None:
        assert await cache.aget_or_set("a", lambda: 1, 60, ("t",)) == 1
        assert await cache.aget_or_set("a", lambda: 2) == 1

    in_loop(main)
    assert cache.tags("a") == ("t",)


def test_a_call_that_needs_itself_raises() -> None:
    """Instead of waiting for itself; directly and through another."""
    cache: FlexCache[str, Any] = FlexCache()
    with pytest.raises(CircularLoadError, match="'a'"):
        cache.get_or_set("a", lambda: cache.get_or_set("a", int))
    with pytest.raises(CircularLoadError, match="'a'"):
        cache.get_or_set("a", lambda: cache.get_or_set("b", lambda: cache.get_or_set("a", int)))
    assert not loading(cache)
    assert cache.get_or_set("a", lambda: 1) == 1


def test_a_circle_of_threads_raises() -> None:
    """Each computes what the other waits for: one of them at least is told so, none hangs."""
    cache: FlexCache[str, Any] = FlexCache()
    both = threading.Barrier(2)

    def load(own: str, other: str) -> Any:
        def compute() -> Any:
            both.wait(60)
            return cache.get_or_set(other, lambda: pytest.fail("it is being computed"))

        return cache.get_or_set(own, compute)

    with ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(load, "a", "b"), pool.submit(load, "b", "a")]
        errors = [one.exception(60) for one in loads]
    assert any(isinstance(error, CircularLoadError) for error in errors)
    assert not loading(cache)


def test_a_circle_of_tasks_raises() -> None:
    async def main() -> None:
        cache: FlexCache[str, Any] = FlexCache()

        async def load(own: str, other: str) -> Any:
            async def compute() -> Any:
                await asyncio.sleep(0)
                return await cache.aget_or_set(other, int)

            return await cache.aget_or_set(own, compute)

        errors = await asyncio.gather(load("a", "b"), load("b", "a"), return_exceptions=True)
        assert any(isinstance(error, CircularLoadError) for error in errors)
        assert await cache.aget_or_set("a", lambda: 1) == 1

    in_loop(main)


def test_a_thread_that_blocks_its_own_loop_raises() -> None:
    """Waiting in a loop's thread for what a task of that loop computes would be for ever."""
    cache: FlexCache[str, Any] = FlexCache()

    async def main() -> None:
        opened = asyncio.Event()

        async def compute() -> str:
            await opened.wait()
            return "late"

        task = asyncio.create_task(cache.aget_or_set("key", compute))
        await asyncio.sleep(0)
        with pytest.raises(CircularLoadError):
            cache.get_or_set("key", str)
        opened.set()
        assert await task == "late"

    in_loop(main)


def test_a_waiter_that_is_cancelled_cancels_nobody_else() -> None:
    """Not even where it was the first to ask."""

    async def main() -> None:
        opened, begun = asyncio.Event(), asyncio.Event()
        cache: FlexCache[str, Any] = FlexCache()

        async def compute() -> str:
            begun.set()
            await opened.wait()
            return "result"

        tasks = [asyncio.create_task(cache.aget_or_set("key", compute)) for _ in range(3)]
        await begun.wait()
        tasks[0].cancel()
        tasks[1].cancel()
        await asyncio.wait(tasks[:2])
        opened.set()
        assert await tasks[2] == "result"
        assert tasks[0].cancelled()
        assert tasks[1].cancelled()

    in_loop(main)


@pytest.mark.parametrize("begun", [False, True])
def test_what_nobody_waits_for_any_more_is_cancelled(begun: bool) -> None:
    """And the next who asks begins anew."""

    async def main() -> None:
        cache: FlexCache[str, Any] = FlexCache()
        stopped = asyncio.Event()

        async def compute() -> str:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
            return "never"

        task = asyncio.create_task(cache.aget_or_set("key", compute))
        await asyncio.sleep(0)
        if begun:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await cache.aget_or_set("key", lambda: 1) == 1
        if begun:
            await stopped.wait()

    in_loop(main)


def test_what_stops_a_thread_is_not_shared() -> None:
    """Another thread takes over."""
    cache: FlexCache[str, Any] = FlexCache()
    gate = Gate(KeyboardInterrupt())
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get_or_set, "key", gate)
        assert gate.begun.acquire(timeout=60)
        second = pool.submit(cache.get_or_set, "key", lambda: "second")
        until(lambda: waiting(cache, "key") == 1)
        gate.open.set()
        assert isinstance(first.exception(60), KeyboardInterrupt)
        assert second.result(60) == "second"


def test_a_loop_that_was_closed_keeps_nobody_waiting() -> None:
    """What was left in it is computed by whoever asks next."""
    cache: FlexCache[str, Any] = FlexCache()

    async def never() -> None:
        await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    task = loop.create_task(cache.aget_or_set("key", never))
    loop.run_until_complete(asyncio.sleep(0))
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(cache.get_or_set, "key", lambda: "second")
        until(lambda: waiting(cache, "key") == 2)
        loop.close()
        assert second.result(60) == "second"
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_refresh_never_joins_an_older_computation() -> None:
    """It began before what the refresh is to see. What comes later joins the refresh."""
    gates = [Gate("old"), Gate("new")]
    turns = iter(gates)
    function = memoize(lambda _: next(turns)())
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(function, 1)
        assert gates[0].begun.acquire(timeout=60)
        second = pool.submit(function.refresh, 1)
        assert gates[1].begun.acquire(timeout=60)
        third = pool.submit(function, 1)
        until(lambda: sum(waits for _, waits in _core._loads_in_progress(function.cache)) == 1)
        gates[1].open.set()
        assert second.result(60) == third.result(60) == "new"
        gates[0].open.set()
        assert first.result(60) == "old"
    assert function(1) == "new", "the older one has not the last word"
    assert not loading(function.cache)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore")
def test_a_child_does_not_wait_for_its_parents_threads() -> None:
    """What a thread of the parent computes is computed anew in the child."""
    program = PROGRAMS / "fork_in_flight.py"
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "second\n"), done.stderr


def test_keys_that_fail_to_compare_leave_nothing_behind() -> None:
    """The caller is told; the next call is not kept waiting."""

    class Key:
        failing = False

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            if Key.failing:
                raise LookupError("no comparison")
            return self is other

    cache: FlexCache[Key, Any] = FlexCache()
    gate = Gate()
    other, key = Key(), Key()
    cache[Key()] = 0

    def compute() -> int:
        Key.failing = True
        return 1

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get_or_set, other, gate)
        assert gate.begun.acquire(timeout=60)
        with pytest.raises(LookupError, match="no comparison"):
            cache.get_or_set(key, compute)
        Key.failing = False
        cache.clear()
        assert pool.submit(cache.get_or_set, key, lambda: 2).result(60) == 2
        gate.open.set()
        assert first.result(60) == "result"
    assert not loading(cache)
