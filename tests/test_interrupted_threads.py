"""A signal handler may interrupt or re-enter the starting and waking of threads, in the standard library's code too."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import Stop, no_point_hangs
from scale import SCALE
from waiting import MANY, until

from flexcache_rs import sessions
from flexcache_rs._threads import AutoResetEvent, start
from flexcache_rs.pycache import PyCache
from flexcache_rs.pycache.adapters import InMemory

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.parametrize("again", [False, True], ids=["an exception", "a call"])


def test_the_tool_finds_a_lock_in_python_code(again: bool) -> None:
    def use(event: threading.Event) -> None:
        event.set()
        event.clear()
        event.wait(0)

    with pytest.raises(pytest.fail.Exception, match="hangs"):
        no_point_hangs(threading.Event, use, threading.Event.set, again=again, patience=1)


def test_an_event(again: bool) -> None:
    def use(event: AutoResetEvent) -> None:
        event.set()
        event.wait(0)
        event.clear()

    def check(event: AutoResetEvent) -> None:
        waits = threading.Thread(target=event.wait, args=(MANY,))
        waits.start()
        event.set()
        waits.join(MANY)
        assert not waits.is_alive()

    no_point_hangs(AutoResetEvent, use, check, again=again)


def test_starting_a_thread(again: bool) -> None:
    def use(threads: list[threading.Thread]) -> None:
        thread = threading.Thread(target=list)
        threads.append(thread)
        start(thread)

    def check(threads: list[threading.Thread]) -> None:
        use(threads)
        # A thread that was interrupted before it was started never starts.
        until(lambda: not any(thread.is_alive() or thread in threading.enumerate() for thread in threads))

    no_point_hangs(list, use, check, again=again)


def test_snapshots(tmp_path: Path, again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # The interpreter reports what is raised while an object is collected, and goes on.
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: seen.append(raised.exc_type))
    seen: list[Any] = []
    made = 0

    def make() -> str:
        nonlocal made
        made += 1
        return f"memory://?snapshot={tmp_path / str(made)}"

    def use(url: str) -> None:
        # Only one store at a time may use the directory.
        with contextlib.suppress(sessions.Unavailable), sessions.sync.connect(url) as session:
            session.set("a", 1)

    def check(url: str) -> None:
        until(lambda: not [thread for thread in threading.enumerate() if thread.name == "flexcache snapshots"])
        use(url)
        with sessions.sync.connect(url) as session:
            assert session.get("a") == 1

    # Each of the hundreds of points writes files, and starts threads.
    no_point_hangs(make, use, check, again=again, step=1 if SCALE >= 1 else 10)
    assert set(seen) <= {Stop}


def test_the_removal_of_expired_keys(again: bool) -> None:
    def use(made: list[PyCache]) -> None:
        made.append(PyCache(InMemory(), ttl_interval=1000))

    def check(made: list[PyCache]) -> None:
        while made:
            asyncio.run(made.pop().stop_ttl())
        until(lambda: not [thread for thread in threading.enumerate() if "ttl" in thread.name])

    no_point_hangs(list, use, check, again=again)
