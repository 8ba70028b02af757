"""Who holds a lock on a server: neither a forked child nor a caller that was cancelled."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import INTERRUPTS, WAIT, points
from waiting import MANY

from flexcache_rs._asyncio_calls import to_thread
from flexcache_rs.remote import locks
from flexcache_rs.remote.locks import RemoteLock, _Attempt

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.in_turn("engine", "lane")


@pytest.mark.parametrize("call", ["acquire", "aacquire", "renew", "release"])
def test_a_forked_child_does_not_hold_the_lock_of_its_parent(make: Callable[..., Any], call: str) -> None:
    """Whatever it calls first."""
    cache, other = make(), make()
    lock = cache.lock("name", timeout=0)
    assert lock.acquire()
    # As in a child, whose process is another one.
    lock._process -= 1
    result = getattr(lock, call)()
    assert not (asyncio.run(result) if call == "aacquire" else result)
    assert lock.fence is None
    assert not other.lock("name").acquire(timeout=0)
    # What it acquires itself is its own.
    cache.clear()
    lock = cache.lock("own")
    lock._process -= 1
    assert lock.acquire(timeout=0)
    assert lock.release()


def test_a_lock_that_is_not_held_changes_no_other(make: Callable[..., Any], raw: Any) -> None:
    cache = make()
    lock, held = cache.lock("name", ttl=3600), cache.lock("name", ttl=60)
    assert held.acquire(timeout=0)
    calls = raw.info("stats")["total_commands_processed"]
    assert (lock.renew(), lock.release()) == (False, False)
    # The call of `info` is one.
    assert raw.info("stats")["total_commands_processed"] - calls <= 2
    assert raw.pttl("test#:{name}k") <= 60_000
    assert held.release()


def test_tasks_that_share_a_lock_do_not_hold_it_together(make: Callable[..., Any]) -> None:
    """Callers should have lock objects of their own. But the lock of one is never taken for that of another."""
    lock, other = make().lock("name"), make().lock("name")

    async def main() -> list[bool]:
        assert await other.aacquire(timeout=0)
        tasks = [asyncio.ensure_future(lock.aacquire(timeout=0.5)) for _ in range(3)]
        await asyncio.sleep(0)
        assert await to_thread(other.release)
        return await asyncio.gather(*tasks)

    assert sorted(asyncio.run(main())) == [False, False, True]
    assert lock.release()


def test_a_short_time_to_live(make: Callable[..., Any]) -> None:
    """The server knows no part of a millisecond."""
    lock = make().lock("name", ttl=1e-4)
    assert lock.acquire(timeout=0)
    assert make().lock("name").acquire()


def test_an_awaited_lock_waits_as_it_was_told(make: Callable[..., Any]) -> None:
    cache = make()

    async def main() -> None:
        async with cache.lock("name") as lock:
            with pytest.raises(RuntimeError, match="held already"):
                await lock.aacquire()
            assert not await cache.lock("name", timeout=0).aacquire()

    asyncio.run(main())


@pytest.mark.parametrize("awaits", [False, True])
def test_a_caller_that_waits_asks_less_and_less_often(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, awaits: bool
) -> None:
    cache, pauses = make(), list[float]()
    assert cache.lock("name", ttl=3600).acquire(timeout=0)
    lock = cache.lock("name")

    async def asleep(seconds: float) -> None:
        pauses.append(seconds)

    clock = SimpleNamespace(monotonic=lambda: sum(pauses), sleep=pauses.append)
    monkeypatch.setattr(locks, "time", clock)
    monkeypatch.setattr(locks, "sleep", asleep)
    assert not (asyncio.run(lock.aacquire(timeout=0.5)) if awaits else lock.acquire(timeout=0.5))
    assert pauses[:8] == [0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.1, 0.1]
    assert sum(pauses) == pytest.approx(0.5)


def test_the_caller_or_its_thread_gives_a_lock_back(make: Callable[..., Any]) -> None:
    """A caller that is cancelled gives it back if it sees the number of the holder. Otherwise the thread must do it."""
    lock = make().lock("name")
    seen: list[int] = []

    class Cancelled(_Attempt):
        @property
        def is_abandoned(self) -> bool:
            # As if the caller were cancelled just after the thread has looked.
            seen.append(self.fence)
            return False

        @is_abandoned.setter
        def is_abandoned(self, _: bool) -> None: ...

    lock._ask(Cancelled())
    assert seen == [1]


def test_a_caller_that_is_cancelled_looks_last(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread sees no cancellation if it looks just before. The caller then sees the number of the holder."""
    cache = make()
    asks, is_cancelled, has_looked, ask = *(threading.Event() for _ in range(3)), RemoteLock._ask

    class Looked(_Attempt):
        @property
        def is_abandoned(self) -> bool:
            return False

        @is_abandoned.setter
        def is_abandoned(self, is_abandoned: bool) -> None:
            if is_abandoned:
                is_cancelled.set()
                has_looked.wait(MANY)

    def slow(this: RemoteLock, attempt: Any) -> None:
        asks.set()
        is_cancelled.wait(MANY)
        ask(this, attempt)
        has_looked.set()

    async def main() -> None:
        task = asyncio.create_task(cache.lock("name", ttl=3600).aacquire())
        await asyncio.sleep(0)
        asks.wait(MANY)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(locks, "_Attempt", Looked)
    monkeypatch.setattr(RemoteLock, "_ask", slow)
    asyncio.run(main())
    monkeypatch.undo()
    assert make().lock("name").acquire(timeout=WAIT)


def test_a_caller_that_is_cancelled_waits_until_the_lock_is_free(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, ask, give_back = make(), RemoteLock._ask, RemoteLock._give_back
    has_asked, goes_on, gives_back, may_give_back = (threading.Event() for _ in range(4))

    def slow(this: RemoteLock, attempt: Any) -> None:
        try:
            ask(this, attempt)
        finally:
            has_asked.set()
            goes_on.wait(MANY)

    def slow_to_give(this: RemoteLock, attempt: Any) -> None:
        gives_back.set()
        may_give_back.wait(MANY)
        give_back(this, attempt)

    async def main() -> None:
        task = asyncio.create_task(cache.lock("name", ttl=3600).aacquire())
        await asyncio.to_thread(has_asked.wait, MANY)
        task.cancel()
        await asyncio.to_thread(gives_back.wait, MANY)
        assert not task.done()
        may_give_back.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        goes_on.set()
        assert await make().lock("name").aacquire(timeout=0)

    monkeypatch.setattr(RemoteLock, "_ask", slow)
    monkeypatch.setattr(RemoteLock, "_give_back", slow_to_give)
    try:
        asyncio.run(main())
    finally:
        goes_on.set()
        may_give_back.set()


def test_a_caller_that_was_granted_nothing_is_cancelled_at_once(make: Callable[..., Any], server: Any) -> None:
    """Even if the server does not answer."""
    cache = make(timeout=3600.0, max_staleness=3600.0)
    assert cache.lock("name").acquire(timeout=0)
    server.pause()

    async def main() -> None:
        task = asyncio.create_task(cache.lock("other", ttl=0.1).aacquire())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=MANY)
        is_cancelled.append(task.cancelled())
        server.go_on()

    is_cancelled: list[bool] = []
    try:
        asyncio.run(main())
    finally:
        server.go_on()
    assert is_cancelled == [True]


def test_a_lock_that_cannot_be_given_back_hides_no_signal(
    make: Callable[..., Any], server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, ask = make(timeout=0.1), RemoteLock._ask

    def interrupted(this: RemoteLock, attempt: Any) -> None:
        ask(this, attempt)
        server.pause()
        raise KeyboardInterrupt

    monkeypatch.setattr(RemoteLock, "_ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.lock("name", ttl=0.1).acquire()


@pytest.mark.parametrize("how", INTERRUPTS)
@pytest.mark.parametrize("awaits", [False, True])
def test_an_object_knows_whether_an_interrupted_call_has_acquired_it(
    make: Callable[..., Any], how: str, awaits: bool
) -> None:
    lock, other = make().lock("name"), make().lock("name")

    async def aacquire() -> None:
        await lock.aacquire()

    within = RemoteLock._atry.__code__ if awaits else None
    for at in points(lambda: asyncio.run(aacquire()) if awaits else lock.acquire(), how, within):
        if lock.fence is None:
            assert other.acquire(timeout=WAIT), f"held after point {at}"
            other.release()
        else:
            assert lock.release(), f"lost at point {at}"
