"""Places and sessions on every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from session_places import BACKENDS, Place

if TYPE_CHECKING:
    from pathlib import Path

    from flexcache_rs.sessions import sync


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
