"""Who holds a lock: a thread or a task that has ended is no later one, although its number may be."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from session_places import advance
from waiting import MANY

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


def test_a_holder_that_acquires_it_again_while_another_thread_releases_it_keeps_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, run = session.lock("name"), type(session._backend).run
    is_released, goes_on = threading.Event(), threading.Event()

    def slow(backend: Any, call: Any) -> Any:
        answer = run(backend, call)
        if threading.current_thread() is other:
            is_released.set()
            goes_on.wait(MANY)
        return answer

    monkeypatch.setattr(type(session._backend), "run", slow)
    other = threading.Thread(target=lock.release)
    assert lock.acquire(0)
    other.start()
    is_released.wait(MANY)
    assert lock.acquire(0)
    goes_on.set()
    other.join()
    assert lock.release()


def test_a_holder_whose_time_is_over_releases_no_other(session: Session) -> None:
    lock = session.lock("name", ttl=1)
    assert lock.acquire(0)
    advance(2)
    assert in_thread(lambda: lock.acquire(0))
    assert not lock.release()
    assert not session.lock("name").acquire(0)
