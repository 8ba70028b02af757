"""The caches of `flexcache_rs.cachetools` after calls that a signal handler interrupted."""

from __future__ import annotations

import reprlib
import sys
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import INTERRUPTS, PACKAGE, Stop, Tracer, points, raise_stop

from flexcache_rs.cachetools import LRUCache, TLRUCache, TTLCache

if TYPE_CHECKING:
    from collections.abc import Callable

TIMED: dict[str, Callable[[Callable[[], float]], Any]] = {
    "TTLCache": lambda timer: TTLCache(3, 5, timer=timer),
    "TLRUCache": lambda timer: TLRUCache(3, lambda _key, _value, now: now + 5, timer=timer),
}
CALLS: dict[str, Callable[[Any], object]] = {
    "[]=": lambda cache: cache.__setitem__("b", 1),
    "pop": lambda cache: cache.pop("a", None),
    "setdefault": lambda cache: cache.setdefault("b", 1),
    "currsize": lambda cache: cache.currsize,
    "iteration": list,
    "repr": repr,
}


@pytest.mark.parametrize("how", INTERRUPTS)
@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
@pytest.mark.parametrize("make", TIMED.values(), ids=list(TIMED))
def test_time_goes_on_after_an_interruption(make: Any, call: Callable[[Any], object], how: str) -> None:
    now = 0.0
    cache = make(lambda: now)
    for at in points(lambda: call(cache), how):
        cache["a"] = 1
        now += 100
        assert "a" not in cache, f"time stands still after point {at}"
        cache["a"] = 1


def test_entries_are_shown_after_an_interruption() -> None:
    cache = LRUCache(3)
    cache["a"] = cache
    shown = repr(cache)
    for at in range(1, 1000):
        tracer = Tracer(at, raise_stop, files=(PACKAGE, reprlib.__file__))
        sys.settrace(tracer)
        try:
            repr(cache)
        except Stop:
            pass
        finally:
            sys.settrace(None)
        assert repr(cache) == shown == "LRUCache({'a': LRUCache({...}, maxsize=3, currsize=1)}, maxsize=3, currsize=1)"
        if not tracer.fired:
            return
    pytest.fail("the call never completed")
