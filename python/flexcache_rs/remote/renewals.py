"""Renewing the leases that this process holds, so that a long computation is not started twice.

One thread does it for all caches of the process. It renews a lease at a third of its time, until the load that holds it
is over. A lease that was lost is not renewed: the result of its load is not stored then.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from flexcache_rs._core import PushTracker

if TYPE_CHECKING:
    from flexcache_rs.remote.leases import Lease

_NEVER = 1 << 63

_MOST_ADDED = 1000
"""Leases that may wait for the thread to look at them. Most of them have ended by then."""

_SHORTEST = 10_000_000
"""Nanoseconds between two renewals of a lease, at least."""

_now = PushTracker.now
"""The time in nanoseconds, also where a test has stopped Python's clocks."""


class _Held(NamedTuple):
    lease: weakref.ref[Lease]
    """It lives as long as its load."""
    period: int
    due: int


class Renewals:
    """The leases of this process, and the thread that renews them.

    Adding one takes no lock, so that the handler of a signal may do it at any moment. It wakes the thread only where
    that would sleep for too long.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start over, in a child too: what its parent holds is none of its business."""
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None
        self._added: deque[_Held] = deque()
        self._wake = threading.Event()
        self._asleep_until = _NEVER

    def add(self, lease: Lease, seconds: float) -> None:
        """Renew a lease from now on. A lease for which no thread can be started expires."""
        period = max(int(seconds * 1e9) // 3, _SHORTEST)
        held = _Held(weakref.ref(lease), period, _now() + period)
        self._added.append(held)
        if self._thread is None:
            with self._starting, contextlib.suppress(RuntimeError):
                self._start()
        if held.due < self._asleep_until or len(self._added) > _MOST_ADDED:
            self._wake.set()

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="flexcache-renewals", daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        held: list[_Held] = []
        wake = self._wake
        while wake is self._wake:
            wake.clear()
            while self._added:
                held.append(self._added.popleft())
            held = [renewed for one in held for renewed in _renewed(one)]
            self._asleep_until = next_due = min((one.due for one in held), default=_NEVER)
            if not any(one.due < next_due for one in list(self._added)):
                wake.wait(None if next_due == _NEVER else max((next_due - _now()) / 1e9, 0))


def _renewed(held: _Held) -> list[_Held]:
    """A lease as it is held from now on. Nothing, if it is held no more."""
    lease, now = held.lease(), _now()
    if lease is None:
        return []
    if now < held.due:
        return [held]
    return [held._replace(due=now + held.period)] if lease.renew() else []


RENEWALS = Renewals()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RENEWALS.begin)
