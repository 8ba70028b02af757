"""A signal handler that raises leaves no lock held, wherever it runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from interrupting import (
    INTERRUPTS,
    Stop,
    Tracer,
    no_point_hangs,
    no_point_keeps,
    no_point_keeps_awaited,
    points,
    raise_stop,
)
from waiting import MANY, until

from flexcache_rs import sessions
from flexcache_rs.remote import RemoteCache, RemoteError
from flexcache_rs.remote.clients import listener_of
from flexcache_rs.remote.connections import Connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from own_server import Server

REDIS = str(Path(redis.__file__).parent)


@pytest.mark.parametrize("how", INTERRUPTS)
def test_a_lock_that_is_interrupted_anywhere_is_free(make: Callable[..., Any], how: str) -> None:
    cache = make()
    no_point_keeps(lambda: cache.lock("name"), how)


@pytest.mark.parametrize("how", INTERRUPTS)
def test_an_awaited_lock_that_is_interrupted_anywhere_is_free(make: Callable[..., Any], how: str) -> None:
    cache = make()

    @contextlib.asynccontextmanager
    async def lock() -> AsyncIterator[Any]:
        yield cache.lock("name")

    no_point_keeps_awaited(lock, how, lambda: cache.lock("name"))


def test_a_lock_that_refuses_to_be_entered_twice_stays_held(make: Callable[..., Any]) -> None:
    cache = make()
    with cache.lock("name") as lock:
        with pytest.raises(RuntimeError, match="held already"), lock:
            pass
        assert not cache.lock("name").acquire(timeout=0)


@pytest.mark.parametrize("again", [False, True], ids=["an exception", "a call"])
def test_a_listener_whose_start_is_interrupted_anywhere_listens(make: Callable[..., Any], again: bool) -> None:
    cache = make()

    def use(listener: Any) -> None:
        listener.ensure()
        listener.wait(MANY)

    def threads_of(listener: Any) -> list[threading.Thread]:
        # A thread that ends has no target.
        return [thread for thread in threading.enumerate() if getattr(thread, "_target", None) == listener._thread._run]

    def check(listener: Any) -> None:
        use(listener)
        until(listener._tracker.is_believed)
        # Another one that was started ends at once.
        until(lambda: threads_of(listener) == [listener._thread.current])
        listener.stop()
        until(lambda: not threads_of(listener))

    no_point_hangs(lambda: listener_of(cache._client, cache._listener._terms), use, check, again=again)


@pytest.mark.parametrize("again", [False, True], ids=["an exception", "a call"])
def test_a_cache_whose_end_is_interrupted_anywhere_ends_its_thread(
    server: Any, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The interpreter reports what is raised while an object is collected, and goes on.
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: seen.append(raised.exc_type))
    seen: list[Any] = []

    def check(_: Any) -> None:
        until(lambda: not [thread for thread in threading.enumerate() if thread.name == "flexcache-remote"])

    with contextlib.closing(server.client()) as client:
        no_point_hangs(
            lambda: [RemoteCache(client, "test", max_staleness=0.1, timeout=10.0)], list.clear, check, again=again
        )
    assert set(seen) <= {Stop}


@pytest.mark.parametrize("how", INTERRUPTS)
def test_an_interrupted_call_leaves_its_connection_to_nobody(
    make: Callable[..., Any], server: Server, how: str
) -> None:
    """A connection that a signal handler took away from a call does not count, so that others may be made."""
    # The tracer of a call, and the exception, hold what the call had until the next one.
    client = make(server.client(max_connections=3), lane="client")._client
    for _ in points(lambda: client.execute("ECHO", b"x"), how):
        assert client.execute("ECHO", b"y") == b"y"
        gc.collect()


@pytest.mark.parametrize("where", ["while it asked", "in its block"])
def test_the_lock_of_a_task_whose_event_loop_was_closed_is_free(make: Callable[..., Any], where: str) -> None:
    cache = make()
    lock = cache.lock("name", ttl=600)
    loop = asyncio.new_event_loop()
    # The task, which the garbage collector destroys, is reported.
    loop.set_exception_handler(lambda *_: None)
    has_stopped = threading.Event()

    if where == "while it asked":
        ask = lock._ask

        def granted(attempt: Any) -> None:
            ask(attempt)
            loop.call_soon_threadsafe(loop.stop)
            has_stopped.wait(MANY)

        lock._ask = granted

    async def hold() -> None:
        async with lock:
            loop.stop()
            await asyncio.Event().wait()

    task = loop.create_task(hold())
    loop.run_forever()
    assert not cache.lock("name").acquire(timeout=0)
    loop.close()
    has_stopped.set()
    del task, hold
    until(lambda: (gc.collect(), cache.lock("name").acquire(timeout=0))[1])


def interrupted_in_redis(at: int, call: Callable[[], object]) -> bool:
    """Make a call that fails, and interrupt it at the n-th event in the client's package. Returns whether it was."""
    fired = Tracer(at, raise_stop, within=redis.connection.AbstractConnection.disconnect.__code__, files=(REDIS,))
    sys.settrace(fired)
    try:
        call()
    except (Stop, RemoteError, sessions.SessionError):
        pass
    finally:
        sys.settrace(None)
    return fired.fired


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("user", ["cache", "session"])
def test_no_call_gets_the_reply_of_one_that_was_interrupted(server: Server, raw: Any, user: str) -> None:
    """The connection of a call that timed out is closed by several lines of Python, which a signal may interrupt."""
    get: Callable[[str], Any]
    raw.mset({"first": "first", "second": "second"})
    with contextlib.ExitStack() as stack:
        if user == "cache":
            cache = stack.enter_context(RemoteCache(server.client(), "late", near=None, timeout=0.1))

            def get(key: str) -> Any:
                # Without the circuit breaker, which would refuse the next call.
                if key == "first":
                    server.pause()
                return cache._client.execute("GET", key).decode()

        else:
            backend: Any = stack.enter_context(sessions.sync.connect(f"unix://{server.path}", timeout=0.1))._backend

            def get(key: str) -> Any:
                # As calls do that cannot share a connection.
                sender, connection = backend._connected()
                if key == "first":
                    server.pause()
                else:
                    # A late reply of the call before comes now.
                    server.go_on()
                    raw.ping()
                try:
                    return sender.exchange(connection, [("GET", key)], False)[0].decode()
                finally:
                    sender.give_back(connection)

        def found(key: str) -> Any:
            with contextlib.suppress(RemoteError, sessions.SessionError):
                return get(key)

        for at in range(1, 1000, 2):
            until(lambda: found("second") == "second")
            try:
                was_interrupted = interrupted_in_redis(at, lambda: get("first"))
                # The late reply comes only when the next call waits for its own.
                goes_on = threading.Timer(0.02, server.go_on)
                goes_on.start()
                answer = found("second")
                goes_on.join()
            finally:
                server.go_on()
            assert answer in {None, "second"}
            if not was_interrupted:
                assert at > 5
                return
        pytest.fail("the call never completed")


class Connection:
    """A connection that connects when it is told to."""

    def __init__(self) -> None:
        self.pid, self._sock = os.getpid(), None

    def connect(self) -> None:
        self._sock, self.other = socket.socketpair()

    def disconnect(self) -> None:
        self._sock.close()
        self.other.close()
        self._sock = None


def test_threads_that_connect_at_once_make_no_more_connections_than_allowed() -> None:
    connections, results = Connections(2), list[Any]()
    begins, goes_on = threading.Barrier(12), threading.Event()

    def connect(note: Callable[[Any], object]) -> Any:
        connection: Any = Connection()
        note(connection)
        # The others have not connected either.
        goes_on.wait(MANY)
        connection.connect()
        return connection

    def work() -> None:
        begins.wait(MANY)
        try:
            results.append(connections.take(connect, lambda kind, text: RemoteError(text)))
        except RemoteError as error:
            results.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    until(lambda: len(results) >= 10)
    goes_on.set()
    for thread in threads:
        thread.join(MANY)
    assert set(results[:10]) == {"no connection to the server: all 2 that the client allows are in use"}
    assert len(connections.open()) <= 2
    taken = [result for result in results if not isinstance(result, str)]
    del results[:]
    for borrowed in taken:
        borrowed.give_back()
    assert len(connections.open()) == len(taken)
    connections.shut_down()
    assert not connections.open()
