"""Calls of a cache over the connections of event loops.

Errors that say that nothing was written are for a thread: it asks once more, follows redirections, or does what
`on_error` says. Only a server that was silent for the whole timeout is not asked again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from flexcache_rs._asyncio_calls import gathered, to_thread
from flexcache_rs.remote import scripts
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError, RemoteValueError
from flexcache_rs.remote.failures import without_other_types
from flexcache_rs.remote.nonces import NAMESPACE
from flexcache_rs.remote.store import BATCH
from flexcache_rs.remote.values import MOST_HEAD, is_cut

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from flexcache_rs._core import FlexCache
    from flexcache_rs.remote.store import RemoteStore

    _Ask = Callable[..., Future[Any]]

UNKNOWN: Final[Any] = object()
"""The result of a call that a thread must make instead."""


class LoopCalls:
    """Calls over the connection of the running event loop. Each returns UNKNOWN if a thread must make it.

    Args:
        store: The namespace of the server.
        near: The cache in memory in front of it.
    """

    def __init__(self, store: RemoteStore, near: FlexCache[Any, Any]) -> None:
        self._store, self._client, self._near = store, store.client, near

    def _asker(self, place: bytes) -> _Ask | None:
        """Return the function that sends commands about a place. None if a thread must do so. See `Client.asker`."""
        store = self._store
        if store.life.is_closed or store.breaker.is_open or store.nonces.checked != [os.getpid()]:
            return None
        return self._client.asker(place)

    def _failed(self, error: RemoteTimeoutError | RemoteConnectionError, place: bytes) -> None:
        """Note that the server of a place did not respond, so that other calls do not each wait for their timeout."""
        self._store.counts.errors += 1
        self._store.breaker.open(error)
        if isinstance(error, RemoteTimeoutError):
            self._client.doubt(place)

    # Reading

    async def load(self, key: Any, *, anew: bool = False) -> Any:
        """Return the same as `RemoteStore.load`.

        Raises:
            RemoteTimeoutError: The server did not answer, and `on_error` is "raise".
        """
        store = self._store
        place = store.keys.value(key)
        ask = self._asker(place)
        if ask is None or (anew and self._client.is_divided):
            # The nonces may be on another server than the key.
            return UNKNOWN
        # Take the stamp before looking at the known nonces.
        stamp = store.tracker.stamp(place)
        known = store.known()
        if known is None:
            return UNKNOWN
        try:
            if anew:
                watched = store.nonces.watch(NAMESPACE)
                raw, nonce = await ask(None, ("MGET", place, store.keys.epoch))
                nonce = store.nonces.learn(NAMESPACE, nonce, watched)
                if raw is None:
                    # The key is absent or holds another type, which MGET does not distinguish.
                    return UNKNOWN
                found = store.as_entry(raw, nonce)
            else:
                found = await ask(known, ("GET", place))
            entry = store.entry(key, found, anew=anew, asks=False) if type(found) is bytes else found
        except RemoteTimeoutError as error:
            self._failed(error, place)
            if store.on_error == "raise":
                raise
            return UNKNOWN
        except (RemoteError, RemoteValueError, LookupError):
            return UNKNOWN
        store.counts.loads += 1
        store.counts.hits += entry is not None
        store.remember(place, entry, stamp)
        return entry, stamp

    async def get_many(self, keys: list[Any]) -> dict[Any, Any]:
        """Return the values of keys. See `RemoteCache.get_many`."""
        found: dict[Any, Any] = {}
        asked = self._near._get_many_from_memory(keys, found)
        is_in_order = not found
        for start in range(0, len(asked), BATCH):
            batch = asked[start : start + BATCH]
            loaded = await self._load_many(batch)
            if loaded is UNKNOWN:
                loaded = await to_thread(self._store.load_many, batch)
            entries, stamps = loaded
            self._near._take_many_loaded(batch, entries, stamps, found)
        return found if is_in_order or not asked else {key: found[key] for key in keys if key in found}

    async def _load_many(self, keys: list[Any]) -> Any:
        """Return the same as `RemoteStore.load_many`. Raises as `load` does."""
        store = self._store
        places = store.keys.values(keys)
        # Take the stamp before looking at the known nonces.
        stamps = store.tracker.stamps(places)
        try:
            raws = await self._values(places)
            entries = UNKNOWN if raws is UNKNOWN else store.entries(keys, places, stamps, raws, asks=False)
        except RemoteTimeoutError:
            if store.on_error == "raise":
                raise
            return UNKNOWN
        except LookupError:
            return UNKNOWN
        if entries is UNKNOWN:
            return UNKNOWN
        store.counts.loads += len(keys)
        return entries, stamps

    async def _values(self, places: list[bytes]) -> Any:
        """Return the values in several places. See `Client.values`."""
        parts = self._parts(places)
        if parts is None:
            return UNKNOWN
        if not self._client.is_divided:
            (ask,) = parts
            return await self._read(ask, places[0], "MGET", *places)
        found: list[Any] = [None] * len(places)
        commands = [("GET", place) for place in places]
        reading = [self._read_many(ask, places[at[0]], [commands[n] for n in at]) for ask, at in parts.items()]
        for at, replies in zip(parts.values(), await gathered(reading), strict=True):
            if replies is UNKNOWN:
                return UNKNOWN
            for number, reply in zip(at, replies, strict=True):
                found[number] = reply
        try:
            return without_other_types(found)
        except RemoteError:
            return UNKNOWN

    async def _read_many(self, ask: _Ask, place: bytes, commands: list[tuple[Any, ...]]) -> Any:
        """Return the replies to commands that only read. See `_read`."""
        *before, last = commands
        return await self._read(ask, place, *last, before=before)

    async def _read(self, ask: _Ask | None, place: bytes, *command: Any, **options: Any) -> Any:
        """Return the reply to a command that only reads.

        Raises:
            RemoteTimeoutError: There was no reply in time.
        """
        if ask is None:
            return UNKNOWN
        try:
            return await ask(None, command, **options)
        except RemoteTimeoutError as error:
            self._failed(error, place)
            raise
        except RemoteError:
            return UNKNOWN

    def _parts(self, places: list[bytes]) -> Mapping[_Ask, Sequence[int]] | None:
        """Where in the list the places are that each connection asks about; None where a thread must ask about some."""
        if not places or len(places) > BATCH:
            # Too many keys would block the event loop for other tasks.
            return None
        if not self._client.is_divided:
            ask = self._asker(places[0])
            return None if ask is None else {ask: range(len(places))}
        parts: dict[_Ask, list[int]] = {}
        for number, place in enumerate(places):
            ask = self._asker(place)
            if ask is None:
                return None
            parts.setdefault(ask, []).append(number)
        return parts

    async def _head(self, ask: _Ask, key: Any, place: bytes) -> Any:
        """Return the same as `RemoteStore.head`.

        Raises:
            RemoteTimeoutError: There was no reply in time.
        """
        raw = await self._read(ask, place, "GETRANGE", place, 0, MOST_HEAD - 1)
        try:
            # No bytes, if there is no value, are also for a thread.
            is_whole = type(raw) is bytes and not is_cut(raw)
            return (self._store.live(key, raw, asks=False), raw) if is_whole else UNKNOWN
        except (LookupError, RemoteValueError):
            return UNKNOWN

    async def ttl(self, key: Any) -> Any:
        """Return the seconds that a key has left. See `RemoteCache.ttl`."""
        place = self._store.keys.value(key)
        ask = self._asker(place)
        found = UNKNOWN if ask is None else await self._head(ask, key, place)
        if found is UNKNOWN:
            return UNKNOWN
        if found[0] is None:
            raise KeyError(key)
        return self._store.seconds_left(found[0])

    # Writing

    async def _write(
        self,
        ask: _Ask,
        keys: Sequence[Any],
        places: Sequence[bytes],
        commands: Sequence[tuple[Any, ...]],
        *,
        forgets: bool = True,
    ) -> Any:
        """Return the replies to commands that write keys of one server.

        Args:
            ask: Sends the commands.
            keys: The keys.
            places: The places of the keys.
            commands: The commands.
            forgets: Whether to forget the last known values of the keys.

        Raises:
            RemoteTimeoutError, RemoteConnectionError: It is not known whether the commands were executed.
        """
        store = self._store
        *before, last = commands
        self._near._discard(keys)
        try:
            # The write ends when its reply arrives, even if this task ends before.
            return await ask(None, last, before=before, write=store.tracker.write(places))
        except (RemoteTimeoutError, RemoteConnectionError) as error:
            if error._is_unsent:  # pyright: ignore[reportPrivateUsage]
                return UNKNOWN
            self._failed(error, places[0])
            raise
        finally:
            if forgets and store.last is not None:
                for place in places:
                    store.remember(place, None)
            self._near._discard(keys)

    async def _write_one(self, ask: _Ask, key: Any, place: bytes, *command: Any, forgets: bool = True) -> Any:
        """Return the reply to a command that writes a key, or UNKNOWN if it was refused or another server has the key.

        Raises:
            RemoteTimeoutError, RemoteConnectionError: It is not known whether the command was executed.
        """
        replies = await self._write(ask, [key], [place], [command], forgets=forgets)
        return UNKNOWN if replies is UNKNOWN or isinstance(replies[0], Exception) else replies[0]

    def _set_commands(self, places: list[bytes], entries: Iterable[tuple[Any, Any]], ttl: Any, tags: Any) -> Any:
        """Return the commands that store values, if they need no request to the server before.

        Raises:
            TypeError, ValueError, OverflowError: `put` refuses an argument.
        """
        store, nonces, commands = self._store, None, list[tuple[Any, ...]]()
        for place, (key, value) in zip(places, entries, strict=True):
            seconds, names, tells_others = self._near._terms_of_put(key, value, ttl, tags)
            if tells_others:
                return UNKNOWN
            if nonces is None:
                try:
                    nonces = store.nonces_for(names, asks=False)
                except LookupError:
                    return UNKNOWN
            commands.append(store.set_command(place, *store.encoded(value, seconds, nonces)))
        return commands

    def _begin_set(self, key: Any, value: Any, ttl: Any, tags: Any) -> tuple[_Ask, bytes, tuple[Any, ...]] | None:
        """Return the function that sends commands, the place of a key, and the command that stores a value.

        The result is None if a thread must make the call.

        Raises:
            TypeError, ValueError, OverflowError: `put` refuses an argument.
        """
        place = self._store.keys.value(key)
        ask = self._asker(place)
        if ask is None:
            return None
        commands = self._set_commands([place], [(key, value)], ttl, tags)
        return None if commands is UNKNOWN else (ask, place, commands[0])

    async def put(self, key: Any, value: Any, ttl: Any, tags: Any) -> Any:
        """Store or replace an entry. See `RemoteCache.put`."""
        begun = self._begin_set(key, value, ttl, tags)
        if begun is None:
            return UNKNOWN
        ask, place, command = begun
        try:
            if await self._write_one(ask, key, place, *command) is UNKNOWN:
                return UNKNOWN
        except RemoteError as error:
            self._store.swallow(error)
            return None
        self._store.remember(place, (value, None, ()))
        return None

    async def add(self, key: Any, value: Any, ttl: Any, tags: Any) -> Any:
        """Store an entry if the key has none. See `RemoteCache.add`."""
        begun = self._begin_set(key, value, ttl, tags)
        if begun is None:
            return UNKNOWN
        ask, place, command = begun
        try:
            added = await self._write_one(ask, key, place, *command, "NX", forgets=False)
            if added is UNKNOWN:
                return UNKNOWN
            if added is None:
                found = await self._head(ask, key, place)
                # A thread replaces a value that is no longer live.
                return UNKNOWN if found is UNKNOWN or found[0] is None else False
        except RemoteError as error:
            self._store.swallow(error)
            return False
        self._store.remember(place, (value, None, ()))
        return True

    async def touch(self, key: Any, ttl: Any) -> Any:
        """Give an entry another time to live. See `RemoteCache.touch`."""
        store = self._store
        place = store.keys.value(key)
        seconds = self._near._seconds_of(float("inf") if ttl is None else ttl)
        ask = self._asker(place)
        if ask is None:
            return UNKNOWN
        try:
            found = await self._head(ask, key, place)
            if found is UNKNOWN:
                return UNKNOWN
            head, raw = found
            if head is None:
                return False
            command = scripts.TOUCH.command(*store.touch_arguments(place, raw, seconds))
            reply = await self._write_one(ask, key, place, *command, forgets=False)
            is_touched = reply is not UNKNOWN and reply
        except RemoteError as error:
            store.swallow(error)
            return False
        # If another caller has written the key meanwhile, a thread reads it again.
        return True if is_touched else UNKNOWN

    async def incr(self, key: Any, by: int, initial: int, ttl: Any) -> Any:  # noqa: ARG002
        """Add to an int. See `RemoteCache.incr`."""
        store = self._store
        place = store.keys.value(key)
        ask, epoch = self._asker(place), store.nonces.known(NAMESPACE)
        self._near._seconds_of(ttl)
        if ask is None or epoch is None or not scripts.is_exact(by):
            return UNKNOWN
        command = scripts.ADD_TO.command(place, epoch, by, os.urandom(4))
        total = await self._write_one(ask, key, place, *command)
        # A thread handles a value that is no int, or a large one.
        if total is UNKNOWN or total is None:
            return UNKNOWN
        store.remember(place, (int(total), None, ()))
        return int(total)

    async def compare_and_set(self, key: Any, old: Any, new: Any, ttl: Any) -> Any:
        """Replace a value that equals another one. See `RemoteCache.compare_and_set`."""
        store = self._store
        place = store.keys.value(key)
        seconds = self._near._seconds_of(ttl)
        while True:
            ask = self._asker(place)
            raw = await self._read(ask, place, "GET", place)
            if ask is None or raw is UNKNOWN:
                return UNKNOWN
            try:
                arguments = store.swap_arguments(key, place, raw, old, new, seconds, asks=False)
            except LookupError:
                return UNKNOWN
            if arguments is None:
                return False
            replaced = await self._write_one(ask, key, place, *scripts.REPLACE.command(*arguments))
            if replaced is UNKNOWN:
                return UNKNOWN
            if replaced:
                store.remember(place, (new, None, ()))
                return True

    async def set_many(self, entries: dict[Any, Any], ttl: Any, tags: Any) -> Any:
        """Store or replace entries. See `RemoteCache.set_many`."""
        store, keys = self._store, list(entries)
        places = store.keys.values(keys)
        parts = self._parts(places)
        if parts is None:
            return UNKNOWN
        commands = self._set_commands(places, entries.items(), ttl, tags)
        if commands is UNKNOWN:
            return UNKNOWN

        def write(ask: _Ask, part: Sequence[int]) -> Coroutine[Any, Any, Any]:
            return self._write(
                ask, [keys[at] for at in part], [places[at] for at in part], [commands[at] for at in part]
            )

        try:
            replies = await gathered([write(*part) for part in parts.items()])
        except RemoteError as error:
            store.swallow(error)
            return None
        if UNKNOWN in replies or any(isinstance(reply, Exception) for part in replies for reply in part):
            # A thread stores all of them again.
            return UNKNOWN
        if store.last is not None:
            for place, value in zip(places, entries.values(), strict=True):
                store.remember(place, (value, None, ()))
        return None

    async def delete(self, key: Any) -> Any:
        """Remove an entry. See `RemoteCache.delete`."""
        return await self.delete_many([key])

    async def delete_many(self, keys: list[Any]) -> Any:
        """Remove entries. See `RemoteCache.delete_many`."""
        store = self._store
        places = store.keys.values(keys)
        # In a cluster, a removal takes two commands while a slot moves.
        parts = None if self._client.is_divided else self._parts(places)
        if parts is None:
            return UNKNOWN
        (ask,) = parts
        replies = await self._write(ask, keys, places, store.remove_commands(places))
        if replies is UNKNOWN:
            return UNKNOWN
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        try:
            return store.count_removed(keys, places, replies, asks=False)
        except LookupError:
            return await to_thread(store.count_removed, keys, places, replies)
