"""Computations that wait until a test lets them continue, in this process or in another one."""

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
"""A lease in seconds that outlives every test, so that no test passes by waiting for its end."""

SHORT = 0.5
"""A lease that a test waits for, in seconds."""


class Failed(Exception):  # noqa: N818
    """An exception of a computation, which both processes know."""


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition. The time limit does not matter for the test."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


class Slow:
    """A factory that creates a file when it begins, and ends when another file exists.

    Args:
        directory: the directory of the files.
        ends: "value", "error" for an exception, or "fork" for a value after a forked child has left the factory too.
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
        """Compute in a task, which is cancelled when the file exists."""

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
    """Let another process compute the value of a key during the block, until `go` is touched."""
    slow = Slow(directory)
    other.begin("load", key, ends, str(directory), lease)
    wait_until(slow.begun.exists)
    try:
        yield slow
    finally:
        slow.go.touch()
