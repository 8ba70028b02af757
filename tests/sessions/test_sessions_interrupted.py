"""A signal's handler that raises anywhere leaves no lock held."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import INTERRUPTS, no_point_keeps, no_point_keeps_awaited

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from session_places import Place

    from flexcache_rs.sessions import sync


@pytest.mark.parametrize("how", INTERRUPTS)
def test_a_lock_that_is_interrupted_anywhere_is_free(place: Place, session: sync.Session, how: str) -> None:
    # PyMySQL, a package in Python, takes long.
    no_point_keeps(lambda: session.lock("name"), how, 20 if place.backend == "mysql" else 1)


@pytest.mark.parametrize("how", INTERRUPTS)
def test_an_awaited_lock_that_is_interrupted_anywhere_is_free(place: Place, session: sync.Session, how: str) -> None:
    if place.backend == "mysql":
        # Its calls are made by several threads: giving back may overtake asking, and then the time to live ends it.
        return

    @contextlib.asynccontextmanager
    async def make() -> AsyncIterator[Any]:
        async with place.awaited() as awaited:
            yield awaited.lock("name")

    no_point_keeps_awaited(make, how, lambda: session.lock("name"))


def test_a_block_in_the_block_of_a_holder_that_fails_keeps_the_outer_one(session: sync.Session) -> None:
    """The same holder may enter again. What the inner block did not acquire, it does not release."""
    lock = session.lock("name")
    with lock:
        lock._end(lock._before())
        assert not session.lock("name").acquire(timeout=0)
    assert session.lock("name").acquire(timeout=0)
