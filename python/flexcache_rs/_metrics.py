"""The metrics of caches, for Prometheus and OpenTelemetry."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from flexcache_rs._registry import caches, remote_caches, shared_caches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Metric(NamedTuple):
    """One figure of a cache."""

    name: str
    about: str
    counts: bool
    """Whether it only grows."""
    of: Callable[[Any], float]
    """What it is of a cache."""
    among: Callable[[], Mapping[str, Any]] = caches
    """Returns the caches that have this metric, by name."""


def _counter(name: str, about: str) -> Metric:
    def of(cache: Any) -> float:
        count: int = getattr(cache.stats(), name)
        return count

    return Metric(name, about, True, of)


def _shared(name: str, about: str, counts: bool, field: str) -> Metric:
    def of(cache: Any) -> float:
        count: int = getattr(cache.stats(), field)
        return count

    # Separate names, because every process reports the totals of all processes, which must not be added up.
    return Metric(f"shared_{name}", f"{about} By all processes together.", counts, of, shared_caches)


def _remote(name: str, about: str, counts: bool, field: str) -> Metric:
    def of(cache: Any) -> float:
        return float(getattr(cache.stats(), field))

    return Metric(f"remote_{name}", about, counts, of, remote_caches)


METRICS = (
    _counter("hits", "Lookups that found a value."),
    _counter("misses", "Lookups that found none."),
    _counter("loads", "Values that were computed."),
    _counter("insertions", "Values stored under a new key."),
    _counter("updates", "Values that replaced another."),
    _counter("evictions", "Entries that made room for others."),
    _counter("expirations", "Entries whose time was over."),
    _counter("removals", "Entries removed by a call."),
    _counter("hook_errors", "Exceptions raised by hooks and listeners."),
    Metric("items", "Entries stored.", False, attrgetter("items")),
    Metric("size", "The sum of the sizes of all entries.", False, attrgetter("bytes")),
    Metric("max_items", "The largest number of entries, 0 for no limit.", False, attrgetter("max_items")),
    Metric("max_size", "The largest sum of sizes, 0 for no limit.", False, attrgetter("max_bytes")),
    _shared("hits", "Lookups that found a value.", True, "hits"),
    _shared("misses", "Lookups that found none.", True, "misses"),
    _shared("evictions", "Entries that made room for others.", True, "evicted"),
    _shared("crowded", "Entries for which the index had no place.", True, "crowded"),
    _shared("resets", "Parts that were emptied after a death or because of damage.", True, "resets"),
    _shared("items", "Entries stored.", False, "entries"),
    _shared("size", "Bytes that entries take.", False, "live_bytes"),
    _shared("max_size", "Bytes that entries can take.", False, "capacity"),
    _remote("memory_hits", "Reads that were answered from memory.", True, "l1_hits"),
    _remote("reads", "Values that the server was asked for.", True, "l2_reads"),
    _remote("hits", "Those that it had.", True, "l2_hits"),
    _remote("loads", "Values that were computed.", True, "loads"),
    _remote("stale", "Old values served while the server could not be asked.", True, "stale_served"),
    _remote("errors", "Commands that were not answered, or whose connection was lost.", True, "errors"),
    _remote("failed_writes", "Writes that failed for that reason.", True, "failed_writes"),
    _remote("unreadable", "Values on the server that were none of the cache.", True, "unreadable"),
    _remote("invalidations", "Keys that the server said were written.", True, "invalidations"),
    _remote("flushes", "How often no copy of before was served any more.", True, "flushes"),
    _remote("reconnects", "How often listening began anew.", True, "reconnects"),
    _remote("live", "Whether copies in memory are served: 1 or 0.", False, "is_live"),
    _remote("refusing", "Whether calls fail at once, as the server does not answer: 1 or 0.", False, "is_breaker_open"),
    _remote("staleness_bound", "Seconds for which a replaced value may be served.", False, "staleness_bound"),
)


def readings(metric: Metric) -> Iterator[tuple[str, float]]:
    """Return the value of a metric for each cache, by the cache's name."""
    for name, cache in metric.among().items():
        yield name, metric.of(cache)
