"""A signal handler that raises leaves no lock held, wherever it runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import INTERRUPTS, Stop, no_point_hangs, no_point_keeps, no_point_keeps_awaited, points
from waiting import MANY, until

from flexcache_rs.remote import RemoteCache
from flexcache_rs.remote.clients import listener_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from own_server import Server


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

        def granted(attempt: Any) -> Any:
            held = ask(attempt)
            loop.call_soon_threadsafe(loop.stop)
            has_stopped.wait(MANY)
            return held

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
