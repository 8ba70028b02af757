"""The hit ratio, which all statistics share."""

from __future__ import annotations


def hit_ratio(hits: int, reads: int) -> float:
    """Hits divided by reads, or 0.0 without reads."""
    return hits / reads if reads else 0.0
