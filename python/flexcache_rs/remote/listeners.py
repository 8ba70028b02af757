"""Listens to all primaries of a cluster."""

from __future__ import annotations

import os
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from flexcache_rs._threads import ForkSafeRLock
from flexcache_rs.remote.listener import Listener

if TYPE_CHECKING:
    from flexcache_rs.remote.cluster import Address, ClusterClient
    from flexcache_rs.remote.listener import Terms

_FOR_LONG = 10.0
"""Seconds for which we listen to the target of a redirection that no other server names as a primary."""


class Listening(Protocol):
    """The interface of one listener or several."""

    @property
    def offset(self) -> float | None:
        """The difference in milliseconds between the server's clock, since 1970, and the tracker's clock."""
        ...

    @property
    def error(self) -> Exception | None:
        """The error because of which there is no connection."""
        ...

    @property
    def connects(self) -> int:
        """The number of times that listening began."""
        ...

    @property
    def flushes(self) -> int:
        """The number of times that all copies became invalid."""
        ...

    @property
    def invalidations(self) -> int:
        """The number of keys whose writes the server announced."""
        ...

    def ensure(self) -> None:
        """Start listening, unless it has started."""

    def wait(self, timeout: float) -> bool:
        """Wait until copies may be served, which returns True, or until there is an error."""
        ...

    def stop(self) -> None:
        """Stop listening."""


class ClusterListener:
    """Listeners for all primaries of a cluster.

    Copies are served only while we listen to every server that may have keys. These are all servers that any of them
    names as an owner of slots, and the targets of redirections. Each server is regularly asked for the slots.
    """

    def __init__(self, client: ClusterClient, terms: Terms) -> None:
        self._client, self._terms = client, terms
        # Reentrant, because a signal handler may use the cache while its thread holds the lock.
        self._lock = ForkSafeRLock()
        self._members: dict[Address, Listener] = {}
        self._until: dict[Listener, int] = {}
        """For each listener, the time until which copies may be served."""
        self._said: dict[Listener, frozenset[Address]] = {}
        """For each listener, the servers that have slots according to its server."""
        self._sent_on: dict[Address, float] = {}
        """The targets of redirections, and the times."""
        self._stopped = False
        self._past = [0, 0, 0]
        client.on_redirection, client.on_primaries = self._send_on, self._learned
        _CLUSTERS.add(self)

    def after_fork(self) -> None:
        """Reset the state in a forked child."""
        self._members, self._until, self._said, self._sent_on = {}, {}, {}, {}
        self._terms.tracker.doubt()
        self._terms.tracker.start_generation()

    def _send_on(self, address: Address) -> None:
        """Listen to the target of a redirection, before the command is sent there."""
        with self._lock:
            self._sent_on[address] = time.monotonic()
        self._listen_to({address})

    def _learned(self, primaries: set[Address]) -> None:
        """Listen to these primaries, before commands are sent to them."""
        with self._lock:
            # The other servers may not name them as primaries yet.
            self._sent_on |= dict.fromkeys(primaries - self._members.keys(), time.monotonic())
        self._listen_to(primaries)

    def _listen_to(self, addresses: set[Address]) -> None:
        """Listen to these servers too. No copy is served until all of their listeners are up to date."""
        with self._lock:
            if self._stopped:
                return
            for address in (new := addresses - self._members.keys()):
                member = Listener(self._client.node(address), self._terms, self)
                self._members[address] = member
                self._until[member] = 0
            if new:
                self._terms.tracker.doubt()
            members = [self._members[address] for address in addresses]
        # Also those whose start failed before, because there was no thread or a signal handler raised.
        for member in members:
            member.ensure()

    # Calls of the listeners

    def believe_until(self, listener: Listener, moment: int) -> None:
        """Note that all earlier writes to one server are known, so that copies may be served until `moment`."""
        with self._lock:
            if listener in self._until:
                self._until[listener] = moment
                until = min(self._until.values())
                if until:
                    self._terms.tracker.believe_until(until)

    def doubt(self, listener: Listener) -> None:
        """Note that writes to one server from now on are not known."""
        with self._lock:
            self._said.pop(listener, None)
            if listener in self._until:
                self._until[listener] = 0
                self._terms.tracker.doubt()

    def heard_of(self, listener: Listener, slots: Any) -> None:
        """Process one server's reply about the slots of all servers."""
        host = next((address[0] for address, member in list(self._members.items()) if member is listener), "")
        primaries = frozenset(self._client.learn(slots, host))
        with self._lock:
            if listener not in self._until:
                return
            self._said[listener] = primaries
            old = time.monotonic() - _FOR_LONG
            # A server names these as primaries now, so they no longer count as mere targets of redirections.
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
        """Remove a listener. Copies of its server's values become invalid."""
        del self._until[member]
        self._said.pop(member, None)
        self._terms.tracker.start_generation()
        for place, count in enumerate((member.connects, member.flushes, member.invalidations)):
            self._past[place] += count

    # The interface of one listener

    def ensure(self) -> None:
        """Start listening, unless it has started.

        Raises:
            RemoteConnectionError: No server replies which server has which keys.
        """
        if self._stopped:
            return
        members = list(self._members.values())
        if not members:
            self._listen_to(set(self._client.primaries()))
        for member in members:
            member.ensure()

    def wait(self, timeout: float) -> bool:
        """Wait until copies may be served, which returns True, or until there is an error."""
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
        """The difference in milliseconds between a server's clock, since 1970, and the tracker's clock."""
        return next((member.offset for member in list(self._members.values()) if member.offset is not None), None)

    @property
    def error(self) -> Exception | None:
        """The error because of which there is no connection to one of the servers."""
        return next((member.error for member in list(self._members.values()) if member.error is not None), None)

    @property
    def connects(self) -> int:
        """The number of times that listening to any server began."""
        return self._past[0] + sum(member.connects for member in list(self._members.values()))

    @property
    def flushes(self) -> int:
        """The number of times that all copies became invalid."""
        return self._past[1] + sum(member.flushes for member in list(self._members.values()))

    @property
    def invalidations(self) -> int:
        """The number of keys whose writes the servers announced."""
        return self._past[2] + sum(member.invalidations for member in list(self._members.values()))


_CLUSTERS: weakref.WeakSet[ClusterListener] = weakref.WeakSet()


def _after_fork() -> None:
    for cluster in list(_CLUSTERS):
        cluster.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
