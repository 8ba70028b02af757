"""Waiting for what other threads and processes do."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MANY = 60.0
"""Seconds after which something that was waited for does not happen any more."""


TURNS = 15
"""How often an event loop must turn while a call waits."""
_PATIENCE = 1000
"""How often another thread sleeps for as long as the ticker does before the loop counts as stopped."""


def until(condition: Callable[[], object]) -> None:
    """Waits until a condition holds."""
    waiter = threading.Event()
    for _ in range(60_000):
        if condition():
            return
        waiter.wait(0.001)
    pytest.fail("what was waited for did not happen")


def stop(process: int) -> None:
    """Stops a child process, and waits until all its threads have stopped.

    A signal is sent before it acts: a thread that runs on another core may still answer a request meanwhile.
    """
    os.kill(process, signal.SIGSTOP)
    _, status = os.waitpid(process, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "it ended instead"


def turns_while(call: Callable[[], Awaitable[Any]], release: Callable[[], Any]) -> tuple[int, Any]:
    """How often an event loop turned while a call waited for what `release` gives free, and what the call returned.

    Nothing is measured in seconds. A ticker task counts turns of the loop. `release` is called once it has counted
    enough, or once another thread of this process has woken up many more times: a stalled machine stalls both.
    """
    turns = 0
    begun = threading.Event()

    def watch() -> None:
        begun.wait(60)
        for _ in range(_PATIENCE):
            if turns >= TURNS:
                break
            time.sleep(0.01)
        release()

    async def main() -> tuple[int, Any]:
        nonlocal turns
        task = asyncio.ensure_future(call())
        begun.set()
        while turns < TURNS:
            await asyncio.sleep(0.01)
            turns += watcher.is_alive()
            if not watcher.is_alive():
                break
        return turns, await task

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return asyncio.run(main())
    finally:
        watcher.join()
