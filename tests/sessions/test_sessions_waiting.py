"""Calls that wait for other callers: for an element, for an entry of a stream, or for a lock."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from scale import scaled
from session_places import SERVERS
from waiting import until

from flexcache_rs.sessions import _redis_wakes
from flexcache_rs.sessions import sync as now
from flexcache_rs.sessions._redis_wakes import Waker, Wakes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_places import Place

    from flexcache_rs.sessions import Session

LONG = 60.0
"""Seconds in which an answer must come. Calls wait longer: one that ends by itself is no answer."""


class Waiter(threading.Thread):
    """A call in a thread, which has begun to wait when this object is made."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.result: Any = "nothing yet"
        self.start()

    def run(self) -> None:
        self.result = self._call()

    def answer(self) -> Any:
        self.join(LONG)
        assert not self.is_alive()
        return self.result


@pytest.mark.skipif("redis" not in SERVERS, reason="needs valkey-server or redis-server")
def test_the_thread_of_a_session_that_nobody_closed_ends(redis_url: str) -> None:
    def waits() -> threading.Thread:
        session: Any = now.connect(redis_url)
        session._backend.waiting("jobs", False)
        wakes = session._backend._wakes
        # It begins again if the connection fails, as calls that wait do.
        until(lambda: wakes.listen() or wakes.is_live)
        thread = wakes._thread.current
        assert thread is not None
        return thread  # type: ignore[no-any-return]

    thread = waits()
    gc.collect()
    until(lambda: not thread.is_alive())


def test_a_job_is_waited_for(place: Place) -> None:
    with place.sync() as session, place.sync() as other:
        jobs = session.queue("jobs")
        assert jobs.reserve(timeout=0) is None
        assert jobs.reserve(timeout=0.01) is None
        assert jobs.wait_pop(0) is None
        waiter = Waiter(lambda: jobs.reserve("1h", timeout=10 * LONG).value)  # type: ignore[union-attr]
        other.queue("jobs").push("job")
        assert waiter.answer() == "job"
        assert session.queue("jobs").len() == 0


def test_a_job_that_comes_back_is_waited_for(place: Place) -> None:
    with place.sync() as session, place.sync() as other:
        session.queue("jobs").push("job")
        job = other.queue("jobs").reserve(LONG)
        assert job is not None
        waiter = Waiter(lambda: session.queue("jobs").wait_pop(10 * LONG))
        assert job.release()
        assert waiter.answer() == "job"
        session.queue("jobs").push("job")
        assert other.queue("jobs").reserve(0.2) is not None
        # Nobody says that its time is over.
        assert session.queue("jobs").wait_pop(10 * LONG) == "job"


def test_an_entry_is_waited_for(place: Place) -> None:
    with place.sync() as session, place.sync() as other:
        first = session.stream("log").add({"n": 1})
        assert session.stream("log").read(first, timeout=0) == []
        waiter = Waiter(lambda: session.stream("log").read(first, timeout=LONG))
        second = other.stream("log").add({"n": 2})
        assert waiter.answer() == [(second, {"n": 2})]


def test_a_call_that_is_interrupted_as_it_waits_leaves_the_session_usable(place: Place) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with place.sync() as session:
            session.count()
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                session.queue("jobs").wait_pop(10 * LONG)
            session.queue("jobs").push("job")
            assert session.queue("jobs").wait_pop(10 * LONG) == "job"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_task_that_is_cancelled_as_it_waits_takes_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.awaited(timeout=LONG) as session:
            jobs = session.queue("jobs")
            await jobs.len()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.ensure_future(jobs.wait_pop()), 0.3)
            waiting = [asyncio.ensure_future(jobs.wait_pop(10 * LONG)) for _ in range(3)]
            await asyncio.sleep(0)
            await jobs.push(1, 2, 3)
            assert sorted(await asyncio.gather(*waiting)) == [1, 2, 3]
            assert await jobs.len() == 0

    asyncio.run(main())


needs_redis = pytest.mark.skipif("redis" not in SERVERS, reason="there is no redis-server")


def listening(raw: Any) -> bool:
    return bool(raw.pubsub_numsub("sessions:#wakes")[0][1])


WAYS: dict[str, Callable[[now.Session], Any]] = {
    "push": lambda session: session.list("key").push("x"),
    "push_left": lambda session: session.list("key").push_left("x"),
    "set": lambda session: session.set("key", ["x"]),
    "set_many": lambda session: session.set_many({"other": 1, "key": ["x"]}),
    "rename": lambda session: (session.set("other", ["x"]), session.rename("other", "key")),
    "transaction": lambda session: session.run(lambda t: t.list("key").push("x")),
    "insert": lambda session: session.list("key").insert(0, "x"),
}


@needs_redis
def test_the_server_says_when_there_is_an_element(redis_url: str, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # It would take too long without being told.
    monkeypatch.setattr("flexcache_rs.sessions._redis_wakes._LONGEST_REST", 10 * LONG)
    with now.connect(redis_url, timeout=LONG) as session, now.connect(redis_url, timeout=LONG) as other:
        for name, way in WAYS.items():
            if name == "insert":
                session.set("key", [])
            waiter = Waiter(lambda: session.list("key").wait_pop(10 * LONG))
            until(lambda: listening(raw))
            way(other)
            assert waiter.answer() == "x", name
            session.delete("key")
        with other.lock("lock"):
            waiter = Waiter(lambda: session.lock("lock").acquire(10 * LONG))
            until(lambda: session._backend._wakes._waiting)  # type: ignore[attr-defined]
        assert waiter.answer() is True


@needs_redis
@pytest.mark.parametrize("kind", ["list", "queue"])
def test_the_server_says_when_there_is_an_element_again(
    redis_url: str, raw: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The key exists all the time, without elements."""
    monkeypatch.setattr("flexcache_rs.sessions._redis_wakes._LONGEST_REST", 10 * LONG)
    with now.connect(redis_url, timeout=LONG) as session, now.connect(redis_url, timeout=LONG) as other:
        session.set("key", [] if kind == "list" else deque())
        waiter = Waiter(lambda: getattr(session, kind)("key").wait_pop(10 * LONG))
        until(lambda: listening(raw))
        getattr(other, kind)("key").push("x")
        assert waiter.answer() == "x"


@needs_redis
def test_what_comes_between_the_first_look_and_listening_is_not_missed(
    redis_url: str, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flexcache_rs.sessions._redis_wakes._LONGEST_REST", 10 * LONG)
    with now.connect(redis_url, timeout=LONG) as session:
        # A call does not listen if its time is over before it waits.
        until(lambda: session.list("key").wait_pop(0.1) is None and listening(raw))
        with session._waiting("key") as waiting:
            session.list("key").push("x")
            assert Waiter(lambda: waiting.rest(10 * LONG)).answer() is None


@needs_redis
def test_a_call_that_waits_does_not_ask_all_the_time(redis_url: str, raw: Any) -> None:
    with now.connect(redis_url, timeout=LONG) as session:
        jobs = session.queue("jobs")
        waiter = Waiter(lambda: jobs.wait_pop(10 * LONG))
        until(lambda: listening(raw))
        jobs.push("first")
        assert waiter.answer() == "first"
        calls = raw.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert jobs.wait_pop(0.5) is None
        # Before it waits, when it begins to wait, and at the end, unless the time is over before that.
        assert raw.info("commandstats")["cmdstat_evalsha"]["calls"] - calls <= 3


@needs_redis
def test_a_wait_outlives_the_connection_that_listens(redis_url: str, raw: Any) -> None:
    with now.connect(redis_url, timeout=LONG) as session:
        waiter = Waiter(lambda: session.queue("jobs").wait_pop(10 * LONG))
        until(lambda: listening(raw))
        raw.client_kill_filter(_type="pubsub")
        until(lambda: listening(raw))
        session.queue("jobs").push("job")
        assert waiter.answer() == "job"


@needs_redis
def test_where_the_server_refuses_to_say_it_is_looked_again(redis_url: str, raw: Any) -> None:
    raw.execute_command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all", "-subscribe", "-publish")
    try:
        with now.connect(redis_url, username="worker", password="secret", timeout=LONG) as session:
            waiter = Waiter(lambda: session.queue("jobs").wait_pop(10 * LONG))
            with now.connect(redis_url, username="worker", password="secret") as other:
                other.queue("jobs").push("job")
            assert waiter.answer() == "job"
    finally:
        raw.execute_command("ACL", "DELUSER", "worker")


@needs_redis
def test_a_session_that_ends_lets_its_thread_end(redis_url: str, raw: Any) -> None:
    session = now.connect(redis_url)
    # A call does not listen if its time is over before it waits.
    until(lambda: session.queue("jobs").wait_pop(0.2) is None and listening(raw))
    session.close()
    until(lambda: not listening(raw))
    assert not [thread for thread in threading.enumerate() if thread.name == "flexcache wakes"]


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
    ("wait_pop", lambda s: s.queue("queue").wait_pop(10 * LONG), lambda s: s.queue("queue").range(), [1, 2, 3]),
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
    """`asyncio.run` cancels all remaining tasks, including those that wait for an answer."""

    async def main(session: Session) -> None:
        waiting.extend(asyncio.ensure_future(session.queue("queue").wait_pop(10 * LONG)) for _ in range(3))
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


def test_a_lock_whose_holder_is_cancelled_again_and_again_is_free(place: Place) -> None:
    async def main() -> None:
        async with place.awaited(timeout=LONG) as session:
            for number in range(8):
                entered = asyncio.Event()

                async def hold(entered: asyncio.Event = entered) -> None:
                    async with session.lock("lock", ttl=None):
                        entered.set()

                task = asyncio.ensure_future(hold())
                await entered.wait()
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                while not task.done():
                    task.cancel()
                    await asyncio.sleep(0)
                free = session.lock("lock", ttl=3600)
                assert await free.acquire(0)
                await free.release()

    asyncio.run(main())


def test_a_release_that_is_cancelled_is_made(place: Place) -> None:
    """Otherwise nobody could release the lock."""

    async def main() -> None:
        async with place.awaited(timeout=LONG) as session:
            for turns in range(4):
                lock = session.lock("lock", ttl=None)
                has_begun = asyncio.Event()

                async def hold(lock: Any = lock, has_begun: asyncio.Event = has_begun) -> None:
                    assert await lock.acquire(LONG)
                    has_begun.set()
                    await lock.release()

                task = asyncio.ensure_future(hold())
                await has_begun.wait()
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                free = session.lock("lock", ttl=3600)
                assert await free.acquire(0)
                await free.release()

    asyncio.run(main())


def test_a_holder_that_has_released_a_lock_is_a_new_one(place: Place) -> None:
    """If it is cancelled as it acquires the lock again, it gives it back."""

    async def main() -> None:
        async with place.awaited(timeout=LONG) as session:
            for turns in range(8):
                lock = session.lock("lock", ttl=3600)
                has_released = asyncio.Event()

                async def hold(lock: Any = lock, has_released: asyncio.Event = has_released) -> None:
                    assert await lock.acquire(LONG)
                    assert await lock.release()
                    has_released.set()
                    await lock.acquire()
                    await lock.release()

                task = asyncio.ensure_future(hold())
                await has_released.wait()
                for _ in range(turns % 4):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                free = session.lock("lock", ttl=3600)
                assert await free.acquire(0)
                await free.release()

    asyncio.run(main())


@pytest.mark.parametrize("is_block", [False, True])
def test_a_holder_whose_release_was_cancelled_is_a_new_one(place: Place, is_block: bool) -> None:
    """If it is cancelled as it acquires the lock again, it gives it back."""

    async def main() -> None:
        async with place.awaited(timeout=LONG) as session:
            for turns in range(16):
                lock = session.lock("lock", ttl=None)
                releases, goes_on = asyncio.Event(), asyncio.Event()

                async def hold(
                    lock: Any = lock, releases: asyncio.Event = releases, goes_on: asyncio.Event = goes_on
                ) -> None:
                    assert await lock.acquire(LONG)
                    releases.set()
                    with contextlib.suppress(asyncio.CancelledError):
                        await lock.release()
                    goes_on.set()
                    if is_block:
                        async with lock:
                            pass
                    else:
                        await lock.acquire(LONG)
                        await lock.release()

                task = asyncio.ensure_future(hold())
                for event, pauses in ((releases, turns % 4), (goes_on, turns // 4)):
                    await event.wait()
                    for _ in range(pauses):
                        await asyncio.sleep(0)
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                free = session.lock("lock", ttl=3600)
                assert await free.acquire(0)
                await free.release()

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


class Listening:
    """A connection that hears of nothing, and ends when told to."""

    def __init__(self) -> None:
        self.ends = threading.Event()
        self.has_begun = False
        self._sock = self

    def settimeout(self, seconds: float | None) -> None:
        pass

    def can_read(self, timeout: float) -> bool:
        return True

    def send_command(self, *command: Any) -> None:
        pass

    def read_response(self) -> None:
        if self.has_begun:
            self.ends.wait(LONG)
            raise ConnectionError
        self.has_begun = True

    def disconnect(self) -> None:
        pass


def test_calls_that_wait_look_again_when_listening_begins_and_ends() -> None:
    """An element may have come before it began. After it, nobody tells them of one."""
    connection, woken = Listening(), list[bool]()
    wakes = Wakes(lambda: connection, b"channel", lambda: True)
    wakes.add(b"queue", lambda: woken.append(wakes.is_live))
    until(lambda: woken == [True])
    connection.ends.set()
    until(lambda: woken == [True, False])


def test_a_call_that_has_waited_is_not_woken_any_more() -> None:
    connection = Listening()
    wakes = Wakes(lambda: connection, b"channel", lambda: True)
    with Waker(wakes, b"queue") as other:
        other.rest(0)
        for _ in range(3):
            with Waker(wakes, b"queue") as waker:
                waker.rest(0)
        assert len(wakes._waiting[b"queue"]) == 1
    assert wakes._waiting == {}
    connection.ends.set()


def test_listening_that_has_failed_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis_wakes, "_RETRIED_AFTER", 3600.0)
    tried: list[None] = []

    def connect() -> None:
        tried.append(None)
        raise ConnectionError

    def listen() -> None:
        wakes.listen()
        until(lambda: tried and wakes._thread.current is None)

    wakes = Wakes(connect, b"channel", lambda: True)
    listen()
    listen()
    assert len(tried) == 1
    wakes._failed_at -= 3600.0
    listen()
    assert len(tried) == 2
