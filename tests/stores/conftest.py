"""Fixtures: a store of each kind, and another process that uses it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import store_remote
from store_kinds import KINDS, Kind
from store_process import OtherProcess

if TYPE_CHECKING:
    from collections.abc import Iterator


ON_EACH_ENGINE = frozenset(("test_store_absent_keys.py", "test_store_event_loops.py", "test_store_leases.py"))
"""Tests of a server's scripts and announcements. A run with a tenth of the full counts does them on each engine too."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test over each kind of store with the capabilities that its marker `needs` names."""
    if "kind" in metafunc.fixturenames:
        needs = {
            name: value for marker in metafunc.definition.iter_markers("needs") for name, value in marker.kwargs.items()
        }
        kinds = [kind for kind in KINDS if all(getattr(kind, name) == value for name, value in needs.items())]
        if Path(metafunc.module.__file__).name not in ON_EACH_ENGINE:
            kinds = [kind for kind in kinds if not kind.in_part]
        metafunc.parametrize("kind", kinds, ids=[kind.name for kind in kinds])


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of this folder."""
    config.addinivalue_line("markers", "needs(**capabilities): runs over the stores that have these capabilities")


@pytest.fixture
def store(kind: Kind, tmp_path: Path) -> Iterator[Any]:
    """A store of the kind, in `tmp_path` if it is a directory."""
    made = kind.make(tmp_path)
    yield made
    kind.close(made)


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    """Close the caches that a test leaves open. The collector would report their sockets in another test."""
    yield
    store_remote.close_all()


@pytest.fixture(scope="session")
def _process() -> Iterator[OtherProcess]:
    for engine in store_remote.HERE:
        store_remote.address(engine)
    process = OtherProcess()
    yield process
    process.stop()


@pytest.fixture
def other(kind: Kind, store: Any, tmp_path: Path, _process: OtherProcess) -> Iterator[OtherProcess]:
    """Another process that has the store open."""
    _process.open(kind, tmp_path)
    yield _process
    _process.release()
