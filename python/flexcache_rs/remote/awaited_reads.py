"""Awaited reads on the direct lane: without a thread where nothing has to be asked but the value."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from flexcache_rs.remote.errors import RemoteConnectionError, RemoteTimeoutError, RemoteValueError
from flexcache_rs.remote.nonces import NAMESPACE
from flexcache_rs.remote.store import MARK
from flexcache_rs.remote.values import read_head

if TYPE_CHECKING:
    from flexcache_rs.remote.client import Client
    from flexcache_rs.remote.store import RemoteStore

UNKNOWN: Final[Any] = object()
"""A thread must find out."""


async def load(store: RemoteStore, client: Client, key: Any, *, anew: bool = False) -> Any:
    """What `RemoteStore.load` returns of a key, or UNKNOWN.

    Errors are for the thread, too: it asks once more, or does what `on_error` says. Only a server that was silent for
    the whole timeout is not asked again.

    Raises:
        RemoteTimeoutError: The server did not answer, and `on_error` is "raise".
    """
    place = store.keys.value(key)
    if (
        store.life.is_closed
        or store.breaker.is_open
        or store.nonces.checked != [os.getpid()]
        or store.nonces.known(NAMESPACE) is None
    ):
        return UNKNOWN
    stamp = store.tracker.stamp(place)
    try:
        if anew:
            watched = store.nonces.watch(NAMESPACE)
            raw, nonce = await client.aexecute("MGET", place, store.keys.epoch)
            store.nonces.learn(NAMESPACE, nonce, watched)
        else:
            raw = await client.aexecute("GET", place)
    except RemoteConnectionError:
        return UNKNOWN
    except RemoteTimeoutError as error:
        store.counts.errors += 1
        store.breaker.open(error)
        if store.on_error == "raise":
            raise
        return UNKNOWN
    entry = _entry(store, key, raw, anew=anew)
    if entry is UNKNOWN:
        return UNKNOWN
    store.counts.loads += 1
    store.counts.hits += entry is not None
    store.remember(place, entry)
    return entry, stamp


def _entry(store: RemoteStore, key: Any, raw: bytes | None, *, anew: bool) -> Any:
    """An entry of its bytes, None where it is dead; UNKNOWN where its nonces would have to be asked for."""
    if not raw:
        return None
    try:
        head = read_head(key, raw)
        nonces = [store.nonces.known(tag) for tag in (NAMESPACE, *(MARK + name for name, _ in head.tags))]
        if None in nonces or (anew and head.tags):
            return UNKNOWN
        if nonces != [head.epoch, *(nonce for _, nonce in head.tags)]:
            return None
        if head.deadline and head.deadline <= store.server_ms():
            return None
        seconds = (head.deadline - store.server_ms()) / 1000 if head.deadline else None
        return store.values.read(key, head, raw), seconds, tuple(name for name, _ in head.tags)
    except RemoteValueError:
        return UNKNOWN
