"""Computations that stop until a test lets them go on, in this process or in another one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from gates import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from store_process import OtherProcess

DAY = 86400.0
"""A lease that outlives every test, so that a test which passes did not wait for its end."""

SHORT = 0.5
"""A lease that a test waits for, in seconds."""


class Failed(Exception):  # noqa: N818
    """What a computation raises; both processes know it."""


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition, for a time that is no part of the test."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


class Slow:
    """A factory that says through a file that it has begun, and ends when there is another file.

    Args:
        directory: where the files are.
        ends: "value"; "error", with an exception; "fork", with a value, after a child has come out of the factory too.
    """

    def __init__(self, directory: Path, ends: str = "value") -> None:
        self.begun, self.go, self.ends = directory / "begun", directory / "go", ends

    def __call__(self) -> str:
        self.begun.touch()
        if self.ends == "fork" and os.fork() == 0:
            return "the child's"
        wait_until(self.go.exists)
        if self.ends == "error":
            raise Failed("no value", 7)
        return "theirs"

    def be_cancelled(self, cache: Any, key: Any) -> str:
        """Compute in a task that is cancelled when the file is there."""

        async def compute() -> str:
            self.begun.touch()
            await asyncio.Event().wait()
            return "never"

        async def main() -> str:
            task = asyncio.create_task(cache.aget_or_set(key, compute))
            while not self.go.exists():
                await asyncio.sleep(0.001)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return "cancelled"

        return asyncio.run(main())


@contextlib.contextmanager
def elsewhere(
    other: OtherProcess, directory: Path, ends: str = "value", key: Any = "a", lease: float = DAY
) -> Iterator[Slow]:
    """Another process computes the value of a key inside the block, until `go` is touched."""
    slow = Slow(directory)
    other.begin("load", key, ends, str(directory), lease)
    wait_until(slow.begun.exists)
    try:
        yield slow
    finally:
        slow.go.touch()
