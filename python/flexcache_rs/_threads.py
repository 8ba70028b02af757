"""Starting and waking threads, in calls that a signal handler or a destructor may interrupt or re-enter.

`Thread.start` and `threading.Event` take a lock in Python code. A handler that raises there leaves it locked for ever,
and one that calls the cache again waits for its own thread. A `SimpleQueue`, which is written in C, has neither fault.
"""

from __future__ import annotations

import os
import weakref
from _thread import TIMEOUT_MAX, start_new_thread
from queue import Empty, SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Thread
    from typing import Any

_LOOK = 0.25
"""Seconds after which a process that waits for its thread checks whether it was forked meanwhile."""


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
        RuntimeError: No thread can be started.
    """
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
    while process == os.getpid():
        try:
            error = begun.get(timeout=_LOOK)
        except Empty:
            continue
        if error is not None:
            raise error
        return
