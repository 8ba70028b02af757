"""The listener's own steps, without a server."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from flexcache_rs._core import PushTracker
from flexcache_rs.remote.listener import Listener, Terms, _Asked
from flexcache_rs.remote.listeners import ClusterListener
from flexcache_rs.remote.resp import Push

NOBODY: Any = SimpleNamespace()
"""Stands for objects that a test does not use."""


def terms(tracker: Any, breaker: Any = NOBODY, nonces: Any = NOBODY) -> Terms:
    return Terms("name", [b""], 1.0, tracker, breaker, nonces, True, lambda: None)


def test_copies_are_served_after_a_nonce_that_was_written_is_known() -> None:
    """The server's answers to earlier questions say nothing about it."""
    believed: list[int] = []
    sent: list[bytes] = []
    looked: list[bytes] = []
    tracker: Any = SimpleNamespace(
        **dict.fromkeys(("doubt", "start_generation"), lambda: None),
        believe_until=believed.append,
        invalidate=len,
        stamp=len,
        now=lambda: 0,
    )
    nonces: Any = SimpleNamespace(heard=list, looked_at=lambda place, reply, stamp: looked.append(reply))
    breaker: Any = SimpleNamespace(close=lambda moment: None)
    listener = Listener(NOBODY, terms(tracker, breaker, nonces))
    sock: Any = SimpleNamespace(settimeout=lambda seconds: None, sendall=sent.append)
    asked = _Asked()
    asked.questions += (("role", 7), ("time", None))
    for reply in (Push([b"invalidate", [b"place"]]), {b"role": b"master"}, [1, 0]):
        listener._take(reply, asked, sock)
    assert (len(sent), believed, looked) == (1, [], [])
    listener._take(b"nonce", asked, sock)
    assert (believed, looked) == ([1_000_000_007], [b"nonce"])


@pytest.mark.parametrize("kind", [Listener, ClusterListener])
def test_a_child_does_not_rely_on_what_its_parent_knew_last(kind: Any) -> None:
    """It has heard of no write since the fork."""
    tracker = PushTracker(1)
    listener = kind(NOBODY, terms(tracker))
    stamp = tracker.stamp(b"key")
    assert tracker.is_last_known(stamp)
    listener.after_fork()
    assert not tracker.is_last_known(stamp)


def test_news_wake_all_threads_that_wait() -> None:
    listener = Listener(NOBODY, terms(PushTracker(1)))
    listener._changed.set()
    for _ in range(3):
        assert not listener.wait(0)
        # The next one is woken too.
        assert not listener._changed._set.empty()


def test_the_thread_of_a_listener_may_stop_it() -> None:
    """A destructor runs in any thread."""
    listener = Listener(NOBODY, terms(PushTracker(1)))
    listener._thread.current = threading.current_thread()
    listener.stop()
