"""Compares sessions on servers with the plain clients of these servers. `sessions.py` runs this."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from .remote_peers import PROTOCOL, SOCKET, Opened, Server, plain_socket, protocol
from .sessions_run import KEYS, OURS, TOGETHER, VALUE, Run, at_once, in_a_row, one_by_one
from .tables import Figure

Calls = dict[str, Callable[[int], Any]]
"""By what is done: a call, which gets its number."""

SAME_SQL = "PyMySQL, the same SQL"
ONE_STATEMENT = "PyMySQL, one statement"
IN_A_THREAD = "PyMySQL in a thread"


@dataclass
class Database:
    """A separate MariaDB server on its own socket."""

    socket: str
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, directory: Path) -> Database:
        """Start a server. Raises FileNotFoundError if none is installed."""
        path = "/usr/sbin:/usr/local/sbin"
        program = shutil.which("mariadbd") or shutil.which("mariadbd", path=path)
        if program is None:
            raise FileNotFoundError("mariadbd is not installed")
        user, data = f"--user={getpass.getuser()}", f"--datadir={directory / 'data'}"
        log = "--innodb-log-file-size=32M"
        install = ["mariadb-install-db", "--no-defaults", data, log, user, "--skip-test-db"]
        install += ["--auth-root-authentication-method=normal"]
        own = {**os.environ, "TMPDIR": str(directory)}
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, env=own)
        place = str(directory / "s")
        command = [program, "--no-defaults", data, f"--socket={place}", "--skip-networking", user, log]
        # Flush the log only once a second. Otherwise this would measure the disk.
        command += ["--innodb-flush-log-at-trx-commit=2", f"--pid-file={directory / 'pid'}"]
        made = cls(place, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        try:
            for _ in range(3000):
                with suppress(OSError), socket.socket(socket.AF_UNIX) as plain:
                    plain.connect(place)
                    break
                time.sleep(0.01)
            with made.client() as client:
                client.cursor().execute("CREATE DATABASE bench")
        except BaseException:
            made.end()
            raise
        return made

    @property
    def url(self) -> str:
        """The URL for a session."""
        return f"mysql://root@localhost/bench?unix_socket={self.socket}"

    def client(self, **options: Any) -> Any:
        """Return a connection of PyMySQL."""
        return import_module("pymysql").connect(unix_socket=self.socket, user="root", autocommit=True, **options)

    def version(self) -> str:
        """Return the name and version that the server reports."""
        with self.client() as client, client.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            return str(cursor.fetchone()[0])

    def end(self) -> None:
        """Stop the server."""
        self.process.terminate()
        self.process.wait(60)


def _of_session(session: Any) -> Calls:
    """Return the calls of a session, with or without `await`."""
    jobs, user, board = session.list("jobs"), session.map("user"), session.sorted("board")
    limiter = session.limiter("api", 10**6, 1)
    return {
        "get": lambda number: session.get(str(number % KEYS)),
        "set": lambda number: session.set(str(number % KEYS), VALUE),
        "incr": lambda _: session.incr("number"),
        "push": lambda _: jobs.push(VALUE),
        "pop": lambda _: jobs.pop(),
        "map get": lambda _: user.get("name"),
        "map set": lambda _: user.set("name", VALUE),
        "sorted add": lambda number: board.add({"ann": number}),
        "limiter": lambda number: limiter.hit(str(number % 10)),
    }


def _of_redis(client: Any) -> Calls:
    """Return the calls of redis-py, with or without `await`."""
    return {
        "get": lambda number: client.get(f"plain:{number % KEYS}"),
        "set": lambda number: client.set(f"plain:{number % KEYS}", VALUE),
        "incr": lambda _: client.incr("number"),
        "push": lambda _: client.rpush("jobs", VALUE),
        "pop": lambda _: client.rpop("jobs"),
        "map get": lambda _: client.hget("user", "name"),
        "map set": lambda _: client.hset("user", "name", VALUE),
        "sorted add": lambda number: client.zadd("board", {"ann": number}),
    }


def _of_floor(opened: Opened) -> Calls:
    """Return the calls of a client that only sends and receives bytes."""
    value = VALUE.encode()
    return {
        "get": lambda number: opened.get(f"plain:{number % KEYS}"),
        "set": lambda number: opened.set(f"plain:{number % KEYS}", value),
    }


def _measure(run: Run, figure: Figure, contestants: dict[str, Calls]) -> None:
    """Measure calls one after the other. The contestants take turns."""
    settings = run.settings
    for number in range(settings.rounds + 1):
        for operation in next(iter(contestants.values())):
            there = [name for name, calls in contestants.items() if operation in calls]
            for name in run.random.sample(there, k=len(there)):
                sample = in_a_row(contestants[name][operation], settings.server_calls)
                if number:
                    figure.cell(operation, name).samples.append(sample)


async def _measure_awaited(
    run: Run, single: Figure, together: Figure, contestants: dict[str, Calls], alone: str = ""
) -> None:
    """The same for awaited calls, also many at once. `alone` has a single connection, and makes one call at a time."""
    settings = run.settings
    turns = max(1, settings.server_calls // TOGETHER)
    for number in range(settings.rounds + 1):
        for operation in next(iter(contestants.values())):
            there = [name for name, calls in contestants.items() if operation in calls]
            for name in run.random.sample(there, k=len(there)):
                call: Callable[[int], Awaitable[Any]] = contestants[name][operation]
                samples = [(single, await one_by_one(call, settings.server_calls))]
                if operation in ("get", "set") and name != alone:
                    samples.append((together, await at_once(call, TOGETHER, turns)))
                for figure, sample in samples if number else ():
                    figure.cell(operation, name).samples.append(sample)


@contextmanager
def _server(run: Run, name: str, start: Callable[[Path], Any]) -> Iterator[Any]:
    """Start a server. Returns None if it is not installed."""
    directory = run.directory / name
    directory.mkdir()
    try:
        server = start(directory)
    except (OSError, subprocess.SubprocessError, ImportError) as error:
        run.told[name] = f"left out: {error}"
        run.say(f"{name} is {run.told[name]}")
        yield None
        return
    try:
        yield server
    finally:
        server.end()


def valkey(run: Run) -> list[Figure]:
    """On a Valkey or Redis server, beside redis-py."""
    with _server(run, "Valkey or Redis", Server.start) as server:
        if server is None:
            return []
        run.told["Valkey or Redis"] = server.version
        return [_valkey_now(run, server), *asyncio.run(_valkey_awaited(run, server))]


def _valkey_now(run: Run, server: Server) -> Figure:
    from flexcache_rs.sessions.sync import connect

    text = "Microseconds per call, on one connection. A plain socket shows the least possible time."
    figure = Figure("On Valkey or Redis, without await", text)
    client: Any = import_module("redis").Redis(host=server.host, port=server.port)
    least = plain_socket(server)
    with connect(f"redis://{server.host}:{server.port}") as session:
        contestants = {OURS: _of_session(session), "redis-py": _of_redis(client), SOCKET: _of_floor(least)}
        for calls in contestants.values():
            for number in range(KEYS):
                calls["set"](number)
        _measure(run, figure, contestants)
    client.close()
    least.close()
    return figure


async def _valkey_awaited(run: Run, server: Server) -> list[Figure]:
    from flexcache_rs.sessions import connect

    text = "Microseconds per call. An `asyncio.Protocol` shows the least possible time."
    single = Figure("On Valkey or Redis, awaited", text)
    together = Figure(f"On Valkey or Redis, {TOGETHER} at once", f"Microseconds for {TOGETHER} tasks together.")
    client: Any = import_module("redis.asyncio").Redis(host=server.host, port=server.port)
    async with connect(f"redis://{server.host}:{server.port}") as session:
        least = await protocol(server)
        contestants = {OURS: _of_session(session), "redis.asyncio": _of_redis(client), PROTOCOL: _of_floor(least)}
        await _measure_awaited(run, single, together, contestants, PROTOCOL)
        least.close()
    await client.aclose()
    return [single, together]


class _Recorder:
    """Records the SQL of a session's calls, so that a plain connection can send it again."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.sent: list[bytes] = []

    def record(self, call: Callable[[int], Any]) -> list[bytes]:
        """Return the statements of one call, by round trip."""
        link: Any = self._session._backend.take()
        self._session._backend.give_back(link)
        plain, self.sent = link.send, []

        def send(statements: Any) -> Any:
            if not statements:
                return []
            connection = link._connection
            query = connection.query

            def recorded(text: bytes) -> Any:
                self.sent.append(text)
                return query(text)

            connection.query = recorded
            try:
                return plain(statements)
            finally:
                del connection.query

        link.send = send
        try:
            call(1)
        finally:
            del link.send
        return self.sent


def _sent_again(client: Any, sent: list[bytes]) -> Callable[[int], None]:
    cursor = client.cursor()

    def call(_: int) -> None:
        for text in sent:
            cursor.execute(text)
            while True:
                cursor.fetchall()
                if not cursor.nextset():
                    break

    return call


def _one_statement(client: Any) -> Calls:
    """Return the calls of a program with its own table, which need one statement each."""
    cursor = client.cursor()
    cursor.execute("CREATE TABLE plain (k VARBINARY(512) PRIMARY KEY, v LONGBLOB, n BIGINT)")
    upsert = "INSERT INTO plain (k, v) VALUES (%s, %s) ON DUPLICATE KEY UPDATE v = VALUES(v)"

    def get(number: int) -> Any:
        cursor.execute("SELECT v FROM plain WHERE k = %s", (str(number % KEYS),))
        return cursor.fetchall()

    return {
        "get": get,
        "set": lambda number: cursor.execute(upsert, (str(number % KEYS), VALUE)),
        "incr": lambda _: cursor.execute("UPDATE plain SET n = n + 1 WHERE k = '1'"),
    }


def mariadb(run: Run) -> list[Figure]:
    """On a MariaDB server, beside PyMySQL."""
    with _server(run, "MariaDB", Database.start) as server:
        if server is None:
            return []
        run.told["MariaDB"] = f"{server.version()}, its log flushed once a second"
        return [*_mariadb_now(run, server), *asyncio.run(_mariadb_awaited(run, server))]


def _mariadb_now(run: Run, server: Database) -> list[Figure]:
    from flexcache_rs.sessions.sync import connect

    figure = Figure(
        "On MariaDB, without await",
        'Microseconds per call, on one connection. "The same SQL" is the SQL of a session\'s call, which the driver '
        'alone sends again. A call whose SQL cannot be repeated has no number. "One statement" is the statement of '
        "a program with a table of its own.",
    )
    trips = Figure(
        "Round trips on MariaDB", "The number of requests to the server for each call.", "round trips", compared=False
    )
    many = import_module("pymysql").constants.CLIENT.MULTI_STATEMENTS
    plain = server.client(database="bench")
    again = server.client(database="bench", client_flag=many, charset="utf8mb4")
    with connect(server.url) as session:
        own = _of_session(session)
        one = _one_statement(plain)
        for number in range(KEYS):
            own["set"](number)
            one["set"](number)
        for call in own.values():
            call(1)
        recorder, same = _Recorder(session), {}
        for operation, call in own.items():
            sent = recorder.record(call)
            trips.cell(operation, OURS).samples.append(float(len(sent)))
            if operation in ("get", "set", "map get", "map set", "limiter"):
                same[operation] = _sent_again(again, sent)
        _measure(run, figure, {OURS: own, SAME_SQL: same, ONE_STATEMENT: one})
    plain.close()
    again.close()
    return [figure, trips]


async def _mariadb_awaited(run: Run, server: Database) -> list[Figure]:
    from flexcache_rs.sessions import connect

    single = Figure("On MariaDB, awaited", "Microseconds per call. PyMySQL is called in a thread, as sessions call it.")
    together = Figure(f"On MariaDB, {TOGETHER} at once", f"Microseconds for {TOGETHER} tasks together.")
    client = server.client(database="bench")
    cursor = client.cursor()

    def select(number: int) -> Any:
        cursor.execute("SELECT v FROM plain WHERE k = %s", (str(number % KEYS),))
        return cursor.fetchall()

    async with connect(server.url) as session:
        threaded: Calls = {"get": lambda number: asyncio.to_thread(select, number)}
        contestants = {OURS: _of_session(session), IN_A_THREAD: threaded}
        await _measure_awaited(run, single, together, contestants, IN_A_THREAD)
    client.close()
    return [single, together]
