"""A separate server for the tests."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from own_server import ENGINE, ENGINES, LEFT_OUT, LEFT_OUT_ENGINES, Server
from scale import SCALE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

if LEFT_OUT:
    collect_ignore_glob = ["test_*.py"]


ON_EACH_ENGINE = frozenset(("test_remote_coherence.py", "test_remote_failures.py", "test_remote_races.py"))
"""Tests that a run with a tenth of the full counts does on each engine too. `make soak` runs everything on each."""


LANES = ("client", "direct")

ON_EACH_LANE = ON_EACH_ENGINE | {"test_remote_calls.py", "test_remote_compression.py"}
"""Tests that a run with a tenth of the full counts does on each lane."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that need a server on each engine, or on one engine if that is enough."""
    if "engine" in metafunc.fixturenames:
        on_each = SCALE >= 1 or Path(metafunc.module.__file__).name in ON_EACH_ENGINE
        skip = pytest.mark.skip(reason="needs another engine: valkey-server or redis-server")
        engines = [
            pytest.param(name, marks=skip) if name in LEFT_OUT_ENGINES else name
            for name in (ENGINES if on_each else [ENGINE])
        ]
        metafunc.parametrize("engine", engines, scope="session")
    if "lane" in metafunc.fixturenames:
        on_each = SCALE >= 1 or Path(metafunc.module.__file__).name in ON_EACH_LANE
        metafunc.parametrize("lane", getattr(metafunc.module, "LANES", LANES if on_each else LANES[:1]))


@pytest.fixture(scope="session")
def _servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    servers: dict[str, Server] = {}
    yield servers
    for server in servers.values():
        server.go_on()
        server.kill()


@pytest.fixture
def server(engine: str, _servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server without data."""
    if engine not in _servers:
        started = Server(tmp_path_factory.mktemp(engine), engine=engine)
        started.start()
        _servers[engine] = started
    server = _servers[engine]
    with contextlib.closing(server.client()) as client:
        client.flushall()
    yield server
    server.go_on()
    assert server.process is not None
    if server.process.poll() is not None:
        server.start()


@pytest.fixture
def raw(server: Server) -> Iterator[Any]:
    """A separate client of redis-py."""
    with contextlib.closing(server.client()) as client:
        yield client


@pytest.fixture
def patience(request: pytest.FixtureRequest) -> dict[str, float]:
    """Options of a cache whose server stays. On a busy machine, a server or the listener may be late by seconds.

    A listener that is late ends its connection, and the connections for commands after it. Calls then go through a
    thread once.
    """
    return {"timeout": 10.0, **({"max_staleness": 60.0} if "no_thread" in request.fixturenames else {})}


@pytest.fixture
def make(server: Server, lane: str, patience: dict[str, float]) -> Iterator[Callable[..., Any]]:
    """A function that makes independent caches on the lane of the test. They are closed afterwards."""
    from flexcache_rs.remote import RemoteCache

    made: list[Any] = []

    def make(client: Any = None, namespace: str = "test", **options: Any) -> Any:
        client = server.client() if client is None else client
        made.append(RemoteCache(client, namespace, **{**patience, "lane": lane, **options}))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


@pytest.fixture
def no_thread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after whose call any call through a thread fails."""

    async def refuse(self: Any, name: str, *_: Any) -> Any:
        raise AssertionError(f"{name} went through a thread")

    async def refuse_call(call: Callable[..., Any], *_: Any) -> Any:
        raise AssertionError(f"{call.__name__} went through a thread")

    def begin() -> None:
        monkeypatch.setattr("flexcache_rs.remote.aio.Awaited._in_thread", refuse)
        monkeypatch.setattr("flexcache_rs.remote.loop_calls.to_thread", refuse_call)

    return begin


@pytest.fixture
def read_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read connections in Python, as with TLS, by functions that a test can replace."""
    monkeypatch.setattr("flexcache_rs.remote.resp._NATIVE", None)
