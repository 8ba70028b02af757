"""Valkey and Redis: what becomes of a call if the server or the connection fails, or if the call is given up."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from session_places import SERVERS, redis_server
from waiting import BRIEF, until

from flexcache_rs._idle import Idle
from flexcache_rs.sessions import ClosedError, OutcomeUnknown, SessionError, TimedOut, Unavailable, connect
from flexcache_rs.sessions import sync as now

if TYPE_CHECKING:
    from pathlib import Path

if "redis" not in SERVERS:
    pytest.skip("there is no redis-server", allow_module_level=True)


LONG = 60.0


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with now.connect(f"unix://{tmp_path}/none") as session:
        for call in (lambda: session.get("a"), lambda: session.set("a", 1), session.transaction().__enter__):
            with pytest.raises(Unavailable) as raised:
                call()
            assert not isinstance(raised.value, OutcomeUnknown)


def test_a_server_that_does_not_answer(redis_url: str) -> None:
    server = redis_server()
    with now.connect(redis_url, timeout=BRIEF) as session, now.connect(redis_url, timeout=BRIEF) as other:
        for one in session, other:
            one.set("a", 1)
            # The first call of a session has a connection of its own. This one has that of all others.
            assert one.get("a") == 1
        server.pause()
        with pytest.raises(TimedOut):
            session.get("a")
        with pytest.raises(OutcomeUnknown):
            other.list("b").push(1)
        # Over a new connection nothing is sent.
        with pytest.raises(TimedOut):
            other.list("b").push(2)
        server.go_on()
        # The late answers are nobody's.
        assert session.get("a") == 1

    async def main() -> None:
        async with connect(redis_url, timeout=BRIEF) as awaited:
            await awaited.set("a", 1)
            server.pause()
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.01)
                    ticks += 1

            ticking = asyncio.ensure_future(tick())
            calls = (awaited.get("a"), awaited.incr("a"), awaited.get("b"))
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, Unavailable) for result in results)
            assert ticks > 2
            ticking.cancel()
            server.go_on()
            assert await awaited.get("a") in (1, 2)

    asyncio.run(main())


def test_a_commit_without_an_answer_may_have_been_made(redis_url: str) -> None:
    server = redis_server()
    with now.connect(redis_url, timeout=BRIEF) as session:
        session.set("a", 1)

        def add(t: now.Transaction) -> None:
            t.incr("a")
            server.pause()

        with pytest.raises(OutcomeUnknown, match="may have been made"):
            session.run(add)
        server.go_on()
        assert session.get("a") in (1, 2)


def test_a_write_that_was_not_sent_was_not_made(redis_url: str) -> None:
    """The error tells it apart from a write that may have been made."""
    server = redis_server()

    async def main() -> None:
        async with connect(redis_url, timeout=5) as awaited:
            for number in range(5):
                await awaited.set("a", number)
            server.kill()
            # What is lost at once is where the end of the connection was noticed.
            with contextlib.suppress(Unavailable):
                await awaited.get("a")
            for _ in range(3):
                with pytest.raises(Unavailable) as caught:
                    await awaited.incr("a")
                assert type(caught.value) is Unavailable

    with now.connect(redis_url, timeout=5) as session:
        session.set("a", 1)
        session.set("a", 2)
        asyncio.run(main())
        with contextlib.suppress(Unavailable):
            session.get("a")
        for _ in range(3):
            with pytest.raises(Unavailable) as caught:
                session.incr("a")
            assert type(caught.value) is Unavailable


def test_a_task_that_is_cancelled_while_a_transaction_begins_leaves_none(redis_url: str, raw: Any) -> None:
    server = redis_server()

    async def main() -> None:
        async with connect(redis_url, timeout=LONG) as session:
            await session.set("a", 1)

            async def begin() -> None:
                async with session.transaction() as t:
                    await t.get("a")

            server.pause()
            task = asyncio.ensure_future(begin())
            done, _ = await asyncio.wait((task,), timeout=0.1)
            assert not done
            task.cancel()
            server.go_on()
            with pytest.raises(asyncio.CancelledError):
                await task
            # In the thread that has begun it.
            while raw.zcard("sessions:#transactions"):
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), LONG))


def test_a_server_that_is_killed(redis_url: str, raw: Any) -> None:
    server = redis_server()
    with now.connect(redis_url, timeout=5) as session:
        session.set("a", 1)
        # A connection that was closed meanwhile is not used.
        for name in raw.client_list():
            if name["name"] == "flexcache-sessions":
                raw.client_kill_filter(_id=name["id"])
        assert session.get("a") == 1
        assert session.incr("a") == 2
        with pytest.raises(Unavailable), session.transaction() as t:
            t.set("a", 5)
            for name in raw.client_list():
                if name["name"] == "flexcache-sessions":
                    raw.client_kill_filter(_id=name["id"])
            t.get("a")
        assert session.get("a") == 2
        server.pause()
        raised: list[BaseException] = []

        def push() -> None:
            try:
                session.list("b").push(1)
            except BaseException as error:
                raised.append(error)

        pushing = threading.Thread(target=push)
        pushing.start()
        time.sleep(0.05)
        server.kill()
        pushing.join()
        assert [type(error) for error in raised] == [OutcomeUnknown]
        server.start()
        assert session.list("b").push(2) == 1


def test_a_cancelled_call_leaves_its_answer_to_nobody(redis_url: str) -> None:
    async def main() -> None:
        async with connect(redis_url) as session:
            await session.set_many({str(number): number for number in range(20)})
            for number in range(50):
                task = asyncio.ensure_future(session.get(str(number % 20)))
                await asyncio.sleep(0)
                task.cancel()
                assert await session.get(str((number + 7) % 20)) == (number + 7) % 20

    asyncio.run(main())


async def until_connected(session: Any, backend: Any = None) -> None:
    """Make calls until the event loop has a connection of its own, that of a shard if its backend is given."""
    backend = backend or session._backend
    await session.count()
    while backend._client.asker(b"") is None or not backend._gatherer.is_idle:
        await session.count()


def test_a_read_whose_connection_breaks_is_made_again(redis_url: str, raw: Any) -> None:
    """It waits for its reply on the connection of the event loop."""

    async def main() -> None:
        async with connect(redis_url, timeout=60) as session:
            await session.set("a", 1)
            await until_connected(session)
            raw.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
            try:
                asked = [asyncio.ensure_future(call) for call in (session.incr("a"), session.get("a"))]
                while not raw.info("clients")["blocked_clients"]:
                    await asyncio.sleep(0.01)
                raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            finally:
                raw.execute_command("CLIENT", "UNPAUSE")
            raised, found = await asyncio.gather(*asked, return_exceptions=True)
            assert isinstance(raised, OutcomeUnknown)
            assert found == 1

    asyncio.run(main())


def test_an_awaited_read_that_was_late_is_not_repeated(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller has waited for the whole timeout."""

    async def main() -> None:
        async with connect(redis_url, timeout=BRIEF) as session:
            await until_connected(session)
            monkeypatch.setattr(session._backend._gatherer, "ask", None)  # type: ignore[attr-defined]
            redis_server().pause()
            raised = await asyncio.gather(session.get("a"), session.list("l").range(), return_exceptions=True)
            assert [type(error) for error in raised] == [TimedOut, TimedOut]
            redis_server().go_on()

    asyncio.run(main())


@pytest.mark.parametrize("shards", [1, 2])
def test_a_release_that_is_cancelled_is_made_if_the_server_has_lost_its_script(
    redis_url: str, raw: Any, shards: int
) -> None:
    urls = [f"{redis_url}?db={number}" for number in range(shards)]

    async def main() -> None:
        async with connect(urls if shards > 1 else urls[0]) as session:
            for backend in getattr(session._backend, "_shards", {"": session._backend}).values():
                await until_connected(session, backend)
            lock = session.lock("name", ttl=None)
            is_held = asyncio.Event()

            async def hold() -> None:
                await lock.acquire()
                raw.script_flush()
                is_held.set()
                await lock.release()

            task = asyncio.create_task(hold())
            await is_held.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await session.lock("name").acquire(0)

    asyncio.run(main())


def test_reads_that_were_sent_together_are_made_again(redis_url: str, raw: Any) -> None:
    """If a connection breaks under several calls, those that only read are repeated, as a single one is."""
    with now.connect(redis_url, timeout=60) as session:
        session.set_many({"a": 1, "b": 2})
        backend: Any = session._backend
        calls = [backend.codec.call("get", (key,)) for key in "ab"]
        calls.append(backend.codec.call("incr", "n", 1, 0, ("keep", 0)))
        results: list[Any] = []
        raw.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
        try:
            asking = threading.Thread(target=lambda: results.extend(backend._run_all(calls)))
            asking.start()
            while not raw.info("clients")["blocked_clients"]:
                threading.Event().wait(0.01)
            raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        finally:
            raw.execute_command("CLIENT", "UNPAUSE")
        asking.join()
        assert results[:2] == [([1], None), ([2], None)]
        assert isinstance(results[2][1], OutcomeUnknown)


def test_awaited_reads_are_made_again(redis_url: str, raw: Any) -> None:
    """If the connection of all tasks breaks, only calls that only read are repeated."""

    async def main() -> None:
        async with connect(redis_url, timeout=60) as session:
            await session.set("a", 1)
            raw.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
            try:
                asked = [asyncio.ensure_future(call) for call in (session.get("a"), session.incr("a"))]
                while not raw.info("clients")["blocked_clients"]:
                    await asyncio.sleep(0.01)
                raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            finally:
                raw.execute_command("CLIENT", "UNPAUSE")
            found, raised = await asyncio.gather(*asked, return_exceptions=True)
            assert found == 1
            assert isinstance(raised, OutcomeUnknown)
            # The next call makes another connection.
            assert await session.incr("b") == 1

    asyncio.run(main())


def test_a_connection_that_was_closed_meanwhile_takes_no_write(redis_url: str, raw: Any) -> None:
    with now.connect(redis_url, timeout=5) as session:
        assert session.incr("a") == 1
        for number in range(2, 5):
            raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            until(lambda: not any(one["name"] == "flexcache-sessions" for one in raw.client_list()))
            assert session.incr("a") == number


@pytest.mark.parametrize("first", ["a call before", "none before"])
def test_closing_a_session_waits_for_its_calls(redis_url: str, first: str) -> None:
    """It also waits for calls that a thread makes because there is no lane yet."""

    async def main() -> None:
        session = connect(redis_url)
        if first == "a call before":
            await session.set("a", 0)
        asked = [asyncio.ensure_future(session.incr("a")) for _ in range(50)]
        await asyncio.sleep(0)
        await session.aclose()
        assert await asyncio.gather(*asked) == list(range(1, 51))
        with pytest.raises(ClosedError):
            await session.get("a")

    asyncio.run(main())


def test_a_session_whose_end_is_cancelled_leaves_no_connection(
    redis_url: str, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is cancelled while it waits for the replies to other tasks."""

    async def main() -> None:
        session: Any = connect(redis_url)
        await session.set("a", 0)
        waits = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(session._backend._client, "pending", lambda: [waits])
        closing = asyncio.ensure_future(session.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert session._backend._sender is None

    asyncio.run(main())
    until(lambda: not any(one["name"] == "flexcache-sessions" for one in raw.client_list()))


def test_an_end_that_is_interrupted_leaves_no_connection(
    redis_url: str, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(session: Any) -> None:
        async with session.transaction() as transaction:
            await transaction.set("a", 0)

    def interrupted() -> None:
        raise KeyboardInterrupt

    session: Any = connect(redis_url)
    asyncio.run(main(session))
    threads = session._backend._threads
    monkeypatch.setattr(threads, "shutdown", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session._backend.close()
    until(lambda: not any(one["name"] == "flexcache-sessions" for one in raw.client_list()))
    monkeypatch.undo()
    threads.shutdown()


def test_a_lease_that_a_replica_kept_is_given_back_later(redis_url: str, raw: Any) -> None:
    """The next call of the session does not wait for the end of the lease, which is thirty seconds."""

    def compute() -> str:
        raw.execute_command("REPLICAOF", "127.0.0.1", "1")
        return "lost"

    with now.connect(redis_url) as session:
        try:
            with pytest.raises(SessionError):
                session.get_or_set("key", compute)
        finally:
            raw.execute_command("REPLICAOF", "NO", "ONE")
        begun = time.monotonic()
        assert session.get_or_set("key", lambda: "value") == "value"
    assert time.monotonic() - begun < 20


def test_a_connection_that_comes_back_after_the_end_is_closed(redis_url: str, raw: Any) -> None:
    with now.connect(redis_url) as session, session.transaction() as transaction:
        transaction.set("key", 1)
        session.close()
        transaction.set("key", 2)
    until(lambda: not any(one["name"] == "flexcache-sessions" for one in raw.client_list()))


def test_a_connection_that_comes_back_while_others_are_closed() -> None:
    closed: list[str] = []
    idle: Idle[str] = Idle(lambda _: True, closed.append)

    class Meanwhile(list[Any]):
        def append(self, connection: Any) -> None:
            idle.close()
            super().append(connection)

    idle._connections = Meanwhile()
    idle.put("connection")
    assert closed == ["connection"]
