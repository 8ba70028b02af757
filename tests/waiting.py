"""Waiting for what other threads and processes do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MANY = 60.0
"""Seconds after which a test stops waiting."""

BRIEF = 1.0
"""Seconds after which a call gives up if the server does not respond. Even on a busy machine, a server is faster."""


TURNS = 15
"""The number of turns that an event loop must make while a call waits."""
_PATIENCE = 1000
"""The number of sleeps of another thread, each as long as the ticker's, after which the loop counts as blocked."""


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    waiter = threading.Event()
    for _ in range(60_000):
        if condition():
            return
        waiter.wait(0.001)
    import pytest  # The processes of tests import this file, and start twice as fast without it.

    pytest.fail("what was waited for did not happen" + stacks())


def stacks() -> str:
    """Return the innermost calls of each thread, because one of them may be the one that does not go on."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "".join(
        f"\n\n{names.get(thread, thread)}:\n{''.join(traceback.format_stack(frame, limit=-8))}"
        for thread, frame in sys._current_frames().items()
    )


def stop(process: int) -> None:
    """Stop a child process, and wait until all its threads have stopped.

    A signal acts some time after it was sent. A thread on another core could still answer a request meanwhile.
    """
    os.kill(process, signal.SIGSTOP)
    _, status = os.waitpid(process, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "it ended instead"


def turns_while(call: Callable[[], Awaitable[Any]], release: Callable[[], Any]) -> tuple[int, Any]:
    """Return the number of turns of an event loop while a call waited for `release`, and the result of the call.

    This measures no time. A ticker task counts turns of the loop. `release` is called when the ticker has counted
    enough, or when another thread of this process has woken up many more times. A slow machine slows both down.
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
