"""Failures of the server, the network or a connection, as in the table of docs/remote.md."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import pkgutil
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from news import hear
from own_server import Server
from waiting import BRIEF, until

from flexcache_rs import remote
from flexcache_rs.remote import RemoteConnectionError, RemoteError, RemoteTimeoutError, RemoteValueError
from flexcache_rs.remote.clients import client_of
from flexcache_rs.remote.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Make = "Callable[..., Any]"

pytestmark = pytest.mark.in_turn("engine", "lane")

STALENESS = 0.3
"""Seconds."""


def test_every_exception_that_reaches_a_user_is_public() -> None:
    """A subclass of a public exception goes the same ways, so it must be public too."""
    for module in pkgutil.iter_modules(remote.__path__):
        with contextlib.suppress(ImportError):  # One needs Django.
            importlib.import_module(f"flexcache_rs.remote.{module.name}")
    found: list[type[Exception]] = [RemoteError, RemoteValueError]
    for kind in found:
        found.extend(one for one in kind.__subclasses__() if one.__module__.startswith("flexcache_rs"))
    assert len(found) > 3
    assert {kind.__name__ for kind in found} <= set(remote.__all__)


class Proxy:
    """Forwards bytes between a unix socket and the server until it is told to stop. Connections then stay open."""

    def __init__(self, path: str, server: str) -> None:
        self.path, self.server = path, server
        self.is_silent = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen(64)
        self._ends: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self.server)
            except OSError:
                near.close(), far.close()
                continue
            self._ends += (near, far)
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                while self.is_silent.is_set():
                    time.sleep(0.002)
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.is_silent.clear()
        # Otherwise the thread would go on waiting, and accept one more.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._socket.close()
        for end in self._ends:
            end.close()


@pytest.fixture
def proxy(server: Server, tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(str(tmp_path / "p"), server.path)
    yield made
    made.close()


def in_memory(cache: Any, key: Any) -> bool:
    """Return True if memory serves a key."""
    return cache._near._get_from_memory(key, None) is not None


def warm(cache: Any, key: Any) -> None:
    """Make memory serve a key after all earlier writes are known."""
    hear(cache)
    until(lambda: cache.get(key) is not None and in_memory(cache, key))


def seconds_served(cache: Any, key: Any) -> float:
    """Return for how many seconds memory continues to serve a key."""
    began = time.monotonic()
    until(lambda: not in_memory(cache, key))
    return time.monotonic() - began


def test_a_server_that_is_stopped(make: Make, server: Server) -> None:
    cache = make(max_staleness=STALENESS, timeout=BRIEF)
    cache["key"] = 1
    warm(cache, "key")
    server.pause()
    # Nothing is served that may be older, with time for a busy machine to notice it.
    assert seconds_served(cache, "key") < STALENESS + 10
    assert not cache._store.tracker.is_believed()
    with pytest.raises((RemoteTimeoutError, RemoteConnectionError)):
        cache.get("key")
    began = time.monotonic()
    refused = 0
    while time.monotonic() - began < 0.3:
        with pytest.raises(RemoteError):
            cache.get("key")
        refused += 1
    # The breaker is open: few of them wait.
    assert refused > 20
    assert cache.stats().is_breaker_open
    with pytest.raises(RemoteError):
        cache.delete("key")
    server.go_on()
    until(lambda: cache.stats().is_live and not cache.stats().is_breaker_open)
    assert cache.get("key") in (1, None)


IN_VAIN: dict[str, Callable[[Any, Any], object]] = {
    "hit": lambda cache, _: cache.limiter("name", 5).hit(),
    "acquire": lambda cache, _: cache.lock("name", timeout=0).acquire(),
    "renew": lambda _, lock: lock.renew(),
    "release": lambda _, lock: lock.release(),
    "scan": lambda cache, _: list(cache.scan()),
}


@pytest.mark.in_turn("call", "lane")
@pytest.mark.parametrize("call", IN_VAIN)
def test_every_call_that_waits_in_vain_keeps_others_from_waiting(make: Make, server: Server, call: str) -> None:
    cache = make(max_staleness=STALENESS, timeout=BRIEF)
    cache["key"] = 1
    lock = cache.lock("held")
    assert lock.acquire()
    until(lambda: cache.stats().is_live and not cache.stats().is_breaker_open)
    server.pause()
    with pytest.raises(RemoteTimeoutError):
        IN_VAIN[call](cache, lock)
    assert cache.stats().is_breaker_open


def test_the_bound_holds_where_nothing_runs(make: Make, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment until which copies are served moves only when the server answers."""
    cache = make(max_staleness=STALENESS)
    cache["key"] = 1
    warm(cache, "key")
    monkeypatch.setattr(Listener, "_take", lambda *_: None)
    began = time.monotonic()
    until(lambda: not in_memory(cache, "key"))
    assert time.monotonic() - began < STALENESS + 10


def test_a_server_that_is_killed(make: Make, server: Server) -> None:
    cache = make(max_staleness=30)
    cache["key"] = 1
    warm(cache, "key")
    server.kill()
    # Long before max_staleness is over.
    until(lambda: not in_memory(cache, "key"))
    with pytest.raises(RemoteError):
        cache.get("key")
    server.start()
    until(lambda: cache.stats().is_live and not cache.stats().is_breaker_open)
    assert cache.get("key") is None
    cache["key"] = 2
    assert cache["key"] == 2


def test_connections_that_are_killed(make: Make, raw: Any) -> None:
    one, other = make(), make()

    def stores(value: int) -> bool:
        """Return True unless the write met the end of its connection."""
        try:
            one["key"] = value
        except RemoteError:
            return False
        return True

    for value in range(5):
        until(lambda: stores(value))
        until(lambda: other.get("key") == value)
        warm(other, "key")
        raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    until(lambda: other.stats().is_live and one.stats().is_live)
    assert one.stats().reconnects > 0


def test_a_database_that_is_flushed(make: Make, raw: Any) -> None:
    cache = make()
    cache["key"] = 1
    warm(cache, "key")
    raw.flushdb()
    until(lambda: cache.get("key") is None)
    cache["key"] = 2
    assert cache["key"] == 2


def test_everything_falls_silent(make: Make, server: Server, raw: Any, proxy: Proxy) -> None:
    import redis

    other = make()
    cache = make(redis.Redis(unix_socket_path=proxy.path), max_staleness=STALENESS, timeout=BRIEF)
    other["key"] = 1
    warm(cache, "key")
    proxy.is_silent.set()
    other["key"] = 2
    assert seconds_served(cache, "key") < STALENESS + 10
    with pytest.raises(RemoteError):
        cache.get("key")
    proxy.is_silent.clear()

    answers: list[Any] = []

    def is_answered() -> bool:
        with contextlib.suppress(RemoteError):
            answers.append(cache.get("key"))
        return bool(answers)

    until(is_answered)
    assert answers == [2]


def test_another_server_at_the_address(make: Make, server: Server, raw: Any, proxy: Proxy, tmp_path: Path) -> None:
    """The old server answers on existing connections, but it is no longer the primary."""
    import redis

    old_way, other = make(), Server(tmp_path, engine=server.engine)
    old_way["key"] = 1
    cache = make(redis.Redis(unix_socket_path=proxy.path), max_staleness=STALENESS)
    warm(cache, "key")
    other.start()
    try:
        with contextlib.closing(other.client()) as new:
            for key in raw.keys():
                new.restore(key, 0, raw.dump(key))
        connects = cache.stats().reconnects
        make(other.client())["key"] = 2
        proxy.server = other.path
        raw.execute_command("REPLICAOF", "127.0.0.1", "1")
        until(lambda: cache.stats().reconnects > connects and cache.stats().is_live)
        assert cache.get("key") == cache.fresh("key") == 2
        cache["key"] = 3
        assert make(other.client()).get("key") == 3
    finally:
        raw.execute_command("REPLICAOF", "NO", "ONE")
        other.kill()


def test_a_listener_that_falls_silent(make: Make, server: Server, proxy: Proxy) -> None:
    """Commands are answered, but writes are not announced. The old value is served for at most max_staleness."""
    import redis

    other = make()
    cache = make(max_staleness=STALENESS)
    silent = redis.Redis(unix_socket_path=proxy.path)
    cache._listener._client = client_of(silent, 2.0, "silent")
    connects = cache._listener.connects
    cache._listener._socket.shutdown(socket.SHUT_RDWR)
    until(lambda: cache._listener.connects > connects and cache.stats().is_live)
    other["key"] = 1
    warm(cache, "key")
    proxy.is_silent.set()
    other["key"] = 2
    began = time.monotonic()
    until(lambda: cache.get("key") == 2)
    assert time.monotonic() - began < STALENESS + 10


def test_a_write_whose_outcome_is_unknown(make: Make, server: Server) -> None:
    cache = make(timeout=BRIEF, max_staleness=30)
    cache["key"] = 1
    warm(cache, "key")
    server.pause()
    with pytest.raises(RemoteTimeoutError):
        cache["key"] = 2
    # It is executed later.
    assert not in_memory(cache, "key")
    server.go_on()

    def value() -> Any:
        try:
            return cache.get("key")
        except RemoteError:
            return None

    until(lambda: value() == 2)


OUTCOMES: dict[str, Callable[[Any], object]] = {
    "put": lambda cache: cache.put("key", 2),
    "set_many": lambda cache: cache.set_many({"key": 2}),
    "incr": lambda cache: cache.incr("key"),
    "compare_and_set": lambda cache: cache.compare_and_set("key", 1, 2),
    "delete": lambda cache: cache.delete("key"),
    "pop": lambda cache: cache.pop("key"),
    "clear": lambda cache: cache.clear(),
    "evict_tag": lambda cache: cache.evict_tag("t"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_value_that_may_have_been_replaced_is_not_the_last(
    make: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The server makes the write, and its reply is lost."""
    # The listener does not close the breaker meanwhile.
    cache = make(on_error="stale", max_staleness=60)
    cache.put("key", 1, tags=["t"])
    hear(cache)
    client = cache._client

    def losing(call: Callable[..., Any], *arguments: Any) -> Any:
        reply = call(*arguments)
        if {"SET", "EVAL", "EVALSHA", "MULTI"}.isdisjoint(str(arguments).split("'")):
            return reply
        raise RemoteConnectionError("lost")

    monkeypatch.setattr(client, "execute", functools.partial(losing, client.execute))
    monkeypatch.setattr(client, "execute_many", functools.partial(losing, client.execute_many))
    with contextlib.suppress(RemoteError):
        OUTCOMES[name](cache)
    assert (cache.stats().is_breaker_open, cache.get("key")) == (True, None)


@pytest.mark.parametrize("call", ["clear", "evict_tag"])
def test_what_this_process_has_evicted_is_not_the_last(make: Make, server: Server, call: str) -> None:
    cache = make(on_error="stale", timeout=BRIEF, max_staleness=STALENESS)
    cache.put("key", 1, tags=["t"])
    OUTCOMES[call](cache)
    server.kill()
    assert cache.get("key") is None


@pytest.mark.parametrize("on_error", ["miss", "stale"])
def test_what_reads_find_while_the_server_is_away(make: Make, server: Server, on_error: str) -> None:
    cache = make(on_error=on_error, timeout=BRIEF, max_staleness=STALENESS)
    cache["key"] = 1
    warm(cache, "key")
    server.kill()
    until(lambda: not in_memory(cache, "key"))
    assert cache.get("key") == (1 if on_error == "stale" else None)
    assert ("key" in cache) is (on_error == "stale")
    assert cache.get_many(["key"]) == ({"key": 1} if on_error == "stale" else {})
    cache["key"] = 2
    assert not cache.add("other", 1)
    # What was to be written may have been: the old value is not the last.
    assert cache.get("key") is None
    assert cache.stats().failed_writes == 2
    for call in (cache.delete, cache.pop, cache.evict_tag, cache.incr):
        with pytest.raises(RemoteError):
            call("key")
    with pytest.raises(RemoteError):
        cache.clear()
    server.start()
    until(lambda: cache.stats().is_live and not cache.stats().is_breaker_open)
    assert cache.get("key") is None


@pytest.mark.parametrize("call", ["get", "get_many"])
def test_an_old_value_does_not_stay_in_memory(make: Make, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """It was served while a command failed. The listener works all the time, so nothing invalidates copies later."""
    cache, other = make(on_error="stale", max_staleness=30), make()

    def get() -> Any:
        return cache.get("key") if call == "get" else cache.get_many(["key"])["key"]

    other["key"] = "old"
    assert get() == "old"
    other["key"] = "new"
    hear(cache)

    def lost(*_: Any) -> Any:
        raise RemoteConnectionError("lost")

    with monkeypatch.context() as patch:
        for name in ("entry", "execute", "execute_many", "values"):
            patch.setattr(cache._client, name, lost)
        assert get() == "old"
    until(lambda: not cache.stats().is_breaker_open or get() == "new")
    until(lambda: get() == "new")


def test_computing_while_the_server_is_away(make: Make, server: Server) -> None:
    cache = make(timeout=BRIEF, max_staleness=STALENESS)

    @cache.memoize(name="double")
    def double(number: int) -> int:
        return 2 * number

    assert double(2) == 4
    server.kill()
    assert [double(3), double(4), cache.get_or_set("key", lambda: 5)] == [6, 8, 5]

    def inner() -> int:
        with pytest.raises(RemoteError):
            cache.get("other")
        return 6

    assert cache.get_or_set("key", inner) == 6


def test_what_is_computed_while_the_server_is_away_is_not_stored(make: Make, server: Server) -> None:
    """The result might be based on older data."""
    cache = make(timeout=BRIEF, on_error="miss")
    server.pause()

    def compute() -> str:
        server.go_on()
        until(lambda: cache.stats().is_live and not cache.stats().is_breaker_open)
        return "computed"

    assert cache.get_or_set("key", compute) == "computed"
    assert cache.fresh("key") is None


@pytest.mark.usefixtures("read_in_python")
def test_an_interrupt_between_command_and_reply(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply is not taken for that of another command. `test_remote_direct.py` tests the direct lane."""
    cache = make(lane="client")
    cache["a"], cache["b"] = 1, 2
    real = type(cache._client)._read

    def interrupted(*_: Any) -> Any:
        monkeypatch.setattr(type(cache._client), "_read", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(cache._client), "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.fresh("a")
    assert [cache.fresh("b"), cache.fresh("a"), cache.fresh("b")] == [2, 1, 2]


class Interrupted(Exception):  # noqa: N818
    """The exception that the signal handler raises."""


def test_a_signal_while_a_reply_is_awaited(make: Make, server: Server) -> None:
    """The same holds while the thread waits without the GIL."""
    cache = make(lane="client", timeout=30)
    cache["a"], cache["b"] = 1, 2

    def handler(*_: object) -> None:
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, handler)
    server.pause()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Interrupted):
            cache.fresh("a")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        server.go_on()
    assert [cache.fresh("b"), cache.fresh("a"), cache.fresh("b")] == [2, 1, 2]


@pytest.mark.usefixtures("read_in_python")
def test_a_pop_returns_what_the_server_had(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is not the copy in memory whose end has not been announced yet."""
    one, other = make(), make()
    one["key"] = 1
    warm(one, "key")
    monkeypatch.setattr(Listener, "_invalidate", lambda *_: None)
    other["key"] = 2
    assert one["key"] == 1
    assert one.pop("key") == 2
    assert one.get("key") is None


def test_a_cache_made_while_the_server_is_away(make: Make, server: Server) -> None:
    server.kill()
    with pytest.raises(RemoteConnectionError):
        make(timeout=BRIEF)
    cache = make(timeout=BRIEF, on_error="miss")
    assert cache.get("key") is None
    server.start()
    until(lambda: cache.stats().is_live and not cache.stats().is_breaker_open)
    cache["key"] = 1
    assert cache["key"] == 1


def test_a_child_listens_on_its_own(make: Make, server: Server) -> None:
    parent = make()
    parent["key"] = 1
    warm(parent, "key")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = not in_memory(parent, "key") and parent["key"] == 1
            until(lambda: parent.stats().is_live)
            parent["key"] = 2
            os.write(writing, b"y" if told and parent["key"] == 2 else b"n")
        finally:
            os._exit(0)
    assert os.read(reading, 1) == b"y"
    os.waitpid(child, 0)
    os.close(reading), os.close(writing)
    until(lambda: parent["key"] == 2)


def test_deleting_many_keys_checks_all_of_them_first(make: Make) -> None:
    """An invalid key changes nothing, even if the keys take several round trips."""
    cache = make()
    keys: list[Any] = [f"key {number}" for number in range(1001)]
    cache.set_many(dict.fromkeys(keys, 1))
    with pytest.raises(TypeError):
        cache.delete_many([*keys, object()])
    assert len(cache.get_many(keys)) == len(keys)
    assert cache.delete_many(keys) == len(keys)
