"""Computations that take longer than their leases, which are not renewed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from flexcache_rs import FlexCache
from flexcache_rs.disk import Cache

if TYPE_CHECKING:
    from pathlib import Path

LEASE = 0.1


class Computation:
    """A thread that computes until it is told to end."""

    def __init__(self, cache: Any, value: str) -> None:
        self.begun, self.ends = threading.Event(), threading.Event()
        self.result: Any = None

        def compute() -> str:
            self.begun.set()
            assert self.ends.wait(30)
            return value

        def run() -> None:
            self.result = cache.get_or_set("key", compute)

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def finish(self) -> Any:
        self.ends.set()
        self.thread.join()
        return self.result


def test_another_computes_when_the_lease_is_over(tmp_path: Path) -> None:
    """The late result goes to its own callers. The result of the later computation is stored."""
    fronts = [FlexCache(max_items=10, store=Cache(tmp_path), lease=LEASE, lease_wait=30) for _ in range(2)]
    first = Computation(fronts[0], "first")
    assert first.begun.wait(30)
    second = Computation(fronts[1], "second")
    assert second.begun.wait(30)
    assert first.finish() == "first"
    assert "key" not in Cache(tmp_path)
    assert second.finish() == "second"
    assert Cache(tmp_path)["key"] == "second"


def test_a_late_result_that_nobody_else_computes(tmp_path: Path) -> None:
    """The late result is stored."""
    computation = Computation(FlexCache(max_items=10, store=Cache(tmp_path), lease=LEASE), "late")
    assert computation.begun.wait(30)
    over = threading.Event()
    threading.Timer(2 * LEASE, over.set).start()
    assert over.wait(30)
    assert computation.finish() == "late"
    assert Cache(tmp_path)["key"] == "late"
