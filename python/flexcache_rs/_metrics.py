"""What is measured of every cache that has a name, for Prometheus and OpenTelemetry alike."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from flexcache_rs._registry import caches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Metric(NamedTuple):
    """One figure of a cache."""

    name: str
    about: str
    counts: bool
    """Whether it only grows."""
    of: Callable[[Any], float]
    """What it is of a cache."""


def _counter(name: str, about: str) -> Metric:
    def of(cache: Any) -> float:
        count: int = getattr(cache.stats(), name)
        return count

    return Metric(name, about, True, of)


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
)


def readings(metric: Metric) -> Iterator[tuple[str, float]]:
    """The metric of each cache, by the cache's name."""
    for name, cache in caches().items():
        yield name, metric.of(cache)
