"""The scale of expensive tests, the random seed, and the required programs and packages."""

from __future__ import annotations

import os

SCALE = float(os.environ.get("FLEXCACHE_TEST_SCALE", "0.1"))
"""The share of the full number of rounds that a run does: a tenth by default, and all of them in `make soak`."""

SEED = int(os.environ.setdefault("FLEXCACHE_TEST_SEED", str(int.from_bytes(os.urandom(4), "big"))))
"""The random seed. The header of the report prints it. Set the variable to repeat a run."""

REQUIRED = frozenset(os.environ.get("FLEXCACHE_REQUIRE", "").split())
"""The required programs and packages. A test that needs a missing one of these fails instead of being skipped."""


def scaled(full: int, least: int = 1) -> int:
    """Return the number of rounds or examples for this run, given the full number."""
    return max(least, round(full * SCALE))


def may_skip(need: str, available: object) -> bool:
    """Whether a test may be skipped because a program or package is missing and not required."""
    return not available and need not in REQUIRED
