"""Running traces: hit ratios against plain models."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import pytest

from flexcache_rs.replay.simulate import POLICIES, simulate
from flexcache_rs.replay.trace import Trace, read, zipf

if TYPE_CHECKING:
    from pathlib import Path


def hits(trace: Trace, size: int, *, recency: bool) -> int:
    """How often a plain LRU or FIFO of so many entries hits."""
    held: OrderedDict[int, None] = OrderedDict()
    found = 0
    for key in trace.keys:
        if key in held:
            found += 1
            if recency:
                held.move_to_end(key)
        else:
            if len(held) == size:
                held.popitem(last=False)
            held[key] = None
    return found


@pytest.mark.parametrize("size", [1, 10, 500, 10_000])
def test_lru_and_fifo_hit_exactly_as_often_as_their_models(size: int) -> None:
    """Over more accesses than are replayed in one piece."""
    trace = zipf(250_000, 2000, 0.8, 5)
    for policy, recency in (("lru", True), ("fifo", False)):
        result = simulate(trace, policy, size)  # type: ignore[arg-type]
        assert result.hits == hits(trace, size, recency=recency)
        assert result.hit_ratio == result.hits / 250_000
        assert result.entries == min(size, trace.distinct)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_reports(policy: str) -> None:
    """Progress comes in rising steps up to the end; memory and speed are there."""
    done: list[int] = []
    trace = zipf(250_000, 500, 0.8, 5)
    result = simulate(trace, policy, 100, report=done.append)  # type: ignore[arg-type]
    assert done == [100_000, 200_000, 250_000]
    assert result.memory > 100 * 24
    assert result.operations_per_second > 0
    assert result.byte_hit_ratio is None


def test_by_size(tmp_path: Path) -> None:
    """Sizes limit, what is larger than the cache passes by, and hits are counted in sizes too."""
    file = tmp_path / "sized.txt"
    file.write_text("a 5\nb 5\na 5\nlarge 11\nc 5\nb 5\na 5\n", encoding="utf-8")
    result = simulate(read(str(file)), "lru", 10, by_size=True)
    assert (result.hits, result.refused, result.entries) == (1, 1, 2)
    assert result.byte_hit_ratio == 5 / 41
