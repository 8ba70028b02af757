"""Awaited calls of caches on disk."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.disk import Cache, FanoutCache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=[Cache, FanoutCache])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A cache of each kind."""
    cache = request.param(tmp_path, timeout=10)
    yield cache
    cache.close()


def test_every_call_has_an_awaited_one(cache: Any) -> None:
    """With the same results."""

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
    """And their ends."""

    async def main() -> None:
        async with Cache(tmp_path) as cache:
            assert await cache.apush("first") == 500_000_000_000_000
            assert await cache.apeek() == (500_000_000_000_000, "first")
            assert await cache.apeekitem() == (500_000_000_000_000, "first")
            assert await cache.apull() == (500_000_000_000_000, "first")

    asyncio.run(main())


def test_the_loop_goes_on_while_a_write_waits(tmp_path: Path) -> None:
    """For another that holds the database."""
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
    """Of a task and those it starts: all or nothing, nested or not."""

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


def test_a_transaction_that_is_given_up_while_it_waits(tmp_path: Path) -> None:
    """Leaves the database free."""
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
    """What they return is stored, not the coroutine."""
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
