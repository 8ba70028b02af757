"""Features of MySQL and MariaDB only: round trips, retries, limits of columns, and failures during calls."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from session_places import SERVERS, URLS, advance, mariadb_server
from waiting import until

from flexcache_rs.sessions import (
    ClosedError,
    ConflictError,
    OutcomeUnknown,
    SessionError,
    TimedOut,
    Unavailable,
    connect,
)
from flexcache_rs.sessions import sync as now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

if "mysql" not in SERVERS:
    pytest.skip("there is no mariadbd", allow_module_level=True)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    yield URLS["mysql"](tmp_path)
    server = mariadb_server()
    server.go_on()
    if server.process is None or server.process.poll() is not None:
        server.start()


@pytest.fixture
def session(url: str) -> Iterator[now.Session]:
    with now.connect(url) as session:
        yield session


def round_trips(monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any]) -> int:
    from flexcache_rs.sessions import _mysql_backend as backend

    sent = []
    send = backend.Link.send

    def counting(self: Any, statements: Any) -> Any:
        if statements:
            sent.append(statements)
        return send(self, statements)

    with monkeypatch.context() as patched:
        patched.setattr(backend.Link, "send", counting)
        call()
    return len(sent)


def test_round_trips(session: now.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.set_many({"text": "a", "n": 1, "list": [1, 2, 3], "map": {"a": 1}, "set": {1}})
    calls: list[tuple[int, Callable[[], Any]]] = [
        (1, lambda: session.get("text")),
        (1, lambda: session.get_many(["text", "n"])),
        (1, lambda: session.set("text", "b")),
        (1, lambda: session.set("new", "b", ttl=60)),
        (1, lambda: session.exists("text")),
        (1, lambda: session.limiter("api", 5, 60).hit()),
        (1, lambda: session.lock("lock").acquire(timeout=0)),
        (1, lambda: session.count()),
        (2, lambda: session.incr("n")),
        (2, lambda: session.delete("new")),
        (2, lambda: session.expire("n", 60)),
        (2, lambda: session.list("list").push(4)),
        (2, lambda: session.list("list").pop()),
        (2, lambda: session.list("list").at(0)),
        (2, lambda: session.list("list").range()),
        (1, lambda: session.list("list").len()),
        (2, lambda: session.get("list")),
        (2, lambda: session.queue("queue").push(1)),
        (2, lambda: session.queue("queue").reserve()),
        (2, lambda: session.queue("queue").wait_pop(0)),
        (1, lambda: session.map("map").get("a")),
        (1, lambda: session.map("map").all()),
        (2, lambda: session.map("map").set("b", 1)),
        (2, lambda: session.map("map").incr("a")),
        (2, lambda: session.map("map").delete("b")),
        (1, lambda: session.set_of("set").has(1)),
        (2, lambda: session.set_of("set").add(2)),
        (2, lambda: session.set_of("set").pop()),
        (1, lambda: session.set_of("set").union("set")),
        (1, lambda: session.sorted("sorted").score("a")),
        (1, lambda: session.sorted("sorted").by_score()),
        (2, lambda: session.sorted("sorted").add({"a": 2})),
        (2, lambda: session.sorted("sorted").pop_min()),
        (1, lambda: session.stream("stream").range()),
        (1, lambda: session.bits("bits").get(1)),
        (2, lambda: session.bits("bits").set(1)),
        (1, lambda: session.map("absent").get("a")),
        (3, lambda: session.list("fresh").push(1)),
    ]
    session.queue("queue").push(1)
    session.sorted("sorted").add({"a": 1, "b": 2})
    session.stream("stream").add({"a": 1})
    session.bits("bits").set(1)
    for number, (expected, call) in enumerate(calls):
        assert round_trips(monkeypatch, call) == expected, number


def is_a_lock_awaited() -> bool:
    """Return True if a transaction waits for a row.

    The table of transactions does not show it to a client that asks often. It is refreshed only if it was not read for
    a tenth of a second.
    """
    waiting = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'"
    return mariadb_server().execute(waiting)[0][0][1] != "0"


def held_back(url: str, lock: str, during: tuple[str, ...], call: Callable[[now.Session], Any]) -> Any:
    """Return the result of a call that waits for a row, which a transaction locks and changes."""
    server = mariadb_server()
    answers: list[Any] = []
    with contextlib.closing(server.client(database="flexcache")) as client, now.connect(url, timeout=30) as session:
        session.count()
        cursor = client.cursor()
        cursor.execute("START TRANSACTION")
        cursor.execute(lock)
        waiting = threading.Thread(target=lambda: answers.append(call(session)))
        waiting.start()
        until(is_a_lock_awaited)
        for statement in during:
            cursor.execute(statement)
        cursor.execute("COMMIT")
        waiting.join()
    return answers[0]


def test_what_a_transaction_reads_by_key_it_locks(url: str, session: now.Session) -> None:
    """Otherwise two transactions that read a key and then write it would conflict."""
    session.set("key", 1)
    seen: list[Any] = []

    def read() -> None:
        with now.connect(url, timeout=30) as other, other.transaction() as t:
            seen.append(t.get("key"))
            t.set("key", 3)

    with session.transaction() as t:
        assert t.get("key") == 1
        reading = threading.Thread(target=read)
        reading.start()
        until(lambda: seen or is_a_lock_awaited())
        assert not seen
        t.set("key", 2)
    reading.join()
    assert seen == [2]
    assert session.get("key") == 3


def test_a_write_whose_connection_is_lost_is_not_made_again(url: str, session: now.Session) -> None:
    server = mariadb_server()
    session.set("key", 1)
    raised: list[BaseException] = []

    def write() -> None:
        with now.connect(url, timeout=30) as other:
            try:
                other.incr("key")
            except Unavailable as error:
                raised.append(error)

    waits = "SELECT id FROM information_schema.processlist WHERE command = 'Query' AND id <> CONNECTION_ID()"
    with contextlib.closing(server.client(database="flexcache")) as client:
        cursor = client.cursor()
        cursor.execute("START TRANSACTION")
        cursor.execute("SELECT * FROM fx_key FOR UPDATE")
        writing = threading.Thread(target=write)
        writing.start()
        until(is_a_lock_awaited)
        server.execute(f"KILL {server.execute(waits)[0][0][0]}")
        # One that was made again would wait for the lock.
        writing.join(60)
        cursor.execute("COMMIT")
    writing.join()
    assert [type(error) for error in raised] == [Unavailable]
    assert session.get("key") == 1


def test_a_commit_whose_connection_is_lost_may_have_been_made(session: now.Session) -> None:
    server = mariadb_server()
    session.set("key", 1)

    def write(t: now.Transaction) -> None:
        t.incr("key")
        others = "SELECT id FROM information_schema.processlist WHERE user = 'root' AND id <> CONNECTION_ID()"
        for (number,) in server.execute(others)[0]:
            with contextlib.suppress(Exception):
                server.execute(f"KILL {number}")

    with pytest.raises(OutcomeUnknown, match="may have been made"):
        session.run(write)
    assert session.get("key") in (1, 2)


MICROS = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
MARK = f"INSERT INTO fx_key (ns, k, kind, n) VALUES ('', 'mark', 1, {MICROS})"


def test_a_limiter_that_waited_for_others_counts_their_calls(url: str, session: now.Session) -> None:
    """The time of a call is that of its turn. An earlier time would look like a clock that was set back."""
    assert session.limiter("api", 1, 1).hit()
    late = f"UPDATE fx_gate SET tat = {MICROS} + 1900000"
    hit = held_back(url, "SELECT * FROM fx_gate FOR UPDATE", (late,), lambda own: own.limiter("api", 1, 1).hit())
    assert not hit.allowed


@pytest.mark.parametrize(
    "call",
    [
        lambda own: own.set("key", "text", ttl=5),
        lambda own: own.incr("key", ttl=5),
        lambda own: own.set("key", [1], ttl=5),
    ],
    ids=["set", "incr", "a list"],
)
def test_a_call_that_waited_for_others_has_all_of_its_time_to_live(
    url: str, session: now.Session, call: Callable[[now.Session], Any]
) -> None:
    session.set("key", 1)
    held_back(url, "SELECT * FROM fx_key WHERE k = 'key' FOR UPDATE", (MARK,), call)
    (((expire,),),) = mariadb_server().execute("SELECT expire FROM fx_key WHERE k = 'key'")
    (((let_go,),),) = mariadb_server().execute("SELECT n FROM fx_key WHERE k = 'mark'")
    assert expire - let_go >= 5_000_000


def test_a_key_that_expired_while_a_call_waited_is_not_seen(url: str, session: now.Session) -> None:
    session.set("key", 5)
    over = f"UPDATE fx_key SET expire = {MICROS} - 1 WHERE k = 'key'"
    assert held_back(url, "SELECT * FROM fx_key FOR UPDATE", (over,), lambda own: own.incr("key")) == 1


def test_a_lease_that_waited_for_others_has_all_of_its_time(url: str, session: now.Session) -> None:
    assert session.lock("job").acquire(0)
    over = f"UPDATE fx_lease SET expire = {MICROS}"
    take = "SELECT * FROM fx_lease FOR UPDATE"
    assert held_back(url, take, (over, MARK), lambda own: own.lock("job", 5).acquire(0))
    (((expire,),),) = mariadb_server().execute("SELECT expire FROM fx_lease")
    (((let_go,),),) = mariadb_server().execute("SELECT n FROM fx_key WHERE k = 'mark'")
    assert expire - let_go >= 5_000_000


def test_the_settings_of_the_server_do_not_matter(url: str) -> None:
    server = mariadb_server()
    (((mode, zone),),) = server.execute("SELECT @@GLOBAL.sql_mode, @@GLOBAL.time_zone")
    server.execute("SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'", "SET GLOBAL time_zone = '+05:00'")
    try:
        with now.connect(url) as session:
            text = "a\\' \\\" \0 %s"
            for _ in range(2):
                session.set(text, text, ttl=100)
            assert session.get(text) == text
            assert 90 < (session.ttl(text) or 0) <= 100
            limiter = session.limiter("api", 2, 3600)
            assert [limiter.hit().allowed for _ in range(3)] == [True, True, False]
            lock = session.lock("job", 3600)
            assert lock.acquire(0)
            assert lock.acquire(0)
            assert not session.lock("job", 3600).acquire(0)
    finally:
        server.execute(f"SET GLOBAL sql_mode = '{mode}'", f"SET GLOBAL time_zone = '{zone}'")


def test_the_work_of_a_push_does_not_grow(session: now.Session) -> None:
    """The server touches the same number of rows for a push and a pop at 10 and at 10,000 elements."""
    session.list("small").extend(range(10))
    session.list("large").extend(range(10_000))
    link = session._backend.take()  # type: ignore[attr-defined]
    session._backend.give_back(link)  # type: ignore[attr-defined]

    def handled() -> int:
        (found,) = link.send([("SHOW SESSION STATUS LIKE 'Handler%'", ())])
        return sum(int(count) for name, count in found.rows if name.startswith(("Handler_read", "Handler_write")))

    for call in ("push", "push_left", "pop", "pop_left"):
        work = []
        for key in ("small", "large"):
            before = handled()
            getattr(session.list(key), call)(*((1,) if call.startswith("push") else ()))
            work.append(handled() - before)
        assert work[0] == work[1], call


def test_keys_and_members_that_are_too_long(session: now.Session) -> None:
    longest = "é" * 256
    session.set(longest, 1)
    assert session.get(longest) == 1
    with pytest.raises(ValueError, match="key must be at most 512 bytes on this backend, not 514"):
        session.set(longest + "é", 1)
    with pytest.raises(ValueError, match="at most 2048 bytes"):
        session.set_of("set").add("ok", "x" * 2049)
    with pytest.raises(ValueError, match="at most 2048 bytes"):
        session.set("map", {"x" * 2049: 1})
    with pytest.raises(ValueError, match="at most"):
        session.lock("x" * 700).acquire(timeout=0)
    assert session.count() == 1


def test_more_than_a_packet_is_refused(session: now.Session) -> None:
    with pytest.raises(ValueError, match="max_allowed_packet"):
        session.set_many({"a": 1, "b": "x" * 17_000_000})
    assert session.count() == 0
    session.set("a", "x" * 1_000_000)
    assert len(session.get("a")) == 1_000_000


def test_tables_of_another_version_are_refused(url: str, session: now.Session) -> None:
    session.count()
    mariadb_server().execute("UPDATE fx_meta SET version = 3")
    try:
        with now.connect(url) as other, pytest.raises(SessionError, match="version 3"):
            other.get("a")
    finally:
        mariadb_server().execute("UPDATE fx_meta SET version = 2")


def test_tables_of_an_earlier_version_are_upgraded(url: str, session: now.Session) -> None:
    session.set("key", 1)
    mariadb_server().execute("DROP TABLE fx_log", "UPDATE fx_meta SET version = 1")
    sessions = [now.connect(url, timeout=30) for _ in range(4)]
    threads = [threading.Thread(target=one.count) for one in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sessions[0].get("key") == 1
    assert sessions[1].limiter("api", 1, 10, algorithm="sliding_window").hit().allowed
    assert mariadb_server().execute("SELECT version FROM fx_meta")[0][0][0] == 2
    for one in sessions:
        one.close()


def test_writes_remove_what_has_expired_and_what_is_left_of_keys(url: str, session: now.Session) -> None:
    session.set_many({str(number): number for number in range(20)}, ttl=5)
    session.set_many({"list": list(range(300)), "map": {str(number): 1 for number in range(300)}, "set": {1, 2}})
    session.delete("list", "map", "set")
    advance(6)

    def left() -> int:
        tables = ("fx_list", "fx_map", "fx_set", "fx_garbage", "fx_key WHERE expire IS NOT NULL")
        return sum(rows[0][0] for rows in mariadb_server().execute(*(f"SELECT COUNT(*) FROM {one}" for one in tables)))

    assert left() > 600
    for number in range(150):
        session.set("key", number)
    assert left() == 0
    # The first write of a session, too.
    session.set("brief", 1, ttl=5)
    advance(6)
    with now.connect(url) as other:
        other.set("key", 1)
    assert left() == 0


def test_many_first_sessions_at_once(url: str) -> None:
    mariadb_server().execute("DROP DATABASE flexcache", "CREATE DATABASE flexcache")
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with now.connect(url, timeout=30) as session:
                session.list("list").push(number)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with now.connect(url) as session:
        assert sorted(session.get("list")) == list(range(8))


def test_writers_of_a_key_take_turns(url: str) -> None:
    with now.connect(url, timeout=1) as session, now.connect(url, timeout=1) as other:
        session.set("n", 1)
        with session.transaction() as t:
            t.incr("n")
            failed: list[BaseException] = []

            def write() -> None:
                try:
                    other.incr("n")
                except BaseException as error:
                    failed.append(error)

            writing = threading.Thread(target=write)
            writing.start()
            writing.join()
            assert [type(error) for error in failed] == [TimedOut]
            # Others go on reading.
            assert other.get("n") == 1
        assert other.get("n") == 2


def test_a_call_that_is_refused_undoes_only_itself(session: now.Session) -> None:
    with session.transaction() as t:
        t.set("a", 1)
        t.list("list").push(1)
        for call in (
            lambda: t.set("x" * 600, 1),
            lambda: t.set_of("set").add("x" * 3000),
            lambda: t.set("big", "x" * 17_000_000),
            lambda: t.list("a").push(1),
        ):
            with pytest.raises((ValueError, TypeError)):
                call()
        with pytest.raises(ZeroDivisionError), session.transaction() as inner:
            inner.set("a", 2)
            with pytest.raises(ValueError, match="at most 512"):
                inner.get("x" * 600)
            raise ZeroDivisionError
    assert session.get_many(["a", "list", "set"]) == {"a": 1, "list": [1]}


def test_a_call_that_is_interrupted_ends_its_transaction(session: now.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """No half of a call is stored, even if the block catches the interruption."""
    from flexcache_rs.sessions._sql import Plans

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    session.list("list").push(1)
    with pytest.raises(ClosedError), session.transaction() as t:
        t.set("a", 1)
        with monkeypatch.context() as patched:
            patched.setattr(Plans, "_saving", interrupt)
            with pytest.raises(KeyboardInterrupt):
                t.list("list").pop()
    assert session.get_many(["a", "list"]) == {"list": [1]}


def test_transactions_that_wait_for_each_other(url: str) -> None:
    """If two transactions block each other, one of them is a conflict and can be repeated."""
    with now.connect(url, timeout=30) as session:
        session.set_many({"a": 0, "b": 0})
        barrier = threading.Barrier(2)
        conflicts: list[str] = []

        def work(first: str, second: str) -> None:
            with now.connect(url, timeout=30) as own:
                tries = 0

                def both(t: now.Transaction) -> None:
                    nonlocal tries
                    tries += 1
                    t.incr(first)
                    if tries == 1:
                        barrier.wait()
                    t.incr(second)

                own.run(both)
                if tries > 1:
                    conflicts.append(first)

        threads = [threading.Thread(target=work, args=pair) for pair in ("ab", "ba")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(conflicts) == 1
        assert session.get_many(["a", "b"]) == {"a": 2, "b": 2}
        with pytest.raises(ConflictError), session.transaction():
            raise ConflictError("as it is raised, it goes on")


# PyMySQL leaves the socket to the collector with which it could not connect.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_failures_of_the_server(url: str, tmp_path: Path) -> None:
    from pymysql.err import OperationalError

    server = mariadb_server()
    elsewhere = f"mysql://root@localhost/flexcache?unix_socket={tmp_path}/none"
    with now.connect(elsewhere) as none, pytest.raises(Unavailable):
        none.get("a")
    with now.connect(url, timeout=1) as session:
        session.set("a", 1)
        # A connection that was closed meanwhile is not used.
        (rows,) = server.execute("SELECT id FROM information_schema.processlist WHERE db = 'flexcache'")
        for (number,) in rows:
            # The one that asks is over.
            with contextlib.suppress(OperationalError):
                server.execute(f"KILL {number}")
        assert session.incr("a") == 2
        with now.connect(url, timeout=1) as other:
            other.get("a")
            server.pause()
            # A read is not repeated where nobody answers.
            late: list[BaseException] = []

            def read() -> None:
                try:
                    other.get("a")
                except BaseException as error:
                    late.append(error)

            reading = threading.Thread(target=read)
            reading.start()
            with pytest.raises(OutcomeUnknown):
                session.set("a", 3)
            reading.join()
            server.go_on()
        assert [type(error) for error in late] == [TimedOut]
        assert session.get("a") in (2, 3)
        server.kill()
        with pytest.raises(Unavailable):
            session.incr("a")
        server.start()
        assert session.get("a") in (2, 3)


def test_a_cancelled_call_leaves_its_answer_to_nobody(url: str) -> None:
    async def main() -> None:
        async with connect(url) as session:
            await session.set_many({str(number): number for number in range(20)})
            for number in range(30):
                task = asyncio.ensure_future(session.get(str(number % 20)))
                await asyncio.sleep(0)
                task.cancel()
                assert await session.get(str((number + 7) % 20)) == (number + 7) % 20

    asyncio.run(main())


def test_the_driver_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(ImportError, match=r'pip install "flexcache-rs\[mysql\]"'):
        connect("mysql://host/db")


def test_elements_of_removed_keys_are_purged(session: now.Session) -> None:
    session.set_many({"list": list(range(50)), "map": {"a": 1}, "set": {1}, "gone": 1})
    session.sorted("sorted").add({"a": 1})
    session.stream("stream").add({})
    session.bits("bits").set(1)
    session.queue("queue").push(1)
    session.queue("queue").reserve()
    session.clear()
    session.purge()
    for table in ("fx_list", "fx_job", "fx_map", "fx_set", "fx_sorted", "fx_stream", "fx_page", "fx_garbage"):
        assert mariadb_server().execute(f"SELECT COUNT(*) FROM {table}")[0][0][0] == 0


class Stopping:
    """A serializer that stores every value as nothing, and restores none."""

    name = "stopping"

    def dumps(self, value: object, protocol: int, /) -> bytes:
        return b""

    def loads(self, data: bytes, /) -> Any:
        raise StopIteration("read")


def test_an_awaited_read_of_what_raises_stop_iteration_ends(url: str) -> None:
    """Before Python 3.12, a future refuses this exception, and its task would wait for ever."""

    async def main() -> None:
        async with connect(url, serializer=Stopping()) as session:
            await session.list("list").push(object())
            with pytest.raises(RuntimeError, match="a call raised StopIteration"):
                await asyncio.wait_for(session.list("list").at(0), 60)
            async with session.transaction() as transaction:
                with pytest.raises(RuntimeError, match="a call raised StopIteration"):
                    await asyncio.wait_for(transaction.list("list").at(0), 60)

    asyncio.run(main())
