"""Batches of calls, sessions behind a cache, and backends that are unavailable."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest
from session_places import advance

from flexcache_rs import FlexCache
from flexcache_rs.disk.serializers import PickleSerializer
from flexcache_rs.sessions import ClosedError, CodecError, KindError, Pending, TimedOut, UnsupportedError
from flexcache_rs.sessions import connect as awaited_connect
from flexcache_rs.sessions.sync import connect

if TYPE_CHECKING:
    from pathlib import Path

    from session_places import Place

    from flexcache_rs.sessions.sync import Session


HERE = ("memory", "disk")
"""Backends whose clock a test can set."""


def test_a_batch_is_made_in_its_order(session: Session) -> None:
    with session.batch() as batch:
        before = batch.get("a", "nothing")
        batch.set("a", 1, ttl=60)
        after = batch.get("a")
        length = batch.list("list").push("x", "y")
        popped = batch.list("list").pop()
        many = batch.get_many(["a", "none"])
        assert isinstance(before, Pending)
        with pytest.raises(ClosedError, match="makes its calls at the end of its block"):
            before.result()
        assert session.get("a") is None, "nothing is made before the end"
    results = [pending.result() for pending in (before, after, length, popped, many)]
    assert results == ["nothing", 1, 2, "y", {"a": 1}]
    assert session.list("list").range() == ["x"]


def test_what_a_session_makes_says_what_it_is(session: Session) -> None:
    place = repr(session)
    assert repr(session.lock("a", 5)) == "<Lock 'a'>"
    assert repr(session.limiter("a", 1, 1)) == "<Limiter 'a'>"
    assert repr(session.transaction()) == f"<Transaction of {place}>"
    assert repr(session.batch()).endswith(f"Batch of {place}>")


def test_a_call_of_a_batch_that_fails_undoes_only_itself(session: Session) -> None:
    session.set("text", "x")
    with pytest.raises(KindError), session.batch() as batch:
        first = batch.set("a", 1)
        wrong = batch.list("text").push(1)
        last = batch.set("b", 2)
    assert (first.result(), last.result(), session.get_many(["a", "b"])) == (True, True, {"a": 1, "b": 2})
    with pytest.raises(KindError):
        wrong.result()
    with pytest.raises(ValueError, match="ttl"), session.batch() as batch:
        batch.set("c", 1)
        batch.set("d", 1, ttl=-1)
    assert not session.exists("c"), "the block raised: no call is made"
    with session.batch() as batch:
        with pytest.raises(AttributeError, match="no call"):
            batch.transaction()
        with pytest.raises(TypeError, match="pages"):
            batch.list("a").pages()


def test_a_batch_in_a_transaction_is_part_of_it(session: Session) -> None:
    with pytest.raises(ZeroDivisionError), session.transaction():
        with session.batch() as batch:
            batch.set("a", 1)
            seen = batch.get("a")
        assert seen.result() == 1
        raise ZeroDivisionError
    assert session.get("a") is None


def test_awaited_batches(place: Place) -> None:
    async def main() -> None:
        async with place.awaited() as session:
            async with session.batch() as batch:
                numbers = [batch.incr("n") for _ in range(100)]
                found = batch.map("map").all()
            assert [number.result() for number in numbers] == list(range(1, 101))
            assert found.result() == {}
            with pytest.raises(UnsupportedError, match="sync"):
                session.store()

    asyncio.run(main())


def test_on_disk_a_batch_is_one_transaction(tmp_path: Path) -> None:
    with connect(f"disk://{tmp_path}") as session:
        before = session._backend.version()  # type: ignore[attr-defined]
        with session.batch() as batch:
            for number in range(50):
                batch.set(str(number), number)
        after = session._backend.version()  # type: ignore[attr-defined]
        assert (after >> 32) - (before >> 32) == 1
        assert session.count() == 50


@pytest.mark.parametrize("coherence", ["strict", None])
def test_a_session_behind_a_cache(place: Place, coherence: Any) -> None:
    session, other = place.open[0], place.sync()
    if coherence == "strict" and place.backend not in HERE:
        with pytest.raises(TypeError, match=r"no version\(\)"):
            FlexCache(max_items=10, store=session.store(), coherence=coherence)
        coherence = 0.001
    cache: FlexCache[Any, Any] = FlexCache(max_items=10, store=session.store(), coherence=coherence)
    cache.put("a", [1], ttl=10)
    cache[("tuple", 1)] = "b"
    assert (session.get("a"), session.kind("a")) == ([1], "list")
    assert 9 < (session.ttl("a") or 0) <= 10
    assert (cache["a"], cache[("tuple", 1)], cache.get("none")) == ([1], "b", None)
    if coherence == "strict":
        other.set("a", "of another session")
        assert cache["a"] == "of another session"
        other.delete("a")
        assert "a" not in cache
    if place.backend in HERE:
        cache.put("c", 1, ttl=5)
        advance(6)
        assert cache.get("c") is None
    assert cache.get_or_set("d", lambda: 7) == session.get("d") == 7
    with pytest.raises(UnsupportedError, match="tags"):
        cache.put("e", 1, tags=["tag"])
    cache.clear()
    assert session.count() == 0

    @cache.memoize(name="double")
    def double(number: int) -> int:
        return number * 2

    assert [double(4), double(4)] == [8, 8]
    assert 8 in session.get_many(session.keys()).values()
    other.close()


def test_a_sliding_window_lets_exactly_the_limit_through_in_any_window(place: Place) -> None:
    session, other = place.open[0], place.sync()
    limiter, same = (one.limiter("api", 3, 1000, algorithm="sliding_window") for one in (session, other))
    assert [limiter.hit("u").remaining, same.hit("u").remaining] == [2, 1]
    advance(600)
    assert limiter.hit("u").allowed
    refused = same.hit("u")
    assert (refused.allowed, refused.remaining) == (False, 0)
    assert 300 < refused.retry_after <= 400
    advance(410)
    assert [limiter.hit("u").allowed for _ in range(3)] == [True, True, False], "only those of 1000 s ago count no more"
    assert limiter.hit("another").allowed
    assert limiter.hit("costly", cost=3).allowed
    assert not limiter.hit("costly").allowed
    assert limiter.hit("costly", cost=4).retry_after == float("inf")
    advance(2000)
    session.purge()
    assert limiter.hit("u", cost=2).remaining == 1
    for options, message in (
        ({"burst": 2}, "burst"),
        ({"limit": 1001}, "1000"),
        ({"algorithm": "sliding"}, "did you mean"),
    ):
        with pytest.raises(ValueError, match=message):
            session.limiter("x", **{"limit": 1, "period": 1, "algorithm": "sliding_window", **options})  # type: ignore[arg-type]
    other.close()


def test_an_earlier_version_of_the_tables_is_upgraded(tmp_path: Path) -> None:
    with connect(f"disk://{tmp_path}") as session:
        session.set("key", 1)
    file = tmp_path / "sessions.db"
    database = sqlite3.connect(file)
    assert database.execute("PRAGMA user_version").fetchone() == (2,)
    database.execute("DROP TABLE fx_log")
    database.execute("PRAGMA user_version = 1")
    database.commit()
    database.close()
    with connect(f"disk://{tmp_path}") as session:
        assert session.get("key") == 1
        assert session.limiter("api", 1, 10, algorithm="sliding_window").hit().allowed
    database = sqlite3.connect(file)
    assert database.execute("PRAGMA user_version").fetchone() == (2,)
    database.close()


def test_an_unavailable_backend_has_nothing_and_stores_nothing(tmp_path: Path) -> None:
    url = f"disk://{tmp_path}"
    with connect(url) as session, connect(url, timeout=0.01, on_unavailable="miss") as forgiving:
        session.set_many({"text": "x", "list": [1]})
        assert forgiving.set("a", 1)
        with session.transaction():
            session.set("b", 1)
            # Another thread, since this one is in the transaction.
            results: list[Any] = []

            def ask() -> None:
                results.append(forgiving.set("a", 2))
                results.append(forgiving.list("list").push(1))
                results.append(forgiving.get("text", "nothing"))
                results.append(forgiving.get_or_set("computed", lambda: 5))
                for call in (lambda: forgiving.incr("n"), lambda: forgiving.lock("l").acquire(0)):
                    try:
                        call()
                    except ConnectionError as error:
                        results.append(type(error))

            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
        assert results[:2] == [False, 0]
        assert results[3] == 5
        assert len(results) == 6
        while not forgiving.set("a", 3):
            threading.Event().wait(0.01)
        assert session.get("a") == 3
        assert session.list("list").range() == [1]
    with pytest.raises(ValueError, match="did you mean 'miss'"):
        connect(url, on_unavailable="mis")

    async def main() -> None:
        async with awaited_connect(url, timeout=0.01, on_unavailable="miss") as forgiving:
            with connect(url) as session, session.transaction():
                session.set("b", 1)
                assert await forgiving.set("a", 4) is False
            await asyncio.sleep(0.06)
            assert await forgiving.get("a") == 3
        async with awaited_connect(url, timeout=0.01) as strict:
            with connect(url) as session, session.transaction():
                session.set("b", 1)
                with pytest.raises(TimedOut):
                    await strict.set("a", 4)

    asyncio.run(main())


def test_a_job_of_a_batch_ends_like_any_other(place: Place) -> None:
    session = place.open[0]
    session.queue("mail").push("a", "b")
    with session.batch() as batch:
        first, second = batch.queue("mail").reserve(), batch.queue("mail").reserve()
        none = batch.queue("none").reserve()
    assert (first.result().value, second.result().value, none.result()) == ("a", "b", None)
    assert first.result().ack()
    assert session.queue("mail").release(second.result())
    assert session.queue("mail").range() == ["b"]

    async def main() -> None:
        async with place.awaited() as awaited:
            async with awaited.batch() as several:
                job = several.queue("mail").reserve()
            assert await job.result().ack()
            assert await awaited.queue("mail").reserve() is None

    asyncio.run(main())


def test_a_batch_does_not_wait(place: Place) -> None:
    session = place.open[0]
    with pytest.raises(TypeError, match="a batch cannot wait for an element of 'none': give timeout=0"):  # noqa: SIM117
        with session.batch() as batch:
            waits, at_once = batch.list("none").wait_pop(5), batch.list("none").wait_pop(0)
            stored = batch.set("key", 1)
    assert (at_once.result(), stored.result(), session.get("key")) == (None, True, 1)
    with pytest.raises(TypeError, match="cannot wait"):
        waits.result()

    async def main() -> None:
        async with place.awaited() as awaited:
            with pytest.raises(TypeError, match="cannot wait for an element of 'stream'"):
                async with awaited.batch() as several:
                    several.stream("stream").read()
                    kept = several.incr("key")
            assert kept.result() == 2

    asyncio.run(main())


def test_calls_that_ask_for_nothing(session: Session) -> None:
    with session.batch() as batch:
        results = batch.map("map").update({}), batch.set_of("set").add(), batch.sorted("sorted").add({})
        assert [result.result() for result in results] == [0, 0, 0]
    assert session.count() == 0


def test_a_batch_whose_block_has_failed_may_be_used_again(place: Place) -> None:
    """It then makes only its new calls."""
    session = place.open[0]
    batch = session.batch()
    with pytest.raises(ZeroDivisionError), batch:
        batch.set("first", 1)
        raise ZeroDivisionError
    with batch:
        batch.set("second", 2)
    assert session.get_many(["first", "second"]) == {"second": 2}

    async def main() -> None:
        async with place.awaited() as awaited:
            several = awaited.batch()
            with pytest.raises(ZeroDivisionError):
                async with several:
                    several.set("third", 3)
                    raise ZeroDivisionError
            async with several:
                several.set("fourth", 4)
            assert await awaited.get_many(["third", "fourth"]) == {"fourth": 4}

    asyncio.run(main())


@pytest.mark.parametrize("backend", HERE)
def test_a_batch_is_one_call_of_the_store(backend: str, tmp_path: Path) -> None:
    url = "memory://" if backend == "memory" else f"disk://{tmp_path}"

    def fail(*_: object) -> None:
        raise AssertionError("the calls were made one by one")

    with connect(url) as session:
        session._backend.run = fail  # type: ignore[method-assign]
        with session.batch() as batch:
            result = batch.incr("key"), batch.incr("key")
        assert [each.result() for each in result] == [1, 2]

    async def main() -> None:
        async with awaited_connect(url) as awaited:
            awaited._backend.arun = fail  # type: ignore[assignment, method-assign]
            async with awaited.batch() as several:
                result = several.incr("other"), several.incr("other")
            assert [each.result() for each in result] == [1, 2]

    asyncio.run(main())


@pytest.mark.parametrize("again", [False, True], ids=["once", "again and again"])
def test_a_batch_that_is_cancelled_returns_what_it_took(place: Place, again: bool) -> None:
    session, cancelled = place.open[0], 0
    if place.backend == "memory":
        pytest.skip("its calls never wait")

    async def main() -> None:
        nonlocal cancelled
        async with place.awaited() as awaited:
            for turns in range(30):
                await awaited.list("list").push(1, 2, 3, 4)
                await awaited.sorted("sorted").add({"a": 1, "b": 2})
                await awaited.set_of("set").add(1)
                started = asyncio.Event()

                async def take(started: asyncio.Event = started) -> None:
                    async with awaited.batch() as batch:
                        batch.list("list").pop_left()
                        batch.set_of("set").pop()
                        batch.sorted("sorted").pop_min()
                        batch.list("list").pop_left(2)
                        started.set()

                task = asyncio.create_task(take())
                await started.wait()
                for _ in range(turns):
                    await asyncio.sleep(0)
                if turns > 20:
                    await asyncio.sleep(0.0005 * turns)
                task.cancel()
                while again and not task.done():
                    task.cancel()
                    await asyncio.sleep(0)
                try:
                    await task
                except asyncio.CancelledError:
                    cancelled += 1
                    assert await awaited.list("list").range() == [1, 2, 3, 4]
                    assert await awaited.sorted("sorted").range() == [("a", 1.0), ("b", 2.0)]
                    assert await awaited.set_of("set").all() == {1}
                else:
                    assert await awaited.list("list").range() == [4]
                await awaited.delete("list", "sorted", "set")

    asyncio.run(main())
    assert cancelled
    assert session.count() == 0


def test_a_batch_over_shards_that_is_cancelled_again_and_again(tmp_path: Path) -> None:
    """Its calls are made one after the other, and so are those that return what they took."""
    cancelled = 0

    async def main() -> None:
        nonlocal cancelled
        async with awaited_connect([f"disk://{tmp_path}/{name}" for name in "ab"]) as session:
            for turns in range(30):
                await session.list("list").push(1, 2, 3)

                async def take() -> None:
                    async with session.batch() as batch:
                        for _ in range(3):
                            batch.list("list").pop_left()

                task = asyncio.create_task(take())
                await asyncio.sleep(0.0003 * turns)
                while not task.done():
                    task.cancel()
                    await asyncio.sleep(0)
                cancelled += task.cancelled()
                assert await session.list("list").range() == ([1, 2, 3] if task.cancelled() else [])
                await session.delete("list")

    asyncio.run(main())
    assert cancelled


def test_a_batch_that_takes_nothing_is_cancelled_at_once(tmp_path: Path) -> None:
    """Even if another process has the write lock."""

    async def main() -> None:
        async with awaited_connect(f"sqlite://{tmp_path}/db", timeout=3600) as session:
            await session.set("key", 1)
            with connect(f"sqlite://{tmp_path}/db") as other, other.transaction():
                other.set("key", 2)

                async def store() -> None:
                    async with session.batch() as batch:
                        batch.set("key", 3)

                task = asyncio.create_task(store())
                await asyncio.sleep(0)
                task.cancel()
                # It ends while the lock is still held.
                await asyncio.wait({task}, timeout=30)
                assert task.cancelled()

    asyncio.run(main())


def test_an_awaited_call_that_fails_lets_the_others_be_made(place: Place) -> None:
    async def main() -> None:
        async with place.awaited() as awaited:
            with pytest.raises(TypeError, match="not a number"):
                async with awaited.batch() as batch:
                    results = batch.set("text", "x"), batch.incr("text"), batch.incr("number")
            assert (results[0].result(), results[2].result()) == (True, 1)
            with pytest.raises(TypeError, match="not a number"):
                results[1].result()

    asyncio.run(main())


def test_a_store_tells_of_values_that_cannot_be_read(place: Place) -> None:
    with place.sync(serializer=PickleSerializer(["builtins.complex"])) as session:
        session.set("key", 1j)
    with pytest.raises(CodecError):
        place.open[0].store().load("key")
