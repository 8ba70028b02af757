"""Computations that take as long as a test wants, and the number of calls that wait for them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from waiting import MANY

from flexcache_rs import FlexCache, _core

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def waiting(cache: FlexCache[Any, Any]) -> int:
    """Return how many calls wait for computations of a cache."""
    return sum(waits for _, waits in _core._loads_in_progress(cache))


def in_loop(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine in a new event loop, and return its result."""
    return asyncio.run(asyncio.wait_for(main(), MANY))


class Slow:
    """A factory that waits until the test releases it."""

    def __init__(self, result: Any = "old") -> None:
        self.result = result
        self.begun, self.go = threading.Event(), threading.Event()
        self.calls = 0

    def __call__(self, *_: Any) -> Any:
        self.calls += 1
        self.begun.set()
        assert self.go.wait(MANY)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result
