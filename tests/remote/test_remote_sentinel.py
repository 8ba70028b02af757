"""A server that Sentinel names, and a change of that server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
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

from flexcache_rs.remote import RemoteCache, RemoteConnectionError, RemoteError
from flexcache_rs.remote.aio import Awaited

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


def client_that_asks(make: Any, discover: Callable[[Any, str], tuple[str, int]]) -> Any:
    """Return a client of its own, which no other thread uses, with another function that asks Sentinel."""
    used = make()._client
    client = type(used)(used._given, 2.0, "test")
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
