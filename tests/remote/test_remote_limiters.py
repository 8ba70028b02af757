"""Limiters on a server: what they keep there, and how their callers wait."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.remote import locks

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.in_turn("engine", "lane")

ALGORITHMS = ("gcra", "sliding_window")
FAR = 10**15
"""More microseconds than any period of these tests."""


class Many(int):
    """An int that shows itself as something else."""

    def __str__(self) -> str:
        return "many"

    __repr__ = __str__


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("awaits", [False, True])
def test_a_caller_waits_until_a_use_is_available(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, algorithm: str, awaits: bool
) -> None:
    limiter, pauses = make().limiter("name", 1, per=0.1, algorithm=algorithm), list[float]()
    never = make().limiter("never", 1, per=3600, algorithm=algorithm)

    def sleep(seconds: float) -> None:
        assert 0 < seconds <= 0.1
        pauses.append(seconds)
        time.sleep(seconds)

    async def asleep(seconds: float) -> None:
        sleep(seconds)

    def acquire(limiter: Any, timeout: float | None) -> bool:
        taken: bool = asyncio.run(limiter.aacquire(timeout)) if awaits else limiter.acquire(timeout)
        return taken

    monkeypatch.setattr(locks, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    monkeypatch.setattr(locks, "sleep", asleep)
    # On a busy machine, the time of a use may be over when the next one is asked for.
    for _ in range(100):
        if len(pauses) < 2:
            assert acquire(limiter, None)
            assert acquire(limiter, 60)
    assert pauses
    assert acquire(never, 0)
    assert not acquire(never, 60), "it does not wait in vain"


def test_limiters_with_other_limits(make: Callable[..., Any]) -> None:
    cache = make()
    for algorithm in ALGORITHMS:
        # Each algorithm counts on its own.
        assert cache.limiter("name", 5, per=300, algorithm=algorithm).hit(5).allowed
    assert cache.limiter("name", 5, per=200).hit()[:2] == (False, 0)
    assert cache.limiter("name", 3, per=300, algorithm="sliding_window").hit()[:2] == (False, 0)


def test_numbers_of_other_types(make: Callable[..., Any]) -> None:
    for algorithm in ALGORITHMS:
        assert make().limiter(algorithm, Many(3), per=300, algorithm=algorithm).hit(Many(2)) == (True, 1, 0.0)


@pytest.mark.parametrize("state", ["past", "future"])
def test_a_clock_that_was_set(make: Callable[..., Any], raw: Any, state: str) -> None:
    """A limiter whose state is of another time begins again."""
    at = 0 if state == "past" else int(time.time() * 1e6) + FAR
    raw.set("test#:{name}r", at)
    raw.zadd("test#:{name}w", {"1": at, "2": at, "3": at})
    for algorithm in ALGORITHMS:
        limiter = make().limiter("name", 3, per=300, algorithm=algorithm)
        assert [limiter.hit().allowed for _ in range(4)] == [True, True, True, False]


def test_a_limiter_leaves_nothing_after_its_time(make: Callable[..., Any], raw: Any) -> None:
    for algorithm in ALGORITHMS:
        assert make().limiter("name", 3, per=300, algorithm=algorithm).hit().allowed
        # A limiter whose time is shorter than a millisecond.
        assert make().limiter("short", 1000, per=0.001, algorithm=algorithm).hit().allowed
    assert 0 < raw.pttl("test#:{name}r") <= 100_000
    assert 0 < raw.pttl("test#:{name}w") <= 300_000
