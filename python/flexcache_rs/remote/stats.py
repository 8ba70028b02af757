"""The statistics of a `RemoteCache` in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from flexcache_rs._hit_ratio import hit_ratio

if TYPE_CHECKING:
    from flexcache_rs._core import FlexCache
    from flexcache_rs.remote.listeners import Listening
    from flexcache_rs.remote.store import RemoteStore


class RemoteStats(NamedTuple):
    """The statistics of this process since the cache was created."""

    l1_hits: int
    """Reads that were answered from memory."""
    l2_reads: int
    """Values that were requested from the server."""
    l2_hits: int
    """Requested values that the server had."""
    loads: int
    """Values that were computed."""
    leases: int
    """Leases that this process obtained."""
    lease_waits: int
    """Replies that another process computes the value."""
    stale_served: int
    """Old values that were returned while the server could not be reached."""
    errors: int
    """Commands without a response, or whose connection was lost."""
    failed_writes: int
    """Writes that failed for that reason."""
    unreadable: int
    """Values on the server that do not belong to this cache."""
    invalidations: int
    """Keys whose writes the server announced, by this process or another."""
    flushes: int
    """How often all copies became invalid."""
    reconnects: int
    """How often the listening connection was made again."""
    breaker_opened: int
    """How often the server stopped responding."""
    is_live: bool
    """Whether copies in memory are valid now."""
    is_breaker_open: bool
    """Whether calls fail at once because the server does not respond."""
    is_told: bool
    """Whether the server announces writes."""
    staleness_bound: float
    """The number of seconds for which a copy in memory may be returned after its value was replaced: `max_staleness`,
    or `l1_ttl` if the server does not announce writes."""

    @property
    def hit_ratio(self) -> float:
        """The share of the values read that memory or the server had, or 0.0 without reads.

        That is `(l1_hits + l2_hits) / (l1_hits + l2_reads)`. Absences that memory knows do not count.
        """
        return hit_ratio(self.l1_hits + self.l2_hits, self.l1_hits + self.l2_reads)

    @classmethod
    def of(
        cls,
        near: FlexCache[Any, Any],
        store: RemoteStore,
        listener: Listening,
        max_staleness: float,
        l1_ttl: float,
    ) -> RemoteStats:
        """Return the current statistics."""
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
