"""`RemoteStore`: a namespace of a server as the store behind caches in memory.

Every read takes its stamp before it sends its command, and every write invalidates what it writes before and after. See
`src/core/push_tracker.rs`.
"""

from __future__ import annotations

import copy
import os
import struct
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from flexcache_rs._core import _remote_entries  # pyright: ignore[reportPrivateUsage]
from flexcache_rs.remote import scripts
from flexcache_rs.remote.errors import RemoteError, RemoteValueError
from flexcache_rs.remote.failures import is_of_another_type
from flexcache_rs.remote.last import LastResults
from flexcache_rs.remote.leases import Leases
from flexcache_rs.remote.nonces import MARK, NAMESPACE
from flexcache_rs.remote.values import HEAD_BYTES, MOST_HEAD, head_bytes, is_int, read_head, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flexcache_rs._core import PushTracker
    from flexcache_rs.remote.breaker import Breaker
    from flexcache_rs.remote.client import Client
    from flexcache_rs.remote.keys import Keys
    from flexcache_rs.remote.last import Last
    from flexcache_rs.remote.values import Head, Values

    _Entry = tuple[Any, float | None, tuple[str, ...]]

BATCH = 1000
"""Commands that are sent at a time."""

_DEADLINE = struct.Struct("<q")

LENIENT: ContextVar[bool] = ContextVar("flexcache_remote_lenient", default=False)
"""Whether a server that cannot be asked is as if it had nothing: for what computes values."""


POPPED: ContextVar[list[_Entry | None] | None] = ContextVar("flexcache_remote_popped", default=None)
"""Where `pop` leaves the entry, with its time to live and tags, for callers that may have to put it back."""


class RemoteStore(Leases):
    """A namespace of a server, as caches in memory use it.

    Args:
        client: Sends commands.
        keys: Where everything is.
        values: Reads and writes values.
        tracker: Decides which copies are served.
        breaker: Refuses callers while the server does not answer.
        on_error: "raise", "miss" or "stale".
        last: What was known last of keys, where that is wanted.
        jitter: By up to which part a time to live is cut at random.
    """

    def __init__(
        self,
        client: Client,
        keys: Keys,
        values: Values,
        tracker: PushTracker,
        breaker: Breaker,
        on_error: str,
        last: Last | None,
        jitter: float,
    ) -> None:
        super().__init__(client, keys, values, tracker, breaker)
        self.on_error, self.last, self._jitter = on_error, last, jitter
        self._lenient = False
        self._loads = values.serializer.loads

    def of_results(self, most: int) -> RemoteStore:
        """The same store, for which a server that cannot be asked is as if it had nothing, or results that are old."""
        store = copy.copy(self)
        store._lenient = True
        store.last = LastResults(most, self.tracker, self.nonces)
        return store

    def forget_all(self) -> None:
        """Everything on the server is gone."""
        self.nonces.checked.clear()
        self.nonces.forget()

    def is_live(self, key: Any, raw: Any) -> bool:
        """Whether these first bytes are a live value's."""
        if not isinstance(raw, bytes):
            return False
        if len(raw) == MOST_HEAD and head_bytes(raw) > MOST_HEAD:
            return self.head(key)[0] is not None
        return self._live(key, raw) is not None

    @property
    def closed(self) -> bool:
        """Whether the cache is closed. A result that was computed meanwhile is returned and not stored."""
        return self.life.is_closed

    def _is_lenient(self) -> bool:
        return self._lenient or LENIENT.get()

    # Reading

    def stamp(self, key: Any) -> int:
        """The stamp of what is read of a key after this."""
        return self.tracker.stamp(self.keys.value(key))

    def load(self, key: Any, *, anew: bool = False) -> tuple[_Entry | None, int]:
        """A live entry, and the stamp of that. With `anew`, nothing that is known of nonces counts."""
        place = self.keys.value(key)
        self.counts.loads += 1
        try:
            # Before anything that is known of nonces.
            stamp = self.tracker.stamp(place)
            known = None if anew else self.known()
            if known is None:
                found = self.as_entry(*self._get(key, place, anew=anew))
            else:
                found = self._read_of(key, self.client.entry, place, known)
            # Bytes are what needs more than that is known.
            entry = self.entry(key, found, anew=anew) if type(found) is bytes else found
        except RemoteError:
            if self.on_error == "raise" and not self._is_lenient():
                raise
            return self._last(place), 0
        except RemoteValueError:
            self.counts.unreadable += 1
            if not self._is_lenient():
                raise
            return None, 0
        if entry is not None:
            self.counts.hits += 1
        self.remember(place, entry, stamp)
        return entry, stamp

    def known(self) -> tuple[bytes, float, Callable[[bytes], Any]] | None:
        """What `RemoteLane.entry` takes; None where the nonce of the namespace is not known for sure."""
        nonce = self.nonces.known(NAMESPACE)
        return None if nonce is None else (nonce, self.offset(), self._loads)

    def _read_of(self, key: Any, call: Callable[..., Any], *arguments: Any) -> Any:
        """The same as `read`, where what is under the key may be of another type."""
        try:
            return self.read(call, *arguments)
        except RemoteError as error:
            if is_of_another_type(error):
                raise unreadable(key, str(error)) from error
            raise

    def as_entry(self, raw: bytes | None, nonce: bytes | None) -> Any:
        """The entry of a value's bytes that were read together with the nonce of the namespace.

        Returns the bytes where more has to be known.
        """
        if raw is None or nonce is None:
            return raw
        return _remote_entries((raw,), (nonce, self.offset(), self._loads))[0]

    def _get(self, key: Any, place: bytes, *, anew: bool = False) -> tuple[bytes | None, bytes | None]:
        """A value's bytes, and the namespace's nonce, read with them where it is not known or is wanted anew."""
        nonce = None if anew else self.nonces.known(NAMESPACE)
        if nonce is not None:
            return self._read_of(key, self.client.execute, "GET", place), nonce
        stamp = self.nonces.watch(NAMESPACE)
        # Not MGET, which finds nothing where something of another type is.
        found, nonce = self.read(self.client.execute_many, [("GET", place), ("GET", self.keys.epoch)])
        if isinstance(found, Exception) and is_of_another_type(found):
            raise unreadable(key, str(found)) from found
        for reply in (found, nonce):
            if isinstance(reply, Exception):
                raise self.client.translated(reply)
        self.nonces.learn(NAMESPACE, nonce, stamp)
        return cast("bytes | None", found), nonce

    def _last(self, place: bytes) -> _Entry | None:
        """What is returned of a key while the server cannot be asked. Who computes a value wants none that is old."""
        if self.last is None or (LENIENT.get() and not self._lenient):
            return None
        found = self.last.find(place)
        if found is not None and not self._lenient:
            self.counts.stale += 1
        return found

    def remember(self, place: bytes, entry: _Entry | None, stamp: int = 0) -> None:
        """Keep what is known of a key, where old values are wanted."""
        if self.last is not None:
            self.last.keep(place, entry, stamp)

    def remember_unsent(self, place: bytes, value: Any, seconds: float | None, stamp: int) -> None:
        """Keep a computed value that could not be stored, where results are wanted in place of errors."""
        if self._lenient:
            self.remember(place, (value, seconds, ()), stamp)

    def _live(self, key: Any, raw: bytes | None, *, anew: bool = False, asks: bool = True) -> Head | None:
        """The header of a value that is live. With `anew`, the server is asked for the nonces of its tags.

        Raises:
            LookupError: `asks` is false, and the server would have to be asked.
        """
        if not raw:
            return None
        head = read_head(key, raw)
        if head.deadline and head.deadline <= self.server_ms():
            return None
        wanted: dict[str, bytes] = {NAMESPACE: head.epoch, **{MARK + name: nonce for name, nonce in head.tags}}
        tags = [MARK + name for name, _ in head.tags] if anew else []
        if not asks:
            if tags:
                raise LookupError(tags[0])
            return head if self.nonces.all_known(wanted) == wanted else None
        return head if self.nonces.current(wanted, anew=tags) == wanted else None

    def entry(self, key: Any, raw: bytes | None, *, anew: bool = False, asks: bool = True) -> _Entry | None:
        """A live entry of its bytes. With `anew`, the server is asked for the nonces of its tags.

        Raises:
            LookupError: `asks` is false, and the server would have to be asked.
            RemoteValueError: They are no value's.
        """
        head = self._live(key, raw, anew=anew, asks=asks)
        if head is None or raw is None:
            return None
        seconds = (head.deadline - self.server_ms()) / 1000 if head.deadline else None
        return self.values.read(key, head, raw), seconds, tuple(name for name, _ in head.tags)

    def load_many(self, keys: Sequence[Any]) -> list[tuple[_Entry | None, int]]:
        """What `load` returns of each key. Values that cannot be read are left out."""
        loaded: list[tuple[_Entry | None, int]] = []
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            places = self.keys.values(batch)
            try:
                loaded += self._load_batch(batch, places)
            except RemoteError:
                if self.on_error == "raise" and not self._is_lenient():
                    raise
                loaded += [(self._last(place), 0) for place in places]
        return loaded

    def _load_batch(self, keys: Sequence[Any], places: Sequence[bytes]) -> list[tuple[_Entry | None, int]]:
        # Before anything that is known of nonces.
        stamps = self.tracker.stamps(places)
        self.counts.loads += len(keys)
        found = self.read(self.client.values, places)
        known = self.known()
        entries = found if known is None else _remote_entries(found, known)
        for number, entry in enumerate(entries):
            if type(entry) is bytes:
                # It takes more than that is known.
                entries[number] = None
                try:
                    entries[number] = self.entry(keys[number], entry)
                except RemoteValueError:
                    self.counts.unreadable += 1
                    stamps[number] = 0
        self.counts.hits += len(entries) - entries.count(None)
        if self.last is not None:
            for place, entry, stamp in zip(places, entries, stamps, strict=True):
                self.remember(place, entry, stamp)
        return list(zip(entries, stamps, strict=True))

    def head(self, key: Any) -> tuple[Head | None, bytes]:
        """The header of a live value, and its bytes."""
        place = self.keys.value(key)
        raw = self._read_of(key, self.client.execute, "GETRANGE", place, 0, MOST_HEAD - 1)
        if len(raw) == MOST_HEAD and head_bytes(raw) > MOST_HEAD:
            raw = self._read_of(key, self.client.execute, "GET", place) or b""
        return self._live(key, raw), raw

    def contains(self, key: Any) -> bool:
        """Whether there is a live entry."""
        try:
            return self.head(key)[0] is not None
        except RemoteError:
            if self.on_error == "raise" and not self._is_lenient():
                raise
            return self._last(self.keys.value(key)) is not None

    def value(self, key: Any) -> tuple[Any, Head, bytes] | None:
        """A live value, its header, and its bytes."""
        place = self.keys.value(key)
        raw, _ = self._get(key, place)
        head = self._live(key, raw)
        return None if head is None or raw is None else (self.values.read(key, head, raw), head, raw)

    # Writing

    def _nonces_for(self, tags: Sequence[str]) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
        if not tags:
            nonce = self.nonces.known(NAMESPACE)
            if nonce is not None:
                return nonce, ()
        names = tuple(dict.fromkeys(tags))
        nonces = self.nonces.ensured((NAMESPACE, *(MARK + name for name in names)))
        return nonces[NAMESPACE], tuple((name, nonces[MARK + name]) for name in names)

    def encoded(self, value: Any, seconds: float | None, tags: Sequence[str]) -> tuple[bytes, int]:
        """The bytes of a value, and its deadline."""
        self.begin()
        epoch, nonces = self.send(self._nonces_for, tags)
        return self._with_nonces(value, seconds, epoch, nonces)

    def encoded_unasked(self, value: Any, seconds: float | None, tags: Sequence[str]) -> tuple[bytes, int]:
        """The same as `encoded`, without asking the server.

        Raises:
            LookupError: A nonce is not known for sure.
        """
        names = tuple(dict.fromkeys(tags))
        nonces = self.nonces.all_known((NAMESPACE, *(MARK + name for name in names)))
        return self._with_nonces(
            value, seconds, nonces[NAMESPACE], tuple((name, nonces[MARK + name]) for name in names)
        )

    def _with_nonces(
        self, value: Any, seconds: float | None, epoch: bytes, nonces: tuple[tuple[str, bytes], ...]
    ) -> tuple[bytes, int]:
        deadline = self.deadline(self.jittered(seconds))
        return self.values.write(value, deadline, epoch, nonces), deadline

    def swallow(self, error: RemoteError) -> None:
        """Raise what has failed, unless failures are as if there were nothing."""
        self.counts.failed_writes += 1
        if self.on_error == "raise" and not self._is_lenient():
            raise error

    def put(self, key: Any, value: Any, seconds: float | None, tags: Sequence[str]) -> None:
        """Store or replace an entry."""
        place = self.keys.value(key)
        try:
            raw, deadline = self.encoded(value, seconds, tags)
            with self.writing(place):
                self.client.execute("SET", place, raw, *(("PXAT", deadline) if deadline else ()))
        except RemoteError as error:
            # Nothing is known of it. What was last read is older than what was to be written.
            self.remember(place, None)
            self.swallow(error)
            return
        self.remember(place, (value, None, ()))

    def add(self, key: Any, value: Any, seconds: float | None, tags: Sequence[str]) -> bool:
        """Store an entry where there is none. Whether it did."""
        try:
            return self._add(key, value, seconds, tags)
        except RemoteError as error:
            self.swallow(error)
            return False

    def _add(self, key: Any, value: Any, seconds: float | None, tags: Sequence[str]) -> bool:
        place = self.keys.value(key)
        raw, deadline = self.encoded(value, seconds, tags)
        expiry = ("PXAT", deadline) if deadline else ()
        while True:
            with self.writing(place):
                added = self.client.execute("SET", place, raw, *expiry, "NX")
            if not added:
                head, there = self.head(key)
                if head is not None:
                    return False
                # What is there is dead: of a tag that was evicted, or of a namespace that was cleared.
                # Or it is empty, which counts as absent, but not for `NX`.
                added = self.replace(place, there, raw, deadline)
            if added:
                self.remember(place, (value, None, ()))
                return True

    def replace(self, place: bytes, there: bytes, raw: bytes, deadline: int) -> bool:
        """Store a value in the place of one that was read. Whether it was still there."""
        with self.writing(place):
            return bool(scripts.REPLACE.run(self.client, place, there[:HEAD_BYTES], raw, deadline))

    def _taken(self, place: bytes) -> Any:
        """Remove a value and the lease of its key. The first bytes that it had."""
        self.remember(place, None)
        command = ("GETRANGE", place, 0, MOST_HEAD - 1)
        with self.writing(place):
            lease, ended = self.keys.lease_of(place), 0
            if self.client.is_divided:
                # First: whatever is stored with another lease from here on is removed, too.
                ended = self.client.execute("DEL", lease)
                found, removed = self.client.transaction([command, ("DEL", place)])
            else:
                found, removed = self.client.transaction([command, ("DEL", place, lease)])
            for reply in (found, removed):
                if isinstance(reply, Exception) and not is_of_another_type(reply):
                    raise reply
            self._tell(place, found, removed + ended)
        return found

    def _tell(self, place: bytes, found: Any, removed: int) -> None:
        """Tell of the removal of a key that had a lease alone: the server tells nothing of keys that are not there.

        Otherwise, callers that come after the removal would wait for a computation that began before it.
        """
        if removed and not found:
            scripts.TELL.run(self.client, place)

    def tell_of_removal(self, place: bytes) -> None:
        """The same for a key whose lease was removed before."""
        with self.writing(place):
            scripts.TELL.run(self.client, place)

    def remove(self, key: Any) -> bool:
        """Remove an entry. Whether a live one was there. Raises where it fails: others would go on with the value."""
        return self.was_live(key, self._taken(self.keys.value(key)))

    def was_live(self, key: Any, raw: Any, *, asks: bool = True) -> bool:
        """Whether these first bytes of what was removed, or the refusal to read them, are those of a live entry.

        Raises:
            LookupError: `asks` is false, and the server would have to be asked.
        """
        if isinstance(raw, Exception):
            # What was there is of another type. It is gone.
            return True
        try:
            # Of more tags than that the rest is not looked at.
            return self._live(key, raw, asks=asks) is not None
        except RemoteValueError:
            return True

    def pop(self, key: Any) -> _Entry | None:
        """Remove an entry and return it. One that cannot be read stays: others may be able to."""
        place = self.keys.value(key)
        while True:
            raw = self._read_of(key, self.client.execute, "GET", place)
            entry = self.entry(key, raw)
            if self._take_unchanged(place, raw or b""):
                if (popped := POPPED.get()) is not None:
                    popped.append(entry)
                return entry

    def move(self, old: Any, new: Any) -> bool:
        """Store the value of a key under another one instead. Raises where it fails: then the first key keeps it.

        Whether there was a value. Only one caller at a time may move a key.
        """
        place, target = self.keys.value(old), self.keys.value(new)
        is_moved = False
        while (found := self.value(old)) is not None:
            value, head, there = found
            raw = self.values.write(value, head.deadline, head.epoch, head.tags)
            self.remember(target, None)
            with self.writing(target):
                self.client.execute("SET", target, raw, *(("PXAT", head.deadline) if head.deadline else ()))
            is_moved = True
            if self._take_unchanged(place, there):
                break
        return is_moved

    def _take_unchanged(self, place: bytes, there: bytes) -> bool:
        """Remove a value that was read, and the lease of its key. Whether the value was still there."""
        self.remember(place, None)
        lease, ended = self.keys.lease_of(place), 0
        with self.writing(place):
            if self.client.is_divided:
                # As in `_taken`.
                ended = self.client.execute("DEL", lease)
                removed = scripts.TAKE_ALONE.run(self.client, place, there[:HEAD_BYTES])
            else:
                removed = scripts.TAKE.run(self.client, place, lease, there[:HEAD_BYTES])
            if removed >= 0:
                self._tell(place, there, removed + ended)
        return bool(removed >= 0)

    def touch(self, key: Any, seconds: float | None) -> bool:
        """Give an entry another time to live. Whether there was one."""
        place = self.keys.value(key)
        try:
            while True:
                head, raw = self.head(key)
                if head is None:
                    return False
                deadline = self.deadline(seconds)
                with self.writing(place):
                    written = _DEADLINE.pack(deadline)
                    if scripts.TOUCH.run(self.client, place, raw[:HEAD_BYTES], written, deadline):
                        return True
        except RemoteError as error:
            self.swallow(error)
            return False

    def put_many(self, entries: Sequence[tuple[Any, Any, float | None, Sequence[str]]]) -> None:
        """Store or replace entries, many at a time."""
        places = [self.keys.value(key) for key, *_ in entries]
        try:
            commands: list[tuple[Any, ...]] = []
            for place, (_, value, seconds, tags) in zip(places, entries, strict=True):
                raw, deadline = self.encoded(value, seconds, tags)
                commands.append(("SET", place, raw, *(("PXAT", deadline) if deadline else ())))
            for start in range(0, len(commands), BATCH):
                self._write_batch(places[start : start + BATCH], commands[start : start + BATCH])
        except RemoteError as error:
            for place in places:
                self.remember(place, None)
            self.swallow(error)
            return
        for place, (_, value, *_) in zip(places, entries, strict=True):
            self.remember(place, (value, None, ()))

    def _write_batch(self, places: Sequence[bytes], commands: Sequence[Sequence[Any]]) -> list[Any]:
        with self.writing(*places):
            replies = self.client.execute_many(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def remove_many(self, keys: Sequence[Any]) -> int:
        """Remove entries, many at a time. How many live ones were there."""
        removed = 0
        # All of them before the first is removed: one that is no key changes nothing.
        all_places = [self.keys.value(key) for key in keys]
        for start in range(0, len(keys), BATCH):
            batch, places = keys[start : start + BATCH], all_places[start : start + BATCH]
            for place in places:
                self.remember(place, None)
            leases = [self.keys.lease_of(place) for place in places]
            ended = [0] * len(places)
            if self.client.is_divided:
                # As in `_taken`.
                ended = self._write_batch(leases, [("DEL", lease) for lease in leases])
            commands: list[Sequence[Any]] = []
            for place, lease in zip(places, leases, strict=True):
                gone = ("DEL", place) if self.client.is_divided else ("DEL", place, lease)
                commands += (("MULTI",), ("GETRANGE", place, 0, MOST_HEAD - 1), gone, ("EXEC",))
            replies = self._write_batch(places, commands)[3::4]
            for place, (raw, count), more in zip(places, replies, ended, strict=True):
                if isinstance(count, Exception):
                    raise self.client.translated(count)
                if count + more and not raw:
                    self.tell_of_removal(place)
            removed += sum(self.was_live(key, raw) for key, (raw, _) in zip(batch, replies, strict=True))
        return removed

    def clear(self) -> None:
        """End all values: the namespace gets another nonce. What they take is freed as they expire, or by `purge`."""
        with self.writing(self.keys.epoch):
            self.client.execute("SET", self.keys.epoch, os.urandom(8))
        self.nonces.replaced(NAMESPACE)
        if self.last is not None:
            self.last.clear()

    def evict_tag(self, tag: str) -> int:
        """End all values with a tag. How many is not known."""
        place = self.keys.tag(tag)
        with self.writing(place, self.keys.evictions):
            # First what loads compare that do not know their tags yet.
            self.client.in_order([("SET", self.keys.evictions, os.urandom(8)), ("SET", place, os.urandom(8))])
        self.nonces.replaced(MARK + tag)
        return 0

    def incr(self, key: Any, by: int, initial: int | None, seconds: Callable[[], float | None]) -> int:
        """Add to an int. Raises KeyError where there is none and no initial value."""
        place = self.keys.value(key)
        epoch = self._nonces_now()
        if -(1 << 53) < by < 1 << 53:
            total = self._added_to(key, place, epoch, by)
            if total is not None:
                return int(total)
        while True:
            found = self.value(key)
            if found is None:
                if initial is None:
                    raise KeyError(key)
                if self._add(key, initial + by, seconds(), ()):
                    return initial + by
                continue
            value, head, raw = found
            if not is_int(head):
                message = f"the value of {key!r} is not an int but {type(value).__name__}"
                raise TypeError(message)
            new = self.values.write(value + by, head.deadline, head.epoch, head.tags)
            if self.replace(place, raw, new, head.deadline):
                return int(value) + by

    def _added_to(self, key: Any, place: bytes, epoch: bytes, by: int) -> bytes | None:
        """Add to an int in a script. The sum; None where there is none, or Python must add."""
        try:
            with self.writing(place):
                total: bytes | None = scripts.ADD_TO.run(self.client, place, epoch, by, os.urandom(4))
        except RemoteError as error:
            if is_of_another_type(error):
                raise unreadable(key, str(error)) from error
            raise
        return total

    def _nonces_now(self) -> bytes:
        self.begin()
        return self._nonces_for(())[0]
