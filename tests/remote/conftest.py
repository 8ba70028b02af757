"""A server of the tests' own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scale import may_skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVER = shutil.which("redis-server") or shutil.which("valkey-server")
redis = pytest.importorskip("redis") if may_skip("redis-server", SERVER) else __import__("redis")

if may_skip("redis-server", SERVER):
    collect_ignore_glob = ["test_*.py"]


def pytest_report_header() -> str | None:
    """Say which tests were left out."""
    if may_skip("redis-server", SERVER):
        return "tests/remote is left out: it needs redis-server or valkey-server (apt-get install redis-server)"
    return None


class Server:
    """A server on a private unix socket, which the tests may stop and kill."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = str(directory / "s")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert SERVER is not None
        options = (
            "--port",
            "0",
            "--unixsocket",
            self.path,
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            self.directory,
        )
        with Path(self.directory, "log").open("ab") as log:
            self.process = subprocess.Popen([SERVER, *map(str, options)], stdout=log, stderr=log)
        with contextlib.closing(self.client()) as client:
            for _ in range(1000):
                with contextlib.suppress(redis.exceptions.ConnectionError):
                    client.ping()
                    return
                time.sleep(0.01)
        raise AssertionError(Path(self.directory, "log").read_text())

    def client(self, **options: Any) -> Any:
        return redis.Redis(unix_socket_path=self.path, **options)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.go_on()
    server.kill()


@pytest.fixture
def server(_server: Server) -> Iterator[Server]:
    """A server that runs and is empty."""
    with contextlib.closing(_server.client()) as client:
        client.flushall()
    yield _server
    _server.go_on()
    assert _server.process is not None
    if _server.process.poll() is not None:
        _server.start()


@pytest.fixture
def raw(server: Server) -> Iterator[Any]:
    """A client of redis-py of somebody else."""
    with contextlib.closing(server.client()) as client:
        yield client


@pytest.fixture
def make(server: Server) -> Iterator[Callable[..., Any]]:
    """Makes caches, as different processes have them, and closes them."""
    from flexcache_rs.remote import RemoteCache

    made: list[Any] = []

    def make(client: Any = None, namespace: str = "test", **options: Any) -> Any:
        client = server.client() if client is None else client
        made.append(RemoteCache(client, namespace, **{"timeout": 2.0, **options}))
        return made[-1]

    yield make
    for cache in made:
        cache.close()
