"""Waiting for what other threads and processes do."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 60.0
"""Seconds after which something that was waited for does not happen any more."""


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
