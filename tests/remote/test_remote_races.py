"""Races of reads, writes and announcements. No cache keeps a copy that is older than a write that it knows of."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from news import hear
from scale import scaled
from waiting import until

from flexcache_rs._core import PushTracker
from flexcache_rs.remote import RemoteError
from flexcache_rs.remote.resp import NewsReader
from flexcache_rs.remote.store import RemoteStore

if TYPE_CHECKING:
    from collections.abc import Callable

Make = "Callable[..., Any]"

pytestmark = pytest.mark.in_turn("engine", "lane")


def overtake(cache: Any, monkeypatch: pytest.MonkeyPatch, between: Callable[[], None]) -> threading.Event:
    """Do something after the next value was read and before it is kept, and then set the event."""
    client = cache._client
    one, many, entry = client.execute, client.execute_many, client.entry
    happened = threading.Event()

    def then(reply: Any, command: Any) -> Any:
        if command == "GET" and not happened.is_set():
            happened.set()
            between()
        return reply

    monkeypatch.setattr(client, "execute", lambda *command: then(one(*command), command[0]))
    monkeypatch.setattr(client, "execute_many", lambda commands: then(many(commands), commands[0][0]))
    monkeypatch.setattr(client, "entry", lambda *arguments: then(entry(*arguments), "GET"))
    return happened


def test_an_invalidation_that_overtakes_the_reply(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = make(), make()
    other["key"] = 1
    # With the nonce known, nothing but the key's own announcement keeps the value out of memory.
    hear(one)
    until(lambda: one.fresh("other") is None and one._store.nonces.known("") is not None)

    def write() -> None:
        other["key"] = 2
        hear(one)

    happened = overtake(one, monkeypatch, write)
    assert one["key"] == 1
    assert happened.is_set()
    assert one["key"] == 2


@pytest.mark.parametrize("awaited", [False, True])
def test_a_namespace_that_is_cleared_during_a_read(make: Make, monkeypatch: pytest.MonkeyPatch, awaited: bool) -> None:
    """Older knowledge of the namespace does not make a copy valid."""
    one, other = make(), make()
    other["key"] = 1
    until(lambda: one.fresh("other") is None and one._store.nonces.known("") is not None)
    real = one._store.nonces.known

    def known(tag: str) -> Any:
        nonce = real(tag)
        monkeypatch.setattr(one._store.nonces, "known", real)
        before = one._store.stamp("key")
        other.clear()
        until(lambda: not one._store.tracker.is_unchanged(before))
        return nonce

    monkeypatch.setattr(one._store.nonces, "known", known)
    _ = asyncio.run(one.aget("key")) if awaited else one.get("key")
    until(lambda: one.stats().is_live)
    assert one.get("key") is None


def test_a_listener_that_reconnects_during_a_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = make(), make()
    other["key"] = 1

    def write() -> None:
        connects = one._listener.connects
        one._listener._socket.shutdown(socket.SHUT_RDWR)
        other["key"] = 2
        until(lambda: one._listener.connects > connects and one.stats().is_live)

    happened = overtake(one, monkeypatch, write)
    assert one["key"] == 1
    assert happened.is_set()
    assert one["key"] == 2


def differing(caches: list[Any], raw: Any, rounds: int, kills: bool, hears: bool = True) -> int:
    """Return how many copies differ after several caches have written and read at the same time."""
    keys = range(50)
    until(lambda: all(cache.stats().is_live for cache in caches))

    def work(number: int, cache: Any) -> None:
        for count in range(rounds):
            key = (count * (2 * number + 1)) % 50
            try:
                if count % 10 == number:
                    cache[key] = (number, count)
                else:
                    cache.get(key)
            except RemoteError:
                pass

    threads = [threading.Thread(target=work, args=each) for each in enumerate(caches)]
    for thread in threads:
        thread.start()
    while kills and any(thread.is_alive() for thread in threads):
        raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        threads[0].join(0.3)
    for thread in threads:
        thread.join()
    until(lambda: all(cache.stats().is_live and not cache.stats().is_breaker_open for cache in caches))
    for cache in caches if hears else ():
        hear(cache)
    return sum(cache.get(key) != cache.fresh(key) for cache in caches for key in keys)


@pytest.mark.parametrize("kills", [False, True])
def test_no_copies_differ(make: Make, raw: Any, kills: bool) -> None:
    assert differing([make() for _ in range(3)], raw, scaled(10_000), kills) == 0


def _stamped_late(self: Any, key: Any, *, anew: bool = False) -> Any:
    entry, _ = _LOAD(self, key, anew=anew)
    time.sleep(0)
    return entry, self.stamp(key)


_LOAD = RemoteStore.load


def test_no_copies_differ_fails_where_stamps_are_late(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the test of overtaking: it fails with stamps that are taken after the read."""
    monkeypatch.setattr(RemoteStore, "load", _stamped_late)
    with pytest.raises(AssertionError, match="1 == 2"):
        test_an_invalidation_that_overtakes_the_reply(make, monkeypatch)


def test_no_copies_differ_fails_where_nothing_is_heard(make: Make, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the test: it fails if writes are not announced."""
    init = NewsReader.__init__

    def deaf(self: NewsReader, sock: Any, _: PushTracker, start: bytes) -> None:
        init(self, sock, PushTracker(1), start)

    monkeypatch.setattr(NewsReader, "__init__", deaf)
    assert differing([make() for _ in range(3)], raw, 2000, kills=False, hears=False) > 0


def test_connections_that_are_closed_while_the_server_is_asked(make: Make) -> None:
    """If another thread closes the connection of a call, the call raises RemoteError, whatever the package raises."""
    cache = make()
    cache["key"] = 1
    seen: list[object] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            try:
                seen.append(cache.fresh("key"))
            except RemoteError:
                seen.append(RemoteError)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(scaled(2000)):
            before = len(seen)
            cache._client.close()
            until(lambda before=before: len(seen) > before or not all(map(threading.Thread.is_alive, threads)))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    # A thread that had another exception has ended with it, and the test with it.
    assert set(seen) <= {1, RemoteError}
