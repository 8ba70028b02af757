"""The stores over which the tests of this folder run, and their capabilities.

To add a store, write one entry in `KINDS`. Every test that its capabilities allow then runs over it.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
import struct
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import store_remote
from scale import SCALE, SEED

from flexcache_rs import FlexCache
from flexcache_rs.disk import Cache, FanoutCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Loaded = tuple[Any, float | None, tuple[str, ...]]

ABSENT = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()
"""Stands for the absence of a value."""


class Dictionary:
    """A user's store with the four methods that a store needs."""

    def __init__(self) -> None:
        self.rows: dict[Any, tuple[Any, float | None, tuple[str, ...]]] = {}
        self.loads = 0

    def load(self, key: Any) -> Loaded | None:
        self.loads += 1
        row = self.rows.get(key)
        if row is None:
            return None
        value, deadline, tags = row
        left = None if deadline is None else deadline - time.monotonic()
        return None if left is not None and left <= 0 else (value, left, tags)

    def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
        self.rows[key] = value, None if ttl is None else time.monotonic() + ttl, tags

    def remove(self, key: Any) -> bool:
        there = self.load(key) is not None
        self.rows.pop(key, None)
        return there

    def clear(self) -> None:
        self.rows.clear()


class Complete:
    """A user's store with all optional methods: batches are atomic, and `version()` changes at each commit."""

    def __init__(self) -> None:
        self.committed: dict[Any, tuple[Any, float | None, tuple[str, ...]]] = {}
        self.commits = 0
        self.loads = 0
        self._writing = threading.RLock()
        self._mine = threading.local()

    @property
    def rows(self) -> dict[Any, tuple[Any, float | None, tuple[str, ...]]]:
        """Return the rows that the calling thread sees."""
        pending: dict[Any, Any] | None = getattr(self._mine, "pending", None)
        return self.committed if pending is None else pending

    @contextlib.contextmanager
    def transact(self) -> Iterator[None]:
        with self._writing:
            if getattr(self._mine, "pending", None) is not None:
                yield
                return
            self._mine.pending = pending = dict(self.committed)
            try:
                yield
                if pending != self.committed:
                    self.committed = pending
                    self.commits += 1
            finally:
                self._mine.pending = None

    def version(self) -> int:
        return self.commits

    def load(self, key: Any) -> Loaded | None:
        self.loads += 1
        row = self.rows.get(key)
        if row is None:
            return None
        value, deadline, tags = row
        left = None if deadline is None else deadline - time.monotonic()
        return None if left is not None and left <= 0 else (value, left, tags)

    def contains(self, key: Any) -> bool:
        return self.load(key) is not None

    def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
        with self.transact():
            self.rows[key] = value, None if ttl is None else time.monotonic() + ttl, tags

    def add(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> bool:
        with self.transact():
            if self.load(key) is not None:
                return False
            self.save(key, value, ttl, tags)
            return True

    def touch(self, key: Any, ttl: float | None) -> bool:
        with self.transact():
            found = self.load(key)
            if found is not None:
                self.save(key, found[0], ttl, found[2])
            return found is not None

    def pop(self, key: Any) -> Loaded | None:
        with self.transact():
            found = self.load(key)
            self.rows.pop(key, None)
            return found

    def remove(self, key: Any) -> bool:
        return self.pop(key) is not None

    def evict_tag(self, tag: str) -> int:
        with self.transact():
            tagged = [key for key, row in self.rows.items() if tag in row[2]]
            return sum([self.remove(key) for key in tagged])

    def clear(self) -> None:
        with self.transact():
            self.rows.clear()


class Kind:
    """A kind of store: how to make one, how to use it directly, and its capabilities.

    Attributes:
        name: the name in the ids of the tests.
        coherence: the `coherence` of a `FlexCache` in front of it.
        equality: "python" if 1, 1.0 and True are one key, "typed" if the type counts. `identity` is exact.
        most_tags: the largest number of tags of an entry.
        evicts_tags: whether it can remove the entries with a tag.
        transactions: whether `transaction()` makes a transaction that can be rolled back.
        notices: whether caches see writes through the store object itself and through other caches over it.
        shared: whether other processes can write to it.
        durable: whether `make` finds what an earlier one stored.
        tells: whether a write returns what it replaced.
        keeps: whether memory keeps copies even if the writes of others must be visible at once.
        divided: whether a transaction has several commits, one for each part.
        lags: whether values that others have overwritten may be served for the seconds of `coherence`.
        tells_tags: whether a loaded entry has its tags.
        tells_expiry: whether the expiry of an entry differs from its removal, for a result that would replace it.
        keeps_written: whether memory keeps a written value, unless only the store knows the order of writes.
        counts_evicted: whether the removal of a tag's entries returns their number.
        pickles: whether the store can be pickled.
        has_files: whether it stores in files of this process.
        times_out: whether `make(directory, timeout=seconds)` limits how long a write waits for another process.
        in_part: whether this run has only a part of the tests over it.
        is_variant: whether another kind differs only in the mode of a database, in the number of its files, or in the
            server. The oldest Python and the free-threaded one leave it out.
    """

    coherence: Any = "strict"
    equality = "python"
    most_tags = 2
    evicts_tags = True
    transactions = False
    notices = True
    shared = False
    durable = False
    tells = True
    times_out = in_part = is_variant = False
    lags = tells_tags = tells_expiry = True
    keeps = True
    divided = False
    keeps_written = counts_evicted = pickles = has_files = True

    def __init__(self, name: str, make: Callable[..., Any], **capabilities: Any) -> None:
        self.name = name
        self.make = make
        unknown = [capability for capability in capabilities if not hasattr(Kind, capability)]
        assert not unknown, f"no such capabilities: {unknown}"
        self.__dict__.update(capabilities)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> Any:
        return by_name, (self.name,)

    def front(self, store: Any, *args: Any, **options: Any) -> FlexCache[Any, Any]:
        """Make a cache in memory in front of the store."""
        return FlexCache(*args, **{"store": store, "coherence": self.coherence} | options)

    def identity(self, key: Any) -> Any:
        """Return a value that is equal for keys which the store treats as one key."""
        return key

    def read(self, store: Any, key: Any) -> Any:
        """Return the value in the store itself, or `ABSENT`."""
        return store.get(key, ABSENT)

    def write(self, store: Any, key: Any, value: Any) -> None:
        """Store a value without the cache."""
        store[key] = value

    def erase(self, store: Any, key: Any) -> bool:
        """Remove a key without the cache."""
        return bool(store.delete(key))

    def evict(self, store: Any, tag: str) -> None:
        """Remove the entries with a tag without the cache."""
        store.evict(tag)

    def wipe(self, store: Any) -> None:
        """Remove everything without the cache."""
        store.clear()

    def transaction(self, store: Any) -> AbstractContextManager[None]:
        """Begin a transaction of the calling thread."""
        transaction: AbstractContextManager[None] = store.transact()
        return transaction

    def place(self, store: Any) -> Path:
        """Return the location of the store."""
        return Path(store.directory)

    def close(self, store: Any) -> None:
        """Close the store. It opens again when it is used."""


class UserKind(Kind):
    """A user's store object."""

    tells = False

    def read(self, store: Any, key: Any) -> Any:
        found = store.load(key)
        return ABSENT if found is None else found[0]

    def write(self, store: Any, key: Any, value: Any) -> None:
        store.save(key, value, None, ())

    def erase(self, store: Any, key: Any) -> bool:
        return bool(store.remove(key))


class DiskKind(Kind):
    """A directory in python-diskcache's format, which determines the equality of keys."""

    equality = "typed"
    most_tags = 1
    transactions = shared = durable = times_out = True

    def identity(self, key: Any) -> Any:
        """SQLite compares text, bytes and numbers by value. Other keys are pickles."""
        if type(key) in (str, bytes, float) or (type(key) is int and -(2**63) <= key < 2**63):
            return "column", key
        return "pickle", pickle.dumps(key, protocol=pickle.HIGHEST_PROTOCOL)

    def close(self, store: Any) -> None:
        store.close()


class FanoutKind(DiskKind):
    """Two shards. Equal numbers of different types may be in different shards, and are then two keys."""

    divided = True

    times_out = in_part = False

    def identity(self, key: Any) -> Any:
        shard = 0
        if type(key) is float:
            shard = zlib.adler32(struct.pack("!d", key)) % 2
        elif type(key) is int:
            shard = key % 0xFFFFFFFF % 2
        return shard, super().identity(key)


class SharedKind(Kind):
    """A cache in shared memory."""

    most_tags = 255
    shared = durable = True
    lags = tells_tags = False

    def place(self, store: Any) -> Path:
        """The path of the file."""
        return Path(store.path)

    def evict(self, store: Any, tag: str) -> None:
        store.evict_tag(tag)


class RemoteKind(Kind):
    """A namespace of a server for each directory."""

    durable = shared = True
    tells = keeps = lags = keeps_written = counts_evicted = pickles = has_files = tells_expiry = False

    def write(self, store: Any, key: Any, value: Any) -> None:
        super().write(store, key, value)
        store_remote.hear()

    def erase(self, store: Any, key: Any) -> bool:
        erased = super().erase(store, key)
        store_remote.hear()
        return erased

    def evict(self, store: Any, tag: str) -> None:
        store.evict_tag(tag)
        store_remote.hear()

    def wipe(self, store: Any) -> None:
        super().wipe(store)
        store_remote.hear()

    def place(self, store: Any) -> Path:
        """Stands for the namespace."""
        return Path(store.namespace)

    def close(self, store: Any) -> None:
        """Drop the connections. Closing the cache would be final."""
        store_remote.disconnect(store)


def _shared(path: Path) -> Any:
    from flexcache_rs.shared import SharedCache

    return SharedCache(path / "store", max_bytes=1 << 20)


def _directory(**settings: Any) -> Callable[..., Any]:
    return lambda path, **more: Cache(path / "store", **settings, **more)


KINDS: tuple[Kind, ...] = (
    UserKind("user-minimal", lambda path: Dictionary(), coherence=None, evicts_tags=False, notices=False),
    UserKind("user-seconds", lambda path: Dictionary(), coherence=0.0, evicts_tags=False),
    UserKind("user-complete", lambda path: Complete()),
    Kind("memory", lambda path: FlexCache(), keeps=False),
    DiskKind("disk-wal", _directory()),
    DiskKind("disk-network", _directory(network=True), is_variant=True),
    DiskKind("disk-delete", _directory(sqlite_journal_mode="delete"), is_variant=True),
    FanoutKind("fanout", lambda path: FanoutCache(path / "store", shards=2), is_variant=True),
    *((SharedKind("shared", _shared),) if sys.platform == "linux" else ()),
    *(
        RemoteKind(
            f"remote-{lane}-{engine}",
            functools.partial(store_remote.make, lane=lane, engine=engine),
            in_part=SCALE < 1 and engine != store_remote.ENGINE,
            is_variant=engine != store_remote.ENGINE,
        )
        for engine in store_remote.HERE
        for lane in (store_remote.LANES if SCALE >= 1 else store_remote.LANES[SEED % 2 :][:1])
    ),
)
"""All stores."""


def by_name(name: str) -> Kind:
    """Return the kind with a name."""
    return next(kind for kind in KINDS if kind.name == name)


SAME = "".join(["te", "xt"])
EQUAL = "".join(["te", "xt"])
KEYS: tuple[Any, ...] = (
    *(1, 1.0, True, (1,), (1.0,), (True,)),
    *((SAME, SAME), (SAME, EQUAL)),
    *("a", "b", b"a", None, 2**70, (None, ("a", -1))),
)
"""Keys that some stores treat as equal and others as different."""
