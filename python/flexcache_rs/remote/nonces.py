"""Nonces of tags and of the namespace: a value is live while those in its header are the server's.

They are kept in memory under the tracker, as values are. Copies in memory depend on them, and which of them have a tag
is not known. So when another nonce is seen in the place of one that copies may depend on, no copy of before is served
any more. A copy's stamp is taken before its nonces are read. That is why it does not matter which thread sees the other
nonce first.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from flexcache_rs.remote.values import NONCE_BYTES

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from flexcache_rs._core import PushTracker
    from flexcache_rs.remote.client import Client
    from flexcache_rs.remote.keys import Keys

_MOST = 100_000
"""Tags that are known at a time."""

NAMESPACE = ""
"""The namespace is a tag which every value has. It is the name of no tag of the user's, which are marked."""


MARK = "t"
"""Before the names of tags, so that none is the namespace's."""


class Nonces:
    """The nonces that are known."""

    def __init__(self, client: Client, keys: Keys, tracker: PushTracker) -> None:
        self._client, self._keys, self._tracker = client, keys, tracker
        self._known: dict[str, tuple[bytes, int]] = {}
        """What was read last, and the stamp of that."""
        self._seen: dict[str, bytes] = {}
        """What copies may depend on."""
        self._places: dict[bytes, str] = {}
        """Where those are that copies may depend on, and whose."""
        self.is_told = True
        """Whether the server tells what is written. Where it does not, nonces are read at each use."""
        self.checked: list[int] = []
        """The process that has seen how values are written; none after everything was removed."""

    def heard(self, keys: list[bytes] | None) -> list[bytes]:
        """The tracker was told that something was written, to these keys or to all. Returns those to look at."""
        if keys is None:
            self.checked.clear()
            return []
        # A process that stores the first value with a tag also writes one, which invalidates no copy.
        return [] if self._places.keys().isdisjoint(keys) else [key for key in keys if key in self._places]

    def looked_at(self, place: bytes, nonce: bytes | None, stamp: int) -> None:
        """Note what is in a place of which something was heard."""
        tag = self._places.get(place)
        if tag is not None:
            self.learn(tag, nonce, stamp)

    def place(self, tag: str) -> bytes:
        """Where a nonce is."""
        return self._keys.epoch if tag == NAMESPACE else self._keys.tag(tag[1:])

    def known(self, tag: str) -> bytes | None:
        """A nonce, if it is known for sure."""
        found = self._known.get(tag)
        return found[0] if self.is_told and found is not None and self._tracker.is_live(found[1]) else None

    def all_known(self, tags: Iterable[str]) -> dict[str, bytes]:
        """The same as `current`, without asking.

        Raises:
            LookupError: One of them is not known for sure.
        """
        nonces: dict[str, bytes] = {}
        for tag in tags:
            nonce = self.known(tag)
            if nonce is None:
                raise LookupError(tag)
            nonces[tag] = nonce
        return nonces

    def watch(self, tag: str) -> int:
        """Have copies end when the nonce is replaced, from now on. The stamp of what is read of it after this."""
        place = self.place(tag)
        if len(self._places) >= _MOST and place not in self._places:
            self.forget()
        while True:
            # Before it is read, so that no replacement goes unnoticed.
            self._places[place] = tag
            stamp = self._tracker.stamp(place)
            if place in self._places:
                # Another thread that forgets it from now on ends what has this stamp.
                return stamp

    def learn(self, tag: str, nonce: bytes | None, stamp: int) -> None:
        """Note what was read in the place of a nonce."""
        if nonce is None:
            self._known.pop(tag, None)
            if self._seen.pop(tag, None) is not None:
                self._tracker.start_generation()
            return
        if self._seen.setdefault(tag, nonce) != nonce:
            # Before others can depend on it without ending those copies.
            self._tracker.start_generation()
            self._seen[tag] = nonce
        self._known[tag] = nonce, stamp

    def forget(self) -> None:
        """Forget all nonces, and end all copies."""
        self._places.clear()
        self._known.clear()
        self._seen.clear()
        self._tracker.start_generation()

    def current(self, tags: Iterable[str], *, anew: Container[str] = ()) -> dict[str, bytes | None]:
        """The nonces of tags, None for those that have none. Of those in `anew`, what is known does not count."""
        nonces: dict[str, bytes | None] = {}
        asked: list[tuple[str, int]] = []
        for tag in tags:
            nonces[tag] = None if tag in anew else self.known(tag)
            if nonces[tag] is None:
                asked.append((tag, self.watch(tag)))
        if asked:
            found = self._client.values([self.place(tag) for tag, _ in asked])
            for (tag, stamp), nonce in zip(asked, found, strict=True):
                nonces[tag] = nonce
                self.learn(tag, nonce, stamp)
        return nonces

    def ensured(self, tags: Iterable[str]) -> dict[str, bytes]:
        """The nonces of tags. Those that have none get one."""
        nonces = self.current(tags)
        missing = [tag for tag, nonce in nonces.items() if nonce is None]
        if missing:
            stamps = [self.watch(tag) for tag in missing]
            commands: list[tuple[Any, ...]] = []
            for tag in missing:
                place = self.place(tag)
                commands += (("SET", place, os.urandom(NONCE_BYTES), "NX"), ("GET", place))
            replies = self._client.execute_many(commands)
            for tag, stamp, nonce in zip(missing, stamps, replies[1::2], strict=True):
                if isinstance(nonce, Exception):
                    raise nonce
                nonces[tag] = nonce
                self.learn(tag, nonce, stamp)
        return {tag: nonce or b"" for tag, nonce in nonces.items()}

    def replaced(self, tag: str) -> None:
        """Somebody may have replaced a nonce."""
        self._known.pop(tag, None)
        self._tracker.invalidate([self.place(tag)])
        self._tracker.start_generation()
