"""Reading a namespace of a server. Every read takes its stamp before it sends its command."""

from __future__ import annotations

import copy
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from flexcache_rs._core import _remote_entries, _remote_entry  # pyright: ignore[reportPrivateUsage]
from flexcache_rs.remote.errors import RemoteError, RemoteValueError
from flexcache_rs.remote.failures import is_of_another_type
from flexcache_rs.remote.last import LastResults
from flexcache_rs.remote.leases import Leases
from flexcache_rs.remote.nonces import MARK, NAMESPACE
from flexcache_rs.remote.values import MOST_HEAD, is_cut, read_head, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from flexcache_rs._core import PushTracker
    from flexcache_rs.remote.breaker import Breaker
    from flexcache_rs.remote.client import Client
    from flexcache_rs.remote.keys import Keys
    from flexcache_rs.remote.last import Entry, Last
    from flexcache_rs.remote.values import Head, Values

LENIENT: ContextVar[bool] = ContextVar("flexcache_remote_lenient", default=False)
"""Whether an unavailable server counts as empty. Calls that compute values set this."""


class Reads(Leases):
    """The reads of a namespace.

    Args:
        client: Sends commands.
        keys: The places of everything on the server.
        values: Encodes and decodes values.
        tracker: Decides which copies in memory are valid.
        breaker: Makes calls fail at once while the server does not respond.
        on_error: "raise", "miss" or "stale".
        last: The last known entries, if they may be returned.
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
    ) -> None:
        super().__init__(client, keys, values, tracker, breaker)
        self.on_error, self.last = on_error, last
        if last is not None:
            client.when_out_of_step(last.clear)
        self._lenient = False
        self._loads = values.serializer.loads

    def of_results(self, most: int) -> Self:
        """Return the same store for results of functions. An unavailable server has nothing, or old results."""
        store = copy.copy(self)
        store._lenient = True
        store.last = LastResults(most, self.tracker, self.nonces)
        return store

    def forget_all(self) -> None:
        """Forget all nonces, because everything on the server was removed."""
        self.nonces.checked.clear()
        self.nonces.forget()

    def is_live(self, key: Any, raw: Any) -> bool:
        """Whether the first bytes of a value are those of a live one."""
        if not isinstance(raw, bytes):
            return False
        if is_cut(raw):
            return self.head(key)[0] is not None
        return self.live(key, raw) is not None

    @property
    def closed(self) -> bool:
        """Whether the cache is closed. A result that was computed meanwhile is returned and not stored."""
        return self.life.is_closed

    def _is_lenient(self) -> bool:
        return self._lenient or LENIENT.get()

    # Reading

    def stamp(self, key: Any) -> int:
        """Return the stamp for a later read of a key."""
        return self.tracker.stamp(self.keys.value(key))

    def load(self, key: Any, *, anew: bool = False) -> tuple[Entry | None, int]:
        """Return a live entry and its stamp. With `anew`, the nonces are read from the server even if known."""
        place = self.keys.value(key)
        self.counts.loads += 1
        try:
            # Take the stamp before looking at the known nonces.
            stamp = self.tracker.stamp(place)
            known = None if anew else self.known()
            if known is None:
                found = self.as_entry(*self._get(key, place, anew=anew))
            else:
                found = self._read_of(key, self.client.entry, place, known)
            # Bytes mean that the known nonces do not suffice to decode the entry.
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
        """Return the argument for `RemoteLane.entry`. None if the nonce of the namespace may be outdated."""
        nonce = self.nonces.known(NAMESPACE)
        return None if nonce is None else (nonce, self.offset(), self._loads)

    def _read_of(self, key: Any, call: Callable[..., Any], *arguments: Any) -> Any:
        """The same as `read`, for a key that may hold another type."""
        try:
            return self.read(call, *arguments)
        except RemoteError as error:
            if is_of_another_type(error):
                raise unreadable(key, str(error)) from error
            raise

    def as_entry(self, raw: bytes | None, nonce: bytes | None) -> Any:
        """Decode the bytes of a value that were read together with the nonce of the namespace.

        Returns the bytes if more nonces are needed.
        """
        if raw is None or nonce is None:
            return raw
        return _remote_entry(raw, (nonce, self.offset(), self._loads))

    def _get(self, key: Any, place: bytes, *, anew: bool = False) -> tuple[bytes | None, bytes | None]:
        """Return the bytes of a value, and the namespace's nonce. Reads the nonce if it is unknown, or with `anew`."""
        nonce = None if anew else self.nonces.known(NAMESPACE)
        if nonce is not None:
            return self._read_of(key, self.client.execute, "GET", place), nonce
        stamp = self.nonces.watch(NAMESPACE)
        # Not MGET, which does not report keys of another type.
        found, nonce = self.read(self.client.execute_many, [("GET", place), ("GET", self.keys.epoch)])
        if isinstance(found, Exception) and is_of_another_type(found):
            raise unreadable(key, str(found)) from found
        if isinstance(found, Exception):
            raise found
        return found, self.nonces.learn(NAMESPACE, nonce, stamp)

    def _last(self, place: bytes) -> Entry | None:
        """Return the entry of a key while the server is unavailable. Callers that compute get no old one."""
        if self.last is None or (LENIENT.get() and not self._lenient):
            return None
        found = self.last.find(place)
        if found is not None and not self._lenient:
            self.counts.stale += 1
        return found

    def remember(self, place: bytes, entry: Entry | None, stamp: int = 0) -> None:
        """Keep an entry, if old values may be returned while the server is unavailable."""
        if self.last is not None:
            self.last.keep(place, entry, stamp)

    def remember_unsent(self, place: bytes, value: Any, seconds: float | None, stamp: int) -> None:
        """Keep a computed value that could not be stored, if old results may replace errors."""
        if self._lenient:
            self.remember(place, (value, seconds, ()), stamp)

    def live(self, key: Any, raw: bytes | None, *, anew: bool = False, asks: bool = True) -> Head | None:
        """Return the header of a live value, else None. With `anew`, the nonces of its tags are read from the server.

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

    def entry(self, key: Any, raw: bytes | None, *, anew: bool = False, asks: bool = True) -> Entry | None:
        """Decode a live entry. With `anew`, the nonces of its tags are read from the server.

        Raises:
            LookupError: `asks` is false, and the server would have to be asked.
            RemoteValueError: The bytes are not a value.
        """
        head = self.live(key, raw, anew=anew, asks=asks)
        if head is None or raw is None:
            return None
        seconds = (head.deadline - self.server_ms()) / 1000 if head.deadline else None
        return self.values.read(key, head, raw), seconds, tuple(name for name, _ in head.tags)

    def load_many(self, keys: Sequence[Any]) -> tuple[list[Entry | None], list[int]]:
        """Return the entries of at most `BATCH` keys, and their stamps. Unreadable values are left out."""
        places = self.keys.values(keys)
        self.counts.loads += len(keys)
        # Take the stamp before looking at the known nonces.
        stamps = self.tracker.stamps(places)
        try:
            return self.entries(keys, places, stamps, self.read(self.client.values, places)), stamps
        except RemoteError:
            if self.on_error == "raise" and not self._is_lenient():
                raise
            return [self._last(place) for place in places], [0] * len(places)

    def entries(
        self, keys: Sequence[Any], places: Sequence[bytes], stamps: list[int], found: list[Any], *, asks: bool = True
    ) -> list[Entry | None]:
        """Decode the live entries of keys. An unreadable value loses its stamp.

        Raises:
            LookupError: `asks` is false, and the server would have to be asked.
        """
        known = self.known()
        entries, unread = (found, range(len(found))) if known is None else _remote_entries(found, known)
        for number in unread:
            # The known nonces do not suffice to decode this entry.
            raw, entries[number] = entries[number], None
            try:
                entries[number] = self.entry(keys[number], raw, asks=asks)
            except RemoteValueError:
                self.counts.unreadable += 1
                stamps[number] = 0
        self.counts.hits += len(entries) - entries.count(None)
        if self.last is not None:
            for place, entry, stamp in zip(places, entries, stamps, strict=True):
                self.remember(place, entry, stamp)
        return entries

    def head(self, key: Any) -> tuple[Head | None, bytes]:
        """Return the header of a live value, and its bytes."""
        place = self.keys.value(key)
        raw = self._read_of(key, self.client.execute, "GETRANGE", place, 0, MOST_HEAD - 1) or b""
        if is_cut(raw):
            raw = self._read_of(key, self.client.execute, "GET", place) or b""
        return self.live(key, raw), raw

    def seconds_left(self, head: Head) -> float | None:
        """The seconds that a value has left, None for ever."""
        return max((head.deadline - self.server_ms()) / 1000, 0.0) if head.deadline else None

    def contains(self, key: Any) -> bool:
        """Whether there is a live entry."""
        try:
            return self.head(key)[0] is not None
        except RemoteError:
            if self.on_error == "raise" and not self._is_lenient():
                raise
            return self._last(self.keys.value(key)) is not None

    def value(self, key: Any) -> tuple[Any, Head, bytes] | None:
        """Return a live value, its header, and its bytes."""
        place = self.keys.value(key)
        raw, _ = self._get(key, place)
        head = self.live(key, raw)
        return None if head is None or raw is None else (self.values.read(key, head, raw), head, raw)
