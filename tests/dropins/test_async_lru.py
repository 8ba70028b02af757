"""`flexcache_rs.async_lru` beyond async-lru's own tests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flexcache_rs.async_lru import alru_cache
from flexcache_rs.testing import advance


def test_the_time_is_the_caches() -> None:
    """No timer of the event loop: the result is gone when its time is over."""
    calls = []

    @alru_cache(ttl=60)
    async def load(key: int) -> int:
        calls.append(key)
        return key

    async def main() -> None:
        await load(1)
        advance(59)
        await load(1)
        assert load.cache_contains(1)
        advance(2)
        assert not load.cache_contains(1)
        await load(1)

    asyncio.run(main())
    assert calls == [1, 1]


def test_a_late_failure_leaves_the_newer_result() -> None:
    async def main() -> None:
        go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        fails = [True, False]

        @alru_cache
        async def load(key: int) -> str:
            if fails.pop(0):
                await go
                raise OSError("down")
            return "new"

        older = asyncio.create_task(load(1))
        await asyncio.sleep(0)
        assert load.cache_invalidate(1)
        assert await load(1) == "new"
        go.set_result(None)
        with pytest.raises(OSError, match="down"):
            await older
        assert load.cache_contains(1)
        assert await load(1) == "new"

    asyncio.run(main())


def test_called_through_the_class() -> None:
    class Thing:
        @alru_cache
        async def own(self, number: int) -> tuple[Any, int]:
            return self, number

    thing = Thing()
    assert asyncio.run(Thing.own(thing, 3)) == (thing, 3)
    assert thing.own.cache_info().currsize == 1


def test_keys_of_equal_numbers() -> None:
    """As in async-lru: alone, an int and the equal float are two keys; among others they are one."""

    @alru_cache
    async def load(*args: Any) -> Any:
        return args

    async def main() -> None:
        for args in ((1,), (1.0,), (1, 2), (1.0, 2)):
            await load(*args)

    asyncio.run(main())
    assert load.cache_info().currsize == 3


def test_parameters_are_told_in_their_order() -> None:
    @alru_cache(maxsize=3)
    async def function() -> None: ...

    assert list(function.cache_parameters()) == ["maxsize", "typed", "tasks", "closed"]
