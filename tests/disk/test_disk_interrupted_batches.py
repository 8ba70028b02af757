"""Calls with many writes are interrupted where a function of the package begins or ends, as by a signal handler."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.disk import Cache, FanoutCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CALLS: dict[str, Callable[[Any], object]] = {
    "set_many": lambda cache: cache.set_many({"a": 1, "b": 2}),
    "delete_many": lambda cache: cache.delete_many(["a", "c"]),
    "push": lambda cache: cache.push("job"),
    "pull": lambda cache: cache.pull(),
    "peek": lambda cache: cache.peek(),
}


class InterruptedCallError(Exception):
    """The exception that the handler raises."""


def run(call: Callable[[], object], at: int) -> bool:
    """Raise at one event. Returns True if the call reached it."""
    events = 0

    def trace(frame: Any, event: str, _argument: object) -> Any:
        nonlocal events
        # Signals are looked at there, and not at the end of a `with` block, where a line of it is traced once more.
        if event in ("call", "return"):
            events += 1
            if events == at:
                sys.settrace(None)
                raise InterruptedCallError
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except InterruptedCallError:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize(
    ("make", "name"), [(Cache, "set_many"), (Cache, "delete_many"), *((FanoutCache, name) for name in CALLS)]
)
def test_nothing_stays_open(tmp_path: Path, make: Any, name: str) -> None:
    """Another thread can write after each interruption."""
    with make(tmp_path, timeout=0.5) as cache:
        cache["c"] = 1
        cache.push("first")
        at = 1
        while run(lambda: CALLS[name](cache), at):
            stored: list[bool] = []
            other = threading.Thread(target=lambda: stored.append(cache.set("other", 1)))
            other.start()
            other.join()
            assert stored == [True], at
            at += 1
        assert at > 3
        assert cache.check() == []
