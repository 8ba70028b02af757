"""Nonces of tags and of the namespace: a value is live while those in its header are the server's.

They are kept in memory under the tracker, as values are. Copies in memory depend on them, and which of them have a tag
is not known. So when another nonce is seen in the place of one that copies may depend on, no copy of before is served
any more. A copy's stamp is taken before its nonces are read. That is why it does not matter which thread sees the other
nonce first.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from flexcache_rs.remote.errors import RemoteError, RemoteValueError
from flexcache_rs.remote.failures import foreign, is_of_another_type
from flexcache_rs.remote.values import NONCE_BYTES

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from flexcache_rs._core import PushTracker
    from flexcache_rs.remote.client import Client
    from flexcache_rs.remote.keys import Keys

_MOST = 100_000
"""The largest number of tags that are known at a time."""

NAMESPACE = ""
"""The name of the namespace's own tag, which every value has. Names of the user's tags begin with `MARK`."""


MARK = "t"
"""The prefix of the user's tags, so that none equals `NAMESPACE`."""


class Nonces:
    """The known nonces."""

    def __init__(self, client: Client, keys: Keys, tracker: PushTracker) -> None:
        self._client, self._keys, self._tracker = client, keys, tracker
        self._known: dict[str, tuple[bytes, int]] = {}
        """For each tag, the nonce that was read last, and its stamp."""
        self._seen: dict[str, bytes] = {}
        """For each tag, the nonce on which copies may depend."""
        self._places: dict[bytes, str] = {}
        """The tags on whose nonces copies may depend, by the places of the nonces."""
        self.is_told = True
        """Whether the server announces writes. If not, nonces are read at each use."""
        self.checked: list[int] = []
        """The id of the process that has checked the format of values. Empty after everything was removed."""

    def heard(self, keys: list[bytes] | None) -> list[bytes]:
        """Note an announced write to some keys, or to all if None. Returns the places of nonces that must be read."""
        if keys is None:
            self.checked.clear()
            return []
        # Only read them again. A new nonce need not invalidate copies: the first value with a tag also writes one.
        return [] if self._places.keys().isdisjoint(keys) else [key for key in keys if key in self._places]

    def looked_at(self, place: bytes, reply: Any, stamp: int) -> None:
        """Note the reply to reading the nonce in a place again, after an announced write."""
        tag = self._places.get(place)
        if tag is not None:
            # The next caller that needs it reads it again, and gets the error.
            with contextlib.suppress(RemoteValueError):
                self.learn(tag, reply, stamp)

    def place(self, tag: str) -> bytes:
        """Return the place of a tag's nonce."""
        return self._keys.epoch if tag == NAMESPACE else self._keys.tag(tag[1:])

    def known(self, tag: str) -> bytes | None:
        """Return a nonce if it is certainly current, else None."""
        found = self._known.get(tag)
        return found[0] if self.is_told and found is not None and self._tracker.is_live(found[1]) else None

    def all_known(self, tags: Iterable[str]) -> dict[str, bytes]:
        """The same as `current`, without asking the server.

        Raises:
            LookupError: One of the nonces may be outdated.
        """
        nonces: dict[str, bytes] = {}
        for tag in tags:
            nonce = self.known(tag)
            if nonce is None:
                raise LookupError(tag)
            nonces[tag] = nonce
        return nonces

    def watch(self, tag: str) -> int:
        """Invalidate copies from now on if the nonce is replaced. Returns the stamp for a later read of the nonce."""
        place = self.place(tag)
        if len(self._places) >= _MOST and place not in self._places:
            self.forget()
        # First the stamp: if another thread forgets the place after it was registered, it also invalidates the stamp.
        stamp = self._tracker.stamp(place)
        # Register the place before the nonce is read, so that no replacement is missed.
        self._places[place] = tag
        return stamp

    def learn(self, tag: str, reply: Any, stamp: int) -> bytes | None:
        """Note the server's reply to reading a nonce. Returns the nonce, or None if there is none.

        Raises:
            RemoteError: The command was refused.
            RemoteValueError: Something else is in the place of the nonce.
        """
        nonce = reply if type(reply) is bytes and len(reply) == NONCE_BYTES else None
        if nonce is None:
            self._known.pop(tag, None)
            if tag in self._seen:
                # Invalidate copies first, as below.
                self._tracker.start_generation()
                self._seen.pop(tag, None)
            if reply is None:
                return None
            if isinstance(reply, RemoteError) and not is_of_another_type(reply):
                raise reply
            raise foreign([self.place(tag)], reply)
        if self._seen.setdefault(tag, nonce) != nonce:
            # Invalidate copies first. Otherwise another thread could use the new nonce while old copies are valid.
            self._tracker.start_generation()
            self._seen[tag] = nonce
        self._known[tag] = nonce, stamp
        return nonce

    def forget(self) -> None:
        """Forget all nonces, and invalidate all copies."""
        self._places.clear()
        self._known.clear()
        self._seen.clear()
        self._tracker.start_generation()

    def current(self, tags: Iterable[str], *, anew: Container[str] = ()) -> dict[str, bytes | None]:
        """Return the nonces of tags, None for a tag without one. Those in `anew` are read even if they are known."""
        nonces: dict[str, bytes | None] = {}
        asked: list[tuple[str, int]] = []
        for tag in tags:
            nonces[tag] = None if tag in anew else self.known(tag)
            if nonces[tag] is None:
                asked.append((tag, self.watch(tag)))
        if asked:
            found = self._client.values([self.place(tag) for tag, _ in asked])
            for (tag, stamp), reply in zip(asked, found, strict=True):
                nonces[tag] = self.learn(tag, reply, stamp)
        return nonces

    def ensured(self, tags: Iterable[str]) -> dict[str, bytes]:
        """Return the nonces of tags. Creates missing ones on the server."""
        nonces = self.current(tags)
        missing = [tag for tag, nonce in nonces.items() if nonce is None]
        if missing:
            stamps = [self.watch(tag) for tag in missing]
            commands: list[tuple[Any, ...]] = []
            for tag in missing:
                place = self.place(tag)
                commands += (("SET", place, os.urandom(NONCE_BYTES), "NX"), ("GET", place))
            replies = self._client.execute_many(commands)
            for tag, stamp, written, reply in zip(missing, stamps, replies[::2], replies[1::2], strict=True):
                if reply is None and isinstance(written, Exception):
                    raise written
                nonces[tag] = self.learn(tag, reply, stamp)
        return {tag: nonce or b"" for tag, nonce in nonces.items()}
