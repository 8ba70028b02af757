"""How many rounds the costly tests run, from which seed, and what they may not do without."""

from __future__ import annotations

import os

SCALE = float(os.environ.get("FLEXCACHE_TEST_SCALE", "0.1"))
"""The share of the full counts that a run does: a tenth by default, all of them in `make soak`."""

SEED = int(os.environ.setdefault("FLEXCACHE_TEST_SEED", str(int.from_bytes(os.urandom(4), "big"))))
"""What random choices begin with. The report's header prints it; set the variable to repeat a run."""

REQUIRED = frozenset(os.environ.get("FLEXCACHE_REQUIRE", "").split())
"""What must be there. A test that needs one of these does not skip where it is absent, but fails."""


def scaled(full: int, least: int = 1) -> int:
    """The share of `full` rounds or examples that this run does."""
    return max(least, round(full * SCALE))


def may_skip(need: str, available: object) -> bool:
    """Whether a test that needs something may be skipped: it is absent, and not required."""
    return not available and need not in REQUIRED
