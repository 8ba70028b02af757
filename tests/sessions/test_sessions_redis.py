"""Features of Valkey and Redis only: other readers, round trips, scripts, and conflicts of transactions."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from session_places import SERVERS, redis_server
from waiting import until

from flexcache_rs.sessions import ConflictError, KindError, SessionError, UnsupportedError, connect
from flexcache_rs.sessions import sync as now
from flexcache_rs.sessions._redis_backend import RedisBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

if "redis" not in SERVERS:
    pytest.skip("there is no redis-server", allow_module_level=True)


LONG = 60.0


@pytest.fixture
def session(redis_url: str) -> Iterator[now.Session]:
    with now.connect(redis_url) as session:
        yield session


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


def test_namespaces_whose_names_mean_something(redis_url: str, raw: Any) -> None:
    names = ["", "a", "a:b", "a:{b", "*", "[a]", "a#b", "ä", "a%"]
    opened = [now.connect(redis_url, namespace=name) for name in names]
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


def test_others_values_of_another_version_are_refused(redis_url: str, raw: Any) -> None:
    raw.set("sessions:new#version", "2")
    with now.connect(redis_url, namespace="new") as session, pytest.raises(SessionError, match="version 2"):
        session.set("a", 1)
    assert raw.keys("sessions:new:*") == []


def test_conflicts(redis_url: str) -> None:
    session, other = now.connect(redis_url), now.connect(redis_url)
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


def test_transactions_use_a_connection_one_after_the_other(redis_url: str, raw: Any) -> None:
    with now.connect(redis_url) as session:
        for _ in range(2):
            with session.transaction() as t:
                t.incr("key")
        before = raw.info("stats")["total_connections_received"]
        for _ in range(5):
            with session.transaction() as t:
                t.incr("key")
        assert raw.info("stats")["total_connections_received"] == before


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


def test_a_transaction_that_nobody_continued_stores_nothing(redis_url: str, raw: Any) -> None:
    session, other = now.connect(redis_url), now.connect(redis_url)
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


def test_no_call_overtakes_those_that_a_thread_makes(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The earlier calls were made before the event loop had a connection."""
    goes_on, has_begun = threading.Event(), threading.Event()
    make = RedisBackend._run_all

    def late(self: RedisBackend, calls: Any) -> Any:
        has_begun.set()
        assert goes_on.wait(LONG)
        return make(self, calls)

    async def main() -> None:
        async with connect(redis_url, timeout=LONG) as session:
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


def test_awaited_calls_whose_plain_command_is_refused(redis_url: str) -> None:
    """The connection of the event loop makes them by their scripts."""

    async def main() -> None:
        async with connect(redis_url, timeout=LONG) as session:
            backend: Any = session._backend
            await session.get("a")
            while backend._client.asker(b"") is None or not backend._gatherer.is_idle:
                await session.get("a")
            asked: list[Any] = []
            backend._gatherer.ask = asked.append
            await session.set_many({"list": [1], "map": {}, "number": 1.5})
            assert await session.get("list") == [1]
            assert await session.map("map").len() == 0
            assert await session.map("map").get("a") is None
            assert await session.incr("number") == 2.5
            with pytest.raises(KindError):
                await session.sorted("list").rank("a")
            assert not asked

    asyncio.run(main())


def test_bits_beyond_the_servers_limit_are_refused(session: now.Session) -> None:
    with pytest.raises(ValueError, match="i must be less than"):
        session.bits("bits").set(2**32)
    assert session.bits("bits").get(2**40) is False
    with pytest.raises(ValueError, match="capacity must be smaller"):
        session.bloom("bloom", capacity=10**9, error_rate=1e-6).add(1)
    assert session.count() == 0


@pytest.mark.parametrize("right", ["del", "unlink", "publish", "pttl"])
def test_without_a_right_nobody_waits_for_a_lease_that_is_over(redis_url: str, raw: Any, right: str) -> None:
    raw.execute_command("ACL", "SETUSER", "few", "on", ">secret", "~*", "&*", "+@all", f"-{right}")
    scheme, _, place = redis_url.partition("://")
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


def test_the_rights_that_the_documentation_names_are_enough(raw: Any, redis_url: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "sessions.md"
    (block,) = re.findall(r"```text\n(ACL SETUSER app .*?)```", page.read_text("utf-8"), re.DOTALL)
    raw.execute_command("ACL", "LOG", "RESET")
    raw.execute_command(*block.split())
    if tuple(map(int, raw.info("server")["redis_version"].split(".")))[:2] >= (7, 2):
        raw.execute_command("ACL", "SETUSER", "app", "+client|setinfo")
    url = f"{redis_url}?username=app&password=secret"
    try:
        with now.connect(url, namespace="shop") as session:
            use(session, raw)
        with now.connect(url, namespace="other") as other, pytest.raises(SessionError, match="permission"):
            other.get("key")
        # Only what the other session asked for was denied.
        assert [str(each["object"]) for each in raw.acl_log()] == ["sessions:other#version"]
    finally:
        raw.execute_command("ACL", "DELUSER", "app")


def use(session: now.Session, raw: Any) -> None:
    """Use every kind of value and call."""
    session.set("text", "a", ttl=60)
    assert (session.get("text"), session.expire("text", 30), session.persist("text")) == ("a", True, True)
    assert (session.incr("n"), session.rename("n", "m"), session.kind("m"), session.pop("m")) == (1, True, "scalar", 1)
    assert session.set("text", "b", if_present=True)
    assert session.get_or_set("computed", lambda: 2) == 2
    assert session.list("list").push(1, 2) == session.list("list").len() == 2
    with ThreadPoolExecutor(1) as threads:
        # A call that waits listens to a channel.
        waiting = threads.submit(session.list("waited").wait_pop, 60)
        until(lambda: raw.pubsub_numsub("sessions:shop#wakes")[0][1])
        session.list("waited").push("came")
        assert waiting.result() == "came"
    session.queue("queue").push("job")
    job = session.queue("queue").reserve()
    assert job is not None
    assert job.ack()
    session.map("map").update({"a": 1, "b": 2})
    session.set_of("set").add(1, 2)
    session.sorted("sorted").add({"a": 1.0})
    session.stream("stream").add({"a": 1})
    assert session.stream("stream").read(after="0-0")
    session.bits("bits").set(7)
    session.bloom("bloom").add("a")
    assert session.limiter("limit", 2, 60).hit()
    assert session.limiter("window", 2, 60, algorithm="sliding_window").hit()
    with session.lock("lock"):
        assert not session.lock("lock").acquire(timeout=0)
    keys = list(session.keys())
    with session.transaction() as transaction:
        for key in keys:
            transaction.get(key)
        transaction.list("list").push(3)
        transaction.map("map").set("c", 3)
    with session.batch() as batch:
        batch.set("x", 1)
        batch.delete("x")
    assert session.count() == len(list(session.keys()))
    session.purge()
    session.clear()
