"""Limiters, locks, and values that are computed once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from session_places import BACKENDS, advance, mariadb_server, redis_server, rows, set_clock_back
from waiting import MANY

from flexcache_rs import CircularLoadError
from flexcache_rs.sessions import ClosedError, RateLimitExceeded

if TYPE_CHECKING:
    from pathlib import Path

    from session_places import Place

    from flexcache_rs.sessions.sync import Session


@pytest.mark.parametrize("algorithm", ["gcra", "sliding_window"])
def test_a_limiter_lets_exactly_the_limit_through(place: Place, algorithm: str) -> None:
    allowed: list[bool] = []

    def work() -> None:
        session = place.sync(timeout=60)
        limiter = session.limiter("api", 10, 3600, algorithm=algorithm)
        allowed.extend(limiter.hit("user").allowed for _ in range(20))
        session.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(allowed), sum(allowed)) == (80, 10)


def test_a_limiter_refills_evenly(session: Session) -> None:
    limiter = session.limiter("api", 2, 1000)
    assert limiter.hit("a") == (True, 1, 0.0)
    assert limiter.hit("a") == (True, 0, 0.0)
    refused = limiter.hit("a")
    assert not refused.allowed
    assert not refused
    assert 0 < refused.retry_after <= 500
    assert limiter.hit("b")
    advance(500.1)
    assert limiter.hit("a").allowed
    assert not limiter.hit("a").allowed
    advance(100_000)
    assert [limiter.hit("a").allowed for _ in range(3)] == [True, True, False]
    assert session.count() == 0


@pytest.mark.parametrize("place", [name for name in BACKENDS if name != "memory"], indirect=True)
@pytest.mark.parametrize("algorithm", ["gcra", "sliding_window"])
def test_a_limiter_begins_anew_where_the_clock_was_set_back(place: Place, algorithm: str) -> None:
    """Otherwise it would refuse all calls until the clock has caught up. The clock of memory is never set back."""
    limiter = place.open[0].limiter("api", 2, 1000, algorithm=algorithm)
    assert [limiter.hit().allowed for _ in range(3)] == [True, True, False]
    set_clock_back(place, 7200)
    assert [limiter.hit().allowed for _ in range(3)] == [True, True, False]


def test_limits_of_limits(session: Session) -> None:
    assert session.limiter("none", 0, 1).hit() == (False, 0, math.inf)
    assert session.limiter("burst", 10, 10, burst=3).hit(cost=3).allowed
    assert not session.limiter("burst", 10, 10, burst=3).hit().allowed
    assert session.limiter("burst", 10, 10, burst=3).hit(cost=4).retry_after == math.inf
    # A limit of none allows no burst, and the calls of a very large one still have times that can be stored.
    assert session.limiter("none", 0, 1, burst=5).hit() == (False, 0, math.inf)
    assert session.limiter("many", 10**7, 1).hit().remaining >= 10**7 - 1
    assert session.limiter("more", 10**17, 1).hit().allowed
    for cost in (True, 1.0):
        with pytest.raises(TypeError, match="cost"):
            session.limiter("cost", 1, 1).hit(cost=cost)  # type: ignore[arg-type]
    for wrong in (
        *({"limit": -1}, {"period": 0}, {"burst": -1}, {"period": math.inf}, {"burst": 10**17}),
        *({"burst": 1, "algorithm": "sliding_window"}, {"limit": 1001, "algorithm": "sliding_window"}),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            session.limiter("x", **{"limit": 1, "period": 1, **wrong})  # type: ignore[arg-type]


def test_a_sliding_window_waits_for_the_first_of_its_calls(session: Session) -> None:
    for algorithm, least in (("gcra", 300), ("sliding_window", 800)):
        limiter = session.limiter("calls", 2, 1000, algorithm=algorithm)
        assert [limiter.hit().allowed for _ in range(2)] == [True, True]
        assert least < limiter.hit().retry_after <= least + 200


@pytest.mark.parametrize("algorithm", ["gcra", "sliding_window"])
def test_calls_in_a_transaction_that_is_rolled_back_count(session: Session, algorithm: str) -> None:
    limiter = session.limiter("calls", 1, 1000, algorithm=algorithm)
    if session.stats()["backend"] == "disk":
        pytest.skip("in a thread, other writers wait for the end of the transaction")
    with pytest.raises(KeyError), session.transaction() as t:
        t.set("key", 1)
        assert limiter.hit().allowed
        raise KeyError
    assert not limiter.hit().allowed


def test_a_limited_function(session: Session) -> None:
    @session.limiter("calls", 1, 60)
    def double(number: int) -> int:
        return number * 2

    assert double(4) == 8
    raised = []
    for _ in range(2):
        with pytest.raises(RateLimitExceeded, match="limited to 1 calls in 60 seconds") as caught:
            double(4)
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert 0 < raised[0].retry_after <= 60


def test_an_awaited_limiter_takes_any_function(place: Place) -> None:
    async def main() -> None:
        async with place.awaited() as awaited:

            @awaited.limiter("calls", 2, 60)
            def plain(number: int) -> int:
                return number * 2

            @awaited.limiter("calls", 2, 60)
            async def coroutine(number: int) -> int:
                return number * 3

            assert (await plain(4), await coroutine(4)) == (8, 12)
            with pytest.raises(RateLimitExceeded):
                await plain(4)

    asyncio.run(main())


def test_locks(place: Place) -> None:
    session, other = place.open[0], place.sync()
    with session.lock("job"):
        assert other.lock("job").acquire(timeout=0) is False
        assert other.lock("other").acquire(timeout=0) is True
    mine = other.lock("job", ttl=5)
    assert mine.acquire(timeout=0)
    assert mine.acquire(timeout=0), "who has it may renew it"
    advance(6)
    assert session.lock("job").acquire(timeout=0)
    assert mine.release() is False
    other.close()


def test_one_computes_and_all_get_the_value(place: Place) -> None:
    calls: list[int] = []
    barrier = threading.Barrier(6)
    results: list[Any] = []

    def factory() -> Any:
        calls.append(1)
        return None

    def work() -> None:
        session = place.sync(timeout=60)
        barrier.wait()
        results.append(session.get_or_set("key", factory, ttl=60))
        session.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(calls), results) == (1, [None] * 6)
    assert place.open[0].exists("key")


def test_a_computation_that_fails_leaves_no_lease(session: Session) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            session.get_or_set("key", lambda: 1 // 0)
    assert session.get_or_set("key", lambda: 7) == 7
    assert session.get_or_set("key", lambda: 8) == 7


def test_a_write_during_a_computation_is_kept(session: Session) -> None:
    """The result of the computation is older than the written value."""

    def compute() -> str:
        session.set("key", "written")
        return "computed"

    assert session.get_or_set("key", compute) == "computed"
    assert session.get("key") == "written"
    session.delete("key")
    with session.transaction():
        assert session.get_or_set("key", compute) == "computed"
    assert session.get("key") == "written"


def test_those_who_wait_get_the_failure_or_a_value_of_their_own(session: Session, place: Place) -> None:
    calls: list[int] = []
    raised: list[BaseException] = []
    waiting = threading.Barrier(4)

    def fail() -> None:
        calls.append(1)
        # Long enough for the others to come.
        time.sleep(0.05)
        raise ZeroDivisionError

    def ask() -> None:
        waiting.wait()
        try:
            session.get_or_set("key", fail)
        except ZeroDivisionError as error:
            raised.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(raised), len({id(error) for error in raised})) == (4, 4)
    assert len(calls) < 4, "those who waited did not compute"
    calls.clear()

    async def main() -> None:
        awaited = place.awaited()

        async def compute() -> list[int]:
            calls.append(2)
            await asyncio.sleep(0.01)
            return [1]

        results = await asyncio.gather(*(awaited.get_or_set("list", compute) for _ in range(20)))
        assert results == [[1]] * 20
        results[0].append(2)
        assert results[1] == await awaited.get("list") == [1], "a list that was returned is nobody else's"
        assert calls == [2]
        await awaited.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("awaits", [False, True])
def test_a_session_that_is_closed_gives_back_all_its_leases(place: Place, awaits: bool) -> None:
    """Others need not wait for its computations, which cannot store their results any more."""
    begun = [threading.Event() for _ in range(3)]

    async def closed() -> None:
        awaited = place.awaited()

        async def compute(number: int) -> None:
            begun[number].set()
            await asyncio.sleep(1000)

        tasks = [
            asyncio.ensure_future(awaited.get_or_set(str(number), functools.partial(compute, number)))
            for number in range(3)
        ]
        for each in begun:
            while not each.is_set():
                await asyncio.sleep(0)
        await awaited.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    def close() -> None:
        session, ends = place.sync(), threading.Event()

        def compute(number: int) -> None:
            begun[number].set()
            assert ends.wait(MANY)

        def get(number: int) -> None:
            with contextlib.suppress(ClosedError):
                session.get_or_set(str(number), lambda: compute(number))

        threads = [threading.Thread(target=get, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            assert all(each.wait(MANY) for each in begun)
            session.close()
        finally:
            ends.set()
            for thread in threads:
                thread.join()

    if awaits:
        asyncio.run(closed())
    else:
        close()
    for number in range(3):
        lease = place.open[0]._codec.call("lease", f"load:{number}", b"t" * 16, 1)
        assert place.open[0]._backend.run(lease) is None


def test_a_factory_that_waits_for_itself(session: Session) -> None:
    with pytest.raises(CircularLoadError):
        session.get_or_set("key", lambda: session.get_or_set("key", lambda: 1))
    assert session.get_or_set("key", lambda: 2) == 2


def test_a_value_that_is_computed_in_a_transaction_is_part_of_it(place: Place) -> None:
    session, other = place.open[0], place.sync()
    with pytest.raises(ZeroDivisionError), session.transaction():
        assert session.get_or_set("key", lambda: [1]) == [1]
        assert session.get("key") == [1]
        assert other.get("key") is None
        raise ZeroDivisionError
    assert session.get("key") is None

    async def main() -> None:
        async with place.awaited() as awaited, awaited.transaction():
            assert await awaited.get_or_set("key", lambda: 1) == 1

    asyncio.run(main())
    assert session.get("key") == 1
    other.close()


def test_memoized_functions(place: Place) -> None:
    calls: list[Any] = []
    session = place.open[0]

    @session.memoize(ttl=60, name="double")
    def double(*args: Any, **options: Any) -> Any:
        calls.append((args, options))
        return args[0] if args else None

    assert [double(0), double(0), double(""), double(""), double(), double()] == [0, 0, "", "", None, None]
    assert len(calls) == 3
    assert [double(1, a=1, b=2), double(1, b=2, a=1), double(1.0, a=1, b=2)] == [1, 1, 1.0]
    assert len(calls) <= 5

    class Same:
        def __repr__(self) -> str:
            return "same"

    with pytest.raises(TypeError):
        double(Same())
    with pytest.raises(ValueError, match="name"):
        session.memoize()(lambda: 1)
    with pytest.raises(TypeError, match=r"^memoize needs parentheses .* write @memoize\(\), not @memoize$"):
        session.memoize(double)

    async def main() -> None:
        awaited = place.awaited()

        @awaited.memoize(name="slow")
        async def slow(number: int) -> int:
            calls.append(number)
            await asyncio.sleep(0.01)
            return number

        calls.clear()
        assert await asyncio.gather(*(slow(3) for _ in range(20))) == [3] * 20
        assert calls == [3]
        await awaited.aclose()

    asyncio.run(main())


def test_names_that_are_used_no_more_are_forgotten(place: Place, tmp_path: Path) -> None:
    """The state of limiters and locks does not grow with each name that was ever used."""
    session = place.open[0]
    # In memory, so many are kept in any case.
    rounds, names = (4, 1100) if place.backend == "memory" else (6, 20)
    for number in range(rounds):
        for name in range(names):
            session.limiter("api", 5, 10).hit(f"user:{number}:{name}")
            if name % 4 == 0:
                session.limiter("api", 5, 10, algorithm="sliding_window").hit(f"user:{number}:{name}")
                assert session.lock(f"lock:{number}:{name}", ttl=10).acquire(0)
        advance(11)
    for number in range(60):
        session.set("key", number)
    assert kept(place, session, tmp_path) <= rounds * names


def kept(place: Place, session: Session, folder: Path) -> int:
    """Return how many names of limiters and locks are kept."""
    if place.backend == "memory":
        stats = session.stats()
        return int(stats["limited"] + stats["leases"])
    tables = ("fx_gate", "fx_log", "fx_lease")
    if place.backend == "disk":
        return rows(folder / "data" / "sessions.db", *tables)
    if place.backend == "mysql":
        found = mariadb_server().execute(*(f"SELECT COUNT(*) FROM {table}" for table in tables))
        return sum(counted[0][0] for counted in found)
    with contextlib.closing(redis_server().client()) as client:
        return len(client.keys("*#*"))


def test_names_of_limiters_and_their_keys_are_told_apart(session: Session) -> None:
    assert session.limiter("api", 1, 60).hit("login:5")
    assert session.limiter("api:login", 1, 60).hit("5")
    assert session.limiter("api%3Alogin", 1, 60).hit("5")
    assert not session.limiter("api:login", 1, 60).hit("5")


def test_long_arguments_are_memoized_on_every_backend(session: Session) -> None:
    calls: list[str] = []

    @session.memoize(name="length")
    def length(text: str) -> int:
        calls.append(text)
        return len(text)

    texts = ["x" * 5000, "x" * 5000 + "y", "é" * 300]
    assert [length(text) for text in texts for _ in range(2)] == [5000, 5000, 5001, 5001, 300, 300]
    assert calls == texts
    assert all(len(key.encode()) <= 512 for key in session.keys())


class _Interrupted:
    """A backend that makes its next call, after which a signal handler raises."""

    def __init__(self, backend: Any) -> None:
        self._backend, self.is_due = backend, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def run(self, call: Any) -> Any:
        result = self._backend.run(call)
        if self.is_due:
            self.is_due = False
            raise KeyboardInterrupt
        return result


def test_what_a_signal_interrupts_leaves_nothing_taken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a lock nor a lease stays held. Elements that were taken may be lost."""
    session, other = place.sync(), place.sync()
    backend = session._backend
    lock = session.lock("job", ttl=3600)
    session._backend = _Interrupted(backend)
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()
    assert other.lock("job", ttl=3600).acquire(0)
    session._backend = _Interrupted(backend)
    session._backend.is_due = False
    get = session.get

    def then_interrupted(*arguments: Any) -> Any:
        found = get(*arguments)
        session._backend.is_due = True
        return found

    monkeypatch.setattr(session, "get", then_interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.get_or_set("key", lambda: 1)
    with ThreadPoolExecutor(1) as pool:
        # Long before the lease would end by itself.
        assert pool.submit(other.get_or_set, "key", lambda: 2).result(15) == 2
    monkeypatch.undo()
    session._backend = backend
    session.close()
    other.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_waits_only_for_who_can_end(place: Place, session: Session) -> None:
    """Another thread of its parent computes. In memory, the child has a copy of the lease, and no such thread."""
    begun, go = threading.Event(), threading.Event()

    def compute() -> str:
        begun.set()
        assert go.wait(60)
        return "the parent's"

    computing = threading.Thread(target=lambda: session.get_or_set("key", compute))
    computing.start()
    assert begun.wait(60)
    expected = "the child's" if place.backend == "memory" else "the parent's"
    child = os.fork()
    if child == 0:
        # A lease alone would end after 30 seconds.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        got = None
        with contextlib.suppress(BaseException):
            got = session.get_or_set("key", lambda: "the child's")
        os._exit(got != expected)
    if place.backend != "memory":
        go.set()
    status = os.waitpid(child, 0)[1]
    go.set()
    computing.join()
    assert status == 0
    assert session.get("key") == "the parent's"
