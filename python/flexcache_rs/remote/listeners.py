"""Listens to all primaries of a cluster."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from flexcache_rs.remote.listener import Listener

if TYPE_CHECKING:
    from flexcache_rs.remote.cluster import Address, ClusterClient
    from flexcache_rs.remote.listener import Terms

_FOR_LONG = 10.0
"""Seconds for which a server is listened to that a command was sent on to, and of which no other server speaks."""


class Listening(Protocol):
    """A listener, or several."""

    @property
    def offset(self) -> float | None:
        """Milliseconds since 1970 of the server's clock, less those of the tracker's."""
        ...

    @property
    def error(self) -> Exception | None:
        """Why there is no connection."""
        ...

    @property
    def connects(self) -> int:
        """How often listening began."""
        ...

    @property
    def flushes(self) -> int:
        """How often no copy of before was served any more."""
        ...

    @property
    def invalidations(self) -> int:
        """Keys that the server said were written."""
        ...

    def ensure(self) -> None:
        """Start to listen, unless it does."""

    def wait(self, timeout: float) -> bool:
        """Wait until copies may be served, or it is known why not. Whether they may."""
        ...

    def stop(self) -> None:
        """End."""


class ClusterListener:
    """A listener for each primary of a cluster.

    Copies are served while every server that may have keys is listened to: those that any of them says have slots, and
    those that a command was sent on to. Each of them is asked for the slots as often as for anything else.
    """

    def __init__(self, client: ClusterClient, terms: Terms) -> None:
        self._client, self._terms = client, terms
        # A handler of a signal may use the cache while its thread has it.
        self._lock = threading.RLock()
        self._members: dict[Address, Listener] = {}
        self._until: dict[Listener, int] = {}
        """Until when copies may be served, by each of them."""
        self._said: dict[Listener, frozenset[Address]] = {}
        """Which servers have slots, by each of them."""
        self._sent_on: dict[Address, float] = {}
        """Where commands were sent on to, and when."""
        self._stopped = False
        self._past = [0, 0, 0]
        client.on_redirection, client.on_primaries = self._send_on, self._learned
        _CLUSTERS.add(self)

    def after_fork(self) -> None:
        """Start over in a child. A thread of the parent may have held the lock."""
        self._lock = threading.RLock()
        self._members, self._until, self._said, self._sent_on = {}, {}, {}, {}
        self._client.after_fork()
        self._terms.tracker.doubt()
        self._terms.tracker.start_generation()

    def _send_on(self, address: Address) -> None:
        """A command is about to be sent to a server that may be listened to by nobody."""
        with self._lock:
            self._sent_on[address] = time.monotonic()
        self._listen_to({address})

    def _learned(self, primaries: set[Address]) -> None:
        """Commands are about to be sent to these servers."""
        with self._lock:
            # Whichever other server does not speak of them yet.
            self._sent_on |= dict.fromkeys(primaries - self._members.keys(), time.monotonic())
        self._listen_to(primaries)

    def _listen_to(self, addresses: set[Address]) -> None:
        """Listen to these servers too. No copy is served until all of them are heard."""
        started: list[Listener] = []
        with self._lock:
            for address in addresses - self._members.keys():
                if self._stopped:
                    return
                member = Listener(self._client.node(address), self._terms, self)
                self._members[address] = member
                self._until[member] = 0
                started.append(member)
            if started:
                self._terms.tracker.doubt()
        for member in started:
            member.ensure()

    # What its listeners say

    def believe_until(self, listener: Listener, moment: int) -> None:
        """Everything written to one server before now is known, for copies that are served until a moment."""
        with self._lock:
            if listener in self._until:
                self._until[listener] = moment
                until = min(self._until.values())
                if until:
                    self._terms.tracker.believe_until(until)

    def doubt(self, listener: Listener) -> None:
        """What is written to one server from now on is not known."""
        with self._lock:
            self._said.pop(listener, None)
            if listener in self._until:
                self._until[listener] = 0
                self._terms.tracker.doubt()

    def heard_of(self, listener: Listener, slots: Any) -> None:
        """One server has said which of them has which keys."""
        host = next((address[0] for address, member in list(self._members.items()) if member is listener), "")
        primaries = frozenset(self._client.learn(slots, host))
        with self._lock:
            if listener not in self._until:
                return
            self._said[listener] = primaries
            old = time.monotonic() - _FOR_LONG
            # From now on it counts what the servers say of those that it speaks of.
            self._sent_on = {
                address: sent for address, sent in self._sent_on.items() if sent > old and address not in primaries
            }
            wanted: set[Address] = set(self._sent_on).union(*self._said.values())
            left = [self._members.pop(address) for address in self._members.keys() - wanted]
            for member in left:
                self._forget(member)
        self._listen_to(wanted)
        for member in left:
            member.stop_soon()

    def _forget(self, member: Listener) -> None:
        """Believe without one. What was read of it is served no more."""
        del self._until[member]
        self._said.pop(member, None)
        self._terms.tracker.start_generation()
        for place, count in enumerate((member.connects, member.flushes, member.invalidations)):
            self._past[place] += count

    # As one

    def ensure(self) -> None:
        """Start to listen, unless it does.

        Raises:
            RemoteConnectionError: No server says which of them has which keys.
        """
        if self._stopped:
            return
        members = list(self._members.values())
        if not members:
            self._listen_to(set(self._client.primaries()))
        for member in members:
            member.ensure()

    def wait(self, timeout: float) -> bool:
        """Wait until copies may be served, or it is known why not. Whether they may."""
        end = time.monotonic() + timeout
        for member in list(self._members.values()):
            member.wait(max(end - time.monotonic(), 0))
        return self._terms.tracker.is_believed()

    def stop(self) -> None:
        """End all threads."""
        with self._lock:
            self._stopped = True
            members = list(self._members.values())
        for member in members:
            member.stop_soon()
        for member in members:
            member.stop()

    @property
    def offset(self) -> float | None:
        """Milliseconds since 1970 of a server's clock, less those of the tracker's."""
        return next((member.offset for member in list(self._members.values()) if member.offset is not None), None)

    @property
    def error(self) -> Exception | None:
        """Why there is no connection to one of them."""
        return next((member.error for member in list(self._members.values()) if member.error is not None), None)

    @property
    def connects(self) -> int:
        """How often listening to any of them began."""
        return self._past[0] + sum(member.connects for member in list(self._members.values()))

    @property
    def flushes(self) -> int:
        """How often no copy of before was served any more."""
        return self._past[1] + sum(member.flushes for member in list(self._members.values()))

    @property
    def invalidations(self) -> int:
        """Keys that they said were written."""
        return self._past[2] + sum(member.invalidations for member in list(self._members.values()))


_CLUSTERS: weakref.WeakSet[ClusterListener] = weakref.WeakSet()


def _after_fork() -> None:
    for cluster in list(_CLUSTERS):
        cluster.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
