"""A child that was forked while another thread held a lock of the package can use what the lock protects."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from waiting import MANY

from flexcache_rs import _threads, diskcache_rs, sessions
from flexcache_rs._threads import ForkSafeRLock
from flexcache_rs.pycache import adapters
from flexcache_rs.pycache.adapters import _adapters
from flexcache_rs.sessions import _backends

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.every_python,
]

PATIENCE = 20
"""The seconds after which a child that waits for ever is ended."""


def in_child(use: Callable[[], object]) -> int:
    """Call a function in a forked child. Returns its exit code: 0, or 1 if the function raised."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE)
            use()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_child_of_two(lock: Any, use: Callable[[], object]) -> int:
    """Call a function in a child that is forked while another thread holds a lock. Returns its exit code."""
    holds, ends = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            holds.set()
            ends.wait(MANY)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(MANY)
    try:
        return in_child(use)
    finally:
        ends.set()
        thread.join()


def take(lock: Any) -> None:
    with lock, lock:
        pass
    assert not lock._is_owned()


def test_a_child_finds_a_lock_of_another_thread_free() -> None:
    lock = ForkSafeRLock()
    assert in_child_of_two(lock, lambda: take(lock)) == 0
    take(lock)


def test_a_thread_that_forks_holds_its_locks_in_the_child_too() -> None:
    """It releases them there as often as it has taken them."""
    lock = ForkSafeRLock()

    def release() -> None:
        assert lock._is_owned()  # type: ignore[attr-defined]
        lock.release()
        lock.release()
        take(lock)

    with lock, lock:
        assert in_child(release) == 0
        assert lock._is_owned()  # type: ignore[attr-defined]


def test_a_lock_with_a_plain_class_stays_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests see the fault that they are about."""
    monkeypatch.setattr("test_forked_locks.PATIENCE", 1)
    lock = threading.RLock()
    assert in_child_of_two(lock, lambda: take(lock)) == -signal.SIGALRM


def test_a_lock_that_is_gone_is_forgotten() -> None:
    """A child looks at the locks that there are, not at all that there have been."""
    lock = ForkSafeRLock()
    (known,) = (reference for reference in list(_threads._LOCKS) if reference() is lock)
    del lock
    gc.collect()
    assert known not in _threads._LOCKS


def test_a_child_frees_its_locks_while_others_are_collected() -> None:
    """The garbage collector may run at any time."""

    def free() -> None:
        locks = [ForkSafeRLock()]
        collecting: Any = locks.clear
        # There is a lock before it, and one after it.
        _threads._LOCKS[collecting] = None
        locks.append(ForkSafeRLock())
        _threads._free_locks()
        assert not locks

    assert in_child(free) == 0


def awaited(session: Any) -> None:
    async def get() -> None:
        assert await session.get("key") == "value"

    asyncio.run(get())


@pytest.mark.parametrize("what", ["adapter", "memory", "snapshots", "disk", "diskcache_rs"])
def test_a_fork_while_another_thread_holds_a_lock(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lock: Any
    use: Callable[[], object]
    if what == "adapter":
        adapter = adapters.InMemory()
        lock, use = adapter._lock, adapter.now
    elif what == "memory":
        lock, use = _backends._sharing, lambda: sessions.connect("memory://shared")
    elif what == "snapshots":
        lock, use = _adapters._opening, lambda: adapters.InMemory(snapshot=True)
        os.chdir(tmp_path)
    elif what == "disk":
        now = sessions.sync.connect(f"disk://{tmp_path}")
        now.set("key", "value")
        session = sessions.connect(f"disk://{tmp_path}")
        lock, use = session._backend._starting, lambda: awaited(session)  # type: ignore[attr-defined]
    else:
        cache = diskcache_rs.Cache(tmp_path)
        cache["key"] = "value"
        lock, use = cache._flexcache_counted._guard, lambda: cache["key"]
    assert in_child_of_two(lock, use) == 0
