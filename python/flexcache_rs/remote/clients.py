"""Chooses the client and the listener for the client that the user passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcache_rs.remote.client import Client
from flexcache_rs.remote.given import Given

if TYPE_CHECKING:
    from flexcache_rs.remote.listener import Terms
    from flexcache_rs.remote.listeners import Listening


LANES = ("client", "direct")


def client_of(given: Any, timeout: float, name: str, lane: str | None = None) -> Client:
    """Return the client for the argument that the user passed.

    Args:
        given: A URL, or a client of redis-py or valkey-py for one server, Sentinel or a cluster.
        timeout: The largest number of seconds for a command or a connection attempt.
        name: The name of the connections in `CLIENT LIST`.
        lane: "client" or "direct". None chooses one.

    Raises:
        TypeError, ValueError: The argument cannot be used, or not on this lane.
    """
    if lane is not None and lane not in LANES:
        message = f"lane must be 'client', 'direct' or None, not {lane!r}"
        raise ValueError(message)
    read = Given(given)
    if lane == "direct":
        from flexcache_rs.remote.direct import DirectClient, why_not

        reason = why_not(read)
        if reason is not None:
            message = f"lane cannot be 'direct' with this client: {reason}. Leave it out, or give 'client'"
            raise ValueError(message)
        return DirectClient(read, timeout, name)
    if read.manager is not None:
        from flexcache_rs.remote.cluster import ClusterClient

        return ClusterClient(read, timeout, name)
    if read.sentinel is not None:
        from flexcache_rs.remote.sentinel import SentinelClient

        return SentinelClient(read, timeout, name)
    return Client(read, timeout, name)


def listener_of(client: Client, terms: Terms) -> Listening:
    """Return the listener for the servers of a client."""
    from flexcache_rs.remote.cluster import ClusterClient

    if isinstance(client, ClusterClient):
        from flexcache_rs.remote.listeners import ClusterListener

        return ClusterListener(client, terms)
    from flexcache_rs.remote.listener import Listener

    return Listener(client, terms)
