"""Transactions take effect as a whole or not at all, and no other caller sees a part."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from scale import SEED, scaled
from session_places import advance

from flexcache_rs import FlexCache
from flexcache_rs.sessions import ClosedError, ConflictError, KindError, UnsupportedError
from flexcache_rs.sessions import sync as now

if TYPE_CHECKING:
    from session_places import Place

    from flexcache_rs.sessions import Session as AwaitedSession
    from flexcache_rs.sessions import Transaction as AwaitedTransaction
    from flexcache_rs.sessions.sync import Session, Transaction


def test_a_transaction_reads_what_it_wrote_and_nobody_else_does(place: Place) -> None:
    session, other = place.open[0], place.sync()
    session.set_many({"a": 1, "gone": 1, "list": [1]})
    with session.transaction() as t:
        t.set("a", 2)
        t.set("new", "text")
        t.delete("gone")
        t.list("list").push(2)
        assert (t.get("a"), t.get("new"), t.get("gone"), t.get("list")) == (2, "text", None, [1, 2])
        # The task that opened it sees it through the session as well.
        assert session.get_many(["a", "new", "gone"]) == {"a": 2, "new": "text"}
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(other.get_many(["a", "new", "gone", "list"])))
        thread.start()
        thread.join()
        assert found == [{"a": 1, "gone": 1, "list": [1]}]
    assert other.get_many(["a", "new", "gone", "list"]) == {"a": 2, "new": "text", "list": [1, 2]}
    other.close()


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_the_block_raises_rolls_back_and_goes_on(session: Session, raised: type[BaseException]) -> None:
    session.set_many({"a": 1, "list": [1]}, ttl=100)
    with pytest.raises(raised), session.transaction() as t:
        t.set("a", 2)
        t.set("b", 2)
        t.list("list").push(2)
        t.persist("list")
        raise raised
    assert (session.get("a"), session.get("b"), session.get("list")) == (1, None, [1])
    assert session.ttl("list") is not None
    with session.transaction() as t:
        t.set("a", 3)
    assert session.get("a") == 3


def test_an_error_of_a_call_undoes_only_that_call(session: Session) -> None:
    session.set("text", "x")
    with session.transaction() as t:
        t.set("a", 1)
        with pytest.raises(KindError):
            t.list("text").push(1)
        with pytest.raises(TypeError):
            t.incr("text")
        t.incr("a")
    assert (session.get("a"), session.get("text")) == (2, "x")


def test_nested_transactions(session: Session) -> None:
    with session.transaction() as outer:
        outer.set("a", 1)
        with session.transaction() as inner:
            inner.set("b", 1)
            assert inner.get("a") == 1
        with pytest.raises(ZeroDivisionError), session.transaction() as inner:
            inner.set("a", 2)
            inner.set("c", 1)
            raise ZeroDivisionError
        assert (outer.get("a"), outer.get("b"), outer.get("c")) == (1, 1, None)
    assert session.get_many(["a", "b", "c"]) == {"a": 1, "b": 1}
    with pytest.raises(ZeroDivisionError), session.transaction(), session.transaction() as inner:
        inner.set("a", 5)
        raise ZeroDivisionError
    assert session.get("a") == 1


def test_a_transaction_that_is_over_says_so(session: Session) -> None:
    with session.transaction() as t:
        t.set("a", 1)
    with pytest.raises(ClosedError):
        t.get("a")
    with pytest.raises(ClosedError), t:
        pass


def test_all_increments_are_kept(place: Place) -> None:
    place.open[0].set("n", 0)

    def work() -> None:
        session = place.sync(timeout=60)

        def increment(t: Transaction) -> None:
            t.set("n", t.get("n") + 1)

        for _ in range(10):
            session.run(increment, attempts=1000)
        session.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert place.open[0].get("n") == 40


def test_a_transaction_of_the_keys_that_expire(session: Session) -> None:
    session.set("key", 1, ttl=5)
    with session.transaction() as t:
        assert t.get("key") == 1
        t.set("other", 1, ttl=50)
    advance(10)
    with session.transaction() as t:
        assert t.get("key") is None
        t.list("key").push(1)
    assert session.get("key") == [1]


def test_awaited_transactions_of_many_tasks(place: Place) -> None:
    async def main() -> None:
        session = place.awaited(timeout=60)
        await session.set("n", 0)

        async def increment(t: AwaitedTransaction) -> None:
            number = await t.get("n")
            await asyncio.sleep(0)
            await t.set("n", number + 1)

        await asyncio.gather(*(session.run(increment, attempts=1000) for _ in range(10)))
        assert await session.get("n") == 10

        async def others(session: AwaitedSession) -> None:
            await session.set("other", "stays")

        async with session.transaction() as t:
            assert await session.get("n") == 10
            await t.set("n", 11)
            assert await session.get("n") == 11
        task = asyncio.ensure_future(session.run(lambda t: asyncio.sleep(30)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await others(session)
        assert await session.get("other") == "stays"
        await session.aclose()

    asyncio.run(main())


def test_a_task_that_outlives_the_block_is_outside(place: Place) -> None:
    async def main() -> None:
        session = place.awaited()
        over = asyncio.Event()

        async def later() -> Any:
            await over.wait()
            return await session.get("key")

        async with session.transaction() as t:
            await t.set("key", 1)
            task = asyncio.ensure_future(later())
        over.set()
        assert await task == 1
        await session.aclose()

    asyncio.run(main())


def test_the_memory_tells_of_conflicts() -> None:
    from flexcache_rs.sessions.sync import connect

    session = connect("memory://conflicts")
    other = connect("memory://conflicts")
    for before, touch in [
        ({"n": 1}, lambda t: t.get("n")),
        ({}, lambda t: t.get("n")),
        ({"n": 1}, lambda t: t.set("n", 5)),
        ({"n": 1}, lambda t: t.exists("n")),
    ]:
        session.clear()
        session.set_many(before)
        with pytest.raises(ConflictError), session.transaction() as t:
            touch(t)
            other.set("n", 9)
            t.set("m", 1)
        assert (session.get("n"), session.get("m")) == (9, None)
    # What an inner transaction has seen counts, even if it was rolled back.
    with pytest.raises(ConflictError), session.transaction() as t:
        with pytest.raises(KeyError), session.transaction() as inner:
            inner.get("n")
            raise KeyError
        other.set("n", 10)
        t.set("m", 1)
    session.close()
    other.close()


# A connection that is interrupted while it is made is closed by the collector of garbage.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_what_a_signal_interrupts_does_not_stay_open(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that raises at any moment of a transaction leaves it neither open nor half stored."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        pytest.skip("signals need the main thread")
    session, other = place.open[0], place.sync(timeout=5)

    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    # The handler may run in a destructor of some other library's.
    unraisable = sys.unraisablehook

    def other_than_interrupted(raised: Any) -> None:
        if not isinstance(raised.exc_value, Interrupted):
            unraisable(raised)

    monkeypatch.setattr(sys, "unraisablehook", other_than_interrupted)
    before = signal.signal(signal.SIGALRM, interrupt)
    rng = random.Random(SEED)
    interrupted = 0
    try:
        for number in range(scaled(1000, 100)):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 4e-4))
                with session.transaction() as t:
                    t.set("a", number)
                    with session.transaction():
                        t.set("b", number)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert session._current() is None
            found = other.get_many(["a", "b"])
            assert found.get("a") == found.get("b")
            assert other.set("c", number)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        other.close()
    assert interrupted


def test_calls_on_all_keys(place: Place) -> None:
    """They are part of a transaction, or refused. A rollback undoes all of them."""
    session = place.open[0]
    session.set("key", 1, ttl=60)
    session.set("other", 2)
    is_refused = place.backend in ("memory", "redis")
    calls: list[tuple[Any, Any]] = [
        (session.count, 3),
        (lambda: list(session.keys()), ["key", "new", "other"]),
        (lambda: list(session.expiring()), ["key"]),
        (session.count_expired, 0),
        (session.purge, 0),
        (session.clear, 3),
    ]
    with pytest.raises(ZeroDivisionError), session.transaction() as t:
        t.set("new", 3)
        for call, result in calls:
            if is_refused:
                with pytest.raises(UnsupportedError, match=r"\(\) cannot be part of a transaction"):
                    call()
            else:
                assert call() == result
        raise ZeroDivisionError
    assert session.get_many(["key", "other", "new"]) == {"key": 1, "other": 2}


def test_a_cache_in_front_is_told_of_what_a_transaction_removes() -> None:
    with now.connect("memory://") as session:
        cache: FlexCache[str, int] = FlexCache(max_items=10, store=session.store(), coherence="strict")
        session.set("key", 1)
        loaded: list[Any] = []
        with session.transaction() as t:
            t.delete("key")
            # Another thread, which does not see the transaction, loads the key after its last call.
            thread = threading.Thread(target=lambda: loaded.append(cache["key"]))
            thread.start()
            thread.join()
        assert loaded == [1]
        assert "key" not in cache
        assert cache.get("key") is None
