"""Statistics of all caches that have a name, for Prometheus.

Those of each `SharedCache` that this process has open are called flexcache_shared_hits_total and so on. They are sums
over all processes, so do not add up what several of them report.

Those of each `RemoteCache`, which are of this process alone, are called flexcache_remote_hits_total and so on.

Needs the package prometheus-client: `pip install 'flexcache-rs[prometheus]'`.

>>> from prometheus_client import CollectorRegistry, generate_latest
>>> from flexcache_rs import FlexCache
>>> from flexcache_rs.prometheus import CacheCollector
>>> users = FlexCache(name="users")
>>> users["a"] = 1
>>> registry = CollectorRegistry()
>>> registry.register(CacheCollector())
>>> 'flexcache_items{cache="users"} 1.0' in generate_latest(registry).decode()
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from flexcache_rs._metrics import METRICS, readings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

__all__ = ["CacheCollector"]


class CacheCollector(Collector):
    """Collects the statistics when Prometheus asks for them; costs the caches nothing otherwise.

    Metrics are called flexcache_hits_total, flexcache_items and so on, with the label `cache`.
    O(caches) a collection.
    """

    def collect(self) -> Iterator[Metric]:
        """The metrics at this moment."""
        for metric in METRICS:
            of = CounterMetricFamily if metric.counts else GaugeMetricFamily
            family = of(f"flexcache_{metric.name}", metric.about, labels=["cache"])
            for name, reading in readings(metric):
                family.add_metric([name], reading)
            yield family
