"""A signal handler that raises leaves no lock held, wherever it runs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import INTERRUPTS, no_point_keeps, no_point_keeps_awaited

from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.mark.parametrize("how", INTERRUPTS)
def test_a_lock_that_is_interrupted_anywhere_is_free(tmp_path: Path, how: str) -> None:
    with SharedCache(tmp_path / "cache") as cache:
        no_point_keeps(lambda: cache.lock("name"), how)


@pytest.mark.parametrize("how", INTERRUPTS)
def test_an_awaited_lock_that_is_interrupted_anywhere_is_free(tmp_path: Path, how: str) -> None:
    with SharedCache(tmp_path / "cache") as cache:

        @contextlib.asynccontextmanager
        async def make() -> AsyncIterator[Any]:
            yield cache.lock("name")

        no_point_keeps_awaited(make, how, lambda: cache.lock("name"))


def test_a_lock_that_refuses_to_be_entered_twice_stays_held(tmp_path: Path) -> None:
    with SharedCache(tmp_path / "cache") as cache, cache.lock("name") as lock:
        with pytest.raises(RuntimeError, match="already holds the lock"), lock:
            pass
        assert not cache.lock("name").acquire(timeout=0)
