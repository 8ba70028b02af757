"""Helps tests of awaited reads without a thread, for every kind of server."""

from __future__ import annotations

import asyncio
from typing import Any

PLACE = b"test:{key}"


async def connected(cache: Any, key: Any = "first") -> None:
    """Wait until reads of a key need no thread."""
    place = cache._store.keys.value(key)
    while cache._client.asker(place) is None:
        await asyncio.sleep(0.001)
    cache[key] = 1
    assert await cache.aget(key) == 1
