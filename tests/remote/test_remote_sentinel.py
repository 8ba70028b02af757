"""A server that Sentinel names, and a change of that server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import valkey
import valkey.asyncio.sentinel
from loops import connected
from own_cluster import OwnSentinel
from waiting import BRIEF, stop, until

from flexcache_rs.remote import RemoteCache, RemoteConnectionError, RemoteError, RemoteTimeoutError
from flexcache_rs.remote.aio import Awaited
from flexcache_rs.remote.given import Given
from flexcache_rs.remote.sentinel import SentinelClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STALENESS = 0.5
"""Seconds."""

CLIENTS: dict[str, Callable[[int], Any]] = {
    "redis": lambda port: redis.Sentinel([("127.0.0.1", port)]).master_for("main"),
    "redis-asyncio": lambda port: redis.asyncio.sentinel.Sentinel([("127.0.0.1", port)]).master_for("main"),
    "valkey": lambda port: valkey.Sentinel([("127.0.0.1", port)]).master_for("main"),
    "valkey-asyncio": lambda port: valkey.asyncio.sentinel.Sentinel([("127.0.0.1", port)]).master_for("main"),
}


@pytest.fixture(scope="module")
def sentinel(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnSentinel]:
    with OwnSentinel(tmp_path_factory.mktemp(engine), engine) as started:
        yield started


@pytest.fixture
def make(sentinel: OwnSentinel) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(client: str = "redis", **options: Any) -> Any:
        given = CLIENTS[client](sentinel.port)
        made.append(RemoteCache(given, "test", **{"timeout": 2.0, "max_staleness": STALENESS, **options}))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


def in_memory(cache: Any, key: Any) -> bool:
    """Return True if memory serves a key."""
    return cache._near._get_from_memory(key, None) is not None


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_of_sentinel(make: Any, client: str) -> None:
    cache, other = make(client), make()
    cache["key"] = 1
    until(lambda: cache.get("key") == 1 and in_memory(cache, "key"))
    other["key"] = 2
    until(lambda: cache["key"] == 2)


def test_a_service_that_sentinel_does_not_know(sentinel: OwnSentinel) -> None:
    client = redis.Sentinel([("127.0.0.1", sentinel.port)]).master_for("other")
    with pytest.raises(RemoteError, match="Sentinel names no primary of 'other'"):
        RemoteCache(client, "test", timeout=2.0)


def test_a_failover_while_the_old_primary_runs_on(
    make: Any, sentinel: OwnSentinel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies end and reads go to the new primary, although the old one still answers."""
    cache, other = make(on_error="miss"), make(on_error="miss")
    other["key"] = 1
    until(lambda: cache.get("key") == 1 and in_memory(cache, "key"))
    flushes = cache.stats().flushes
    awaiting = make(near=None, on_error="miss")
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(connected(awaiting))
        sentinel.fail_over()
        until(lambda: cache.stats().flushes > flushes and other._client._address[1] == sentinel.replica.port)
        until(lambda: cache._client._address == sentinel.replica.address and cache.stats().is_live)
        for value in range(2, 20):
            until(lambda: (other.put("key", value), other.fresh("key") == value)[1])
            until(lambda: cache.get("key") == value)
        until(lambda: cache.get("key") == 19 and in_memory(cache, "key"))
        until(lambda: awaiting._client._address == sentinel.replica.address and awaiting.stats().is_live)
        threads: list[str] = []
        in_thread = Awaited._in_thread
        monkeypatch.setattr(
            Awaited, "_in_thread", lambda cache, name, *given: (threads.append(name), in_thread(cache, name, *given))[1]
        )

        def reads_without_a_thread() -> bool:
            """Return True if no event loop reads from the old server any longer.

            Its connections may still be closing.
            """
            threads.clear()
            value = loop.run_until_complete(awaiting.aget("key"))
            assert value == 19 or (threads and value is None)
            return not threads

        until(reads_without_a_thread)


def test_a_call_after_the_end_leaves_no_connection(make: Any) -> None:
    """It leaves no connection to the server or to Sentinel."""
    client = make()._client
    client.close()
    client._is_known = False
    assert client.execute("ECHO", b"x") == b"x"
    assert client._connections.open() == []
    pools = [each.connection_pool for each in client._sentinel.sentinels]
    assert all(pool._available_connections for pool in pools)
    assert all(connection._sock is None for pool in pools for connection in pool._available_connections)


def client_that_asks(make: Any, discover: Callable[[Any, str], tuple[str, int]], timeout: float = 2.0) -> Any:
    """Return a client of its own, which no other thread uses, with another function that asks Sentinel."""
    used = make()._client
    client = type(used)(used._given, timeout, "test")
    kind = type(client._sentinel)
    client._sentinel.__class__ = type(kind.__name__, (kind,), {"discover_master": discover})
    return client


def test_an_interrupted_question_leaves_no_connection_in_use(make: Any) -> None:
    """A signal handler raises while a connection to Sentinel is in use. The pool must not count it for ever."""

    def interrupted(sentinel: Any, _: str) -> tuple[str, int]:
        sentinel.sentinels[0].connection_pool.get_connection()
        raise KeyboardInterrupt

    client = client_that_asks(make, interrupted)
    with pytest.raises(KeyboardInterrupt):
        client._ask()
    assert not client._sentinel.sentinels[0].connection_pool._in_use_connections


def test_the_order_of_sentinels_is_not_changed_under_other_threads(make: Any) -> None:
    """The package puts the one that has replied first, in several steps."""

    def discover(sentinel: Any, _: str) -> tuple[str, int]:
        sentinel.sentinels.clear()
        return "host", 1

    client = client_that_asks(make, discover)
    before = list(client._sentinel.sentinels)
    assert (client._ask(), client._sentinel.sentinels) == (("host", 1), before)


def nowhere(_: Any, __: str) -> tuple[str, int]:
    return "127.0.0.1", 1


@pytest.mark.parametrize("kind", ["ReadOnlyError", "ConnectionError"])
def test_after_an_error_of_the_primary_sentinel_is_asked(make: Any, kind: str) -> None:
    client = client_that_asks(make, nowhere)
    client._is_known = True
    error = getattr(client.exceptions, kind)("gone")
    assert (type(client.translated(error)), client._is_known) == (RemoteConnectionError, False)


def test_after_a_primary_without_a_reply_sentinel_is_asked(make: Any) -> None:
    """A connection attempt that times out is no error of the connection for the package."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        named = [silent.getsockname()[:2]]
        client = client_that_asks(make, lambda *_: named[-1], BRIEF)
        with pytest.raises(RemoteTimeoutError):
            client.execute("ECHO", b"x")
        named.append(make()._client._address)
        assert client.execute("ECHO", b"x") == b"x"
    client.close()


def test_sentinel_is_not_asked_at_each_call(make: Any) -> None:
    """Also not after an error of a server that is still the primary."""
    address, asked = make()._client._address, []

    def discover(_: Any, name: str) -> tuple[str, int]:
        asked.append(name)
        return address  # type: ignore[no-any-return]

    client = client_that_asks(make, discover)
    for _ in range(2):
        for _ in range(3):
            assert client.execute("ECHO", b"x") == b"x"
        client.translated(client.exceptions.ConnectionError("gone"))
    client.close()
    assert asked == ["main", "main"]


def test_a_move_during_another_one_does_not_last(make: Any) -> None:
    """Two threads ask Sentinel during a failover, and the older reply arrives between two steps of the other move."""
    address = make()._client._address
    client = client_that_asks(make, lambda *_: address)
    replace = client._replace_connections

    def replace_late() -> Any:
        client._replace_connections = replace
        client._move(nowhere(None, ""))
        return replace()

    client._replace_connections = replace_late
    client._move(address)
    with contextlib.suppress(RemoteError):
        client.execute("ECHO", b"x")
    assert client.execute("ECHO", b"x") == b"x"
    client.close()


def test_an_interrupted_move_is_made_again(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler raises before the connections to the old primary have been replaced."""
    client = client_that_asks(make, nowhere)
    client._move(make()._client._address)
    client.execute("ECHO", b"x")
    idle = client._connections.open()

    def interrupted() -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(client, "_replace_connections", interrupted)
        client._move(client._ask())
    client._move(client._ask())
    assert [connection._sock for connection in idle] == [None]


def test_a_late_reply_of_sentinel_does_not_last(make: Any, sentinel: OwnSentinel) -> None:
    """A thread asked before a failover, and moves the commands after the listener has found the new primary."""
    cache = make()
    named = cache._client._address
    (other,) = {sentinel.primary.address, sentinel.replica.address} - {named}
    cache._client._move(other)
    until(lambda: cache._client._address == named)
    cache["key"] = 1


def test_the_listener_stays_connected_while_the_primary_stays(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, asked = make(), []
    until(lambda: cache.stats().is_live)
    before = cache.stats()
    ask = cache._client._ask
    monkeypatch.setattr(cache._client, "_ask", lambda: (asked.append(1), ask())[1])
    until(lambda: len(asked) > 3)
    assert (cache.stats().reconnects, cache.stats().flushes) == (before.reconnects, before.flushes)


def watching() -> set[threading.Thread]:
    """Return the threads that watch listening connections."""
    return {thread for thread in threading.enumerate() if thread.name == "flexcache-sentinel"}


def test_after_the_end_of_a_connection_nobody_watches_it(make: Any) -> None:
    """Its thread ends, and a reply that arrives meanwhile changes nothing."""
    asked, ended = threading.Event(), threading.Event()

    def discover(_: Any, __: str) -> tuple[str, int]:
        asked.set()
        ended.wait(60)
        return "127.0.0.1", 1

    client = client_that_asks(make, discover)
    client._move(make()._client._address)
    before, others = client._address, watching()
    with client.watched(client._get().connection, 0.01):
        (thread,) = watching() - others
        asked.wait(60)
    ended.set()
    thread.join(60)
    assert (thread.is_alive(), client._address) == (False, before)


def test_a_listener_that_connects_asks_sentinel(make: Any) -> None:
    """The address that was used so far may be that of an old primary, which still replies."""
    address = make()._client._address
    client = client_that_asks(make, lambda *_: address)
    client._move(nowhere(None, ""))
    connection = client.connect(2.0)
    assert (connection.host, connection.port) == address
    connection.disconnect()


def test_connections_of_event_loops_end_when_the_primary_changes(make: Any) -> None:
    client = client_that_asks(make, lambda *_: address)
    address = make()._client._address

    async def main() -> None:
        while client.asker(b"") is None:
            await asyncio.sleep(0)
        connection = client._loops.current()
        client._move(nowhere(None, ""))
        while connection.is_open:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 60))
    client.close()


@pytest.mark.parametrize("error", [AttributeError, TypeError, ValueError])
def test_a_connection_to_sentinel_that_another_thread_closes(make: Any, error: type[Exception]) -> None:
    """The package then uses a socket that is None."""

    def closed(_: Any, __: str) -> tuple[str, int]:
        raise error

    with pytest.raises(RemoteConnectionError, match="Sentinel names no primary"):
        client_that_asks(make, closed).execute("ECHO", b"x")


def test_settings_of_sentinel(sentinel: OwnSentinel) -> None:
    """A Sentinel that knows too few others does not count, and the address of the primary may be overridden."""
    lonely = redis.Sentinel([("127.0.0.1", sentinel.port)], min_other_sentinels=3).master_for("main")
    with pytest.raises(RemoteError, match="Sentinel names no primary"):
        RemoteCache(lonely, "test", timeout=2.0)
    forced = redis.Sentinel([("127.0.0.1", sentinel.port)], force_master_ip="127.0.0.2").master_for("main")
    assert SentinelClient(Given(forced), 2.0, "test")._ask()[0] == "127.0.0.2"


def test_connections_in_use_end_when_the_primary_changes(make: Any) -> None:
    """A call to the old primary fails, instead of succeeding there."""
    client = client_that_asks(make, nowhere)
    client._move(make()._client._address)
    borrowed = client._get()
    assert borrowed.connection._sock is not None
    client._move(client._ask())
    assert borrowed.connection._sock is None


def test_a_dropped_cache_waits_for_no_lock_of_a_pool(sentinel: OwnSentinel) -> None:
    """The garbage collector may drop it in a thread that has such a lock, which it would wait for."""
    cache = RemoteCache(CLIENTS["redis"](sentinel.port), "test", timeout=2.0, max_staleness=STALENESS)
    cache["key"] = 1
    pool = cache._client._sentinel.sentinels[0].connection_pool
    kept = cache._client._connections.open()
    held, dropped = threading.Event(), threading.Event()

    def hold() -> bool:
        with pool._lock:
            held.set()
            return dropped.wait(60)

    with ThreadPoolExecutor(1) as threads:
        holding = threads.submit(hold)
        held.wait(60)
        del cache
        until(lambda: (gc.collect(), [connection._sock for connection in kept])[1] == [None] * len(kept))
        dropped.set()
        assert holding.result()


def test_a_sentinel_that_does_not_answer(make: Any, sentinel: OwnSentinel) -> None:
    """Without news from any Sentinel, the primary stays the same."""
    cache, other = make(timeout=BRIEF), make(timeout=BRIEF)
    other["quiet"] = 0
    until(lambda: cache.get("quiet") == 0 and in_memory(cache, "quiet"))
    assert sentinel.process is not None
    stop(sentinel.process.pid)
    try:
        address, end = cache._client._address, time.monotonic() + 3 * STALENESS
        value = 0
        while time.monotonic() < end:
            value += 1
            other["quiet"] = value
            until(lambda: cache.get("quiet") == value)
        assert cache._client._address == address
        until(lambda: cache.stats().is_live)
    finally:
        os.kill(sentinel.process.pid, signal.SIGCONT)
