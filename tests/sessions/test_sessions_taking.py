"""Calls that take something: a task that is cancelled as it takes it gives it back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
from scale import scaled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_places import Place

    from flexcache_rs.sessions import Session

LONG = 60.0
Take = tuple[str, "Callable[[Session], Awaitable[Any]]", "Callable[[Session], Awaitable[Any]]", Any]


async def _fill(session: Session) -> None:
    await session.list("list").push(1, 2, 3)
    await session.queue("queue").push(1, 2, 3)
    await session.set_of("set").add(1, 2, 3)
    await session.sorted("sorted").add({"a": 1, "b": 2, "c": 3})


TAKES: list[Take] = [
    ("pop", lambda s: s.list("list").pop(2), lambda s: s.list("list").range(), [1, 2, 3]),
    ("pop_left", lambda s: s.list("list").pop_left(), lambda s: s.list("list").range(), [1, 2, 3]),
    ("pop_left of several", lambda s: s.list("list").pop_left(3), lambda s: s.list("list").range(), [1, 2, 3]),
    ("wait_pop", lambda s: s.queue("queue").wait_pop(LONG), lambda s: s.queue("queue").range(), [1, 2, 3]),
    ("reserve", lambda s: s.queue("queue").reserve(3600), lambda s: s.queue("queue").range(), [1, 2, 3]),
    ("pop of a set", lambda s: s.set_of("set").pop(2), lambda s: s.set_of("set").all(), {1, 2, 3}),
    (
        "pop_min",
        lambda s: s.sorted("sorted").pop_min(2),
        lambda s: s.sorted("sorted").range(),
        [("a", 1), ("b", 2), ("c", 3)],
    ),
    (
        "pop_max",
        lambda s: s.sorted("sorted").pop_max(),
        lambda s: s.sorted("sorted").range(),
        [("a", 1), ("b", 2), ("c", 3)],
    ),
]


@pytest.mark.parametrize("take", TAKES, ids=lambda take: take[0])
def test_what_a_cancelled_task_took_is_there(place: Place, take: Take) -> None:
    _, call, look, whole = take

    async def main() -> None:
        async with place.awaited(timeout=LONG) as session:
            await _fill(session)
            for number in range(scaled(20, 5)):
                task = asyncio.ensure_future(call(session))
                # Before it is asked, while it is asked, and in the moment in which the answer is there.
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                    # It was quicker: what it took is its caller's.
                    await session.clear()
                    await _fill(session)
                assert await look(session) == whole

    asyncio.run(main())


def test_a_task_that_is_cancelled_again_and_again_gives_back(place: Place) -> None:
    async def main() -> None:
        async with place.awaited(timeout=LONG) as session:
            await session.list("list").push(1, 2, 3)
            for _ in range(5):
                task = asyncio.ensure_future(session.list("list").pop_left(2))
                await asyncio.sleep(0)
                while not task.done():
                    task.cancel()
                    await asyncio.sleep(0)
                if not task.cancelled():
                    await session.list("list").push_left(*reversed(task.result()))
                assert await session.list("list").range() == [1, 2, 3]

    asyncio.run(main())


def test_the_end_of_a_program_gives_back(place: Place) -> None:
    """`asyncio.run` cancels all tasks that are left, those that wait for an answer too."""

    async def main(session: Session) -> None:
        waiting.extend(asyncio.ensure_future(session.queue("queue").wait_pop(LONG)) for _ in range(3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    waiting: list[asyncio.Future[Any]] = []
    session = place.open[0]
    session.queue("queue").push(1, 2, 3)
    awaited = place.awaited(timeout=LONG)
    asyncio.run(main(awaited))
    awaited._backend.close()  # type: ignore[attr-defined]
    taken = [task.result() for task in waiting if not task.cancelled()]
    assert sorted([*session.queue("queue").range(), *taken]) == [1, 2, 3]


def test_a_cancelled_task_leaves_no_lock_behind(place: Place) -> None:
    async def main() -> None:
        async with place.awaited(timeout=LONG) as session:
            for number in range(scaled(12, 6)):
                lock = session.lock("lock", ttl=3600)
                for task in (
                    asyncio.ensure_future(lock.acquire()),
                    asyncio.ensure_future(session.get_or_set("key", lambda: asyncio.sleep(LONG))),
                ):
                    for _ in range(number % 4):
                        await asyncio.sleep(0)
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
                        await lock.release()
                other = session.lock("lock", ttl=3600)
                assert await other.acquire(0)
                assert await other.release()
            # Nobody has the lease of the value.
            assert await asyncio.wait_for(session.get_or_set("key", lambda: 5), LONG / 4) == 5

    asyncio.run(main())


def test_holders_that_share_a_lock_exclude_each_other(place: Place) -> None:
    session = place.open[0]
    lock = session.lock("lock")
    assert lock.release() is False
    found: list[bool] = []
    with lock:
        other = threading.Thread(target=lambda: found.append(lock.acquire(0)))
        other.start()
        other.join()
    assert found == [False]
    with lock:
        assert session.lock("lock").acquire(0) is False
    # A thread may release it for another one.
    assert lock.acquire(0)
    other = threading.Thread(target=lambda: found.append(lock.release()))
    other.start()
    other.join()
    assert found == [False, True]

    async def main() -> None:
        inside = most = 0

        async def work(shared: Any) -> None:
            nonlocal inside, most
            async with shared:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.001)
                inside -= 1

        async with place.awaited(timeout=LONG) as awaited:
            shared = awaited.lock("shared")
            await asyncio.gather(*(work(shared) for _ in range(4)))
        assert most == 1

    asyncio.run(main())
