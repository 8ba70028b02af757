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


@pytest.mark.parametrize(
    ("delta", "default", "error"),
    [
        (1, 2**63 - 1, OverflowError),
        (1, 2**63, OverflowError),
        (-1, -(2**63), OverflowError),
        (2**64, 0, OverflowError),
        (1, math.nan, ValueError),
        (math.inf, -math.inf, ValueError),
    ],
)
def test_a_first_sum_that_cannot_be_counted_with(
    tmp_path: Path, delta: float, default: float, error: type[Exception]
) -> None:
    """It would be stored in a form to which nothing can be added."""
    with Cache(tmp_path) as cache:
        with pytest.raises(error, match="the sum"):
            cache.incr("new", delta, default)
        with pytest.raises(error, match="the sum"):
            cache.decr("new", -delta, default)
        assert "new" not in cache
        assert cache.incr("new", -1, 2**63 - 1) == 2**63 - 2
        assert cache.incr("new") == 2**63 - 1
