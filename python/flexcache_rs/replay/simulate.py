"""Runs a trace through the eviction policies, in Rust and on all cores."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from flexcache_rs import _core
from flexcache_rs.replay.trace import LARGEST_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flexcache_rs.replay.trace import Trace

Policy = Literal["lru", "fifo", "lfu", "random", "sieve", "s3fifo", "tinylfu", "auto", "opt"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
OPTIMUM: Policy = "opt"
"""Belady's optimum, which no policy can exceed without knowing the future."""
LARGEST_SEED = 2**64 - 1
MOST_THREADS = 1024


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
        seconds: how long it took; None where one pass over the trace was for several sizes.
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
    seconds: float | None
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
    def operations_per_second(self) -> float | None:
        """Accesses a second, each a `get` and, where it misses, a `put`; None where that was not measured."""
        if self.seconds is None:
            return None
        # The clock may be too coarse for a few requests, and show no time at all.
        return self.requests / max(self.seconds, 1e-9)


def cores() -> int:
    """How many threads can run at once."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def compare(
    trace: Trace,
    policies: Sequence[Policy],
    sizes: Sequence[int],
    *,
    by_size: bool = False,
    seed: int = 1,
    threads: int | None = None,
    report: Callable[[float], object] | None = None,
) -> list[Result]:
    """Look up every key of a trace, storing those that are missing, as a program would; for each policy and size.

    Args:
        trace: the accesses.
        policies: the eviction policies; "opt" is not known by_size.
        sizes: the cache's limits; from 1 to 2**63 - 1.
        by_size: whether these limit the sum of sizes rather than the number of entries.
        seed: for whatever policies leave to chance; from 0 to 2**64 - 1.
        threads: how many to run at once, from 1 to 1024; by default one a core.
        report: called with the part that is done, from 0 to 1, now and then.

    Returns:
        The results, ordered by size and then as the policies were named.

    Raises:
        ValueError: where a policy is not known, or a number is beyond what is allowed.

    O(n) for each policy and size; O(n log n) for the optimum.
    """
    threads = cores() if threads is None else threads
    for name, value, least, most in (
        *(("sizes", size, 1, LARGEST_SIZE) for size in sizes),
        ("seed", seed, 0, LARGEST_SEED),
        ("threads", threads, 1, MOST_THREADS),
    ):
        if not least <= value <= most:
            raise ValueError(f"{name} must be from {least} to {most:,}, not {value:,}")
    weights = array("Q", trace.sizes) if by_size and trace.sizes is not None else None
    rows = _core._replay(  # noqa: SLF001 - this is the package it is for
        array("I", trace.keys),
        weights,
        policies,
        sizes,
        seed,
        threads,
        report or (lambda _: None),
    )
    requested = sum(weights) if weights else 0
    results = [
        Result(
            policy=policy,  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
            size=size,
            requests=trace.requests,
            hits=hits,
            bytes_requested=requested,
            bytes_hit=bytes_hit,
            refused=refused,
            entries=entries,
            seconds=seconds,
            memory=memory,
        )
        for policy, size, hits, bytes_hit, refused, entries, memory, seconds in rows
    ]
    return sorted(results, key=lambda result: (result.size, policies.index(result.policy)))


def simulate(trace: Trace, policy: Policy, size: int, *, by_size: bool = False, seed: int = 1) -> Result:
    """What `compare` does, of one policy at one size."""
    return compare(trace, [policy], [size], by_size=by_size, seed=seed)[0]
