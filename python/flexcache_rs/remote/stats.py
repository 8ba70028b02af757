"""What a `RemoteCache` has counted in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from flexcache_rs import FlexCache
    from flexcache_rs.remote.listeners import Listening
    from flexcache_rs.remote.store import RemoteStore


class RemoteStats(NamedTuple):
    """What has happened in this process since the cache was made."""

    l1_hits: int
    """Reads that were answered from memory."""
    l2_reads: int
    """Values that the server was asked for."""
    l2_hits: int
    """Those that it had."""
    loads: int
    """Values that were computed."""
    leases: int
    """Leases that this process got."""
    lease_waits: int
    """Answers that another process computes."""
    stale_served: int
    """Old values that were served while the server could not be asked."""
    errors: int
    """Commands that were not answered, or whose connection was lost."""
    failed_writes: int
    """Writes that failed for that reason."""
    unreadable: int
    """Values on the server that were none of this cache."""
    invalidations: int
    """Keys that the server said were written, by this process or another."""
    flushes: int
    """How often no copy of before was served any more."""
    reconnects: int
    """How often listening began anew."""
    breaker_opened: int
    """How often the server stopped answering."""
    is_live: bool
    """Whether copies in memory are served now."""
    is_breaker_open: bool
    """Whether calls fail at once, since the server does not answer."""
    is_told: bool
    """Whether the server tells what is written."""
    staleness_bound: float
    """For how many seconds a copy in memory may be served after its value was replaced: `max_staleness`, or where the
    server does not tell what is written, `l1_ttl`."""

    @classmethod
    def of(
        cls,
        near: FlexCache[Any, Any],
        store: RemoteStore,
        listener: Listening,
        max_staleness: float,
        l1_ttl: float,
    ) -> RemoteStats:
        """The counts at this moment."""
        memory, counts = near.stats(), store.counts
        return cls(
            l1_hits=memory.hits,
            l2_reads=counts.loads,
            l2_hits=counts.hits,
            loads=memory.loads,
            leases=counts.leases,
            lease_waits=counts.lease_waits,
            stale_served=counts.stale,
            errors=counts.errors,
            failed_writes=counts.failed_writes,
            unreadable=counts.unreadable,
            invalidations=listener.invalidations,
            flushes=listener.flushes,
            reconnects=max(listener.connects - 1, 0),
            breaker_opened=store.breaker.times_opened,
            is_live=store.tracker.is_believed(),
            is_breaker_open=store.breaker.is_open,
            is_told=store.nonces.is_told,
            staleness_bound=max_staleness if store.nonces.is_told else l1_ttl,
        )
