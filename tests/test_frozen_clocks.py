"""Caches under a clock that a test has frozen."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache, disk, memoize
from flexcache_rs.testing import following

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BEGINNING = dt.datetime(2030, 1, 1, tzinfo=dt.timezone.utc)


@pytest.fixture(params=["freezegun", "time_machine"])
def move(request: pytest.FixtureRequest) -> Iterator[Callable[[float], None]]:
    """Moves a frozen clock by seconds."""
    library = pytest.importorskip(request.param)
    if request.param == "freezegun":
        with library.freeze_time(BEGINNING) as frozen:
            followed = following(frozen)
            yield lambda seconds: followed.tick(seconds)
    else:
        with library.travel(BEGINNING, tick=False) as traveller:
            followed = following(traveller)
            yield lambda seconds: followed.shift(seconds)


@pytest.mark.parametrize(
    "ttl",
    [10, 10.0, dt.timedelta(seconds=10), BEGINNING + dt.timedelta(seconds=10)],
    ids=lambda ttl: type(ttl).__name__,
)
def test_a_time_to_live_ends_when_the_frozen_clock_moves(move: Callable[[float], None], ttl: Any) -> None:
    cache: FlexCache[str, int] = FlexCache()
    cache.put("a", 1, ttl=ttl)
    assert 9.5 < (cache.ttl("a") or 0) < 10.5
    move(5)
    assert cache.get("a") == 1
    move(6)
    assert cache.get("a") is None


def test_results_expire_when_the_frozen_clock_moves(move: Callable[[float], None]) -> None:
    calls: list[int] = []
    double = memoize(ttl=10)(lambda number: calls.append(number) or 2 * number)
    assert double(2) == double(2) == 4
    move(11)
    assert double(2) == 4
    assert calls == [2, 2]


def test_caches_on_disk_follow_by_themselves(move: Callable[[float], None], tmp_path: Path) -> None:
    cache = disk.Cache(tmp_path)
    cache.set("a", 1, expire=10)
    assert cache.get("a", expire_time=True)[1] == BEGINNING.timestamp() + 10
    move(11)
    assert cache.get("a") is None


def test_a_clock_that_goes_back_takes_no_cache_along() -> None:
    library = pytest.importorskip("freezegun")
    cache: FlexCache[str, int] = FlexCache(default_ttl=10)
    cache["a"] = 1
    with library.freeze_time(BEGINNING) as frozen:
        followed = following(frozen)
        followed.move_to(BEGINNING - dt.timedelta(days=1))
        assert followed.time_to_freeze.day == 31
        assert cache["a"] == 1
        followed.move_to(BEGINNING)
        assert cache.get("a") is None
