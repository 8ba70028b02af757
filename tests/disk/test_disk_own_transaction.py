"""A thread that writes a directory through one object, while it is in a transaction of another, is told at once."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.disk import Cache, Deque, FanoutCache, Index, Timeout
from flexcache_rs.sessions import SessionError, Unavailable, sync

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = 86_400.0
"""A timeout after which no test ends."""


def deque(directory: Path) -> Deque[Any]:
    return Deque(directory=directory)


def index(directory: Path) -> Index[Any, Any]:
    return Index(str(directory))


def cache(directory: Path) -> Cache:
    return Cache(directory, timeout=DAY)


def fanout(directory: Path) -> FanoutCache:
    return FanoutCache(directory, timeout=DAY, shards=2)


def session(directory: Path) -> Any:
    return sync.connect(f"disk://{directory}", timeout=DAY)


def forgiving(directory: Path) -> Any:
    return sync.connect(f"disk://{directory}", timeout=DAY, on_unavailable="miss")


WRITES: dict[str, tuple[Callable[[Path], Any], Callable[[Any], Any]]] = {
    "set": (cache, lambda one: one.set("key", 1)),
    "set, retry": (cache, lambda one: one.set("key", 1, retry=True)),
    "[]": (cache, lambda one: one.__setitem__("key", 1)),
    "delete": (cache, lambda one: one.delete("key")),
    "clear": (cache, lambda one: one.clear()),
    "reset": (cache, lambda one: one.reset("cull_limit", 3)),
    "transact": (cache, lambda one: one.transact().__enter__()),
    "check": (cache, lambda one: one.check()),
    "memoize": (cache, lambda one: one.memoize()(len)("abc")),
    "opened inside": (cache, lambda one: Cache(one.directory, timeout=DAY).set("key", 1)),
    "FlexCache.put": (cache, lambda one: FlexCache(store=one).put("key", 1)),
    "FlexCache.get_or_set": (cache, lambda one: FlexCache(store=one).get_or_set("key", int)),
    "FanoutCache.set": (fanout, lambda one: one.set("key", 1)),
    "FanoutCache[]": (fanout, lambda one: one.__setitem__("key", 1)),
    "Deque": (deque, lambda one: one.append(1)),
    "Index": (index, lambda one: one.__setitem__("key", 1)),
}

SESSION_WRITES: dict[str, tuple[Callable[[Path], Any], Callable[[Any], Any]]] = {
    "set": (session, lambda one: one.set("key", 1)),
    "lock": (session, lambda one: one.lock("name").__enter__()),
    "transaction": (session, lambda one: one.transaction().__enter__()),
    "set, which forgives": (forgiving, lambda one: one.set("key", 1)),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_write_through_another_object_is_refused(tmp_path: Path, write: str) -> None:
    """The error is not a timeout, says what happens, and names the directory. After the block, the write works."""
    make, act = WRITES[write]
    one, other = make(tmp_path), make(tmp_path)
    with one.transact():
        with pytest.raises(RuntimeError, match=r"this thread would wait for itself.*" + str(tmp_path)) as raised:
            act(other)
        assert not isinstance(raised.value, Timeout)
    if write != "transact":
        act(other)


@pytest.mark.parametrize("write", SESSION_WRITES)
def test_a_session_is_refused(tmp_path: Path, write: str) -> None:
    """A session that replaces an unavailable store does not hide it."""
    make, act = SESSION_WRITES[write]
    one, other = make(tmp_path), make(tmp_path)
    with one.transaction():
        one.set("mine", 1)
        with pytest.raises(SessionError, match="this thread would wait for itself") as raised:
            act(other)
        assert not isinstance(raised.value, Unavailable)
    assert other.get("mine") == 1


def test_reading_is_not_refused(tmp_path: Path) -> None:
    """Another object reads what was there before the transaction."""
    one, other = cache(tmp_path), cache(tmp_path)
    one["key"] = 1
    with one.transact():
        one["key"] = 2
        assert other["key"] == 1
    assert other["key"] == 2


def test_another_directory_and_another_thread_are_not_refused(tmp_path: Path) -> None:
    """Only the thread that has the lock would wait for itself."""
    one, other, elsewhere = cache(tmp_path / "a"), Cache(tmp_path / "a", timeout=0.01), cache(tmp_path / "b")
    raised: list[BaseException] = []

    def write() -> None:
        try:
            other.set("key", 1)
        except Timeout as error:
            raised.append(error)

    with one.transact():
        elsewhere["key"] = 1
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert [type(error) for error in raised] == [Timeout]


def test_a_transaction_that_was_undone_holds_nothing(tmp_path: Path) -> None:
    """The outer block is lost with the inner one, which was dropped. Others can write before it is left."""
    one, other = cache(tmp_path), cache(tmp_path)
    outer, inner = one.transact(), one.transact()
    outer.__enter__()
    inner.__enter__()
    del inner
    other["key"] = 1
    with pytest.raises(RuntimeError, match="was rolled back"):
        outer.__exit__(None, None, None)
    assert one["key"] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_is_not_the_thread_of_its_parent(tmp_path: Path) -> None:
    """The child waits for the transaction of its parent, like any other process."""
    one, other = cache(tmp_path), Cache(tmp_path, timeout=0.01)
    with one.transact():
        pid = os.fork()
        if pid == 0:
            try:
                other.set("key", 1)
            except Timeout:
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
    assert status == 0
