"""Waiting for what other threads and processes do."""

from __future__ import annotations

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
