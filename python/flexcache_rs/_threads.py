"""Starting and waking threads, in calls that a signal handler or a destructor may interrupt or re-enter.

`Thread.start` and `threading.Event` take a lock in Python code. A handler that raises there leaves it locked for ever,
and one that calls the cache again waits for its own thread. A `SimpleQueue`, which is written in C, has neither fault.
"""

from __future__ import annotations

import os
import threading
import weakref
from _thread import TIMEOUT_MAX, RLock, start_new_thread
from collections import deque
from queue import Empty, SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from typing import Any

_LOOK = 0.25
"""Seconds after which a process that waits for its thread checks whether it was forked meanwhile."""


class ForkSafeRLock(RLock):  # type: ignore[misc]  # The class is final in typeshed only.
    """A reentrant lock. A forked child finds it free, unless the thread that forked holds it.

    The thread of the parent that holds it does not exist in the child. Another thread can therefore fork between any
    two steps that the lock protects, and the child must be able to go on from there.
    """

    def __init__(self) -> None:
        # The callback runs no Python code, in which a signal handler could raise while a lock is collected.
        _LOCKS[weakref.ref(self, _LOCKS.pop)] = None  # pyright: ignore[reportArgumentType]


_LOCKS: dict[weakref.ref[ForkSafeRLock], None] = {}


def _free_locks() -> None:
    for reference in list(_LOCKS):
        lock = reference()
        if lock is not None and not lock._is_owned():  # type: ignore[attr-defined]
            lock._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_locks)


class AutoResetEvent:
    """An event that is cleared when it has woken a thread. It is initially clear."""

    def __init__(self) -> None:
        self._set: SimpleQueue[Any] = SimpleQueue()

    def set_at_end_of(self, of: object) -> None:
        """Set the event when an object is collected. No Python code runs then, so that no handler can skip it."""
        self._of = weakref.ref(of, self._set.put)

    def set(self) -> None:
        """Wake one of the threads that wait. If none waits, the next call of `wait` returns at once."""
        if self._set.empty():
            self._set.put(None)

    def wait(self, timeout: float) -> bool:
        """Wait until the event is set, for at most `timeout` seconds, and clear it. Returns whether it was set."""
        try:
            self._set.get(timeout=min(max(timeout, 0), TIMEOUT_MAX))
        except Empty:
            return False
        return True

    def clear(self) -> None:
        """Clear the event."""
        self.wait(0)


def start(thread: Thread) -> None:
    """Start a thread. If a signal handler raises meanwhile, the thread may have been started.

    Raises:
        RuntimeError: No thread can be started, or gevent or eventlet has replaced the threads.
    """
    # Debuggers replace the function, too, but what theirs starts is a thread of the system.
    package = (getattr(start_new_thread, "__module__", None) or "").partition(".")[0]
    if package in ("gevent", "eventlet"):
        # The work waits in native code. As a green thread it would halt all others, and itself if it waits for them.
        message = f"{thread.name} needs a thread of the system, but {package} has replaced these by green threads"
        raise RuntimeError(message)
    begun: SimpleQueue[BaseException | None] = SimpleQueue()

    def begin() -> None:
        # No signal handler runs in this thread.
        try:
            thread.start()
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            begun.put(error)
        else:
            begun.put(None)

    process = os.getpid()
    start_new_thread(begin, ())
    # If a signal handler or a destructor has interrupted `threading` where it has its lock, the start waits for us.
    while process == os.getpid() and not threading._active_limbo_lock._is_owned():  # type: ignore[attr-defined]
        try:
            error = begun.get(timeout=_LOOK)
        except Empty:
            continue
        if error is not None:
            raise error
        return


class SingleThread:
    """A daemon thread that works for an object. At most one runs at a time, and one runs if there is work.

    It is not in a forked child, in which its object therefore needs another `SingleThread`.

    Args:
        name: The name of the thread.
        work: Works, and returns when it finds nothing to do. If it raises, the thread ends.
        is_wanted: Returns whether there is something to do.
    """

    def __init__(self, name: str, work: Callable[[], None], is_wanted: Callable[[], bool]) -> None:
        self._name, self._work, self._is_wanted = name, work, is_wanted
        # The thread that takes the item is the one that works. It needs no lock, which a thread may have whose signal
        # handler waits for the work.
        self._permit = deque((None,))
        # Many callers at once start few threads. It is reentrant, because a signal handler may call `ensure` too.
        self._starting = ForkSafeRLock()
        self.current: Thread | None = None
        """The thread that works. Only this thread sets it."""

    def ensure(self) -> None:
        """Start the thread, unless it works. Call this after there is something to do.

        Raises:
            RuntimeError: No thread can be started.
        """
        if self._permit:
            with self._starting:
                if self._permit:
                    start(threading.Thread(target=self._run, name=self._name, daemon=True))

    def _run(self) -> None:
        # A caller first makes work, and then looks at the permit. This thread first returns the permit, and then looks
        # for work. So either this thread finds the work, or the caller starts another thread.
        process = os.getpid()
        while self._is_wanted() and process == os.getpid():
            try:
                self._permit.pop()
            except IndexError:
                # Another thread works. It was started meanwhile, or while a signal handler interrupted `ensure`.
                return
            self.current = threading.current_thread()
            try:
                self._work()
            finally:
                self.current = None
                self._permit.append(None)
