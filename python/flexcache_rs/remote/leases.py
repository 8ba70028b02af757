"""Leases of keys, with which one caller of all machines computes a value."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import struct
import weakref
from typing import TYPE_CHECKING, Any

from flexcache_rs.remote import scripts
from flexcache_rs.remote.commands import Commands
from flexcache_rs.remote.errors import RemoteError
from flexcache_rs.remote.nonces import MARK, NAMESPACE
from flexcache_rs.remote.renewals import RENEWALS
from flexcache_rs.remote.values import HEAD_BYTES, NONCE_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexcache_rs._core import LeaseHolder, PushTracker
    from flexcache_rs.remote.breaker import Breaker
    from flexcache_rs.remote.client import Client
    from flexcache_rs.remote.keys import Keys
    from flexcache_rs.remote.values import Values

_LENGTH = struct.Struct("<I")

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

    def __init__(
        self, store: Leases, place: bytes, key: bytes, token: bytes, seconds: float, holder: LeaseHolder
    ) -> None:
        self.store, self.place, self.key, self.token = store, place, key, token
        self.milliseconds, self._holder = max(int(seconds * 1000), 1), holder
        self.head, self.stamp = b"", 0
        self.nonces: dict[str, bytes] = {}
        self.evictions: bytes | None = None

    def is_over(self) -> bool:
        """Whether its load is over."""
        return self._holder.is_over()

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

    def renew(self) -> bool:
        """Hold it for as long again from now. Whether it may have to be renewed once more."""
        try:
            if self._holder.is_over() or self.store.life.is_closed:
                return False
            held = self.store.run(scripts.RENEW, self.key, b"L" + self.token, self.milliseconds)
        except RemoteError:
            # The next time the server may be there in time.
            return True
        except Exception:
            logging.getLogger("flexcache_rs").exception("renewing a lease failed")
            return False
        return bool(held)

    @staticmethod
    def tells(error: Any) -> bool:
        """Whether callers in other processes are told of a failure. Not that a server fails: theirs may not."""
        return not isinstance(error, RemoteError)

    def dumps_failure(self, error: Any) -> bytes | None:
        """An exception for callers that wait in other processes."""
        return self.store.values.serializer.dumps(error, 5)

    def release(self, failure: bytes | None) -> None:
        """Give it back. Where that fails, it is tried again until the lease has expired: nobody computes meanwhile."""
        try:
            scripts.RELEASE.run(self.store.client, self.key, self.token, failure or b"")
        except RemoteError:
            RENEWALS.give_back(self, failure)

    def is_released(self, failure: bytes | None) -> bool:
        """Whether it need not be given back any more. Tries to."""
        try:
            if not self.store.life.is_closed:
                self.store.run(scripts.RELEASE, self.key, self.token, failure or b"")
        except RemoteError:
            return False
        except Exception:
            logging.getLogger("flexcache_rs").exception("giving a lease back failed")
        return True


class Leases(Commands):
    """The leases of a namespace."""

    _jitter = 0.0

    def __init__(self, client: Client, keys: Keys, values: Values, tracker: PushTracker, breaker: Breaker) -> None:
        super().__init__(client, keys, values, tracker, breaker)
        # By key: what this process has. A thread gives it back, some time after its load is over.
        self._held: weakref.WeakValueDictionary[bytes, Lease] = weakref.WeakValueDictionary()

    def remember(self, place: bytes, entry: tuple[Any, float | None, tuple[str, ...]] | None, stamp: int = 0) -> None:
        """Keep what is known of a key, where old values are wanted."""

    def remember_unsent(self, place: bytes, value: Any, seconds: float | None, stamp: int) -> None:
        """Keep a computed value that could not be stored, where results are wanted in place of errors."""

    def jittered(self, seconds: float | None) -> float | None:
        """A time to live, less a random part of it, so that what was stored together does not expire together."""
        return seconds if seconds is None or not self._jitter else seconds * (1 - self._jitter * random.random())

    def lease(
        self,
        key: Any,
        seconds: float,
        tags: Sequence[str],
        awaited: Lease | None,
        takes_over: bool,
        holder: LeaseHolder,
    ) -> tuple[str, Any, int, list[int]]:
        """Ask for the lease of a key. Where the server cannot be asked, it is one that nothing can be stored with."""
        own = os.urandom(_TOKEN_BYTES)
        lease = Lease(self, self.keys.value(key), self.keys.lease(key), own, seconds, holder)
        try:
            return self._ask(lease, seconds, tags, awaited, takes_over)
        except Exception:
            raise
        except BaseException:
            # A signal's handler has raised. The server may have given the lease, and no caller knows its token.
            lease.token = own
            lease.release(None)
            raise

    def _ask(
        self, lease: Lease, seconds: float, tags: Sequence[str], awaited: Lease | None, takes_over: bool
    ) -> tuple[str, Any, int, list[int]]:
        place, at = lease.place, lease.key
        stamps = [self.tracker.stamp(place), self.tracker.stamp(at)]
        lease.stamp = stamps[0]
        try:
            self.begin()
            names = (NAMESPACE, *(MARK + tag for tag in tags))
            # Before the value is computed.
            lease.nonces = self.send(self.nonces.ensured, names)
            lease.evictions = self.send(self.client.execute, "GET", self.keys.evictions)
            token = awaited.token if awaited is not None else b""
            given = lease.token + _packed(lease.nonces)
            void = self._ended(at, token)
            while True:
                asked = (place, at, given, lease.milliseconds, int(takes_over), token, void)
                answer, *rest = self.send(scripts.LEASE.run, self.client, *asked)
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
            self._held[at] = lease
            lease.head = rest[0]
            if lease.head:
                # There is a value. A copy from before it must not be taken for it: news of it may still be on the way.
                self.tracker.invalidate([place])
            RENEWALS.add(lease, seconds)
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

    def _ended(self, at: bytes, awaited: bytes) -> bytes:
        """The token of a lease of this process that it is about to give back, unless the caller has waited for it.

        Its load was over before the caller asked: the caller must not be told of a failure of it.
        """
        held = self._held.get(at)
        return held.token if held is not None and held.token != awaited and held.is_over() else b""

    def _is_void(self, lease: bytes) -> bool:
        """Whether a nonce was replaced since this lease was given."""
        nonces = _unpacked(lease[_TOKEN_BYTES:])
        current: dict[str, bytes | None] = self.send(self.nonces.current, nonces)
        return current != nonces

    def loads_failure(self, data: bytes) -> Any:
        """The exception of another process."""
        return self.values.serializer.loads(data)

    def _keep_unsent(self, place: bytes, value: Any, seconds: float | None, lease: Lease, is_newest: bool) -> None:
        stamp = lease.stamp
        if is_newest:
            # Copies of what was there before are older than it.
            self.tracker.invalidate([place])
            stamp = self.tracker.stamp(place)
        self.remember_unsent(place, value, seconds, stamp)

    def put_with_lease(self, key: Any, value: Any, seconds: float | None, tags: Sequence[str], lease: Lease) -> bool:
        """Store a computed value, if its lease is there and nothing was written since. Whether it did."""
        place = self.keys.value(key)
        names = tuple(dict.fromkeys(tags))
        # Before an attempt to store it, after which nothing is known for sure.
        is_newest = self.tracker.is_last_known(lease.stamp)
        if NAMESPACE not in lease.nonces:
            self._keep_unsent(place, value, seconds, lease, is_newest)
            return False
        try:
            self.begin()
            new = [name for name in names if MARK + name not in lease.nonces]
            nonces = dict(lease.nonces)
            if new:
                nonces |= self.send(self.nonces.ensured, [MARK + name for name in new])
                # Any of them may have been evicted since the value began to be computed.
                if self.send(self.client.execute, "GET", self.keys.evictions) != lease.evictions:
                    return False
            deadline = self.deadline(self.jittered(seconds))
            in_head = tuple((name, nonces[MARK + name]) for name in names)
            raw = self.values.write(value, deadline, nonces[NAMESPACE], in_head)
            with self.writing(place, lease.key):
                stored = scripts.STORE_WITH_LEASE.run(
                    self.client, place, lease.key, lease.token, lease.head, raw, deadline
                )
        except RemoteError:
            self.counts.failed_writes += 1
            self._keep_unsent(place, value, seconds, lease, is_newest)
            return False
        if stored:
            self.remember(place, (value, None, ()))
        return bool(stored)
