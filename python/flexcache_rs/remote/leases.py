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
from flexcache_rs.remote.errors import RemoteError, RemoteValueError
from flexcache_rs.remote.nonces import MARK, NAMESPACE
from flexcache_rs.remote.renewals import Renewals
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
"""Milliseconds between two requests for another caller's lease, if the server does not announce its end."""


def _packed(nonces: dict[str, bytes]) -> bytes:
    """Encode nonces as bytes, which are stored with a lease."""
    names = {name.encode("utf-8", "surrogatepass"): nonce for name, nonce in nonces.items()}
    return b"".join(_LENGTH.pack(len(name)) + name + nonce for name, nonce in names.items())


def _unpacked(data: bytes) -> dict[str, bytes]:
    """Decode the nonces of a lease. Unreadable ones are left out."""
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
    """The lease of a key, held by this process or by another one."""

    def __init__(
        self, store: Leases, place: bytes, key: bytes, token: bytes, seconds: float, holder: LeaseHolder
    ) -> None:
        self.store, self.place, self.key, self.token = store, place, key, token
        self.milliseconds, self._holder = max(int(seconds * 1000), 1), holder
        self._process = os.getpid()
        self.head, self.stamp = b"", 0
        self.nonces: dict[str, bytes] = {}
        self.evictions: bytes | None = None

    def is_over(self) -> bool:
        """Whether the load that holds the lease has ended. A forked child does not know it of its parent's."""
        return self._process == os.getpid() and self._holder.is_over()

    def is_valid(self) -> bool:
        """Whether the lease is still held and the key was not written since.

        Returns True if the server cannot be reached. Storing the value checks again.
        """
        store, tags = self.store, tuple(self.nonces)
        commands: list[tuple[Any, ...]] = [("GET", self.key), ("GETRANGE", self.place, 0, HEAD_BYTES - 1)]
        commands += (("GET", store.nonces.place(tag)) for tag in tags)
        try:
            token, head, *nonces = store.read(lambda: store.client.execute_many(commands))
        except RemoteError:
            return True
        is_there = isinstance(token, bytes) and token.startswith(b"L" + self.token)
        return is_there and (head or b"") == self.head and nonces == [self.nonces[tag] for tag in tags]

    def renew(self) -> bool:
        """Renew the lease for its full time. Returns False if it needs no further renewal."""
        try:
            if self._holder.is_over() or self.store.life.is_closed:
                return False
            held = self.store.run(scripts.RENEW, self.key, b"L" + self.token, self.milliseconds)
        except RemoteError:
            # The server may respond at the next renewal, before the lease ends.
            return True
        except RemoteValueError:
            # Another program has replaced the lease.
            return False
        except Exception:
            logging.getLogger("flexcache_rs").exception("renewing a lease failed")
            return False
        return bool(held)

    @staticmethod
    def tells(error: Any) -> bool:
        """Whether callers in other processes are told of a failure. Not that a server fails: theirs may not."""
        return not isinstance(error, RemoteError)

    def dumps_failure(self, error: Any) -> bytes | None:
        """Pickle an exception for callers that wait in other processes."""
        return self.store.values.serializer.dumps(error, 5)

    def release(self, failure: bytes | None) -> None:
        """Give the lease back. If that fails, try again until the lease expires, because it blocks computations."""
        try:
            scripts.RELEASE.run(self.store.client, self.key, self.token, failure or b"")
        except RemoteError:
            self.store.renewals.give_back(self, failure)

    def is_released(self, failure: bytes | None) -> bool:
        """Try to give the lease back. Returns False if that must be tried again."""
        try:
            if not self.store.life.is_closed:
                self.store.run(scripts.RELEASE, self.key, self.token, failure or b"")
        except RemoteError:
            return False
        except RemoteValueError:
            # Another program has replaced the lease.
            return True
        except Exception:
            logging.getLogger("flexcache_rs").exception("giving a lease back failed")
        return True


class Leases(Commands):
    """The leases of a namespace."""

    _jitter = 0.0

    def __init__(self, client: Client, keys: Keys, values: Values, tracker: PushTracker, breaker: Breaker) -> None:
        super().__init__(client, keys, values, tracker, breaker)
        self.renewals = Renewals()
        # The leases of this process by key. A thread may give a lease back some time after its load has ended.
        self._held: weakref.WeakValueDictionary[bytes, Lease] = weakref.WeakValueDictionary()

    def remember(self, place: bytes, entry: tuple[Any, float | None, tuple[str, ...]] | None, stamp: int = 0) -> None:
        """Keep an entry, if old values may be returned while the server cannot be reached."""

    def remember_unsent(self, place: bytes, value: Any, seconds: float | None, stamp: int) -> None:
        """Keep a computed value that could not be stored, if old results may replace errors."""

    def jittered(self, seconds: float | None) -> float | None:
        """Reduce a time to live by a random part, so that entries stored together do not expire together."""
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
        """Request the lease of a key. If the server cannot be reached, return a lease that cannot store a value."""
        own = os.urandom(_TOKEN_BYTES)
        lease = Lease(self, self.keys.value(key), self.keys.lease(key), own, seconds, holder)
        try:
            return self._ask(lease, seconds, tags, awaited, takes_over)
        except BaseException:
            # A signal handler has raised. The server may have granted the lease, whose token no caller knows. It cannot
            # have been requested before the nonces were known.
            if lease.nonces:
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
            # Read the nonces before the value is computed.
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
                # A tag was evicted, or the namespace was cleared. The other lease can no longer store its value.
                void = rest[1][:_TOKEN_BYTES]
        except (RemoteError, RemoteValueError):
            # A value that is computed now is only for its callers, because nothing would show that it was computed
            # from older data.
            return "held", lease, 0, stamps[:1]
        if answer == b"held":
            self.counts.leases += 1
            self._held[at] = lease
            lease.head = rest[0]
            if lease.head:
                # The key has a value. Invalidate older copies, because the announcement of its write may be late.
                self.tracker.invalidate([place])
            self.renewals.add(lease, seconds)
            # Without the lease's own stamp, because the server announces the taking of the lease as a write to it.
            return "held", lease, 0, stamps[:1]
        if answer == b"failed":
            return "failed", rest[0], 0, []
        self.counts.lease_waits += 1
        left, lease.token = max(rest[0], 1), rest[1][:_TOKEN_BYTES]
        if not self.nonces.is_told:
            # The server does not announce its end.
            left = min(left, _BETWEEN_QUESTIONS)
        return "elsewhere", lease, self.tracker.now() + left * 1_000_000, stamps

    def _ended(self, at: bytes, awaited: bytes) -> bytes:
        """Return the token of a lease of this process whose load has ended, but which was not given back yet.

        The load had ended before the caller asked, so its failure must not reach the caller. Returns b"" if the caller
        has waited for this lease, or if there is none.
        """
        held = self._held.get(at)
        return held.token if held is not None and held.token != awaited and held.is_over() else b""

    def _is_void(self, lease: bytes) -> bool:
        """Whether a nonce was replaced since the lease was granted."""
        nonces = _unpacked(lease[_TOKEN_BYTES:])
        current: dict[str, bytes | None] = self.send(self.nonces.current, nonces)
        return current != nonces

    def loads_failure(self, data: bytes) -> Any:
        """Load the exception of another process."""
        return self.values.serializer.loads(data)

    def _keep_unsent(self, place: bytes, value: Any, seconds: float | None, lease: Lease, is_newest: bool) -> None:
        stamp = lease.stamp
        if is_newest:
            # Copies of the previous value are older than this one.
            self.tracker.invalidate([place])
            stamp = self.tracker.stamp(place)
        self.remember_unsent(place, value, seconds, stamp)

    def put_with_lease(self, key: Any, value: Any, seconds: float | None, tags: Sequence[str], lease: Lease) -> bool:
        """Store a computed value if its lease is held and the key was not written since. Returns True if stored."""
        place = self.keys.value(key)
        names = tuple(dict.fromkeys(tags))
        # Ask before the attempt to store the value. After it, the state of the server may be unknown.
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
                # These tags were not known before the computation, and may have been evicted since it began.
                if self.send(self.client.execute, "GET", self.keys.evictions) != lease.evictions:
                    return False
            deadline = self.deadline(self.jittered(seconds))
            in_head = tuple((name, nonces[MARK + name]) for name in names)
            raw = self.values.write(value, deadline, nonces[NAMESPACE], in_head)
            with self.writing(place, lease.key):
                stored = scripts.STORE_WITH_LEASE.run(
                    self.client, place, lease.key, lease.token, lease.head, raw, deadline
                )
        except (RemoteError, RemoteValueError):
            self.counts.failed_writes += 1
            self._keep_unsent(place, value, seconds, lease, is_newest)
            return False
        if stored:
            self.remember(place, (value, None, ()))
        return bool(stored)
