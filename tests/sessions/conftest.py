"""Places and sessions on every backend."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest
from session_places import BACKENDS, URLS, Place, redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flexcache_rs.sessions import sync


@pytest.fixture(autouse=True)
def _no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave PyMySQL no certificate authorities: it reads all for each connection, which takes longer than the rest."""
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)


@pytest.fixture(params=BACKENDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A place for data on each backend, which exists during the test."""
    made = Place(request.param, tmp_path / "data")
    yield made
    for session in made.open:
        session.close()


@pytest.fixture
def session(place: Place) -> sync.Session:
    """A session without await."""
    return place.open[0]


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """The URL of a place without data on the Redis server, which runs again afterwards if the test stopped it."""
    yield URLS["redis"](tmp_path)
    server = redis_server()
    server.go_on()
    if server.process is None or server.process.poll() is not None:
        server.start()


@pytest.fixture
def raw(redis_url: str) -> Iterator[Any]:
    """A client of the Redis server itself."""
    with contextlib.closing(redis_server().client()) as client:
        yield client
