"""`RemoteStore`: a namespace of a server as the store behind caches in memory.

Every read takes its stamp before it sends its command, and every write invalidates what it writes before and after. See
`src/core/push_tracker.rs`.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import random
import struct
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from flexcache_rs.remote import scripts
from flexcache_rs.remote.commands import Commands
from flexcache_rs.remote.errors import RemoteError, RemoteValueError
from flexcache_rs.remote.nonces import NAMESPACE
from flexcache_rs.remote.values import HEAD_BYTES, MOST_HEAD, NONCE_BYTES, head_bytes, is_int, read_head

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from flexcache_rs._core import FlexCache, PushTracker
    from flexcache_rs.remote.breaker import Breaker
    from flexcache_rs.remote.client import Client
    from flexcache_rs.remote.keys import Keys
    from flexcache_rs.remote.values import Head, Values

    _Entry = tuple[Any, float | None, tuple[str, ...]]

BATCH = 1000
"""Commands that are sent at a time."""

_DEADLINE = struct.Struct("<q")
_LENGTH = struct.Struct("<I")

MARK = "t"
"""Before the names of tags, so that none is the namespace's."""

LENIENT: ContextVar[bool] = ContextVar("flexcache_remote_lenient", default=False)
"""Whether a server that cannot be asked is as if it had nothing: for what computes values."""


_TOKEN_BYTES = 16

_BETWEEN_QUESTIONS = 50
"""Milliseconds between two questions for a lease that somebody else has, where the server does not tell of its end."""


def _packed(nonces: dict[str, bytes]) -> bytes:
    """Nonces as bytes, to be kept with a lease."""
    names = {name.encode("utf-8", "surrogatepass"): nonce for name, nonce in nonces.items()}
    return b"".join(_LENGTH.pack(len(name)) + name + nonce for name, nonce in names.items())


def _unpacked(data: bytes) -> dict[str, bytes]:
    """The nonces that a lease was given with. Those that cannot be read are left out."""
    nonces: dict[str, bytes] = {}
    while len(data) >= _LENGTH.size:
        end = _LENGTH.size + int(_LENGTH.unpack_from(data)[0])
        if len(data) < end + NONCE_BYTES:
            break
        with contextlib.suppress(UnicodeDecodeError):
            nonces[data[_LENGTH.size : end].decode("utf-8", "surrogatepass")] = data[end : end + NONCE_BYTES]
        data = data[end + NONCE_BYTES :]
    return nonces


class Lease:
    """The lease of a key, or what is known of another's."""

    def __init__(self, store: RemoteStore, place: bytes, key: bytes, token: bytes) -> None:
        self.store, self.place, self.key, self.token = store, place, key, token
        self.head = b""
        self.nonces: dict[str, bytes] = {}
        self.evictions: bytes | None = None

    def is_valid(self) -> bool:
        """Whether it is there and nothing was written since. True where the server cannot be asked: storing tells."""
        store, tags = self.store, tuple(self.nonces)
        commands: list[tuple[Any, ...]] = [("GET", self.key), ("GETRANGE", self.place, 0, HEAD_BYTES - 1)]
        commands += (("GET", store.nonces.place(tag)) for tag in tags)
        try:
            token, head, *nonces = store.read(lambda: store.client.execute_many(commands))
        except RemoteError:
            return True
        is_there = (token or b"").startswith(b"L" + self.token)
        return is_there and head == self.head and nonces == [self.nonces[tag] for tag in tags]

    def dumps_failure(self, error: Any) -> bytes | None:
        """An exception for callers that wait in other processes."""
        return self.store.values.serializer.dumps(error, 5)

    def release(self, failure: bytes | None) -> None:
        """Give it back. It expires where that fails."""
        with contextlib.suppress(RemoteError):
            scripts.RELEASE.run(self.store.client, self.key, self.token, failure or b"")


class RemoteStore(Commands):
    """A namespace of a server, as caches in memory use it.

    Args:
        client: Sends commands.
        keys: Where everything is.
        values: Reads and writes values.
        tracker: Decides which copies are served.
        breaker: Refuses callers while the server does not answer.
        on_error: "raise", "miss" or "stale".
        last: The last values that were read, where `on_error` is "stale".
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
        last: FlexCache[bytes, Any] | None,
        jitter: float,
    ) -> None:
        super().__init__(client, keys, values, tracker, breaker)
        self.on_error, self.last, self._jitter = on_error, last, jitter
        self._lenient = False
        self._prefetched = threading.local()

    def as_lenient(self) -> RemoteStore:
        """The same store, for which a server that cannot be asked is as if it had nothing."""
        store = copy.copy(self)
        store._lenient = True
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

    def _is_lenient(self) -> bool:
        return self._lenient or LENIENT.get()

    # Reading

    def stamp(self, key: Any) -> int:
        """The stamp of what is read of a key after this."""
        return self.tracker.stamp(self.keys.value(key))

    def load(self, key: Any, *, anew: bool = False) -> tuple[_Entry | None, int]:
        """A live entry, and the stamp of that. With `anew`, nothing that is known of nonces counts."""
        place = self.keys.value(key)
        prefetched: dict[bytes, tuple[_Entry | None, int]] | None = getattr(self._prefetched, "entries", None)
        if prefetched is not None and place in prefetched:
            return prefetched.pop(place)
        self.counts.loads += 1
        try:
            stamp = self.tracker.stamp(place)
            entry = self._entry(key, self._get(place, anew=anew), anew=anew)
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
        self.remember(place, entry)
        return entry, stamp

    def _get(self, place: bytes, *, anew: bool = False) -> bytes | None:
        """A value's bytes, and in passing the namespace's nonce where it is not known or is wanted anew."""
        raw: bytes | None
        if not anew and self.nonces.known(NAMESPACE) is not None:
            raw = self.read(lambda: self.client.execute("GET", place))
            return raw
        stamp = self.nonces.watch(NAMESPACE)
        raw, nonce = self.read(lambda: self.client.values([place, self.keys.epoch]))
        self.nonces.learn(NAMESPACE, nonce, stamp)
        return raw

    def _last(self, place: bytes) -> _Entry | None:
        """The last value that was read, where old ones are wanted."""
        if self.on_error != "stale" or self.last is None:
            return None
        found = self.last.get(place)
        if found is None:
            return None
        self.counts.stale += 1
        return found[0], None, ()

    def remember(self, place: bytes, entry: _Entry | None) -> None:
        """Keep the last value of a key, where old ones are wanted."""
        if self.last is not None:
            if entry is None:
                self.last.delete(place)
            else:
                self.last.put(place, (entry[0],))

    def _live(self, key: Any, raw: bytes | None, *, anew: bool = False) -> Head | None:
        """The header of a value that is live. With `anew`, the server is asked for the nonces of its tags."""
        if not raw:
            return None
        head = read_head(key, raw)
        if head.deadline and head.deadline <= self.server_ms():
            return None
        if head.tags:
            tags = {MARK + name: nonce for name, nonce in head.tags}
            nonces = self.nonces.current((NAMESPACE, *tags), anew=tags if anew else ())
            live = all(nonces[tag] == nonce for tag, nonce in tags.items())
        else:
            nonces = self.nonces.current((NAMESPACE,))
            live = True
        return head if live and nonces[NAMESPACE] == head.epoch else None

    def _entry(self, key: Any, raw: bytes | None, *, anew: bool = False) -> _Entry | None:
        head = self._live(key, raw, anew=anew)
        if head is None or raw is None:
            return None
        seconds = (head.deadline - self.server_ms()) / 1000 if head.deadline else None
        return self.values.read(key, head, raw), seconds, tuple(name for name, _ in head.tags)

    def load_many(self, keys: Sequence[Any]) -> dict[bytes, tuple[_Entry | None, int]]:
        """Entries and stamps by places. Values that cannot be read are left out."""
        places = {self.keys.value(key): key for key in keys}
        loaded: dict[bytes, tuple[_Entry | None, int]] = {}
        ordered = list(places)
        for start in range(0, len(ordered), BATCH):
            batch = ordered[start : start + BATCH]
            stamps = [self.tracker.stamp(place) for place in batch]
            self.counts.loads += len(batch)
            for place, stamp, raw in zip(batch, stamps, self._mget(batch), strict=True):
                with contextlib.suppress(RemoteValueError):
                    loaded[place] = self._entry(places[place], raw), stamp
        return loaded

    def _mget(self, batch: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = self.read(lambda: self.client.values(batch))
        return found

    @contextlib.contextmanager
    def prefetched(self, loaded: dict[bytes, tuple[_Entry | None, int]]) -> Generator[None]:
        """Have the loads of this thread take what was loaded already."""
        self._prefetched.entries = loaded
        try:
            yield
        finally:
            self._prefetched.entries = None

    def head(self, key: Any) -> tuple[Head | None, bytes]:
        """The header of a live value, and its bytes."""
        place = self.keys.value(key)
        raw = self.read(lambda: self.client.execute("GETRANGE", place, 0, MOST_HEAD - 1))
        if len(raw) == MOST_HEAD and head_bytes(raw) > MOST_HEAD:
            raw = self.read(lambda: self.client.execute("GET", place)) or b""
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
        raw = self._get(place)
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
        epoch, nonces = self.send(lambda: self._nonces_for(tags))
        deadline = self.deadline(self.jittered(seconds))
        return self.values.write(value, deadline, epoch, nonces), deadline

    def jittered(self, seconds: float | None) -> float | None:
        """A time to live, less a random part of it, so that what was stored together does not expire together."""
        return seconds if seconds is None or not self._jitter else seconds * (1 - self._jitter * random.random())

    def _swallow(self, error: RemoteError) -> None:
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
            self._swallow(error)
            return
        self.remember(place, (value, None, ()))

    def add(self, key: Any, value: Any, seconds: float | None, tags: Sequence[str]) -> bool:
        """Store an entry where there is none. Whether it did."""
        try:
            return self._add(key, value, seconds, tags)
        except RemoteError as error:
            self._swallow(error)
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
                added = there and self.replace(place, there, raw, deadline)
            if added:
                self.remember(place, (value, None, ()))
                return True

    def replace(self, place: bytes, there: bytes, raw: bytes, deadline: int) -> bool:
        """Store a value in the place of one that was read. Whether it was still there."""
        with self.writing(place):
            return bool(scripts.REPLACE.run(self.client, place, there[:HEAD_BYTES], raw, deadline))

    def _taken(self, key: Any, command: Sequence[Any]) -> Any:
        """Remove a value and the lease of its key. What the command returned."""
        place = self.keys.value(key)
        self.remember(place, None)
        with self.writing(place):
            lease, ended = self.keys.lease_of(place), 0
            if self.client.is_divided:
                # First: whatever is stored with another lease from here on is removed, too.
                ended = self.client.execute("DEL", lease)
                found, removed = self.client.transaction([command, ("DEL", place)])
            else:
                found, removed = self.client.transaction([command, ("DEL", place, lease)])
            self._tell(place, found, removed + ended)
        return found

    def _tell(self, place: bytes, found: Any, removed: int) -> None:
        """Tell of the removal of a key that had a lease alone: the server tells nothing of keys that are not there.

        Otherwise, callers that come after the removal would wait for a computation that began before it.
        """
        if removed and not found:
            scripts.TELL.run(self.client, place)

    def remove(self, key: Any) -> bool:
        """Remove an entry. Whether a live one was there. Raises where it fails: others would go on with the value."""
        place = self.keys.value(key)
        raw = self._taken(key, ("GETRANGE", place, 0, MOST_HEAD - 1))
        return self._was_live(key, raw)

    def _was_live(self, key: Any, raw: bytes) -> bool:
        try:
            # Of more tags than that the rest is not looked at.
            return self._live(key, raw) is not None
        except RemoteValueError:
            return True

    def pop(self, key: Any) -> _Entry | None:
        """Remove an entry and return it."""
        raw = self._taken(key, ("GET", self.keys.value(key)))
        return self._entry(key, raw)

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
            self._swallow(error)
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
            self._swallow(error)
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
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            places = [self.keys.value(key) for key in batch]
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
                if count + more and not raw:
                    with self.writing(place):
                        self._tell(place, raw, count + more)
            removed += sum(self._was_live(key, raw) for key, (raw, _) in zip(batch, replies, strict=True))
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

    def incr(self, key: Any, by: int, initial: int, seconds: Callable[[], float | None]) -> int:
        """Add to an int."""
        place = self.keys.value(key)
        epoch = self._nonces_now()
        if -(1 << 53) < by < 1 << 53:
            with self.writing(place):
                total = scripts.ADD_TO.run(self.client, place, epoch, by, os.urandom(4))
            if total is not None:
                return int(total)
        while True:
            found = self.value(key)
            if found is None:
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

    def _nonces_now(self) -> bytes:
        self.begin()
        return self._nonces_for(())[0]

    # Leases

    def lease(
        self, key: Any, seconds: float, tags: Sequence[str], awaited: Lease | None, takes_over: bool
    ) -> tuple[str, Any, int, list[int]]:
        """Ask for the lease of a key. Where the server cannot be asked, it is one that nothing can be stored with."""
        place, at = self.keys.value(key), self.keys.lease(key)
        stamps = [self.tracker.stamp(place), self.tracker.stamp(at)]
        lease = Lease(self, place, at, os.urandom(_TOKEN_BYTES))
        try:
            self.begin()
            names = (NAMESPACE, *(MARK + tag for tag in tags))
            # Before the value is computed.
            lease.nonces = self.send(lambda: self.nonces.ensured(names))
            lease.evictions = self.send(lambda: self.client.execute("GET", self.keys.evictions))
            most = max(int(seconds * 1000), 1)
            token = awaited.token if awaited is not None else b""
            given = lease.token + _packed(lease.nonces)
            void = b""
            while True:
                asked = (place, at, given, most, int(takes_over), token, void)
                answer, *rest = self.send(functools.partial(scripts.LEASE.run, self.client, *asked))
                if answer != b"elsewhere" or not self._is_void(rest[1]):
                    break
                # What is computed with it is not stored: its tag was evicted, or the namespace cleared.
                void = rest[1][:_TOKEN_BYTES]
        except RemoteError:
            # A value that is computed now is only for its callers, because nothing would show that it was computed
            # from older data.
            return "held", lease, 0, stamps[:1]
        if answer == b"held":
            self.counts.leases += 1
            lease.head = rest[0]
            # Taking it is told as a write to its own place.
            return "held", lease, 0, stamps[:1]
        if answer == b"failed":
            return "failed", rest[0], 0, []
        self.counts.lease_waits += 1
        left, lease.token = max(rest[0], 1), rest[1][:_TOKEN_BYTES]
        if not self.nonces.is_told:
            # Nothing tells when it ends.
            left = min(left, _BETWEEN_QUESTIONS)
        return "elsewhere", lease, self.tracker.now() + left * 1_000_000, stamps

    def _is_void(self, lease: bytes) -> bool:
        """Whether a nonce was replaced since this lease was given."""
        nonces = _unpacked(lease[_TOKEN_BYTES:])
        current: dict[str, bytes | None] = self.send(lambda: self.nonces.current(nonces))
        return current != nonces

    def loads_failure(self, data: bytes) -> Any:
        """The exception of another process."""
        return self.values.serializer.loads(data)

    def put_with_lease(self, key: Any, value: Any, seconds: float | None, tags: Sequence[str], lease: Lease) -> bool:
        """Store a computed value, if its lease is there and nothing was written since. Whether it did."""
        place = self.keys.value(key)
        names = tuple(dict.fromkeys(tags))
        if NAMESPACE not in lease.nonces:
            return False
        try:
            self.begin()
            new = [name for name in names if MARK + name not in lease.nonces]
            nonces = dict(lease.nonces)
            if new:
                nonces |= self.send(lambda: self.nonces.ensured([MARK + name for name in new]))
                # Any of them may have been evicted since the value began to be computed.
                if self.client.execute("GET", self.keys.evictions) != lease.evictions:
                    return False
            deadline = self.deadline(self.jittered(seconds))
            in_head = tuple((name, nonces[MARK + name]) for name in names)
            raw = self.values.write(value, deadline, nonces[NAMESPACE], in_head)
            with self.writing(place, lease.key):
                stored = scripts.STORE_WITH_LEASE.run(
                    self.client, place, lease.key, lease.token, lease.head, raw, deadline
                )
        except RemoteError as error:
            self.counts.failed_writes += 1
            del error
            return False
        if stored:
            self.remember(place, (value, None, ()))
        return bool(stored)
