"""Awaited reads without a thread: each event loop has a connection of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from waiting import until

from flexcache_rs.remote import RemoteTimeoutError, RemoteValueError
from flexcache_rs.remote.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from own_server import Server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a thread reads elsewhere")

Make = "Callable[..., Any]"

LANES = ("client", "direct")


async def connected(cache: Any) -> None:
    """Wait until reads need no thread."""
    while cache._client.asker() is None:
        await asyncio.sleep(0.001)
    cache["first"] = 1
    assert await cache.aget("first") == 1


@pytest.fixture
def no_thread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on a call that goes through a thread fails."""

    async def refuse(self: Any, name: str, *_: Any) -> Any:
        raise AssertionError(f"{name} went through a thread")

    return lambda: monkeypatch.setattr("flexcache_rs.remote.aio.Awaited._in_thread", refuse)


def test_awaited_reads_need_no_thread(make: Make, no_thread: Callable[[], None]) -> None:
    cache = make(near=None)
    values: dict[str, Any] = {f"key {number}": b"%d" % number * (number % 7) * 10_000 for number in range(200)}
    cache.set_many(values)

    async def main() -> None:
        await connected(cache)
        no_thread()
        assert dict(zip(values, await asyncio.gather(*map(cache.aget, values)), strict=True)) == values
        assert await cache.aget("absent", "default") == "default"
        assert await cache.afresh("key 1") == values["key 1"]
        assert [await cache.aget(key) for key in ("key 1", "key 2")] == [values["key 1"], values["key 2"]]

    asyncio.run(main())


def test_reads_that_are_cancelled_leave_the_others_their_answers(make: Make) -> None:
    cache = make(near=None)
    cache.set_many({number: number for number in range(50)})

    async def main() -> None:
        await connected(cache)
        for _ in range(20):
            tasks = [asyncio.create_task(cache.aget(number)) for number in range(50)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert results[1::2] == list(range(50))[1::2]

    asyncio.run(main())


def test_a_server_that_is_silent(make: Make, server: Server) -> None:
    cache = make(near=None, timeout=0.2)

    async def main() -> None:
        await connected(cache)
        cache["key"] = 1
        server.pause()
        try:
            with pytest.raises(RemoteTimeoutError):
                await cache.aget("key")
        finally:
            server.go_on()
        await asyncio.to_thread(until, lambda: not cache.stats().is_breaker_open)
        assert await cache.aget("key") == 1

    asyncio.run(main())


def test_connections_that_are_closed_are_made_again(make: Make, raw: Any, no_thread: Callable[[], None]) -> None:
    cache = make(near=None)

    async def main() -> None:
        await connected(cache)
        for number in range(5):
            cache["key"] = number
            for each in raw.client_list():
                # Not the one that listens.
                if each["name"] == "flexcache-test" and "t" not in each["flags"]:
                    raw.client_kill_filter(_id=each["id"])
            assert await cache.aget("key") == number
            await connected(cache)
        cache["key"] = 5
        no_thread()
        assert await cache.aget("key") == 5

    asyncio.run(main())


def test_event_loops_have_connections_of_their_own(make: Make) -> None:
    cache, failed = make(near=None), []
    cache.set_many({number: number for number in range(100)})

    async def use() -> None:
        for _ in range(5):
            if await asyncio.gather(*map(cache.aget, range(100))) != list(range(100)):
                failed.append(1)
            await connected(cache)

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_what_is_no_value_of_the_cache(make: Make, raw: Any) -> None:
    cache = make(near=None)

    async def main() -> None:
        await connected(cache)
        raw.set("test:{text}", "text")
        raw.rpush("test:{list}", "a")
        for key in ("text", "list"):
            with pytest.raises(RemoteValueError, match=key):
                await cache.aget(key)
        assert await cache.aget("first") == 1

    asyncio.run(main())


def test_a_cache_that_is_closed_closes_them(make: Make, raw: Any) -> None:
    cache = make(near=None, name="closing")

    async def main() -> None:
        await connected(cache)
        cache.close()
        with pytest.raises(ValueError, match="closed"):
            await cache.aget("first")

    asyncio.run(main())
    until(lambda: not [each for each in raw.client_list() if each["name"] == "flexcache-closing"])


@pytest.mark.parametrize("how", ["renew", "close"])
def test_a_connection_that_was_begun_before_all_were_renewed(
    make: Make, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It may lead to a server that was replaced meanwhile."""
    cache = make(near=None, lane="client")
    made: list[Any] = []
    begun, goes_on, connect = threading.Event(), threading.Event(), Client.connect

    def slow(self: Client, timeout: float) -> Any:
        made.append(connect(self, timeout))
        begun.set()
        goes_on.wait(60)
        return made[-1]

    async def main() -> None:
        monkeypatch.setattr(Client, "connect", slow)
        assert cache._client.asker() is None
        await asyncio.to_thread(begun.wait, 60)
        getattr(cache._client, how)()
        goes_on.set()
        while made[0]._sock is not None:
            await asyncio.sleep(0.001)
        if how == "renew":
            await connected(cache)
            assert cache._client._loops.current()._connection is not made[0]

    asyncio.run(main())
