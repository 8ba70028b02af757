"""Transactions whose `with` block is left on another thread, or never."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.disk import Cache, FanoutCache

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path


LEFT_OPEN = """
import sys
from flexcache_rs.disk import Cache
cache = Cache(sys.argv[1])
block = cache.transact()
block.__enter__()
cache["a"] = 1
"""


def test_a_block_that_is_open_at_the_end_of_the_interpreter(tmp_path: Path) -> None:
    """The transaction is undone, and nothing is printed."""
    ended = subprocess.run([sys.executable, "-c", LEFT_OPEN, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")
    with Cache(tmp_path) as cache:
        assert "a" not in cache
        assert cache.check().ok


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
    """A thread that begins a generator and continues to run."""

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
    """The transaction is undone, however the generator ends. Both threads continue."""
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
    """One thread enters the object twice, and two threads enter it one after the other."""
    block = cache.transact(retry=True)
    with block, block:
        cache["a"] = 1
    thread = threading.Thread(target=lambda: [block.__enter__(), cache.set("b", 1), block.__exit__(None, None, None)])
    thread.start()
    thread.join()
    assert ("a" in cache, "b" in cache) == (True, True)


def from_another_thread(call: Any) -> Any:
    """Return the result of a call in another thread, or False if a transaction of this thread keeps it from writing."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("on", ["this thread", "another thread"])
def test_a_block_that_is_dropped_without_its_exit(cache: Any, on: str) -> None:
    """A signal handler that raises in `ExitStack.enter_context` has this effect.

    The block is undone, and other writers continue.
    """
    blocks = [cache.transact(retry=True)]
    blocks[0].__enter__()
    cache["a"] = 1
    if on == "this thread":
        blocks.clear()
        gc.collect()
    else:
        from_another_thread(lambda: [blocks.clear(), gc.collect()])
    assert from_another_thread(lambda: cache.set("b", 1))
    cache["c"] = 1
    with cache.transact(retry=True):
        cache["d"] = 1
    assert [key in cache for key in "abcd"] == [False, True, True, True]


@pytest.mark.parametrize("dropped", ["inner", "outer"])
def test_one_of_two_nested_blocks_that_is_dropped(cache: Any, dropped: str) -> None:
    """The outer transaction is lost, and nothing of it is stored. After it, the thread is in no transaction."""
    blocks = {"outer": cache.transact(retry=True), "inner": cache.transact(retry=True)}
    for name in blocks:
        blocks[name].__enter__()
        cache[name] = 1
    del blocks[dropped]
    gc.collect()
    with pytest.raises(RuntimeError, match="rolled back"):
        cache["lost"] = 1
    (left,) = blocks.values()
    with pytest.raises(RuntimeError, match="rolled back"):
        left.__exit__(None, None, None)
    assert from_another_thread(lambda: cache.set("b", 1))
    cache["c"] = 1
    assert [key in cache for key in ("outer", "inner", "lost", "b", "c")] == [False, False, False, True, True]


def test_a_nested_block_that_another_thread_leaves(cache: Any) -> None:
    """The first thread is still in the outer block. Its transaction is lost until the block has been left."""
    begun, ended = threading.Event(), threading.Event()
    generators: list[Any] = []
    seen: list[str] = []

    def run() -> None:
        try:
            with cache.transact(retry=True):
                cache["outer"] = 1
                generators.append(rows(cache))
                next(generators[0])
                begun.set()
                assert ended.wait(30)
                try:
                    cache["late"] = 1
                except RuntimeError as error:
                    seen.append(str(error))
        except RuntimeError as error:
            seen.append(str(error))
        with cache.transact(retry=True):
            cache["next"] = 1

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(30)
    generators.clear()
    gc.collect()
    ended.set()
    thread.join()
    assert len(seen) == 2
    assert all("rolled back" in text for text in seen)
    assert [key in cache for key in ("outer", "a", "late", "next")] == [False, False, False, True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("way", ["drop", "leave"])
def test_a_block_that_a_forked_child_has_a_copy_of(cache: Any, way: str) -> None:
    """By leaving the copied block, the child ends neither its parent's transaction nor one of its own."""
    block: Any = cache.transact(retry=True)
    block.__enter__()
    cache["parent"] = 1
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if way == "drop":
                del block
                gc.collect()
            else:
                with pytest.raises(RuntimeError, match="parent process's"):
                    block.__exit__(None, None, None)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    cache["still"] = 1
    block.__exit__(None, None, None)
    assert [key in cache for key in ("parent", "still")] == [True, True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_copied_block_beside_one_of_the_childs_own(cache: Any) -> None:
    """Threads have the same identifiers in both processes. The child's transaction is nevertheless another one."""
    block = cache.transact(retry=True)
    block.__enter__()
    go_on, leave = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(leave)
            os.read(go_on, 1)
            with cache.transact(retry=True):
                cache["a"] = 1
                del block
                gc.collect()
                cache["b"] = 1
            status = 0
        finally:
            os._exit(status)
    block.__exit__(None, None, None)
    os.close(leave)
    assert os.waitpid(child, 0)[1] == 0
    os.close(go_on)
    assert [key in cache for key in "ab"] == [True, True]
