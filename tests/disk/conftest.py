"""Two processes, one of each library, and directories that commands look at."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from commands import FILLED, program
from drivers import Driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def ours() -> Iterator[Driver]:
    with Driver("ours") as driver:
        yield driver


@pytest.fixture(scope="module")
def theirs() -> Iterator[Driver]:
    with Driver("theirs") as driver:
        yield driver


@pytest.fixture
def forgotten(ours: Driver, theirs: Driver) -> Iterator[None]:
    """Forget the objects of the previous test."""
    yield
    for driver in (ours, theirs):
        driver.do("set_clock", None)
        driver.do("forget")


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Path]:
    """A function that returns a new directory each time."""
    numbers = itertools.count()
    return lambda: tmp_path / str(next(numbers))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A directory of a Cache."""
    program(FILLED, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def fanout(tmp_path: Path) -> Path:
    """A directory of a FanoutCache with 4 shards."""
    program(FILLED, tmp_path / "fanout", "fanned")
    return tmp_path / "fanout"
