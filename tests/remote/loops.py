"""Helps tests of awaited reads without a thread, for every kind of server."""

from __future__ import annotations

import asyncio
from typing import Any

from news import hear

from flexcache_rs.remote.nonces import NAMESPACE

PLACE = b"test:{key}"


async def connected(cache: Any, key: Any = "first") -> None:
    """Wait until reads of a key need no thread."""
    place = cache._store.keys.value(key)
    while cache._client.asker(place) is None:
        await asyncio.sleep(0.001)
    cache[key] = 1
    assert await cache.aget(key) == 1


async def told(cache: Any) -> None:
    """Wait until the cache has heard of the writes so far, and has read the namespace's nonce again, of one server."""
    await connected(cache)
    hear(cache)
    while cache._store.nonces.known(NAMESPACE) is None:
        # On a busy machine, the listener may have to connect again. Then only a call reads the nonce.
        await connected(cache)
