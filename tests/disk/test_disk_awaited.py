"""Awaited calls of caches on disk."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import queue
import subprocess
import sys
import threading
import time
import warnings
from concurrent import futures
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.disk import Cache, FanoutCache, Timeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path


@pytest.fixture(params=[Cache, FanoutCache])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A cache of each kind."""
    cache = request.param(tmp_path, timeout=10)
    yield cache
    cache.close()


def test_every_call_has_an_awaited_one(cache: Any) -> None:
    """Each call has an awaited version with the same results."""

    async def main() -> None:
        assert await cache.aset("a", 1, expire=60, tag="x") is True
        assert await cache.aadd("a", 2) is False
        assert await cache.aget("a", tag=True) == (1, "x")
        assert await cache.atouch("a", 100) is True
        assert await cache.aincr("n", 2) == 2
        assert await cache.adecr("n") == 1
        assert await cache.apop("n") == 1
        assert await cache.adelete("n") is False
        assert await cache.avolume() > 0
        assert await cache.acheck() == []
        assert [key async for key in cache] == ["a"]
        assert await cache.aevict("x") == 1
        assert await cache.aset("b", 1, tag="y") is True
        assert await cache.aevict_tag("y") == 1
        assert await cache.aexpire() == 0
        assert await cache.acull() == 0
        assert await cache.aclear() == 0
        with pytest.raises(KeyError):
            await cache.aread("a")
        async with cache:
            pass
        await cache.aclose()

    asyncio.run(main())


def test_queues(tmp_path: Path) -> None:
    """Awaited calls work at both ends of a queue."""

    async def main() -> None:
        async with Cache(tmp_path) as cache:
            assert await cache.apush("first") == 500_000_000_000_000
            assert await cache.apeek() == (500_000_000_000_000, "first")
            assert await cache.apeekitem() == (500_000_000_000_000, "first")
            assert await cache.apull() == (500_000_000_000_000, "first")

    asyncio.run(main())


def test_the_loop_goes_on_while_a_write_waits(tmp_path: Path) -> None:
    """The event loop runs other tasks while a write waits for another process."""
    cache = Cache(tmp_path)

    async def main() -> None:
        with cache.transact():
            waiting = asyncio.create_task(cache.aset("a", 1))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not waiting.done()
        assert await waiting is True

    asyncio.run(main())


def test_transactions(cache: Any) -> None:
    """A transaction includes the calls of the task and of the tasks that it starts.

    It takes effect as a whole or not at all, nested or not.
    """

    async def main() -> None:
        async with cache.atransact():
            await asyncio.gather(cache.aset("a", 1), cache.aset("b", 2))
            async with cache.atransact():
                await cache.aset("c", 3)
        with pytest.raises(ZeroDivisionError):
            async with cache.atransact():
                await cache.aset("a", 9)
                raise ZeroDivisionError
        assert [await cache.aget(key) for key in "abc"] == [1, 2, 3]

    asyncio.run(main())


def test_a_thread_that_is_quicker_than_its_caller(cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of a transaction may have made a call before the caller goes on."""

    class Quick(queue.SimpleQueue[Any]):
        def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
            super().put(item, block, timeout)
            if any(thread.name == "flexcache_rs.disk transaction" for thread in threading.enumerate()):
                futures.wait([item[0]], timeout=20)

    async def main() -> None:
        async with cache.atransact():
            await cache.aset("a", 1)
        with pytest.raises(KeyError):
            async with cache.atransact():
                await cache.aset("a", 2)
                raise KeyError

    monkeypatch.setattr(queue, "SimpleQueue", Quick)
    asyncio.run(main())
    assert cache["a"] == 1


def test_a_transaction_that_is_given_up_while_it_waits(tmp_path: Path) -> None:
    """A transaction that is cancelled while it waits leaves the database unlocked."""
    cache = Cache(tmp_path)

    async def begin() -> None:
        async with cache.atransact(retry=True):
            raise AssertionError

    async def main() -> None:
        with cache.transact():
            task = asyncio.create_task(begin())
            for _ in range(10):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await asyncio.wait_for(cache.aset("a", 1), 10) is True

    asyncio.run(main())


def test_memoized_coroutines(cache: Any) -> None:
    """A memoized coroutine function stores the result and not the coroutine."""
    calls = []

    @cache.memoize()  # type: ignore[untyped-decorator]
    async def square(number: int) -> int:
        calls.append(number)
        return number**2

    async def main() -> None:
        assert [await square(3), await square(3), await square(4)] == [9, 9, 16]

    asyncio.run(main())
    assert calls == [3, 4]
    assert cache[square.__cache_key__(3)] == 9


def free(cache: Any) -> bool:
    """Return True if another process could write now."""
    try:
        return bool(type(cache)(cache.directory, timeout=0.2).set("probe", 1))
    except Timeout:
        return False


def until_free(cache: Any) -> None:
    end = time.monotonic() + 20
    while not free(cache):
        assert time.monotonic() < end, "the transaction is still open"
    cache.delete("probe")


@pytest.fixture
def other(cache: Any) -> Any:
    """Return another object for the same directory."""
    kind = type(cache)
    return kind(cache.directory, timeout=1)


def quiet(loop: asyncio.AbstractEventLoop, noise: list[Any]) -> None:
    loop.set_exception_handler(lambda _, context: noise.append(context))


async def rows(cache: Any) -> AsyncGenerator[int, None]:
    async with cache.atransact(retry=True):
        await cache.aset("a", 1)
        for number in range(3):
            yield number


def test_a_generator_that_is_left(cache: Any, other: Any) -> None:
    """A generator that is left undoes its transaction. Later calls are outside the transaction."""
    noise: list[Any] = []

    async def main() -> None:
        quiet(asyncio.get_running_loop(), noise)
        async for _ in rows(cache):
            break
        gc.collect()
        await asyncio.sleep(0.05)
        assert await cache.aset("b", 1, retry=True)

    asyncio.run(main())
    assert (noise, "a" in other, "b" in other) == ([], False, True)


def test_a_generator_that_is_kept(cache: Any, other: Any) -> None:
    """A transaction in a generator ends with its task, even if the generator still exists.

    Continuing the generator raises.
    """
    kept: list[Any] = []

    async def begin() -> None:
        kept.append(rows(cache))
        await anext(kept[0])

    async def main() -> None:
        await asyncio.create_task(begin())
        assert await other.aset("b", 1, retry=True)
        with pytest.raises(RuntimeError, match="undone"):
            async for _ in kept[0]:
                pass

    asyncio.run(main())
    assert ("a" in other, "b" in other) == (False, True)


def test_a_loop_that_was_closed(cache: Any, other: Any) -> None:
    """An event loop is closed while a generator or a task has a transaction."""

    async def wait() -> None:
        async with cache.atransact(retry=True):
            await cache.aset("a", 1)
            begun.set()
            await asyncio.sleep(1000)

    kept: list[Any] = []
    for make in (lambda: anext(kept[0]), lambda: wait()):
        loop = asyncio.new_event_loop()
        begun = asyncio.Event()
        kept[:] = [rows(cache)]
        task = loop.create_task(make())  # type: ignore[arg-type]

        async def some(task: Any = task, begun: Any = begun) -> None:
            await asyncio.wait([task, asyncio.ensure_future(begun.wait())], return_when="FIRST_COMPLETED")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop.run_until_complete(some())
            for pending in asyncio.all_tasks(loop):
                # asyncio says of it that it was destroyed; that is known here.
                pending._log_destroy_pending = False  # type: ignore[attr-defined]
            loop.close()
        until_free(other)
        assert "a" not in other
        # The generator and the task are still there.
        assert task is not None
        del task
        with contextlib.suppress(RuntimeError):
            kept.clear()
            gc.collect()


def test_a_task_that_was_cancelled(cache: Any, other: Any) -> None:
    """A task is cancelled before the transaction begins, inside it, and while it ends."""
    noise: list[Any] = []

    async def work() -> None:
        async with cache.atransact(retry=True):
            await cache.aset("a", 1)
            await cache.aset("a", 2)

    async def main() -> None:
        quiet(asyncio.get_running_loop(), noise)
        for number in range(60):
            task = asyncio.create_task(work())
            for _ in range(number % 12):
                await asyncio.sleep(0)
            await asyncio.sleep(number % 5 / 2000)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert await other.aset("b", number, retry=True)

    asyncio.run(main())
    assert not noise
    until_free(other)
    assert other.get("a") in (None, 2)


def test_a_task_that_outlives_the_block(cache: Any, other: Any) -> None:
    """A task that runs longer than the block is outside the transaction afterwards."""

    async def late(end: asyncio.Event) -> None:
        await cache.aset("inside", 1)
        await end.wait()
        assert await cache.aset("after", 1, retry=True)
        async with cache.atransact(retry=True):
            await cache.aset("again", 1)

    async def main() -> None:
        end = asyncio.Event()
        with contextlib.suppress(ZeroDivisionError):
            async with cache.atransact(retry=True):
                task = asyncio.create_task(late(end))
                await cache.aset("a", 1)
                raise ZeroDivisionError
        end.set()
        await task

    asyncio.run(main())
    assert [key in other for key in ("a", "inside", "after", "again")] == [False, False, True, True]


def test_a_transaction_that_cannot_begin(tmp_path: Path) -> None:
    """A transaction that cannot begin raises at the start of its block. The next one begins."""
    cache, other = Cache(tmp_path, timeout=0.1), Cache(tmp_path)

    async def main() -> None:
        with other.transact(), pytest.raises(Timeout):
            async with cache.atransact():
                pass
        async with cache.atransact():
            await cache.aset("a", 1)

    asyncio.run(main())
    assert "a" in other


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_of_a_transaction(tmp_path: Path) -> None:
    """A forked child has its own threads and is outside the transaction."""
    program = """
import asyncio, os, sys
from flexcache_rs.disk import Cache
cache = Cache(sys.argv[1])
async def inside():
    return await cache.aget("a", "nothing")
async def main():
    async with cache.atransact():
        await cache.aset("a", 1)
        child = os.fork()
        if not child:
            asyncio._set_running_loop(None)
            print(asyncio.new_event_loop().run_until_complete(inside()), flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
asyncio.run(main())
print(cache["a"])
"""
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["nothing", "1"], done.stderr
