"""Figures that do not depend on the machine: hit ratios of SharedCache, and the bytes per entry."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from importlib import import_module
from os import getpid
from pathlib import Path

from .tables import Figure

TRACES = ("arc_oltp", "c2k_web07", "scarab_recs", "llm_agents_cut", "git_files")
SHARES = (0.02, 0.05, 0.1, 0.25)
"""Of the keys of a trace, for which there is room."""


LEAST = 256 << 10
"""Bytes of the smallest segment."""
COST = 72
"""About what an entry takes besides its value."""


def _replayed(keys: list[str], max_bytes: int, size: int) -> tuple[float, int]:
    """Return the hit ratio with values of this size, and the number of entries at the end."""
    shared = import_module("flexcache_rs.shared")
    value = b"v" * size
    hits = 0
    with shared.SharedCache(f"bench-{getpid()}", max_bytes, expected_item=size + 40) as cache:
        get, put = cache.get, cache.put
        for key in keys:
            if get(key) is None:
                put(key, value)
            else:
                hits += 1
        entries = len(cache)
        cache.unlink()
    return hits / len(keys), entries


def _by_s3fifo(keys: list[str], entries: int) -> float:
    cache = import_module("flexcache_rs").FlexCache(max_items=entries, eviction_policy="s3fifo")
    get, put = cache.get, cache.put
    hits = 0
    for key in keys:
        if get(key) is None:
            put(key, 1)
        else:
            hits += 1
    return hits / len(keys)


def _keys(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [line.split()[0] for line in file if line.strip()]


def hit_ratios(traces: Path, say: Callable[[str], None]) -> Figure:
    """Compare the hit ratios with those of the policy S3-FIFO for the same number of entries."""
    figure = Figure(
        "hit ratios",
        "Hit ratios in percent. The table also shows the policy `s3fifo` of a `FlexCache` with as many entries as the "
        "SharedCache had at the end.",
        "%",
        more=True,
        compared=False,
    )
    worst = 0.0
    for name in TRACES:
        path = traces / f"{name}.txt.gz"
        if not path.exists():
            say(f"{name} is left out: there is no {path}")
            continue
        say(f"hit ratios: {name}")
        keys = _keys(path)
        different = len(set(keys))
        for share in SHARES:
            room = round(different * share)
            # The smallest segment has room for thousands of small values. For fewer entries, make the values larger.
            size = max(24, LEAST * 3 // 4 // room - COST)
            ratio, entries = _replayed(keys, max(LEAST, room * (size + COST) * 11 // 10), size)
            beside = _by_s3fifo(keys, max(entries, 1))
            label = f"{name}, {entries:,} of {different:,} keys"
            figure.cell(label, "SharedCache").samples.append(100 * ratio)
            figure.cell(label, "s3fifo").samples.append(100 * beside)
            worst = max(worst, 100 * (beside - ratio))
    figure.remarks.append(f"The hit ratio of SharedCache is at most {worst:.2f} points lower.")
    return figure


def overhead() -> Figure:
    """Return the bytes of the segment per entry, without those of its key and value."""
    shared = import_module("flexcache_rs.shared")
    figure = Figure(
        "bytes an entry",
        "Bytes of a full segment of 64 MiB for each entry, without those of its key and value. `expected_item` had the "
        "right value.",
        "bytes",
        more=True,
        compared=False,
    )
    for size in (20, 100, 1024):
        with shared.SharedCache(f"bench-{getpid()}", 64 << 20, expected_item=size + 10 + 24) as cache:
            value = "v" * size
            number = 0
            while (stats := cache.stats()).evicted <= stats.entries // 4:
                for _ in range(1000):
                    cache[f"{number:010d}"] = value
                    number += 1
            cell = figure.cell(f"values of {size:,} bytes", "SharedCache")
            cell.samples.append(stats.bytes / stats.entries - size - 10)
            cache.unlink()
    return figure
