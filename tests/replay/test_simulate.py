"""Running traces: hit ratios against plain models."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.replay.recommend import recommend
from flexcache_rs.replay.simulate import POLICIES, Result, compare, simulate
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


@pytest.mark.parametrize("threads", [1, 3])
def test_every_policy_reports(threads: int) -> None:
    """Results come in order, progress in rising steps up to the end; memory and speed are there."""
    done: list[float] = []
    trace = zipf(100_000, 500, 0.8, 5)
    sizes = [10, 50, 100, 200]
    results = compare(trace, POLICIES, sizes, threads=threads, report=done.append)
    assert [(result.size, result.policy) for result in results] == [(size, name) for size in sizes for name in POLICIES]
    assert done == sorted(done)
    assert done[-1] == 1
    for result in results:
        most = next(other.hits for other in results if (other.policy, other.size) == ("opt", result.size))
        assert 0 < result.hits <= most
        assert result.entries == result.size
        speed = result.operations_per_second
        assert result.policy == "lru" if speed is None else speed > 0
        assert result.byte_hit_ratio is None
        assert (result.memory > result.size * 24) == (result.policy != "opt")


def test_several_sizes_in_one_pass_are_as_many_passes() -> None:
    """LRU is replayed at all sizes at once."""
    trace = zipf(150_000, 3000, 0.8, 5)
    sizes = [1, 2, 77, 500, 2999, 3000, 10_000]
    assert [result.hits for result in compare(trace, ["lru"], sizes)] == [
        simulate(trace, "lru", size).hits for size in sizes
    ]


def test_the_same_seed_gives_the_same() -> None:
    """Whatever is left to chance."""
    trace = zipf(50_000, 3000, 0.8, 5)
    one, same, other = ([r.hits for r in compare(trace, POLICIES, [100], seed=seed)] for seed in (1, 1, 2))
    assert one == same != other


def test_what_a_report_raises_ends_it() -> None:
    """As Ctrl-C does."""

    def report(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(zipf(200_000, 3000, 0.8, 5), POLICIES, [100, 1000], report=report)


@pytest.mark.parametrize(
    ("policies", "sizes", "complaint"),
    [(["mru"], [1], "no policy"), (["lru"], [0], "must be from 1"), (["lru", "opt"], [5], "must not contain")],
)
def test_what_cannot_be_compared(policies: list[str], sizes: list[int], complaint: str) -> None:
    """An exception says why."""
    trace = Trace("sized", [0, 1], [1, 1], 2, 2)
    with pytest.raises(ValueError, match=complaint):
        compare(trace, policies, sizes, by_size=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"sizes": [5, -1]}, "sizes must be from 1 to 9,223,372,036,854,775,807, not -1"),
        ({"sizes": [2**64]}, "sizes must be"),
        ({"seed": -1}, "seed must be from 0 to 18,446,744,073,709,551,615, not -1"),
        ({"seed": 2**64}, "seed must be"),
        ({"threads": 0}, "threads must be from 1 to 1,024, not 0"),
        ({"threads": 2**70}, "threads must be"),
    ],
)
def test_numbers_that_make_no_sense(arguments: dict[str, Any], complaint: str) -> None:
    """An exception names the argument, the value and what is allowed."""
    with pytest.raises(ValueError, match=complaint):
        compare(Trace("two", [0, 1], None, 2, 2), **{"policies": ["lru"], "sizes": [1], **arguments})


def curve(policy: str, ratios: dict[int, float]) -> list[Result]:
    """Results of one policy."""
    return [Result(policy, size, 1000, round(1000 * ratio), 0, 0, 0, size, 1.0, 1) for size, ratio in ratios.items()]  # type: ignore[arg-type]


def test_the_recommendation() -> None:
    """The best policy, or one as good whose hits cost less; the size at which its curve flattens."""
    good = {100: 0.2, 200: 0.4, 400: 0.5, 800: 0.51, 1600: 0.515}
    advice = recommend([*curve("auto", good), *curve("fifo", dict.fromkeys(good, 0.1)), *curve("opt", good)])
    assert advice is not None
    assert (advice.policy, advice.size, advice.hit_ratio) == ("auto", 400, 0.5)
    assert advice.next_doubling == pytest.approx(0.01)
    equal = recommend([*curve("auto", good), *curve("lru", good)])
    assert equal is not None
    assert equal.policy == "lru"
    rising = recommend(curve("lru", {100: 0.1, 1000: 0.4}))
    assert rising is not None
    assert (rising.size, rising.next_doubling) == (1000, None)
    plateau = recommend(curve("lru", {100: 0.1, 200: 0.1, 400: 0.4, 800: 0.4}))
    assert plateau is not None
    assert plateau.size == 400
    assert recommend(curve("opt", good)) is None


def test_by_size(tmp_path: Path) -> None:
    """Sizes limit, what is larger than the cache passes by, and hits are counted in sizes too."""
    file = tmp_path / "sized.txt"
    file.write_text("a 5\nb 5\na 5\nlarge 11\nc 5\nb 5\na 5\n", encoding="utf-8")
    result = simulate(read(str(file)), "lru", 10, by_size=True)
    assert (result.hits, result.refused, result.entries) == (1, 1, 2)
    assert result.byte_hit_ratio == 5 / 41
