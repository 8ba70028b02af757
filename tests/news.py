"""Waiting for what a server announces to a `RemoteCache`."""

from __future__ import annotations

import functools
from typing import Any

from waiting import until


def hear(cache: Any) -> None:
    """Wait until a cache knows of all earlier writes to its server, and has what it asked for because of them.

    An announced write of a tag makes the listener send a request. When the first announcement arrives, the request has
    been sent. At the second one the server has read it, and the third one comes after the reply.
    """
    for _ in range(3):
        until(functools.partial(_is_next_heard, cache._store))


def _is_next_heard(store: Any) -> bool:
    """Wait for the announcement of a write, and return True if nothing else can have ended the wait.

    A cache that connects again, or hears of a new nonce, drops what it knows of all keys.
    """
    marker, unwritten = store.keys.limiter("marker"), store.tracker.stamp(store.keys.limiter("unwritten"))
    stamp = store.tracker.stamp(marker)
    # Not as a write of the cache, which invalidates its own keys without an announcement.
    store.client.execute("SET", marker, "")
    until(lambda: not store.tracker.is_unchanged(stamp))
    unchanged: bool = store.tracker.is_unchanged(unwritten)
    return unchanged
