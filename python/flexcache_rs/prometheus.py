"""Statistics of all caches that have a name, for Prometheus.

The statistics of each `SharedCache` that is open in this process have names such as flexcache_shared_hits_total. They
are sums over all processes, so do not add up the reports of several processes.

The statistics of each `RemoteCache` have names such as flexcache_remote_hits_total. They are those of this process
alone.

This module needs the package prometheus-client: `pip install 'flexcache-rs[prometheus]'`.

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
    """Collect the statistics when Prometheus requests them. At other times it costs the caches nothing.

    The metrics have names such as flexcache_hits_total and flexcache_items, and the label `cache`. A collection is
    O(caches).
    """

    def collect(self) -> Iterator[Metric]:
        """Return the metrics at this moment."""
        for metric in METRICS:
            of = CounterMetricFamily if metric.counts else GaugeMetricFamily
            family = of(f"flexcache_{metric.name}", metric.about, labels=["cache"])
            for name, reading in readings(metric):
                family.add_metric([name], reading)
            yield family
