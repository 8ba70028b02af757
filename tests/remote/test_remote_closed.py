"""Calls that outlast `close()` are answered, and leave no connection behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from waiting import until

from flexcache_rs.remote import RemoteCache
from flexcache_rs.remote.client import Client
from flexcache_rs.remote.loop_connections import LoopConnection, LoopConnections

if TYPE_CHECKING:
    from own_server import Server

Make = "Callable[..., Any]"
LANES = ("client", "direct")
PLACE = b"{test}v:key"


def connections(raw: Any) -> list[str]:
    """Return the names of our connections to the server."""
    return [each["name"] for each in raw.client_list() if each["name"].startswith("flexcache")]


def none_is_left(raw: Any) -> bool:
    return not connections(raw)


def closed(cache: Any) -> Client:
    """Return the client of a cache that was closed."""
    cache.close()
    client: Client = cache._client
    return client


@pytest.mark.parametrize("how", ["get_or_set", "aget_or_set"])
def test_a_lease_is_given_back_after_the_end(make: Make, raw: Any, how: str) -> None:
    cache = make()

    def compute() -> int:
        cache.close()
        return 1

    async def acompute() -> int:
        return compute()

    if how == "get_or_set":
        assert cache.get_or_set("key", compute) == 1
    else:
        assert asyncio.run(cache.aget_or_set("key", acompute)) == 1
    until(lambda: none_is_left(raw))
    assert not raw.keys("*l:*")


def test_each_call_after_the_end_is_answered(make: Make, raw: Any) -> None:
    client = closed(make())
    for _ in range(3):
        assert client.execute("ECHO", b"x") == b"x"
        assert client.execute_many([("ECHO", b"x")] * 2) == [b"x"] * 2
    until(lambda: none_is_left(raw))


@pytest.mark.parametrize("how", ["close", "renew"])
def test_a_connection_that_comes_back_meanwhile(make: Make, raw: Any, how: str) -> None:
    """Another thread ends the connections after the call has checked that it may keep its own."""
    client = closed(make(lane="client"))
    client = Client(client._given, 2.0, "flexcache-meanwhile")

    class Meanwhile(list[Any]):
        def append(self, kept: Any) -> None:
            self.append = super().append  # type: ignore[method-assign]
            getattr(client, how)()
            super().append(kept)

    client._connections.idle._connections = Meanwhile()
    assert client.execute("ECHO", b"x") == b"x"
    until(lambda: "flexcache-meanwhile" not in connections(raw))
    client.close()


def test_a_connection_in_use_is_not_ended_by_another_that_comes_back(make: Make, raw: Any) -> None:
    client = closed(make(lane="client"))
    borrowed = client._get()
    assert client.execute("ECHO", b"x") == b"x"
    assert client.exchange(borrowed.connection, [("ECHO", b"y")]) == [b"y"]
    borrowed.give_back()
    until(lambda: none_is_left(raw))


def test_an_event_loop_gets_no_connection_after_the_end(make: Make, raw: Any) -> None:
    cache = make()
    client = cache._client

    async def main() -> None:
        # One of a caller that has seen the cache open.
        client.asker(PLACE)
        loops = client._loops
        cache.close()
        assert client.asker(PLACE) is None
        loops.current()
        while loops._next[asyncio.get_running_loop()] != 0.0 or connections(raw):
            await asyncio.sleep(0)

    asyncio.run(main())
    until(lambda: none_is_left(raw))


def test_an_event_loop_does_not_connect_after_the_end(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, each awaited call of a closed cache would make a connection, which would be closed at once."""
    client = closed(make())
    made: list[float] = []
    monkeypatch.setattr(Client, "connect", lambda _, timeout: made.append(timeout))

    async def main() -> None:
        for _ in range(3):
            assert client.asker(PLACE) is None
            await asyncio.sleep(0)

    asyncio.run(main())
    assert made == []


def test_an_event_loop_whose_cache_is_closed_meanwhile(make: Make, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread closes the cache while the first awaited call begins."""
    cache, begin = make(), LoopConnections._begin

    def close_meanwhile(self: LoopConnections) -> None:
        begin(self)
        cache.close()

    monkeypatch.setattr(LoopConnections, "_begin", close_meanwhile)

    async def main() -> None:
        assert cache._client.asker(PLACE) is None
        loops = cache._client._loops
        loops.current()
        while loops._next[asyncio.get_running_loop()] != 0.0 or connections(raw):
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("when", ["during the end", "after the end"])
def test_connections_that_are_renewed_do_not_outlast_the_end(make: Make, raw: Any, when: str) -> None:
    """The listener renews them when it has connected again."""
    cache = make(lane="client")
    client = cache._client
    shut_down = client._connections.shut_down

    def renew_meanwhile() -> None:
        shut_down()
        client.renew()

    if when == "during the end":
        client._connections.shut_down = renew_meanwhile
    cache.close()
    if when == "after the end":
        client.renew()
    assert client.execute("ECHO", b"x") == b"x"
    until(lambda: none_is_left(raw))


def test_an_event_loop_that_cannot_read_leaves_no_connection(
    make: Make, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make()
    begun: list[Any] = []

    def begin(self: LoopConnection, loop: asyncio.AbstractEventLoop) -> None:
        begun.append(self._connection)
        raise NotImplementedError

    monkeypatch.setattr(LoopConnection, "begin", begin)

    async def main() -> None:
        while not begun:
            cache._client.asker(PLACE)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert begun[0]._sock is None


def test_an_event_loop_that_was_closed(make: Make) -> None:
    """Its connection is closed with it, and not only with the cache."""
    cache = make()

    async def main() -> Any:
        while cache._client.asker(PLACE) is None:
            await asyncio.sleep(0)
        return weakref.ref(cache._client._loops.current()._connection)

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        connection = loop.run_until_complete(main())
        assert connection()._sock is not None
    gc.collect()
    assert connection() is None


def test_a_cache_that_was_dropped(server: Server, raw: Any) -> None:
    """It closes its connections. The order in which the collector finalizes them and their sockets does not matter."""
    cache = RemoteCache(server.client(), "test", lane="client")
    cache["key"] = 1
    kept = cache._client._connections.open()
    assert kept
    del cache
    until(lambda: (gc.collect(), [connection._sock for connection in kept])[1] == [None] * len(kept))
    until(lambda: none_is_left(raw))


async def is_connected(cache: Any) -> None:
    """Wait until the running event loop has a connection."""
    while cache._client.asker(PLACE) is None:
        await asyncio.sleep(0)


def test_an_event_loop_whose_connection_was_interrupted_connects_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler raises while the loop takes over its new connection, and the program goes on."""
    monkeypatch.setattr("flexcache_rs.remote.loop_connections._BETWEEN_ATTEMPTS", 0.0)
    cache = make()
    begin = LoopConnection.begin

    def interrupted(self: LoopConnection, loop: asyncio.AbstractEventLoop) -> None:
        monkeypatch.setattr(LoopConnection, "begin", begin)
        raise KeyboardInterrupt

    monkeypatch.setattr(LoopConnection, "begin", interrupted)
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(is_connected(cache))
        loop.run_until_complete(asyncio.wait_for(is_connected(cache), 60))
        loop.run_until_complete(loop.shutdown_default_executor())


def test_an_event_loop_without_a_thread_to_connect_connects_later(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flexcache_rs.remote.loop_connections._BETWEEN_ATTEMPTS", 0.0)
    cache = make()

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def refuse(*_: Any) -> Any:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(loop, "run_in_executor", refuse)
            assert cache._client.asker(PLACE) is None
            with pytest.raises(RuntimeError):
                cache._client.asker(PLACE)
        await asyncio.wait_for(is_connected(cache), 60)

    asyncio.run(main())
