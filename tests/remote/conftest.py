"""A server of the tests' own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from own_server import LEFT_OUT, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

if LEFT_OUT:
    collect_ignore_glob = ["test_*.py"]


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
