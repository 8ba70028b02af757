"""Places for the data of a test, on every backend of sessions."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import itertools
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from own_mariadb import LEFT_OUT as NO_MARIADB
from own_mariadb import MariaDB
from own_server import LEFT_OUT as NO_REDIS
from own_server import Server

from flexcache_rs import sessions, testing
from flexcache_rs.sessions import sync

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_HAS_REDIS = not NO_REDIS and find_spec("redis") is not None

BACKENDS = ("memory", "disk", *(("redis",) if _HAS_REDIS else ()), *(() if NO_MARIADB else ("mysql",)))
SERVERS = tuple(name for name in BACKENDS if name not in ("memory", "disk"))
"""The backends whose clock a test cannot set."""

_numbers = itertools.count()

_AGE_REDIS = """
local millis = tonumber(ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*')) do
  if string.find(key, '#gate:', 1, true) then
    redis.call('SET', key, string.format('%.0f', redis.call('GET', key) - millis * 1000), 'KEEPTTL')
  end
  if string.find(key, '#log:', 1, true) then
    local log = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #log, 2 do redis.call('ZINCRBY', key, string.format('%.0f', -millis * 1000), log[i]) end
  end
  if redis.call('TYPE', key).ok == 'list' and redis.call('LINDEX', key, 0) == '\\255K3' then
    local state = redis.call('LINDEX', key, 1)
    if state ~= '' then
      local jobs = cmsgpack.unpack(state)
      for _, job in ipairs(jobs[2]) do job[2] = job[2] - millis * 1000 end
      redis.call('LSET', key, 1, cmsgpack.pack(jobs))
    end
  end
  local left = redis.call('PTTL', key)
  if left >= 0 then redis.call('PEXPIRE', key, left - millis) end
end
"""


_TABLES = (
    *("fx_key", "fx_list", "fx_job", "fx_map", "fx_set", "fx_sorted", "fx_stream", "fx_page", "fx_gate", "fx_lease"),
    *("fx_log", "fx_garbage"),
)


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="flexcache-"))


def _ends_with_the_tests(server: Server | MariaDB) -> None:
    def end() -> None:
        server.go_on()
        server.kill()
        shutil.rmtree(server.directory, ignore_errors=True)

    atexit.register(end)


@functools.cache
def redis_server() -> Server:
    """Return the server of this test process."""
    server = Server(_folder())
    server.start()
    _ends_with_the_tests(server)
    return server


@functools.cache
def mariadb_server() -> MariaDB:
    """Return the server of this test process."""
    server = MariaDB(_folder())
    server.install()
    server.start()
    _ends_with_the_tests(server)
    return server


def _redis(_: Path) -> str:
    with contextlib.closing(redis_server().client()) as client:
        client.flushall()
    return f"unix://{redis_server().path}"


def _has_tables(server: MariaDB) -> bool:
    """Return True if a session has created the tables, which its first call does."""
    return bool(server.execute("SHOW TABLES LIKE 'fx_garbage'")[0])


def _mysql(_: Path) -> str:
    server = mariadb_server()
    if _has_tables(server):
        server.execute(*(f"DELETE FROM {table}" for table in _TABLES))
    return f"mysql://root@localhost/flexcache?unix_socket={server.path}"


URLS: dict[str, Callable[[Path], str]] = {
    "memory": lambda _: f"memory://test-{next(_numbers)}",
    "disk": lambda folder: f"disk://{folder}",
    "redis": _redis,
    "mysql": _mysql,
}
"""By backend: a function that makes a place without data, and returns its URL."""


def advance(seconds: float) -> None:
    """Advance the clocks of this process, and make all data of servers older."""
    testing.advance(seconds)
    age_servers(seconds)


def age_servers(seconds: float) -> None:
    """Make all data of servers older. A negative number makes it newer, as if their clocks had been set back."""
    if redis_server.cache_info().currsize:
        with contextlib.closing(redis_server().client()) as client:
            client.eval(_AGE_REDIS, 0, round(seconds * 1000))
    if mariadb_server.cache_info().currsize and _has_tables(mariadb_server()):
        micros = round(seconds * 1e6)
        columns = {"fx_key": "expire", "fx_lease": "expire", "fx_job": "until", "fx_gate": "tat"}
        server = mariadb_server()
        server.execute(*(f"UPDATE {table} SET {name} = {name} - {micros}" for table, name in columns.items()))
        for name, cell in server.execute("SELECT k, v FROM fx_log")[0]:
            log = [(until - micros, count) for until, count in struct.iter_unpack("<qq", cell)]
            aged = b"".join(struct.pack("<qq", max(until, 0), count) for until, count in log)
            last = max((until for until, _ in log), default=0)
            server.execute(f"UPDATE fx_log SET until = {last}, v = x'{aged.hex()}' WHERE k = x'{name.hex()}'")


_COUNT = """
import sqlite3, sys

database = sqlite3.connect(sys.argv[1])
print(sum(database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in sys.argv[2:]))
"""


def rows(file: Path, *tables: str) -> int:
    """Return the number of rows of tables.

    Another process counts them, because a second SQLite library in this process would drop the locks of the first one.
    """
    counted = subprocess.run([sys.executable, "-c", _COUNT, file, *tables], capture_output=True, check=True, text=True)
    return int(counted.stdout)


_SET_BACK = """
import sqlite3, sys

with sqlite3.connect(sys.argv[1]) as database:
    database.execute("UPDATE fx_gate SET tat = tat + ?", (sys.argv[2],))
    database.execute("UPDATE fx_log SET until = until + ?", (sys.argv[2],))
"""


def set_clock_back(place: Place, seconds: float) -> None:
    """Change the data of limiters as if it had been written before the clock was set back."""
    if place.backend == "disk":
        # In another process, as in `rows`.
        file = f"{place.url.removeprefix('disk://')}/sessions.db"
        subprocess.run([sys.executable, "-c", _SET_BACK, file, str(round(seconds * 1e6))], check=True)
    else:
        age_servers(-seconds)


class Place:
    """The place of the data of one test."""

    def __init__(self, backend: str, folder: Path) -> None:
        self.backend = backend
        self.url = URLS[backend](folder)
        self.open = [self.sync()]

    def sync(self, **options: Any) -> sync.Session:
        """Open a session without await."""
        return sync.connect(self.url, **options)

    def awaited(self, **options: Any) -> sessions.Session:
        """Open a session with awaited calls."""
        return sessions.connect(self.url, **options)


def result_in_child(call: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Make an awaited call in a forked child. Returns its result, or 255 if it raises or takes long."""
    child = os.fork()
    if child == 0:
        # It may wait for a thread that it does not have.
        signal.signal(signal.SIGALRM, lambda *_: os._exit(255))
        signal.alarm(20)
        try:
            os._exit(asyncio.run(call()))
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
