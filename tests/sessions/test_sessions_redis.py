"""Features of Valkey and Redis only: other readers, failures during calls, and round trips."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from session_places import SERVERS, URLS, redis_server
from waiting import until

from flexcache_rs.sessions import (
    ClosedError,
    ConflictError,
    OutcomeUnknown,
    SessionError,
    TimedOut,
    Unavailable,
    UnsupportedError,
    connect,
)
from flexcache_rs.sessions import sync as now
from flexcache_rs.sessions._idle import Idle
from flexcache_rs.sessions._redis_backend import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

if "redis" not in SERVERS:
    pytest.skip("there is no redis-server", allow_module_level=True)


LONG = 60.0


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    yield URLS["redis"](tmp_path)
    server = redis_server()
    server.go_on()
    if server.process is None or server.process.poll() is not None:
        server.start()


@pytest.fixture
def session(url: str) -> Iterator[now.Session]:
    with now.connect(url) as session:
        yield session


@pytest.fixture
def raw(url: str) -> Iterator[Any]:
    with contextlib.closing(redis_server().client()) as client:
        yield client


def test_others_see_what_is_stored(session: now.Session, raw: Any) -> None:
    session.set_many({"text": "Grüße", "n": 7, "list": ["a", 1], "map": {"name": "Ann"}, "set": {1}})
    session.sorted("board").add({"ann": 1.5})
    session.stream("log").add({"n": 1})
    assert raw.get("sessions::{text}") == "Grüße".encode()
    assert raw.incr("sessions::{n}") == 8
    assert session.get("n") == 8
    assert raw.lrange("sessions::{list}", 0, -1) == [b"a", b"1"]
    assert raw.hgetall("sessions::{map}") == {b"name": b"Ann"}
    assert raw.smembers("sessions::{set}") == {b"1"}
    assert raw.zrange("sessions::{board}", 0, -1, withscores=True) == [(b"ann", 1.5)]
    assert raw.type("sessions::{log}") == b"stream"
    raw.rpush("sessions::{list}", "from elsewhere")
    assert session.list("list").range() == ["a", 1, "from elsewhere"]
    # A map that others have emptied is gone, as the server has it.
    raw.hdel("sessions::{map}", "name")
    assert session.get("map") is None


def test_namespaces_whose_names_mean_something(url: str, raw: Any) -> None:
    names = ["", "a", "a:b", "a:{b", "*", "[a]", "a#b", "ä", "a%"]
    opened = [now.connect(url, namespace=name) for name in names]
    for number, session in enumerate(opened):
        session.set("key}{", number)
    raw.set("somebody:else", 1)
    for number, session in enumerate(opened):
        assert (session.get("key}{"), list(session.keys()), session.count()) == (number, ["key}{"], 1)
    assert opened[4].clear() == 1
    assert sum(session.count() for session in opened) == len(names) - 1
    assert raw.get("somebody:else") == b"1"
    for session in opened:
        session.close()


def commands_within(raw: Any, call: Any) -> dict[str, int]:
    raw.config_resetstat()
    call()
    stats: dict[str, Any] = raw.info("commandstats")
    return {
        name: stat["calls"] for name, stat in stats.items() if name not in ("cmdstat_info", "cmdstat_config|resetstat")
    }


def plain_calls(session: now.Session) -> list[Callable[[], Any]]:
    """Return calls that need no script, on keys of the right kinds."""
    map_, set_, sorted_ = session.map("map"), session.set_of("set"), session.sorted("sorted")
    return [
        lambda: session.get("text"),
        lambda: session.incr("n"),
        lambda: session.expire("n", 60),
        lambda: map_.get("5"),
        lambda: map_.set("5", 6),
        lambda: map_.incr("5"),
        lambda: map_.len(),
        lambda: set_.add("a"),
        lambda: set_.has("a"),
        lambda: set_.len(),
        lambda: sorted_.add({"a": 1.5}),
        lambda: sorted_.incr("a", 2),
        lambda: sorted_.score("a"),
        lambda: sorted_.rank("a"),
        lambda: sorted_.len(),
    ]


def test_no_script_where_a_plain_command_does(session: now.Session, raw: Any) -> None:
    """A script takes many times as long on the server."""
    for call in plain_calls(session):
        call()
    for number, call in enumerate(plain_calls(session)):
        commands = commands_within(raw, call)
        assert sum(commands.values()) == 1, (number, commands)
        assert "cmdstat_evalsha" not in commands, number


def test_a_call_is_one_command(session: now.Session, raw: Any) -> None:
    """Each call is sent as one command, whatever it does and however large the data is."""
    session.set_many({"list": ["x"] * 5000, "map": {str(n): n for n in range(100)}, "n": 1, "text": "a"})
    calls: list[Any] = [
        lambda: session.set("text", "b", ttl=60),
        lambda: session.get_many(["text", "list", "map"]),
        lambda: session.set_many({"a": [1], "b": {}}),
        lambda: session.list("list").push(1, ttl=60),
        lambda: session.list("list").pop(),
        *plain_calls(session),
        lambda: session.queue("queue").push("job"),
        lambda: session.queue("queue").reserve(),
        lambda: session.limiter("api", 3, 60).hit(),
        lambda: session.lock("lock").acquire(timeout=0),
    ]
    for call in calls:
        call()
    for number, call in enumerate(calls):
        # What a script runs counts too.
        commands = commands_within(raw, call)
        assert commands.get("cmdstat_evalsha") == 1 or sum(commands.values()) == 1, (number, commands)


def test_the_work_of_a_push_does_not_grow(session: now.Session, raw: Any) -> None:
    for kind in (session.list, session.queue):
        small, large = kind("small"), kind("large")
        session.delete("small", "large")
        small.extend(range(10))
        large.extend(range(100_000))
        for call in ("push", "push_left", "pop", "pop_left"):
            arguments = (1,) if call.startswith("push") else ()
            first = commands_within(raw, lambda: getattr(small, call)(*arguments))
            second = commands_within(raw, lambda: getattr(large, call)(*arguments))
            assert first == second


def test_a_server_that_lost_its_scripts_gets_them(session: now.Session, raw: Any) -> None:
    session.set("a", [1])
    raw.script_flush()
    assert session.get("a") == [1]
    raw.script_flush()
    with session.transaction() as t:
        raw.script_flush()
        t.list("a").push(2)
        raw.script_flush()
        with session.transaction() as inner:
            inner.list("a").push(3)
        raw.script_flush()
    assert session.get("a") == [1, 2, 3]
    raw.script_flush()

    async def main() -> None:
        async with connect(f"unix://{redis_server().path}") as awaited:
            assert await asyncio.gather(*(awaited.list("b").push(n) for n in range(9))) == list(range(1, 10))

    asyncio.run(main())


def test_others_values_of_another_version_are_refused(url: str, raw: Any) -> None:
    raw.set("sessions:new#version", "2")
    with now.connect(url, namespace="new") as session, pytest.raises(SessionError, match="version 2"):
        session.set("a", 1)
    assert raw.keys("sessions:new:*") == []


def test_conflicts(url: str) -> None:
    session, other = now.connect(url), now.connect(url)
    for before, touch in [
        ({"n": 1}, lambda t: t.get("n")),
        ({}, lambda t: t.get("n")),
        ({"n": 1}, lambda t: t.set("n", 5)),
        ({"n": 1}, lambda t: t.exists("n")),
        ({"n": [1]}, lambda t: t.list("n").pop()),
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
    # Those that only read do not disturb each other.
    with session.transaction() as t:
        assert t.get("n") == 10
        with other.transaction() as reads:
            assert reads.get("n") == 10
        t.set("m", 2)
    assert session.get("m") == 2
    session.close()
    other.close()


def test_a_transaction_leaves_nothing(session: now.Session, raw: Any) -> None:
    session.set_many({"a": [1], "b": 2, "gone": 1}, ttl=60)
    with session.transaction() as t:
        t.list("a").push(2)
        t.delete("gone")
        t.get("b")
        with session.transaction() as inner:
            inner.set("c", {})
    with pytest.raises(ZeroDivisionError), session.transaction() as t:
        t.set("b", 1 // t.get("none", 0))
    left = sorted(key for key in raw.keys() if not key.endswith(b"#version"))
    assert left == [b"sessions::{a}", b"sessions::{b}", b"sessions::{c}"]
    assert 59 < session.ttl("a") <= 60  # type: ignore[operator]
    with session.transaction() as t, pytest.raises(UnsupportedError, match="count"):
        session.count()


def test_a_transaction_that_nobody_continued_stores_nothing(url: str, raw: Any) -> None:
    session, other = now.connect(url), now.connect(url)
    session.set("a", [1])
    with pytest.raises(ConflictError), session.transaction() as t:
        t.list("a").push(2)
        # As after a minute.
        (name,) = raw.zrange("sessions:#transactions", 0, -1)
        raw.zadd("sessions:#transactions", {name: 1})
        other.purge()
        assert raw.keys("sessions:#copy*") == []
    assert session.get("a") == [1]
    session.close()
    other.close()


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with now.connect(f"unix://{tmp_path}/none") as session:
        for call in (lambda: session.get("a"), lambda: session.set("a", 1), session.transaction().__enter__):
            with pytest.raises(Unavailable) as raised:
                call()
            assert not isinstance(raised.value, OutcomeUnknown)


def test_a_server_that_does_not_answer(url: str) -> None:
    server = redis_server()
    with now.connect(url, timeout=0.2) as session, now.connect(url, timeout=0.2) as other:
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
        async with connect(url, timeout=0.2) as awaited:
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


def test_a_commit_without_an_answer_may_have_been_made(url: str) -> None:
    server = redis_server()
    with now.connect(url, timeout=0.5) as session:
        session.set("a", 1)

        def add(t: now.Transaction) -> None:
            t.incr("a")
            server.pause()

        with pytest.raises(OutcomeUnknown, match="may have been made"):
            session.run(add)
        server.go_on()
        assert session.get("a") in (1, 2)


def test_a_write_that_was_not_sent_was_not_made(url: str) -> None:
    """The error tells it apart from a write that may have been made."""
    server = redis_server()

    async def main() -> None:
        async with connect(url, timeout=5) as awaited:
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

    with now.connect(url, timeout=5) as session:
        session.set("a", 1)
        session.set("a", 2)
        asyncio.run(main())
        with contextlib.suppress(Unavailable):
            session.get("a")
        for _ in range(3):
            with pytest.raises(Unavailable) as caught:
                session.incr("a")
            assert type(caught.value) is Unavailable


def test_a_task_that_is_cancelled_while_a_transaction_begins_leaves_none(url: str, raw: Any) -> None:
    server = redis_server()

    async def main() -> None:
        async with connect(url, timeout=LONG) as session:
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


def test_no_call_overtakes_those_that_a_thread_makes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The earlier calls were made before the event loop had a connection."""
    goes_on, has_begun = threading.Event(), threading.Event()
    make = RedisBackend._run_all

    def late(self: RedisBackend, calls: Any) -> Any:
        has_begun.set()
        assert goes_on.wait(LONG)
        return make(self, calls)

    async def main() -> None:
        async with connect(url, timeout=LONG) as session:
            # Now the event loop has one.
            while session._backend._client._loops is None or not session._backend._client._loops._of:  # type: ignore[attr-defined]
                await session.get("a")
            monkeypatch.setattr(RedisBackend, "_run_all", late)
            gatherer = session._backend._gatherer  # type: ignore[attr-defined]
            monkeypatch.setattr(gatherer, "_make", session._backend._run_all)  # type: ignore[attr-defined]
            first = gatherer.ask(session._codec.call("set", {"a": 1}, ("never", 0), "always"))
            await asyncio.to_thread(has_begun.wait, LONG)
            second = asyncio.ensure_future(session.set("a", 2))
            # One that overtakes would be answered meanwhile.
            await asyncio.wait((second,), timeout=0.1)
            goes_on.set()
            await asyncio.gather(first, second)
            assert await session.get("a") == 2

    asyncio.run(main())


def test_a_server_that_is_killed(url: str, raw: Any) -> None:
    server = redis_server()
    with now.connect(url, timeout=5) as session:
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


def test_a_cancelled_call_leaves_its_answer_to_nobody(url: str) -> None:
    async def main() -> None:
        async with connect(url) as session:
            await session.set_many({str(number): number for number in range(20)})
            for number in range(50):
                task = asyncio.ensure_future(session.get(str(number % 20)))
                await asyncio.sleep(0)
                task.cancel()
                assert await session.get(str((number + 7) % 20)) == (number + 7) % 20

    asyncio.run(main())


def test_bits_beyond_the_servers_limit_are_refused(session: now.Session) -> None:
    with pytest.raises(ValueError, match="i must be less than"):
        session.bits("bits").set(2**32)
    assert session.bits("bits").get(2**40) is False
    with pytest.raises(ValueError, match="capacity must be smaller"):
        session.bloom("bloom", capacity=10**9, error_rate=1e-6).add(1)
    assert session.count() == 0


def test_reads_that_were_sent_together_are_made_again(url: str, raw: Any) -> None:
    """If a connection breaks under several calls, those that only read are repeated, as a single one is."""
    with now.connect(url, timeout=60) as session:
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


def test_awaited_reads_are_made_again(url: str, raw: Any) -> None:
    """If the connection of all tasks breaks, only calls that only read are repeated."""

    async def main() -> None:
        async with connect(url, timeout=60) as session:
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


def test_a_connection_that_was_closed_meanwhile_takes_no_write(url: str, raw: Any) -> None:
    with now.connect(url, timeout=5) as session:
        assert session.incr("a") == 1
        for number in range(2, 5):
            raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            until(lambda: not any(one["name"] == "flexcache-sessions" for one in raw.client_list()))
            assert session.incr("a") == number


@pytest.mark.parametrize("first", ["a call before", "none before"])
def test_closing_a_session_waits_for_its_calls(url: str, first: str) -> None:
    """It also waits for calls that a thread makes because there is no lane yet."""

    async def main() -> None:
        session = connect(url)
        if first == "a call before":
            await session.set("a", 0)
        asked = [asyncio.ensure_future(session.incr("a")) for _ in range(50)]
        await asyncio.sleep(0)
        await session.aclose()
        assert await asyncio.gather(*asked) == list(range(1, 51))
        with pytest.raises(ClosedError):
            await session.get("a")

    asyncio.run(main())


def test_a_lease_that_a_replica_kept_is_given_back_later(session: now.Session, raw: Any) -> None:
    """The next call of the session does not wait for the end of the lease, which is thirty seconds."""

    def compute() -> str:
        raw.execute_command("REPLICAOF", "127.0.0.1", "1")
        return "lost"

    try:
        with pytest.raises(SessionError):
            session.get_or_set("key", compute)
    finally:
        raw.execute_command("REPLICAOF", "NO", "ONE")
    begun = time.monotonic()
    assert session.get_or_set("key", lambda: "value") == "value"
    assert time.monotonic() - begun < 20


def test_a_connection_that_comes_back_after_the_end_is_closed(url: str, raw: Any) -> None:
    with now.connect(url) as session, session.transaction() as transaction:
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


@pytest.mark.parametrize("right", ["del", "unlink", "publish", "pttl"])
def test_without_a_right_nobody_waits_for_a_lease_that_is_over(url: str, raw: Any, right: str) -> None:
    raw.execute_command("ACL", "SETUSER", "few", "on", ">secret", "~*", "&*", "+@all", f"-{right}")
    scheme, _, place = url.partition("://")
    limited = f"{scheme}://few:secret@{place}"

    def fail() -> None:
        raise LookupError

    try:
        with now.connect(limited) as one, now.connect(limited) as other, ThreadPoolExecutor(1) as pool:
            with pytest.raises(LookupError):
                one.get_or_set("failed", fail)
            begun = time.monotonic()
            assert pool.submit(other.get_or_set, "failed", lambda: 2).result(60) == 2
            assert time.monotonic() - begun < 20
    finally:
        raw.execute_command("ACL", "DELUSER", "few")
