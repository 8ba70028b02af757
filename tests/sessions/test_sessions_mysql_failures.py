"""MySQL and MariaDB: what becomes of a call that is refused, whose connection is lost, or whose session ends."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from session_places import SERVERS, URLS, mariadb_server, result_in_child
from waiting import until

from flexcache_rs.sessions import ClosedError, OutcomeUnknown, SessionError, Unavailable, connect
from flexcache_rs.sessions import sync as now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if "mysql" not in SERVERS:
    pytest.skip("there is no mariadbd", allow_module_level=True)

from flexcache_rs.sessions import _mysql_backend as module

LONG = 60.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return URLS["mysql"](tmp_path)


@pytest.fixture
def session(url: str) -> Iterator[now.Session]:
    with now.connect(url) as session:
        session.set("key", 1)
        yield session


def fail_once(monkeypatch: pytest.MonkeyPatch, text: str, error: BaseException) -> list[Any]:
    """Let the first statement with a text raise. Returns the connections on which it did."""
    failed: list[Any] = []
    send = module.Link.send

    def failing(self: Any, statements: Any) -> Any:
        if not failed and any(text in sql for sql, _ in statements):
            failed.append(self)
            self.is_whole = False
            raise error
        return send(self, statements)

    monkeypatch.setattr(module.Link, "send", failing)
    return failed


def lost() -> Exception:
    import pymysql

    return pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")


def of_name(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def test_a_read_is_repeated_once(session: now.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = fail_once(monkeypatch, "SELECT v, id, kind", lost())
    assert session.get("key") == 1
    assert len(failed) == 1


def test_a_write_is_not_repeated(session: now.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = fail_once(monkeypatch, "INSERT INTO fx_key", lost())
    with pytest.raises(OutcomeUnknown, match="Lost connection"):
        session.set("key", 2)
    assert len(failed) == 1
    assert session.get("key") == 1


def test_a_write_that_cannot_clean_up_has_succeeded(session: now.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = session._backend
    backend._owed = 10**6
    failed = fail_once(monkeypatch, "fx_garbage LIMIT", lost())
    assert session.set("key", 2)
    assert len(failed) == 1


def test_a_user_who_must_not_read_the_tables(url: str) -> None:
    """The error is about that, and the session creates no tables, which it could not use."""
    server = mariadb_server()
    server.execute("CREATE DATABASE other", "CREATE USER writer", "GRANT INSERT, CREATE ON other.* TO writer")
    try:
        with now.connect(url.replace("root@", "writer@").replace("localhost/flexcache", "localhost/other")) as session:
            for call in (lambda: session.get("key"), lambda: session.set("key", 1)):
                with pytest.raises(SessionError, match="the server refused a statement: 1142: SELECT command denied"):
                    call()
        assert server.execute("SHOW TABLES IN other") == [()]
    finally:
        server.execute("DROP USER writer", "DROP DATABASE other")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, "lost"])
def test_a_transaction_that_does_not_begin(session: now.Session, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    failed = fail_once(monkeypatch, "SERIALIZABLE", lost() if kind == "lost" else kind())
    closed: list[Any] = []
    close = module.Link.close
    monkeypatch.setattr(module.Link, "close", lambda self: (closed.append(self), close(self)))
    with pytest.raises(Unavailable if kind == "lost" else kind), session.transaction():
        pass
    assert failed == closed
    with session.transaction() as t:
        assert t.incr("key") == 2


def test_transactions_use_a_connection_one_after_the_other(session: now.Session) -> None:
    server = mariadb_server()

    def connections() -> int:
        # This counts the connection that asks, too.
        return int(server.execute("SHOW GLOBAL STATUS LIKE 'Connections'")[0][0][1])

    before = connections()
    for _ in range(3):
        with session.transaction() as t:
            t.incr("key")
        with pytest.raises(ZeroDivisionError), session.transaction() as t:
            t.incr("key")
            raise ZeroDivisionError
    assert connections() == before + 1
    assert session.get("key") == 4


def test_a_call_of_a_transaction_that_fails_half_way_is_undone(session: now.Session) -> None:
    """The key has been made when its elements turn out to be more than the server takes."""
    with session.transaction() as t:
        t.set("before", 1)
        with pytest.raises(ValueError, match="max_allowed_packet"):
            t.set("large", ["x" * 9_000_000])
        assert not t.exists("large")
        assert t.list("large").push("small") == 1
    assert session.get_many(["before", "large"]) == {"before": 1, "large": ["small"]}


def test_a_transaction_whose_connection_is_lost(session: now.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="Lost connection"), session.transaction() as t:
        t.incr("key")
        fail_once(monkeypatch, "SAVEPOINT fx_call", lost())
        with pytest.raises(Unavailable, match="Lost connection") as raised:
            t.get("key")
        for call in (lambda: t.get("key"), lambda: t.set("key", 5), session.transaction().__enter__):
            with pytest.raises(ClosedError, match="has ended, or was interrupted"):
                call()
        raise raised.value
    assert session.get("key") == 1


def test_an_awaited_transaction_that_does_not_begin(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with connect(url) as session:
            await session.set("key", 1)
            fail_once(monkeypatch, "SERIALIZABLE", lost())
            with pytest.raises(Unavailable):
                async with session.transaction():
                    pass
            until(lambda: not of_name("flexcache transaction"))

    asyncio.run(main())


def test_a_task_that_is_cancelled_while_a_transaction_begins(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    begin = module.MysqlBackend.begin

    def late(self: Any) -> Any:
        begun.set()
        assert goes_on.wait(LONG)
        return begin(self)

    monkeypatch.setattr(module.MysqlBackend, "begin", late)

    async def main() -> None:
        async with connect(url) as session:
            await session.set("key", 1)

            async def change() -> None:
                async with session.transaction() as t:
                    await t.incr("key")

            task = asyncio.create_task(change())
            await asyncio.to_thread(begun.wait, LONG)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            goes_on.set()
            # It begins, and is rolled back.
            server = mariadb_server()
            while of_name("flexcache transaction"):
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
            until(lambda: server.execute("SELECT COUNT(*) FROM information_schema.innodb_trx")[0] == ((0,),))

    asyncio.run(main())


def test_a_call_that_waits_delays_no_other(url: str) -> None:
    async def main() -> None:
        async with connect(url, timeout=LONG) as session:
            with now.connect(url) as other:
                other.set_many({"key": 1, "other": 2})
                with other.transaction() as t:
                    t.incr("key")
                    waits = asyncio.create_task(session.incr("key"))
                    assert await session.get("other") == 2
                    assert await session.lock("name").acquire(0)
                    assert not waits.done()
            assert await waits == 3

    asyncio.run(main())


def test_a_session_that_is_being_closed_takes_no_call(url: str) -> None:
    """It waits for those that have begun."""

    async def main() -> None:
        session = connect(url, timeout=LONG)
        backend: Any = session._backend
        with now.connect(url) as other:
            other.set("key", 1)
            await session.get("key")
            with other.transaction() as t:
                t.incr("key")
                waits = asyncio.create_task(session.incr("key"))
                await asyncio.sleep(0)
                closing = asyncio.create_task(session.aclose())
                while backend._is_open:
                    await asyncio.sleep(0.001)
                for _ in range(2):
                    for call in (session.get("key"), session.set("key", 5), session.lock("name").acquire(0)):
                        with pytest.raises(ClosedError):
                            await call
                    with pytest.raises(ClosedError):
                        async with session.transaction():
                            pass
                    with pytest.raises(ClosedError):
                        session.stats()
                assert not of_name("flexcache transaction")
        assert await waits == 3
        await closing
        # A call that has looked before the end gets no new threads.
        with pytest.raises(ClosedError):
            backend._executor(session._codec.call("count"))
        assert backend._threads is None

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(url: str) -> None:
    session = connect(url)

    async def count() -> Any:
        return await session.incr("key")

    async def end() -> None:
        await session.aclose()

    assert asyncio.run(count()) == 1
    assert result_in_child(count) == 2
    assert asyncio.run(count()) == 3
    asyncio.run(end())
