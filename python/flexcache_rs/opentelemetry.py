"""Statistics of all caches that have a name, as OpenTelemetry metrics.

The statistics of each `SharedCache` that is open in this process have names such as flexcache.shared_hits. They are
sums over all processes, so do not add up the reports of several processes.

The statistics of each `RemoteCache` have names such as flexcache.remote_hits. They are those of this process alone.

This module needs the package opentelemetry-api: `pip install 'flexcache-rs[opentelemetry]'`.

>>> from opentelemetry.sdk.metrics import MeterProvider
>>> from opentelemetry.sdk.metrics.export import InMemoryMetricReader
>>> from flexcache_rs import FlexCache
>>> from flexcache_rs.opentelemetry import instrument
>>> users = FlexCache(name="users")
>>> reader = InMemoryMetricReader()
>>> instrument(MeterProvider([reader]))
>>> [scope] = reader.get_metrics_data().resource_metrics[0].scope_metrics
>>> "flexcache.hits" in [metric.name for metric in scope.metrics]
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter

from flexcache_rs import __version__
from flexcache_rs._metrics import METRICS, Metric, readings
from flexcache_rs._suggest import suggesting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["instrument"]


def _callback(metric: Metric) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def observe(_options: CallbackOptions) -> Iterator[Observation]:
        for name, reading in readings(metric):
            yield Observation(reading, {"cache": name})

    return observe


@suggesting
def instrument(meter_provider: MeterProvider | None = None) -> None:
    """Create the metrics, such as flexcache.hits and flexcache.items, with the attribute `cache`.

    Args:
        meter_provider: The provider for the metrics. None means the global one.

    Call it once. The caches are read when the metrics are exported. Each export is O(caches).
    """
    meter = get_meter("flexcache_rs", __version__, meter_provider)
    for metric in METRICS:
        create = meter.create_observable_counter if metric.counts else meter.create_observable_gauge
        create(f"flexcache.{metric.name}", [_callback(metric)], description=metric.about)
