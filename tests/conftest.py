"""What every test gets: caches that are recounted afterwards, and no exception that nobody saw."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.testing import check

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICIES = ("lru", "fifo", "lfu", "random", "sieve", "s3fifo", "tinylfu", "auto")
ORDERED = POLICIES[:3]
"""The policies whose order of eviction can be told in advance."""


class Sized:
    """A value whose size is whatever was given; an exception is raised."""

    def __init__(self, size: Any) -> None:
        self.size = size
        self.asked = 0

    def item_size(self) -> Any:
        self.asked += 1
        if isinstance(self.size, BaseException):
            raise self.size
        return self.size


class MakeCache(Protocol):
    """Makes a cache, which is recounted when the test ends."""

    def __call__(self, *args: Any, **options: Any) -> FlexCache[Any, Any]: ...


@pytest.fixture
def make_cache() -> Iterator[MakeCache]:
    """Makes caches and recounts them afterwards."""
    made: list[FlexCache[Any, Any]] = []

    def make(*args: Any, **options: Any) -> FlexCache[Any, Any]:
        made.append(FlexCache(*args, **options))
        return made[-1]

    yield make
    for cache in made:
        check(cache)


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> str:
    """Each built-in policy."""
    return str(request.param)


@pytest.fixture(scope="module", autouse=True)
def collections_are_quick() -> None:
    """What is there before a file of tests need not be looked at each time."""
    gc.collect()
    gc.freeze()


TESTS = itertools.count()

BETWEEN_COLLECTIONS = 1 if getattr(sys, "_is_gil_enabled", lambda: True)() else 10
"""Without a GIL a collection looks at what is frozen too, and takes as long as ten tests."""


@pytest.fixture(autouse=True)
def nothing_is_swallowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Exceptions in destructors and threads fail the test in which they happen."""
    lost: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: lost.append(f"{raised.exc_value!r} in {raised.object!r}"))
    monkeypatch.setattr(threading, "excepthook", lambda raised: lost.append(f"{raised.exc_value!r} in a thread"))
    yield
    if next(TESTS) % BETWEEN_COLLECTIONS == 0:
        gc.collect()
    assert not lost, f"exceptions that nobody saw: {lost}"
