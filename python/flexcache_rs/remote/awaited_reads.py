"""Awaited reads without a thread, where nothing has to be asked but the value."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from flexcache_rs.remote.errors import RemoteError, RemoteTimeoutError, RemoteValueError
from flexcache_rs.remote.nonces import NAMESPACE

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable

    from flexcache_rs.remote.client import Client
    from flexcache_rs.remote.store import RemoteStore

UNKNOWN: Final[Any] = object()
"""A thread must find out."""


def asker(store: RemoteStore, client: Client, place: bytes) -> Callable[..., Future[Any]] | None:
    """What sends a command about a place, where nothing has to come before it. See `Client.asker`."""
    if store.life.is_closed or store.breaker.is_open or store.nonces.checked != [os.getpid()]:
        return None
    return client.asker(place)


async def load(store: RemoteStore, client: Client, key: Any, *, anew: bool = False) -> Any:
    """What `RemoteStore.load` returns of a key, or UNKNOWN.

    Errors are for the thread, too: it asks once more, or does what `on_error` says. Only a server that was silent for
    the whole timeout is not asked again.

    Raises:
        RemoteTimeoutError: The server did not answer, and `on_error` is "raise".
    """
    place = store.keys.value(key)
    ask = asker(store, client, place)
    if ask is None or (anew and client.is_divided):
        # The server of the key need not have the nonces.
        return UNKNOWN
    # Before anything that is known of nonces.
    stamp = store.tracker.stamp(place)
    known = store.known()
    if known is None:
        return UNKNOWN
    try:
        if anew:
            watched = store.nonces.watch(NAMESPACE)
            raw, nonce = await ask(None, ("MGET", place, store.keys.epoch))
            store.nonces.learn(NAMESPACE, nonce, watched)
            if raw is None:
                # Nothing, or something of another type: MGET does not say.
                return UNKNOWN
            found = store.as_entry(raw, nonce)
        else:
            found = await ask(known, ("GET", place))
        entry = store.entry(key, found, anew=anew, asks=False) if type(found) is bytes else found
    except RemoteTimeoutError as error:
        store.counts.errors += 1
        store.breaker.open(error)
        client.doubt(place)
        if store.on_error == "raise":
            raise
        return UNKNOWN
    except (RemoteError, RemoteValueError, LookupError):
        return UNKNOWN
    store.counts.loads += 1
    store.counts.hits += entry is not None
    store.remember(place, entry, stamp)
    return entry, stamp
