"""Sums that cannot be stored."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from flexcache_rs.disk import Cache

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("first", "second"), [(math.inf, -math.inf), (-math.inf, math.inf)])
def test_a_sum_that_is_no_number_is_refused(tmp_path: Path, first: float, second: float) -> None:
    """SQLite would store NULL for it. The value stays unchanged."""
    with Cache(tmp_path) as cache:
        cache["key"] = first
        with pytest.raises(ValueError, match=r"the sum is not a number \(NaN\)"):
            cache.incr("key", second)
        with pytest.raises(ValueError, match=r"the sum is not a number \(NaN\)"):
            cache.decr("key", -second)
        assert cache["key"] == first
        assert cache.incr("key", first) == first + first
