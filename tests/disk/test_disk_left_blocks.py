"""Transactions whose `with` block is left on another thread."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.disk import Cache, FanoutCache

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path


@pytest.fixture(params=["Cache", "FanoutCache"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A cache of each kind."""
    made: Any = Cache(tmp_path, timeout=2) if request.param == "Cache" else FanoutCache(tmp_path, 2, timeout=2)
    yield made
    made.close()


def rows(cache: Any) -> Generator[int]:
    with cache.transact(retry=True):
        cache["a"] = 1
        yield 1
        yield 2


class Owner:
    """A thread that begins a generator and lives on."""

    def __init__(self, cache: Any) -> None:
        self.begun, self.end = threading.Event(), threading.Event()
        self.generator: Any = None
        self.stored: Any = None

        def run() -> None:
            self.generator = rows(cache)
            next(self.generator)
            self.begun.set()
            assert self.end.wait(30)
            self.stored = cache.set("own", 1)

        self.thread = threading.Thread(target=run)
        self.thread.start()
        assert self.begun.wait(30)

    def finish(self) -> None:
        self.end.set()
        self.thread.join()


@pytest.mark.parametrize("way", ["close", "collect", "finish", "raise"])
def test_a_generator_that_another_thread_ends(cache: Any, way: str) -> None:
    """Is undone, whichever way it ends; both threads go on."""
    owner = Owner(cache)
    if way == "close":
        owner.generator.close()
    elif way == "collect":
        owner.generator = None
        gc.collect()
    elif way == "finish":
        with pytest.raises(RuntimeError, match="undone: it is left on another thread"):
            list(owner.generator)
    else:
        with pytest.raises(ZeroDivisionError):
            owner.generator.throw(ZeroDivisionError())
    assert cache.set("b", 1)
    owner.finish()
    assert owner.stored
    assert ("a" in cache, "b" in cache, "own" in cache) == (False, True, True)


def test_an_object_that_is_entered_twice(cache: Any) -> None:
    """And by two threads, one after the other."""
    block = cache.transact(retry=True)
    with block, block:
        cache["a"] = 1
    thread = threading.Thread(target=lambda: [block.__enter__(), cache.set("b", 1), block.__exit__(None, None, None)])
    thread.start()
    thread.join()
    assert ("a" in cache, "b" in cache) == (True, True)
