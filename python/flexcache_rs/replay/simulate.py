"""Running a trace through a FlexCache."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, get_args

from flexcache_rs import FlexCache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flexcache_rs.replay.trace import Trace

Policy = Literal["lru", "fifo", "lfu", "random", "sieve", "s3fifo", "tinylfu", "auto"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
BETWEEN_REPORTS = 100_000
"""So many accesses pass between two reports of progress."""


class Sized:
    """A value that has nothing but a size."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size

    def item_size(self) -> int:
        """The size."""
        return self.size


@dataclass(frozen=True)
class Result:
    """What came of one run.

    Attributes:
        policy: the eviction policy.
        size: the cache's limit, in entries or, by size, in the trace's unit.
        requests: how many accesses there were.
        hits: how many of them found their key.
        bytes_requested, bytes_hit: the same as sums of sizes; 0 where sizes were not counted.
        refused: accesses of what is larger than the whole cache.
        entries: how many entries were there at the end.
        seconds: how long it took.
        memory: bytes of the cache itself at the end, without keys and values.
    """

    policy: Policy
    size: int
    requests: int
    hits: int
    bytes_requested: int
    bytes_hit: int
    refused: int
    entries: int
    seconds: float
    memory: int

    @property
    def hit_ratio(self) -> float:
        """Hits among the requests, from 0 to 1."""
        return self.hits / self.requests

    @property
    def byte_hit_ratio(self) -> float | None:
        """The same by size; None where sizes were not counted."""
        return self.bytes_hit / self.bytes_requested if self.bytes_requested else None

    @property
    def operations_per_second(self) -> float:
        """Accesses a second, each a `get` and, where it misses, a `put`."""
        # A clock may be too coarse for a handful of requests.
        return self.requests / max(self.seconds, 1e-9)


def simulate(
    trace: Trace,
    policy: Policy,
    size: int,
    *,
    by_size: bool = False,
    report: Callable[[int], object] | None = None,
) -> Result:
    """Look up every key of a trace, storing those that are missing, as a program would.

    Args:
        trace: the accesses.
        policy: the eviction policy.
        size: the cache's limit; positive.
        by_size: whether that limits the sum of sizes rather than the number of entries.
        report: called with the number of accesses done, now and then.

    O(n).
    """
    sizes = trace.sizes if by_size else None
    limits: dict[str, Any] = {"max_bytes" if by_size else "max_items": size}
    cache: FlexCache[int, object] = FlexCache(policy, **limits)
    bytes_hit = refused = 0
    seconds = 0.0
    values: dict[int, Sized] = {}
    # The trace is millions of objects that the collector need not look at again and again.
    gc.freeze()
    try:
        for start in range(0, len(trace.keys), BETWEEN_REPORTS):
            keys = trace.keys[start : start + BETWEEN_REPORTS]
            began = perf_counter()
            if sizes is None:
                _replay(cache, keys)
            else:
                hit, too_large = _replay_sized(cache, keys, sizes[start : start + BETWEEN_REPORTS], values)
                bytes_hit += hit
                refused += too_large
            seconds += perf_counter() - began
            if report is not None:
                report(start + len(keys))
    finally:
        gc.unfreeze()
    stats = cache.stats()
    return Result(
        policy=policy,
        size=size,
        requests=len(trace.keys),
        hits=stats.hits,
        bytes_requested=sum(sizes) if sizes else 0,
        bytes_hit=bytes_hit,
        refused=refused,
        entries=stats.items,
        seconds=seconds,
        memory=sys.getsizeof(cache),
    )


def _replay(cache: FlexCache[int, object], keys: Sequence[int]) -> None:
    get, put = cache.get, cache.put
    for key in keys:
        if get(key) is None:
            put(key, True)


def _replay_sized(
    cache: FlexCache[int, object], keys: Sequence[int], sizes: Sequence[int], values: dict[int, Sized]
) -> tuple[int, int]:
    """What was hit, as a sum of sizes, and how many accesses were of something too large."""
    get, put, largest = cache.get, cache.put, cache.max_bytes
    hit = refused = 0
    for key, size in zip(keys, sizes, strict=True):
        if get(key) is not None:
            hit += size
        elif size <= largest:
            value = values.get(size)
            if value is None:
                value = values[size] = Sized(size)
            put(key, value)
        else:
            refused += 1
    return hit, refused
