"""The direct lane, as far as it differs. All tests of this folder make their calls on both lanes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from waiting import MANY, until

from flexcache_rs import _core
from flexcache_rs.remote import RemoteCache, RemoteConnectionError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from own_server import Server

    Make = Callable[..., Any]


LANES = ("direct",)


def clients_named(raw: Any, name: str) -> list[Any]:
    return [client for client in raw.client_list() if client["name"] == name]


def test_all_threads_share_a_connection(make: Make, raw: Any) -> None:
    cache = make(name="shared")
    assert cache.lane == "direct"
    cache.set_many({f"key:{number}": number for number in range(100)})
    wrong: list[Any] = []

    def work(thread: int) -> None:
        for number in range(100):
            found = cache.fresh(f"key:{(number + thread) % 100}")
            if found != (number + thread) % 100:
                wrong.append((thread, number, found))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    # That and the one which listens.
    assert len(clients_named(raw, "flexcache-shared")) == 2


@pytest.mark.parametrize(
    ("client", "why"),
    [
        ("rediss://localhost", "SSLConnection"),
        ("redis://localhost?socket_type=1", "socket_type"),
    ],
)
def test_clients_that_the_lane_cannot_serve(client: str, why: str) -> None:
    pytest.importorskip("redis")
    with pytest.raises(ValueError, match=rf"lane cannot be 'direct' with this client: .*{why}"):
        RemoteCache(client, "test", lane="direct")


def test_lanes_that_are_none() -> None:
    with pytest.raises(ValueError, match="lane must be 'client', 'direct' or None, not 'fast'"):
        RemoteCache("redis://localhost", "test", lane="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "address"), [("unix:///no/server.sock", "/no/server.sock"), ("redis://127.0.0.1:1", "127.0.0.1:1")]
)
def test_an_error_names_the_address(url: str, address: str) -> None:
    pytest.importorskip("redis")
    with pytest.raises(RemoteConnectionError, match=f"no connection to the server at {address}: "):
        RemoteCache(url, "test", lane="direct", timeout=30.0)


def test_urls(server: Server, make: Make, raw: Any) -> None:
    cache = make(f"unix://{server.path}?db=3", name="by url")
    cache["key"] = 1
    assert cache.fresh("key") == 1
    assert {client["db"] for client in clients_named(raw, "flexcache-by_url")} == {"3"}


@pytest.mark.parametrize("user", [None, "cache"])
def test_passwords(server: Server, make: Make, raw: Any, user: str | None) -> None:
    if user is None:
        raw.config_set("requirepass", "secret")
    else:
        raw.execute_command("ACL", "SETUSER", user, "on", ">secret", "allkeys", "allchannels", "+@all")
    try:
        with pytest.raises(RemoteError, match="password"):
            make(server.client(username=user, password="wrong"))
        cache = make(server.client(username=user, password="secret"))
        cache["key"] = 1
        assert cache.fresh("key") == 1
    finally:
        raw.config_set("requirepass", "")


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """A server that accepts connections and never replies."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()


def failed(kind: str, text: str) -> Exception:
    return RuntimeError(kind, text)


def test_a_silent_server(silent: tuple[str, int]) -> None:
    lane = _core.RemoteLane(silent, 0.05, failed)
    with pytest.raises(RuntimeError, match="timeout"):
        lane.execute("GET", "key")


def test_a_signal_ends_the_waiting(silent: tuple[str, int]) -> None:
    """An exception of a signal handler propagates from the call, long before its deadline."""
    lane = _core.RemoteLane(silent, MANY * 10, failed)

    class Interrupted(Exception):  # noqa: N818
        pass

    def handler(*_: object) -> None:
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1, 1)
        with pytest.raises(Interrupted):
            lane.execute("GET", "key")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_other_threads_run_while_one_waits(silent: tuple[str, int]) -> None:
    lane = _core.RemoteLane(silent, 0.5, failed)
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(RuntimeError, match="timeout"):
            lane.execute("GET", "key")
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    rounds = 0
    while not ended.is_set():
        rounds += 1
        time.sleep(0)
    thread.join()
    assert rounds > 10


def test_a_late_reply_is_nobodys(server: Server) -> None:
    lane = _core.RemoteLane(server.path, 0.2, failed)
    assert lane.execute("SET", "key", b"1") == b"OK"
    lane.execute("DEL", "list")
    with pytest.raises(RuntimeError, match="timeout"):
        lane.execute("BLPOP", "list", 0)
    assert lane.execute("GET", "key") == b"1"


def test_replies(server: Server) -> None:
    lane = _core.RemoteLane(server.path, MANY, failed)
    assert lane.execute("SET", "key", b"\r\n\0") == b"OK"
    assert lane.execute("GET", "key") == b"\r\n\0"
    assert lane.execute("GET", "other") is None
    assert lane.execute("STRLEN", "key") == 3
    assert lane.execute("MGET", "key", "other") == [b"\r\n\0", None]
    assert lane.execute("HELLO")[b"proto"] == 3
    with pytest.raises(RuntimeError, match="refused"):
        lane.execute("INCR", "key")
    first, refused, last = lane.execute_many([("ECHO", 1), ("INCR", "key"), ["ECHO", "2"]])
    assert (first, last) == (b"1", b"2")
    assert isinstance(refused, RuntimeError)
    assert lane.execute_many([]) == []


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda lane: lane.execute(), ValueError),
        (lambda lane: lane.execute("GET", "\ud800"), UnicodeEncodeError),
        (lambda lane: lane.execute_many([()]), ValueError),
        (lambda lane: lane.execute_many([5]), TypeError),
        (lambda lane: _core.RemoteLane("/nowhere", 0, failed), ValueError),
        (lambda lane: _core.RemoteLane("/nowhere", float("nan"), failed), ValueError),
        (lambda lane: _core.RemoteLane("/nowhere", 1e300, failed), ValueError),
    ],
)
def test_what_is_no_command(server: Server, call: Callable[[Any], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        call(_core.RemoteLane(server.path, 1, failed))


def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="unsent"):
        _core.RemoteLane(str(tmp_path / "s"), MANY, failed).execute("GET", "key")


def test_a_connection_that_is_killed(server: Server, raw: Any) -> None:
    lane = _core.RemoteLane(server.path, MANY, failed, name="killed")
    for _ in range(3):
        # The server knows of the end before we do.
        with contextlib.suppress(RuntimeError):
            lane.execute("ECHO", 1)
        assert lane.execute("ECHO", 1) == b"1"
        (client,) = clients_named(raw, "killed")
        raw.client_kill(client["addr"])
        until(lambda: not clients_named(raw, "killed"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_has_a_connection_of_its_own(server: Server) -> None:
    """It has its own connection even while threads of the parent use their connections."""
    program = f"""
import os, threading
from flexcache_rs._core import RemoteLane
lane = RemoteLane({server.path!r}, 60, lambda kind, text: RuntimeError(kind, text))
lane.execute("SET", "key", 1)
ended = threading.Event()
def work():
    while not ended.is_set():
        assert lane.execute("GET", "key") == b"1"
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        os._exit(lane.execute("CLIENT", "ID") == 0 or lane.execute("GET", "key") != b"1")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert lane.execute("GET", "key") == b"1" and lane.connects == 1
ended.set()
for thread in threads:
    thread.join()
print("done")
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program], capture_output=True, text=True, timeout=120
    )
    assert (run.stdout, run.stderr) == ("done\n", "")


def test_a_program_that_ends_while_threads_wait(silent: tuple[str, int]) -> None:
    program = f"""
import threading, time
from flexcache_rs._core import RemoteLane
lane = RemoteLane({silent!r}, 600, lambda kind, text: RuntimeError(kind, text))
thread = threading.Thread(target=lambda: lane.execute("GET", "key"), daemon=True)
thread.start()
time.sleep(0.1)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
