"""A signal handler that raises leaves no lock held, wherever it runs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import INTERRUPTS, no_point_keeps, no_point_keeps_awaited

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.mark.parametrize("how", INTERRUPTS)
def test_a_lock_that_is_interrupted_anywhere_is_free(make: Callable[..., Any], how: str) -> None:
    cache = make()
    no_point_keeps(lambda: cache.lock("name"), how)


@pytest.mark.parametrize("how", INTERRUPTS)
def test_an_awaited_lock_that_is_interrupted_anywhere_is_free(make: Callable[..., Any], how: str) -> None:
    cache = make()

    @contextlib.asynccontextmanager
    async def lock() -> AsyncIterator[Any]:
        yield cache.lock("name")

    no_point_keeps_awaited(lock, how, lambda: cache.lock("name"))


def test_a_lock_that_refuses_to_be_entered_twice_stays_held(make: Callable[..., Any]) -> None:
    cache = make()
    with cache.lock("name") as lock:
        with pytest.raises(RuntimeError, match="held already"), lock:
            pass
        assert not cache.lock("name").acquire(timeout=0)
