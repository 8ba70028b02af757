"""MySQL and MariaDB servers with other settings, users and locks than those of the tests, and connections that fail."""

from __future__ import annotations

import asyncio
import contextlib
import select
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from session_places import SERVERS, URLS, mariadb_server
from waiting import until

from flexcache_rs.sessions import ClosedError, ConflictError, SessionError, TimedOut, Unavailable, _mysql_link, connect
from flexcache_rs.sessions import sync as now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

if "mysql" not in SERVERS:
    pytest.skip("there is no mariadbd", allow_module_level=True)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return URLS["mysql"](tmp_path)


@pytest.fixture
def empty_url(url: str) -> Iterator[str]:
    """The URL of a database without tables."""
    mariadb_server().execute("CREATE DATABASE other")
    yield url.replace("localhost/flexcache", "localhost/other")
    mariadb_server().execute("DROP DATABASE other")


@contextlib.contextmanager
def setting(name: str, value: str) -> Iterator[None]:
    (((before,),),) = mariadb_server().execute(f"SELECT @@GLOBAL.{name}")
    mariadb_server().execute(f"SET GLOBAL {name} = {value}")
    try:
        yield
    finally:
        mariadb_server().execute(f"SET GLOBAL {name} = {before if isinstance(before, int) else repr(before)}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sql_select_limit", "3"),
        ("max_join_size", "2"),
        ("sql_safe_updates", "1"),
        ("completion_type", "1"),
        ("completion_type", "2"),
        ("innodb_default_row_format", "'compact'"),
        ("innodb_default_row_format", "'redundant'"),
    ],
)
def test_a_default_of_the_server_changes_no_result(empty_url: str, name: str, value: str) -> None:
    numbers = {f"k{number}": number for number in range(20)}
    with setting(name, value), now.connect(empty_url) as session:
        assert session.set_many(numbers) == 20
        assert session.get_many(list(numbers)) == numbers
        session.set("list", list(range(20)))
        assert session.get("list") == list(range(20))
        for number in range(3):
            session.incr("n")
            with session.transaction() as t:
                t.incr("n")
            assert session.get("n") == 2 * number + 2
        link = session._backend.take()  # type: ignore[attr-defined]
        session._backend.give_back(link)  # type: ignore[attr-defined]
        session.incr("n")
        assert session._backend.take() is link  # type: ignore[attr-defined]
        link.close()
        assert session.delete(*numbers) == 20
        session.purge()


@pytest.mark.parametrize("timeout", [1e8, 1e9, float("inf")])
def test_a_timeout_may_be_longer_than_the_server_waits(url: str, timeout: float) -> None:
    with now.connect(url, timeout=timeout) as session:
        session.set("a", 1)
        assert session.get("a") == 1


@pytest.mark.parametrize("password", ["pässwörd", "пароль", "a'b\\c %"])
def test_a_password_may_have_any_letters(url: str, password: str) -> None:
    quoted = password.replace("\\", "\\\\").replace("'", "''")
    mariadb_server().execute(
        f"CREATE USER someone@localhost IDENTIFIED BY '{quoted}'", "GRANT ALL ON flexcache.* TO someone@localhost"
    )
    try:
        with now.connect(url.replace("root@", f"someone:{quote(password)}@")) as session:
            session.set("a", 1)
            assert session.get("a") == 1
    finally:
        mariadb_server().execute("DROP USER someone@localhost")


@pytest.mark.parametrize("lock", ["LOCK TABLES fx_key WRITE", "FLUSH TABLES WITH READ LOCK"])
def test_a_write_to_locked_tables_is_not_made_later(url: str, lock: str) -> None:
    with now.connect(url, timeout=1) as session, contextlib.closing(mariadb_server().client()) as other:
        session.set_many({"a": 1, "n": 1})
        cursor = other.cursor()
        cursor.execute("USE flexcache")
        cursor.execute(lock)
        with pytest.raises(TimedOut, match="nothing has changed"):
            session.set("a", 2)
        with pytest.raises(TimedOut, match="nothing has changed"):
            session.incr("n")
        with pytest.raises(ConflictError), session.transaction() as t:
            t.incr("n")
        cursor.execute("UNLOCK TABLES")
        assert session.get_many(["a", "n"]) == {"a": 1, "n": 1}


def _connections() -> int:
    (((count,),),) = mariadb_server().execute("SELECT COUNT(*) FROM information_schema.processlist WHERE db = 'other'")
    return int(count)


def test_a_connection_that_is_refused_is_closed(empty_url: str) -> None:
    """Although the error, which others may keep, refers to it."""
    mariadb_server().execute("CREATE TABLE other.fx_meta (version_of_another_program INT)")
    with now.connect(empty_url) as session:
        with pytest.raises(SessionError, match="version") as first:
            session.get("a")
        with pytest.raises(SessionError, match="version") as second:
            session.get("a")
        assert first.value is not second.value
        until(lambda: not _connections())


def test_a_connection_without_its_settings_is_closed(empty_url: str) -> None:
    mariadb_server().execute(
        "CREATE USER late@localhost IDENTIFIED BY 'p' PASSWORD EXPIRE", "GRANT ALL ON other.* TO late@localhost"
    )
    try:
        with now.connect(empty_url.replace("root@", "late:p@")) as session:
            with pytest.raises(Unavailable, match="SET PASSWORD") as refused:
                session.get("a")
            assert refused.value.__cause__ is not None
            until(lambda: not _connections())
    finally:
        mariadb_server().execute("DROP USER late@localhost")


@pytest.mark.parametrize(
    "absent",
    ["no_such_setting = 1", "completion_type = 17", "lower_case_table_names = 1", "innodb_buffer_pool_size = 1"],
)
def test_a_setting_that_a_server_does_not_have_is_left_out(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    """The others hold."""
    monkeypatch.setattr(_mysql_link, "_OTHER_SETTINGS", (absent, *_mysql_link._OTHER_SETTINGS))
    with setting("sql_select_limit", "3"), now.connect(empty_url) as session:
        session.set("list", list(range(20)))
        assert session.get("list") == list(range(20))


def test_a_proxy_that_answers_one_statement_is_unavailable(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    send = _mysql_link.Link.send
    monkeypatch.setattr(_mysql_link.Link, "send", lambda self, statements: send(self, statements)[:1])
    with now.connect(empty_url) as session:
        with pytest.raises(Unavailable, match="several statements at once"):
            session.get("a")
        until(lambda: not _connections())


def test_the_version_of_another_table_is_shown_as_it_is(empty_url: str) -> None:
    mariadb_server().execute("CREATE TABLE other.fx_meta (version TEXT)", "INSERT INTO other.fx_meta VALUES ('2')")
    with now.connect(empty_url) as session, pytest.raises(SessionError, match="version '2'"):
        session.get("a")


@pytest.mark.parametrize("option", ["ssl_ca", "ssl_cert"])
def test_a_missing_file_for_tls_is_named(url: str, tmp_path: Path, option: str) -> None:
    absent = tmp_path / "absent"
    with now.connect(f"{url}&{option}={absent}") as session, pytest.raises(Unavailable, match=str(absent)):
        session.get("a")


def test_an_impossible_host_is_unavailable() -> None:
    with now.connect("mysql://root@a..b/db") as session, pytest.raises(Unavailable, match="label empty"):
        session.get("a")


@contextlib.contextmanager
def serving(connected: Callable[[socket.socket], object]) -> Iterator[str]:
    """Return the URL of a server that calls a function with its only connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                connected(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"mysql://root@127.0.0.1:{listener.getsockname()[1]}/db"
        thread.join()


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(50), b"\5\0\0\0\x09abcd"])
def test_another_server_is_unavailable(greeting: bytes) -> None:
    with (
        serving(lambda connection: connection.sendall(greeting)) as url,
        now.connect(url) as session,
        pytest.raises(Unavailable),
    ):
        session.get("a")


def test_what_a_signal_handler_raises_while_a_session_connects_is_raised() -> None:
    class Interrupted(Exception):  # noqa: N818
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    def send_signal(connection: socket.socket) -> None:
        # A signal before the driver has its socket would leave this to the collector.
        until(lambda: sys._current_frames()[main].f_code.co_name == "readinto")
        signal.pthread_kill(main, signal.SIGALRM)
        # Until the session has closed it.
        connection.recv(1)

    main = threading.get_ident()
    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        with serving(send_signal) as url, now.connect(url) as session, pytest.raises(Interrupted):
            session.get("a")
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_a_call_during_the_end_is_refused(url: str) -> None:
    """The end waits for a call of another task, and for that time makes no new threads, which nobody would end."""

    async def main() -> None:
        session: Any = connect(url)
        await session.set("a", 1)
        backend, go_on = session._backend, threading.Event()
        before = backend._threads
        backend._threads[1].submit(go_on.wait, 60)
        closing = asyncio.ensure_future(session.aclose())
        try:
            await asyncio.to_thread(until, lambda: before[0]._shutdown or before[1]._shutdown)
            with pytest.raises(ClosedError):
                await session.get("a")
        finally:
            go_on.set()
        await closing
        assert backend._threads is None

    asyncio.run(main())


def test_an_end_that_is_interrupted_leaves_no_connection(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session: Any = connect(url)
    asyncio.run(session.set("a", 1))
    link = session._backend.take()
    ours = f"SELECT id FROM information_schema.processlist WHERE id = {link._connection.thread_id()}"
    session._backend.give_back(link)
    assert mariadb_server().execute(ours) != [()]
    threads = session._backend._threads
    with monkeypatch.context() as patched:
        patched.setattr(threads[1], "shutdown", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session._backend.close()
    until(lambda: mariadb_server().execute(ours) == [()])
    for each in threads:
        each.shutdown()


def interrupted() -> None:
    raise KeyboardInterrupt


def test_connections_are_kept_without_poll(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module `select` has no `poll` on Windows, and none with eventlet."""
    monkeypatch.delattr(select, "poll")
    with now.connect(url) as session:
        backend: Any = session._backend
        session.set("a", 1)
        link = backend.take()
        backend.give_back(link)
        assert session.get("a") == 1
        assert backend.take() is link
        backend.give_back(link)
        mariadb_server().execute(f"KILL {link._connection.thread_id()}")
        select.select([link._connection._sock], [], [])
        session.set("a", 2)
        assert backend.take() is not link
