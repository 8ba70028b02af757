"""The package's own event, and its way to start a thread."""

from __future__ import annotations

import math
import threading

import pytest

from flexcache_rs._threads import AutoResetEvent, start


def test_an_event_that_was_set_twice_wakes_once() -> None:
    event = AutoResetEvent()
    event.set()
    event.set()
    assert event.wait(0)
    assert not event.wait(0)


@pytest.mark.parametrize("timeout", [math.inf, 1e30, -1.0])
def test_any_number_of_seconds_may_be_waited(timeout: float) -> None:
    event = AutoResetEvent()
    event.set()
    assert event.wait(timeout)


def test_what_prevents_a_start_is_raised() -> None:
    thread = threading.Thread(target=list)
    start(thread)
    with pytest.raises(RuntimeError, match="started once"):
        start(thread)
