"""Recommends a policy and a size for a trace."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

from flexcache_rs.replay.simulate import OPTIMUM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexcache_rs.replay.simulate import Policy, Result

FLAT = 0.02
"""A doubling that adds less than this to the hit ratio is not worth its memory."""
AS_GOOD = 0.005
"""Hit ratios that differ by less than this, on average, are equal."""
PREFERRED: list[Policy] = ["lru", "sieve", "fifo", "s3fifo", "auto", "tinylfu", "lfu", "random"]
"""Among equals the one whose hits cost least, or that is known best."""


@dataclass(frozen=True)
class Recommendation:
    """What to use.

    Attributes:
        policy: the best on average over the sizes, or one that is as good and cheaper.
        size: the smallest of the sizes from which on a doubling adds less than FLAT to its hit ratio; the largest
            where there is none.
        hit_ratio: of that policy at that size.
        next_doubling: about how much twice the size would add to the hit ratio; None where that is not known.
    """

    policy: Policy
    size: int
    hit_ratio: float
    next_doubling: float | None


def recommend(results: Sequence[Result]) -> Recommendation | None:
    """Choose among results of one trace; None where there is nothing but the optimum. O(n)."""
    curves: dict[Policy, dict[int, float]] = {}
    for result in results:
        if result.policy != OPTIMUM:
            curves.setdefault(result.policy, {})[result.size] = result.hit_ratio
    if not curves:
        return None
    means: dict[Policy, float] = {policy: sum(curve.values()) / len(curve) for policy, curve in curves.items()}
    best = max(means.values())
    as_good: list[Policy] = [policy for policy in means if means[policy] >= best - AS_GOOD]
    policy: Policy = min(as_good, key=PREFERRED.index)
    curve = curves[policy]
    gains = {size: _gain(curve, size) for size in sorted(curve)}
    flat = [size for size, gain in gains.items() if gain is not None and gain < FLAT]
    # Skip a plateau that is followed by another rise.
    while flat and any(gain is not None and gain >= FLAT for size, gain in gains.items() if size > flat[0]):
        flat.pop(0)
    size = flat[0] if flat else max(curve)
    return Recommendation(policy, size, curve[size], gains[size])


def _gain(curve: dict[int, float], size: int) -> float | None:
    """Return the gain in hit ratio of twice the size, interpolated linearly over the logarithm of the size."""
    larger = [other for other in sorted(curve) if other > size]
    before = size
    for after in larger:
        if after >= 2 * size:
            part = log2(2 * size / before) / log2(after / before)
            return curve[before] + part * (curve[after] - curve[before]) - curve[size]
        before = after
    return None
