"""Awaited writes without a thread, where everything is known that they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcache_rs._asyncio_calls import to_thread
from flexcache_rs.remote.awaited_reads import UNKNOWN, asker
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError
from flexcache_rs.remote.failures import UnsentError
from flexcache_rs.remote.values import MOST_HEAD

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Sequence

    from flexcache_rs import FlexCache
    from flexcache_rs.remote.client import Client
    from flexcache_rs.remote.store import RemoteStore

    _Ask = Callable[..., Future[Any]]


async def _send(
    store: RemoteStore,
    client: Client,
    near: FlexCache[Any, Any],
    ask: _Ask,
    place: bytes,
    key: Any,
    *commands: tuple[Any, ...],
) -> Any:
    """The reply to the last of the commands, which write a key; UNKNOWN if nothing was written and a thread must do it.

    Raises:
        RemoteTimeoutError, RemoteConnectionError: It is not known whether they were executed.
    """
    *before, last = commands
    near._discard(key)
    try:
        # The write ends with its reply, and not with this task.
        return await ask(None, last, before=before, write=store.tracker.write([place]))
    except UnsentError:
        return UNKNOWN
    except (RemoteTimeoutError, RemoteConnectionError) as error:
        store.counts.errors += 1
        store.breaker.open(error)
        if isinstance(error, RemoteTimeoutError):
            client.doubt(place)
        raise
    except RemoteError:
        # It was refused, or another server has the key. A thread finds out.
        return UNKNOWN
    finally:
        store.remember(place, None)
        near._discard(key)


async def put(
    store: RemoteStore, client: Client, near: FlexCache[Any, Any], key: Any, value: Any, ttl: Any, tags: Any
) -> None:
    """Store or replace an entry.

    Raises:
        RemoteError: As `RemoteStore.put`.
    """
    place = store.keys.value(key)
    ask = asker(store, client, place)
    if ask is not None:
        seconds, tags, tells_others = near._terms_of_put(key, value, ttl, tags)
        try:
            if not tells_others and await _put(store, client, near, ask, place, key, value, seconds, tags):
                return
        except RemoteError as error:
            store.swallow(error)
            return
    await to_thread(near.put, key, value, ttl, tags)


async def _put(
    store: RemoteStore,
    client: Client,
    near: FlexCache[Any, Any],
    ask: _Ask,
    place: bytes,
    key: Any,
    value: Any,
    seconds: float | None,
    tags: Sequence[str],
) -> bool:
    """Whether it was stored. If not, a thread must do it."""
    try:
        raw, deadline = store.encoded_unasked(value, seconds, tags)
    except LookupError:
        return False
    command = ("SET", place, raw, "PXAT", deadline) if deadline else ("SET", place, raw)
    if await _send(store, client, near, ask, place, key, command) is UNKNOWN:
        return False
    store.remember(place, (value, None, ()))
    return True


async def delete(store: RemoteStore, client: Client, near: FlexCache[Any, Any], key: Any) -> bool:
    """Remove an entry. Whether a live one was there.

    Raises:
        RemoteError: As `RemoteStore.remove`.
    """
    place = store.keys.value(key)
    # While a slot of a cluster moves, it takes two commands.
    ask = None if client.is_divided else asker(store, client, place)
    if ask is not None:
        gone = ("DEL", place, store.keys.lease_of(place))
        commands = (("MULTI",), ("GETRANGE", place, 0, MOST_HEAD - 1), gone, ("EXEC",))
        replies = await _send(store, client, near, ask, place, key, *commands)
        if replies is not UNKNOWN:
            found, removed = replies
            if removed and not found:
                await to_thread(store.tell_of_removal, place)
            try:
                return store.was_live(key, found, asks=False)
            except LookupError:
                return await to_thread(store.was_live, key, found)
    return await to_thread(near.delete, key)
