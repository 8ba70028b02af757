"""Renewing the leases that this process holds, so that a long computation is not started twice.

Each cache has a thread for it while it holds leases, so that a server that does not respond delays no renewal of
another cache. The thread renews a lease at a third of its time, until the load that holds it is over. A lease that was
lost is not renewed: the result of its load is not stored then. The thread also gives back the leases whose holder could
not, because the server did not respond or refused to write.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from flexcache_rs._core import PushTracker
from flexcache_rs._threads import AutoResetEvent, SingleThread

if TYPE_CHECKING:
    from flexcache_rs.remote.leases import Lease

_NEVER = 1 << 63

_MOST_ADDED = 1000
"""The largest number of leases that the thread has not looked at yet. Most of them end before it does."""

_SHORTEST = 10_000_000
"""The shortest time in nanoseconds between two renewals of a lease."""

_BETWEEN_RETURNS = 250_000_000
"""Nanoseconds between two attempts to give a lease back."""

_now = PushTracker.now
"""Returns the time in nanoseconds, even if a test has frozen Python's clocks."""


class _Held(NamedTuple):
    """A lease to renew."""

    lease: weakref.ref[Lease]
    """The lease, which lives as long as its load."""
    period: int
    due: int

    def attended(self, now: int) -> list[_Held]:
        """Renew the lease. Returns its new state, or None if it is no longer held."""
        lease = self.lease()
        if lease is None:
            return []
        if now < self.due:
            return [self]
        return [self._replace(due=now + self.period)] if lease.renew() else []


class _Owed(NamedTuple):
    """A lease whose load has ended, and which could not be given back."""

    lease: Lease
    failure: bytes | None
    due: int
    end: int
    """The time at which the lease has expired in any case."""

    def attended(self, now: int) -> list[_Owed]:
        """Try to give the lease back. Returns its new state, or None if it was given back or has expired."""
        if now < self.due:
            return [self]
        if now >= self.end or self.lease.is_released(self.failure):
            return []
        return [self._replace(due=now + _BETWEEN_RETURNS)]


class Renewals:
    """The leases of a cache, and the thread that renews them.

    A signal handler or a destructor may add a lease at any time, also while it interrupts the same call: adding
    takes no lock, and `set` of an `AutoResetEvent` is reentrant. Adding wakes the thread only if it would sleep for too
    long.
    """

    def __init__(self) -> None:
        self._is_stopped = False
        self.begin()
        _RENEWALS.add(self)

    def begin(self) -> None:
        """Initialize the state. A forked child does so too, because its parent's leases are not its own."""
        self._thread = SingleThread("flexcache-renewals", self._attend, self._is_wanted)
        self._added: deque[_Held | _Owed] = deque()
        self._held: list[_Held | _Owed] = []
        self._wake = AutoResetEvent()
        self._asleep_until = _NEVER

    def add(self, lease: Lease, seconds: float) -> None:
        """Renew a lease from now on. If no thread can be started, the lease expires."""
        period = max(int(seconds * 1e9) // 3, _SHORTEST)
        self._add(_Held(weakref.ref(lease), period, _now() + period))

    def give_back(self, lease: Lease, failure: bytes | None) -> None:
        """Give a lease back as soon as the server responds. If no thread can be started, the lease expires."""
        now = _now()
        self._add(_Owed(lease, failure, now + _BETWEEN_RETURNS, now + lease.milliseconds * 1_000_000))

    def stop(self) -> None:
        """End the thread soon, because the cache is closed or gone. Leases that are added later expire."""
        self._is_stopped = True
        self._wake.set()

    def _add(self, held: _Held | _Owed) -> None:
        if self._is_stopped:
            return
        self._added.append(held)
        with contextlib.suppress(RuntimeError):
            self._thread.ensure()
        if held.due < self._asleep_until or len(self._added) > _MOST_ADDED:
            self._wake.set()

    def _is_wanted(self) -> bool:
        return bool(self._added) and not self._is_stopped

    def _attend(self) -> None:
        """Renew and give back leases until there are none."""
        while not self._is_stopped:
            self._take_added()
            held = self._held = [attended for one in self._held for attended in one.attended(_now())]
            self._asleep_until = next_due = min((one.due for one in held), default=_NEVER)
            if not held:
                return
            # A caller that added a lease meanwhile has compared its time with the old `_asleep_until`, and may not have
            # woken the thread.
            if self._take_added() >= next_due:
                self._wake.wait((next_due - _now()) / 1e9)

    def _take_added(self) -> int:
        """Move the added leases to those that the thread looks at. Returns the earliest time at which one is due."""
        # Take them one by one: without a GIL, neither a loop over a deque nor its copy() allows others to append.
        earliest = _NEVER
        with contextlib.suppress(IndexError):
            while True:
                added = self._added.popleft()
                self._held.append(added)
                earliest = min(earliest, added.due)
        return earliest


_RENEWALS: weakref.WeakSet[Renewals] = weakref.WeakSet()


def _after_fork() -> None:
    for renewals in list(_RENEWALS):
        renewals.begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
