"""A signal handler that raises leaves no lock held, wherever it runs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import INTERRUPTS, no_point_hangs, no_point_keeps, no_point_keeps_awaited
from scale import SCALE
from session_places import SERVERS
from waiting import until

from flexcache_rs.sessions._mysql_backend import MysqlBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from session_places import Place

    from flexcache_rs.sessions import sync


@pytest.mark.parametrize("how", INTERRUPTS)
def test_a_lock_that_is_interrupted_anywhere_is_free(place: Place, session: sync.Session, how: str) -> None:
    # PyMySQL, a package in Python, takes long.
    no_point_keeps(lambda: session.lock("name"), how, 20 if place.backend == "mysql" else 1)


@pytest.mark.parametrize("how", INTERRUPTS)
def test_an_awaited_lock_that_is_interrupted_anywhere_is_free(place: Place, session: sync.Session, how: str) -> None:
    @contextlib.asynccontextmanager
    async def make() -> AsyncIterator[Any]:
        async with place.awaited() as awaited:
            yield awaited.lock("name")

    # In a run with a tenth of the full counts, each way to interrupt a call of a server takes other points.
    step = len(INTERRUPTS) if SCALE < 1 and place.backend in SERVERS else 1
    no_point_keeps_awaited(make, how, lambda: session.lock("name"), step)


def test_no_release_overtakes_the_acquisition(place: Place, session: sync.Session, monkeypatch: Any) -> None:
    """A handler may raise after the lock was requested. Here the request is slow, and the release is fast."""
    if place.backend != "mysql":
        pytest.skip("the calls of the others are made by one thread")
    run = MysqlBackend.run

    def slow(self: MysqlBackend, call: Any) -> Any:
        if call.name == "lease":
            goes_on.wait(60)
        answer = run(self, call)
        if call.name == "release":
            released.set()
        return answer

    goes_on, released = threading.Event(), threading.Event()

    async def main() -> None:
        async with place.awaited() as awaited:
            lock = awaited.lock("name")
            await awaited.get("key")
            monkeypatch.setattr(MysqlBackend, "run", slow)
            token = b"token"
            asked = awaited._backend._ask(awaited._codec.call("lease", "lock:name", token, 60_000_000))
            given_back = asyncio.ensure_future(lock._give_back(token))
            # Whatever overtakes has the time to: other calls go on meanwhile.
            for _ in range(100):
                if not released.is_set():
                    await awaited.get("key")
            goes_on.set()
            await asyncio.gather(asked, given_back)

    asyncio.run(main())
    assert session.lock("name").acquire(timeout=0)


def test_a_block_in_the_block_of_a_holder_that_fails_keeps_the_outer_one(session: sync.Session) -> None:
    """The same holder may enter again. The inner block does not release what it did not acquire."""
    lock = session.lock("name")
    with lock:
        lock._end(lock._before())
        assert not session.lock("name").acquire(timeout=0)
    assert session.lock("name").acquire(timeout=0)


@pytest.mark.parametrize("again", [False, True], ids=["an exception", "a call"])
def test_waiting_that_is_interrupted_anywhere_leaves_no_thread(place: Place, again: bool) -> None:
    if place.backend != "redis":
        pytest.skip("the others look again after pauses, without a thread")

    def rest(session: sync.Session) -> None:
        with session._backend.waiting("jobs", False) as waker:
            # The first one begins to listen, unless it does already.
            waker.rest(0.001)
            waker.rest(0.001)

    def check(session: sync.Session) -> None:
        rest(session)
        session.close()
        until(lambda: not [thread for thread in threading.enumerate() if thread.name == "flexcache wakes"])

    no_point_hangs(place.sync, rest, check, again=again)
