"""Who holds a lock: a thread or a task that has ended is no later one, although its number may be."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import INTERRUPTS, points, use
from session_places import advance
from waiting import MANY

from flexcache_rs.sessions import _sync_limits
from flexcache_rs.sessions._waiting import Pauses
from flexcache_rs.sessions.sync import connect

if TYPE_CHECKING:
    from session_places import Place

    from flexcache_rs.sessions.sync import Session

ROUNDS = 20


def in_thread(call: Any) -> Any:
    """Return the result of a call in a thread of its own, which has ended then."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


def test_a_later_thread_is_not_the_holder(session: Session) -> None:
    lock = session.lock("name", ttl=60)
    assert in_thread(lambda: lock.acquire(0))
    # A thread often has the number of one that has ended.
    assert not any(in_thread(lambda: lock.acquire(0)) for _ in range(ROUNDS))
    # Any thread may release it for the one that has ended.
    assert lock.release()
    assert in_thread(lambda: lock.acquire(0))


def test_a_later_task_is_not_the_holder(place: Place) -> None:
    async def main() -> None:
        async with place.awaited() as session:
            lock = session.lock("name", ttl=60)
            assert await asyncio.create_task(lock.acquire(0))
            assert not any([await asyncio.create_task(lock.acquire(0)) for _ in range(ROUNDS)])
            assert await lock.release()
            assert await asyncio.create_task(lock.acquire(0))

    asyncio.run(main())


def test_holders_that_have_ended_are_forgotten(session: Session) -> None:
    """A holder that never releases leaves nothing, if others acquire the lock after its time."""
    lock = session.lock("name", ttl=1)
    for _ in range(ROUNDS):
        assert in_thread(lambda: lock.acquire(0))
        advance(2)
    assert len(lock._tokens) == 1


def test_a_holder_enters_its_block_again(session: Session) -> None:
    lock = session.lock("name", ttl=math.inf)
    with lock:
        with lock:
            assert not session.lock("name").acquire(0)
        # A single release ends it.
        assert session.lock("name").acquire(0)


def test_a_holder_that_is_cancelled_as_it_renews_the_lock_keeps_it(place: Place) -> None:
    async def main() -> None:
        async with place.awaited() as session:
            for turns in range(8):
                lock, holds = session.lock("name"), asyncio.Event()

                async def hold(lock: Any = lock, holds: asyncio.Event = holds) -> None:
                    assert await lock.acquire(MANY)
                    holds.set()
                    try:
                        while True:
                            await lock.acquire(0)
                            await asyncio.sleep(0)
                    finally:
                        assert not await session.lock("name").acquire(0)
                        await lock.release()

                task = asyncio.create_task(hold())
                await holds.wait()
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    asyncio.run(main())


@pytest.mark.parametrize("how", INTERRUPTS)
def test_nothing_is_known_of_a_block_that_was_interrupted_anywhere(how: str) -> None:
    with connect("memory://") as session:
        lock = session.lock("name")
        for at in points(lambda: use(lock), how):
            assert (lock._tokens, lock._uncertain) == ({}, {}), f"after point {at}"


def test_a_caller_waits_no_longer_than_needed(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks again when its own time or that of the holder is over."""
    rests: list[float] = []

    class Rest(Pauses):
        def rest(self, most: float) -> None:
            rests.append(most)
            super().rest(most)

    def waiting(_: Any, name: str, is_lease: bool) -> Rest:
        assert (name, is_lease) == ("lock:name", True)
        return Rest()

    monkeypatch.setattr(_sync_limits, "waiting", waiting)
    assert session.lock("name", ttl=100).acquire(0)
    assert not in_thread(lambda: session.lock("name").acquire(0.01))
    assert [rest for rest in rests if not 0 <= rest <= 0.01] == []
    rests.clear()
    advance(99)
    assert session.lock("name").acquire(1000)
    assert [rest for rest in rests if not 0 <= rest <= 2] == []


def test_a_holder_whose_time_is_over_releases_no_other(session: Session) -> None:
    lock = session.lock("name", ttl=1)
    assert lock.acquire(0)
    advance(2)
    assert in_thread(lambda: lock.acquire(0))
    assert not lock.release()
    assert not session.lock("name").acquire(0)
