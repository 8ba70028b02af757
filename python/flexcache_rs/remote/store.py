"""`RemoteStore`: a namespace of a server as the store behind caches in memory.

Every read takes its stamp before it sends its command, and every write invalidates what it writes before and after. See
`src/core/push_tracker.rs`.
"""

from __future__ import annotations

import contextlib
import os
import struct
from itertools import repeat
from typing import TYPE_CHECKING, Any

from flexcache_rs.remote import scripts
from flexcache_rs.remote.errors import RemoteError, RemoteValueError
from flexcache_rs.remote.failures import is_of_another_type
from flexcache_rs.remote.nonces import MARK, NAMESPACE
from flexcache_rs.remote.reads import Reads
from flexcache_rs.remote.values import HEAD_BYTES, MOST_HEAD, is_int, unreadable

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from flexcache_rs._core import PushTracker
    from flexcache_rs.remote.breaker import Breaker
    from flexcache_rs.remote.client import Client
    from flexcache_rs.remote.keys import Keys
    from flexcache_rs.remote.last import Entry, Last
    from flexcache_rs.remote.values import Values

BATCH = 1000
"""The largest number of commands that are sent at once."""

_DEADLINE = struct.Struct("<q")


class RemoteStore(Reads):
    """A namespace of a server, as caches in memory use it.

    Args:
        client: Sends commands.
        keys: The places of everything on the server.
        values: Encodes and decodes values.
        tracker: Decides which copies in memory are valid.
        breaker: Makes calls fail at once while the server does not respond.
        on_error: "raise", "miss" or "stale".
        last: The last known entries, if they may be returned.
        jitter: The largest share by which a time to live is reduced at random.
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
        super().__init__(client, keys, values, tracker, breaker, on_error, last)
        self._jitter = jitter

    def nonces_for(self, tags: Sequence[str], *, asks: bool = True) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
        """Return the nonces for writing a value: that of the namespace, and those of its tags with their names.

        Raises:
            LookupError: `asks` is false, and the server would have to be asked.
        """
        if asks:
            self.begin()
        if not tags:
            nonce = self.nonces.known(NAMESPACE)
            if nonce is not None:
                return nonce, ()
        names = tuple(dict.fromkeys(tags))
        wanted = (NAMESPACE, *(MARK + name for name in names))
        nonces = self.send(self.nonces.ensured, wanted) if asks else self.nonces.all_known(wanted)
        return nonces[NAMESPACE], tuple((name, nonces[MARK + name]) for name in names)

    def encoded(
        self, value: Any, seconds: float | None, nonces: tuple[bytes, tuple[tuple[str, bytes], ...]]
    ) -> tuple[bytes, int]:
        """Return the bytes of a value, and its deadline."""
        deadline = self.deadline(self.jittered(seconds))
        return self.values.write(value, deadline, *nonces), deadline

    def swallow(self, error: RemoteError | RemoteValueError) -> None:
        """Raise an error, unless an unavailable server counts as empty, or results are stored."""
        self.counts.failed_writes += 1
        if not self._is_lenient() and (self.on_error == "raise" or isinstance(error, RemoteValueError)):
            raise error

    @staticmethod
    def set_command(place: bytes, raw: bytes, deadline: int) -> tuple[Any, ...]:
        """Return the command that stores a value."""
        return ("SET", place, raw, "PXAT", deadline) if deadline else ("SET", place, raw)

    def put(self, key: Any, value: Any, seconds: float | None, tags: Sequence[str]) -> None:
        """Store or replace an entry."""
        self._put(key, value, seconds, tags)

    def _put(self, key: Any, value: Any, seconds: float | None, tags: Sequence[str]) -> bool:
        """Store or replace an entry. Returns True if the server has it."""
        place = self.keys.value(key)
        try:
            command = self.set_command(place, *self.encoded(value, seconds, self.nonces_for(tags)))
            with self.writing(place):
                self.client.execute(*command)
        except (RemoteError, RemoteValueError) as error:
            # The write may have happened. The last read value is older, so forget it.
            self.remember(place, None)
            self.swallow(error)
            return False
        self.remember(place, (value, None, ()))
        return True

    def add(self, key: Any, value: Any, seconds: float | None, tags: Sequence[str]) -> bool:
        """Store an entry if the key has none. Returns True if it was stored."""
        try:
            return self._add(key, value, seconds, tags)
        except RemoteError as error:
            self.swallow(error)
            return False
        except RemoteValueError as error:
            self.swallow(error)
            # What is there is no value of this cache, and counts as absent where results are computed.
            return self._put(key, value, seconds, tags)

    def _add(self, key: Any, value: Any, seconds: float | None, tags: Sequence[str]) -> bool:
        place = self.keys.value(key)
        raw, deadline = self.encoded(value, seconds, self.nonces_for(tags))
        while True:
            with self.writing(place):
                added = self.client.execute(*self.set_command(place, raw, deadline), "NX") is not None
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
        """Replace a value that was read, if it has not changed since. Returns True if it was replaced."""
        with self.writing(place):
            return bool(scripts.REPLACE.run(self.client, place, there[:HEAD_BYTES], raw, deadline))

    def _tell(self, place: bytes) -> None:
        """Announce the removal of a key that had only a lease. The server does not announce absent keys itself.

        Otherwise, callers after the removal would wait for a computation that began before it.
        """
        with self.writing(place):
            scripts.TELL.run(self.client, place)

    def remove(self, key: Any) -> bool:
        """Remove an entry. Returns True if it was live. Always raises on failure, because others still see it."""
        return self.remove_many([key]) > 0

    def _was_live(self, key: Any, raw: Any, *, asks: bool = True) -> bool:
        """Whether a removed entry was live, given its first bytes or the error of reading them.

        Raises:
            LookupError: `asks` is false, and the server would have to be asked.
        """
        if isinstance(raw, Exception):
            # The removed key held another type.
            return True
        try:
            # If the header is longer than these bytes, its other tags are not checked.
            return self.live(key, raw, asks=asks) is not None
        except RemoteValueError:
            return True

    def pop(self, key: Any) -> Entry | None:
        """Remove an entry and return it. An unreadable one stays, because others may be able to read it."""
        place = self.keys.value(key)
        while True:
            raw = self._read_of(key, self.client.execute, "GET", place)
            entry = self.entry(key, raw)
            if self._take_unchanged(place, raw or b""):
                return entry

    def move(self, old: Any, new: Any) -> bool:
        """Move the value of a key to another key. Returns False if the key has none.

        If this raises, the first key may still have the value. Only one caller at a time may move a key.
        """
        place, target = self.keys.value(old), self.keys.value(new)
        is_moved = False
        while (found := self.value(old)) is not None:
            value, head, there = found
            raw = self.values.write(value, head.deadline, head.epoch, head.tags)
            self.remember(target, None)
            with self.writing(target):
                self.client.execute(*self.set_command(target, raw, head.deadline))
            is_moved = True
            if self._take_unchanged(place, there):
                break
        return is_moved

    def _take_unchanged(self, place: bytes, there: bytes) -> bool:
        """Remove a value that was read, and the lease of its key. Returns False if the value has changed since."""
        self.remember(place, None)
        lease, ended = self.keys.lease_of(place), 0
        with self.writing(place):
            if self.client.is_divided:
                # As in `remove_many`.
                ended = self.client.execute("DEL", lease)
                removed = scripts.TAKE_ALONE.run(self.client, place, there[:HEAD_BYTES])
            else:
                removed = scripts.TAKE.run(self.client, place, lease, there[:HEAD_BYTES])
            if removed >= 0 and removed + ended and not there:
                self._tell(place)
        return bool(removed >= 0)

    def touch(self, key: Any, seconds: float | None) -> bool:
        """Give an entry another time to live. Returns False if there is none."""
        place = self.keys.value(key)
        try:
            while True:
                head, raw = self.head(key)
                if head is None:
                    return False
                with self.writing(place):
                    if scripts.TOUCH.run(self.client, *self.touch_arguments(place, raw, seconds)):
                        return True
        except RemoteError as error:
            self.swallow(error)
            return False

    def touch_arguments(self, place: bytes, there: bytes, seconds: float | None) -> tuple[Any, ...]:
        """Return the arguments of `TOUCH` to give a value that was read another time to live."""
        deadline = self.deadline(seconds)
        return place, there[:HEAD_BYTES], _DEADLINE.pack(deadline), deadline

    def put_many(self, entries: Sequence[tuple[Any, Any, float | None, Sequence[str]]]) -> None:
        """Store or replace entries, many at a time."""
        places = self.keys.values([key for key, *_ in entries])
        try:
            commands: list[tuple[Any, ...]] = []
            of: Sequence[str] | None = None
            nonces: Any = None
            for place, (_, value, seconds, tags) in zip(places, entries, strict=True):
                if tags != of:
                    of, nonces = tags, self.nonces_for(tags)
                commands.append(self.set_command(place, *self.encoded(value, seconds, nonces)))
            for start in range(0, len(commands), BATCH):
                self._write_batch(places[start : start + BATCH], commands[start : start + BATCH])
        except (RemoteError, RemoteValueError) as error:
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
        """Remove entries, many at a time. Returns the number of live ones."""
        removed = 0
        # Encode all keys before the first is removed, so that an invalid key changes nothing.
        all_places = self.keys.values(keys)
        for start in range(0, len(keys), BATCH):
            batch, places = keys[start : start + BATCH], all_places[start : start + BATCH]
            for place in places:
                self.remember(place, None)
            ended: Sequence[int] = ()
            if self.client.is_divided:
                # Remove the leases first. A value that is stored with a later lease is then removed too.
                leases = [self.keys.lease_of(place) for place in places]
                ended = self._write_batch(leases, [("DEL", lease) for lease in leases])
            replies = self._write_batch(places, self.remove_commands(places))
            removed += self.count_removed(batch, places, replies, ended)
        return removed

    def remove_commands(self, places: Sequence[bytes]) -> list[tuple[Any, ...]]:
        """Return the commands that remove values, and also the leases of their keys unless those are removed before."""
        commands: list[tuple[Any, ...]] = []
        for place in places:
            gone = ("DEL", place) if self.client.is_divided else ("DEL", place, self.keys.lease_of(place))
            commands += (("MULTI",), ("GETRANGE", place, 0, MOST_HEAD - 1), gone, ("EXEC",))
        return commands

    def count_removed(
        self,
        keys: Sequence[Any],
        places: Sequence[bytes],
        replies: Sequence[Any],
        ended: Sequence[int] = (),
        *,
        asks: bool = True,
    ) -> int:
        """Return the number of live entries that were removed.

        Args:
            keys: The keys.
            places: The places of the keys.
            replies: The replies to `remove_commands`.
            ended: For each key, the number of leases removed before. Empty if they are removed with the values.
            asks: Whether the server may be asked.

        Raises:
            LookupError: `asks` is false, and the server would have to be asked.
        """
        found = replies[3::4]
        for place, (raw, count), more in zip(places, found, ended or repeat(0), strict=False):
            if isinstance(count, Exception):
                raise self.client.translated(count)
            if count + more and not raw:
                if not asks:
                    raise LookupError(place)
                self._tell(place)
        return sum(self._was_live(key, raw, asks=asks) for key, (raw, _) in zip(keys, found, strict=True))

    def clear(self) -> None:
        """Invalidate all values by a new nonce of the namespace. Expiry or `purge` frees their memory."""
        with self._replacing(self.keys.epoch):
            self.client.execute("SET", self.keys.epoch, os.urandom(8))

    def evict_tag(self, tag: str) -> int:
        """Invalidate all values with a tag. Their number is not known."""
        place = self.keys.tag(tag)
        with self._replacing(place):
            # Set `evictions` first, which loads compare that do not know their tags yet.
            self.client.in_order([("SET", self.keys.evictions, os.urandom(8)), ("SET", place, os.urandom(8))])
        return 0

    @contextlib.contextmanager
    def _replacing(self, nonce: bytes) -> Generator[None]:
        """Invalidate copies of all keys, and forget the last values, around a write of a nonce."""
        try:
            with self.writing(nonce):
                yield
        finally:
            # Also if this fails: the server may have the new nonce.
            self.tracker.start_generation()
            if self.last is not None:
                self.last.clear()

    def incr(self, key: Any, by: int, initial: int | None, seconds: float | None) -> int:
        """Add to an int. Raises KeyError if the key is absent and there is no initial value."""
        place = self.keys.value(key)
        epoch, _ = self.nonces_for(())
        self.remember(place, None)
        total = self._added_to(key, place, epoch, by) if scripts.is_exact(by) else None
        if total is not None:
            self.remember(place, (int(total), None, ()))
            return int(total)
        while True:
            found = self.value(key)
            if found is None:
                if initial is None:
                    raise KeyError(key)
                if self._add(key, initial + by, seconds, ()):
                    return initial + by
                continue
            value, head, raw = found
            if not is_int(head):
                message = f"the value of {key!r} is not an int but {type(value).__name__}"
                raise TypeError(message)
            new = self.values.write(value + by, head.deadline, head.epoch, head.tags)
            if self.replace(place, raw, new, head.deadline):
                self.remember(place, (value + by, None, ()))
                return int(value) + by

    def swap(self, key: Any, old: Any, new: Any, seconds: float | None) -> bool:
        """Replace the value of a key if it equals `old`. Returns True if it was replaced."""
        place = self.keys.value(key)
        while True:
            raw, _ = self._get(key, place)
            arguments = self.swap_arguments(key, place, raw, old, new, seconds)
            if arguments is None:
                return False
            self.remember(place, None)
            if self.replace(*arguments):
                self.remember(place, (new, None, ()))
                return True

    def swap_arguments(
        self, key: Any, place: bytes, raw: bytes | None, old: Any, new: Any, seconds: float | None, *, asks: bool = True
    ) -> tuple[bytes, bytes, bytes, int] | None:
        """Return the arguments of `REPLACE` to replace a value that was read. None if it does not equal `old`.

        Raises:
            LookupError: `asks` is false, and the server would have to be asked.
        """
        head = self.live(key, raw, asks=asks)
        if head is None or raw is None:
            return None
        value = self.values.read(key, head, raw)
        if not (value is old or value == old):
            return None
        nonces = self.nonces_for([name for name, _ in head.tags], asks=asks)
        return place, raw[:HEAD_BYTES], *self.encoded(new, seconds, nonces)

    def _added_to(self, key: Any, place: bytes, epoch: bytes, by: int) -> bytes | None:
        """Add to an int in a script. Returns the sum, or None if there is no int or Python must add."""
        try:
            with self.writing(place):
                total: bytes | None = scripts.ADD_TO.run(self.client, place, epoch, by, os.urandom(4))
        except RemoteError as error:
            if is_of_another_type(error):
                raise unreadable(key, str(error)) from error
            raise
        return total
