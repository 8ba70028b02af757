"""`RemoteCache`, a cache in memory in front of a Valkey or Redis server with bounded staleness."""

from __future__ import annotations

import contextlib
import functools
import weakref
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from flexcache_rs._arguments import check_callable, each, pairs, whole_number
from flexcache_rs._core import FlexCache, PushTracker
from flexcache_rs._registry import register_remote
from flexcache_rs._seconds import seconds_in
from flexcache_rs._suggest import suggesting
from flexcache_rs.remote.aio import Awaited
from flexcache_rs.remote.breaker import Breaker
from flexcache_rs.remote.clients import client_of, listener_of
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError
from flexcache_rs.remote.keys import Keys
from flexcache_rs.remote.last import LastValues
from flexcache_rs.remote.listener import Terms, Unsupported
from flexcache_rs.remote.locks import LockCalls
from flexcache_rs.remote.loop_calls import LoopCalls
from flexcache_rs.remote.options import (
    L1_TTL,
    MAX_STALE,
    MOST_IN_MEMORY,
    check_compression,
    check_on_error,
    jitter,
    near_options,
    positive,
)
from flexcache_rs.remote.options import (
    max_stale as checked_max_stale,
)
from flexcache_rs.remote.reads import LENIENT
from flexcache_rs.remote.replies import unexpected
from flexcache_rs.remote.stats import RemoteStats
from flexcache_rs.remote.store import BATCH, RemoteStore
from flexcache_rs.remote.values import MOST_HEAD, Values, serializer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime, timedelta
    from types import TracebackType

    from typing_extensions import Self

    from flexcache_rs._memo import MemoizedFunction
    from flexcache_rs._memoize import Memoizer
    from flexcache_rs.disk.serializers import Serializer

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")
_MISSING: Any = object()


@suggesting
class RemoteCache(Awaited, LockCalls):
    """A cache on a Valkey or Redis server. Each process keeps copies of the entries that it reads in memory.

    A hit in memory never returns a value that was replaced more than `max_staleness` seconds before. This also holds
    while the network hangs. After this process has written a key, it reads its own write or a newer one.

    Args:
        client: A URL (`valkey://`, `valkeys://`, `redis://`, `rediss://` or `unix://`), or a client of redis-py or
            valkey-py, which may be for asyncio.
        namespace: The prefix of the keys on the server. Caches with the same namespace share their entries.
        near: Options of the `FlexCache` in memory, such as `{"max_items": 10_000, "eviction_policy": "sieve"}`; by
            default at most 100,000 entries. None means almost no memory.
        default_ttl: The time to live of entries without one of their own. None means for ever.
        ttl_jitter: The largest share, from 0 to 1, by which a time to live is reduced at random. Entries that were
            stored together then do not expire together.
        l1_ttl: The largest number of seconds for which memory keeps a copy. None means 60. A server that does not
            announce writes is refused unless this is given. It then bounds the age of a replaced value.
        negative_ttl: The seconds for which memory remembers that a key is absent. None means not at all.
        max_staleness: The number of seconds for which copies are returned while the server does not respond.
        max_stale: With `on_error="stale"`: the largest age in seconds of a value, since it was last read or written.
        timeout: The largest number of seconds for one command.
        on_error: What calls do while the server cannot be reached. "raise" raises a `RemoteError`. With "miss", reads
            find nothing and writes do nothing. "stale" is the same, but reads return the last value that this process
            knows. `delete`, `pop`, `clear` and `evict_tag` raise in every case. `get_or_set` and `memoize` compute.
        serializer: "pickle", "json", "msgspec", or one of `flexcache_rs.disk.serializers`. All caches of a namespace
            must use the same. Anyone who can write to the server can run code in a process that reads pickles.
        compression: "zstd" (smaller), "lz4" (faster) or None. Values of 256 bytes and more are compressed if that
            makes them smaller. Every cache of the namespace can read them, whatever its own compression is.
        lease: The number of seconds for which other processes wait for a computation whose process is gone. While the
            process lives, a thread renews its leases. None means no leases.
        lease_wait: The number of seconds for which a caller waits for a computation of another process.
        lane: How commands reach the server. "client" uses connections of redis-py or valkey-py. "direct" uses one
            native connection for all threads, by TCP or a unix socket without TLS. None means "client".
        name: The name of the cache in caches() and in `CLIENT LIST`.

    Raises:
        TypeError: An argument has a wrong type, or `client` is no client.
        ValueError: An argument is out of range, the client reads from replicas or has its own cache, or the values of
            the namespace use another serializer.
        RemoteError: With `on_error="raise"`, the server cannot be reached. In every case, it refused the password, or
            it cannot announce writes.

    >>> from flexcache_rs.remote import RemoteCache
    >>> cache = RemoteCache("valkey://localhost:6379/0", namespace="shop")
    >>> cache["user:1"] = {"name": "Ada"}
    >>> cache["user:1"]
    {'name': 'Ada'}
    """

    # No `__dict__`, so that the interpreter finds `get` without looking into one.
    __slots__ = (
        *("_bounds", "_client", "_default_ttl", "_front", "_listener", "_loop_calls", "_options", "_store"),
        *("_timeout", "_tracked_store", "namespace"),
    )

    def __init__(
        self,
        client: Any,
        namespace: str,
        *,
        near: Mapping[str, Any] | None = {"max_items": MOST_IN_MEMORY},  # The default is never modified.
        default_ttl: float | timedelta | datetime | None = None,
        ttl_jitter: float = 0.0,
        l1_ttl: float | timedelta | None = None,
        negative_ttl: float | timedelta | None = 1.0,
        max_staleness: float | timedelta = 1.0,
        max_stale: float | timedelta = MAX_STALE,
        timeout: float | timedelta = 0.25,
        on_error: str = "raise",
        serializer: str | Serializer | None = "pickle",
        compression: Literal["lz4", "zstd"] | None = None,
        lease: float | timedelta | None = 30.0,
        lease_wait: float | timedelta = 30.0,
        lane: Literal["client", "direct"] | None = None,
        name: str | None = None,
    ) -> None:
        check_on_error(on_error)
        oldest = checked_max_stale(max_stale, on_error)
        options = near_options(near)
        self.namespace = namespace
        # `l1_ttl` limits the age of copies in memory. The server knows the time to live of entries.
        bound = L1_TTL if l1_ttl is None else positive("l1_ttl", l1_ttl)
        self._options: dict[str, Any] = {**options, "coherence": bound, "lease": lease, "lease_wait": lease_wait}
        self._default_ttl = default_ttl
        if default_ttl is not None:
            seconds_in("default_ttl", default_ttl)
        staleness = positive("max_staleness", max_staleness)
        self._bounds = staleness, bound
        keys = Keys(namespace)
        self._timeout = positive("timeout", timeout)
        label = "flexcache-" + (name or namespace)
        self._client = client_of(client, self._timeout, "".join(c if "!" <= c <= "~" else "_" for c in label), lane)
        most = options.get("max_items") or MOST_IN_MEMORY
        tracker, breaker = PushTracker(most if near is not None else 1), Breaker()
        last = LastValues(most, oldest) if on_error == "stale" else None
        self._store = RemoteStore(
            *(self._client, keys, Values(serializer_of(serializer), check_compression(compression)), tracker, breaker),
            *(on_error, last, jitter(ttl_jitter)),
        )
        self._tracked_store = self._store
        near_cache: FlexCache[Any, Any] = FlexCache(
            **self._options,
            store=self._store,  # type: ignore[arg-type]  # What the stubs say of a user's.
            default_ttl=default_ttl,
            negative_ttl=negative_ttl,
            name=name,
        )
        self._set_near(near_cache)
        self._loop_calls = LoopCalls(self._store, near_cache)
        self._front: FlexCache[Any, Any] | None = None
        must_be_told = l1_ttl is None
        terms = Terms(
            *(self._client.name, keys.prefixes, staleness, tracker, breaker, self._store.nonces),
            *(must_be_told, weakref.ref(self._store.life)),
        )
        listener = listener_of(self._client, terms)
        self._listener = listener
        # Listen as long as anything uses the store, such as a memoized function that outlives the cache object.
        # The collector might finalize a socket before its connection. At exit, functions may still use the cache.
        for end, at_exit in ((listener.stop, True), (self._store.renewals.stop, True), (self._client.drop, False)):
            weakref.finalize(self._store.life, end).atexit = at_exit
        self._start(on_error)
        register_remote(self)

    def _start(self, on_error: str) -> None:
        """Connect, and start listening."""
        self._store.listener = self._listener
        try:
            self._store.begin()
            self._listener.wait(max(2 * self._timeout, 1.0))
            error = self._listener.error
            if isinstance(error, Unsupported):
                raise RemoteError(*error.args)
        except (RemoteTimeoutError, RemoteConnectionError):
            if on_error == "raise":
                self.close()
                raise
        except BaseException:
            self.close()
            raise

    # Reading

    # Otherwise, iterating would call `[]` with 0, 1 and so on. See `scan`.
    __iter__ = None

    def fresh(self, key: Any, default: Any = None) -> Any:
        """Return the value that the server has now, without memory. A value with tags costs two round trips.

        Raises:
            RemoteValueError: As for `get`, the key holds something that is no value of this cache.
            RemoteError: The server cannot be reached.
        """
        found, _ = self._store.load(key, anew=True)
        return default if found is None else found[0]

    def ttl(self, key: Any) -> float | None:
        """Return the seconds that a key has left, or None if it never expires. Asks the server.

        Raises:
            KeyError: The key has no value.
            RemoteError: The server cannot be reached.
        """
        head, _ = self._store.head(key)
        if head is None:
            raise KeyError(key)
        return self._store.seconds_left(head)

    def tags(self, key: Any) -> tuple[str, ...]:
        """Return the tags of a key. Asks the server.

        Raises:
            KeyError: The key has no value.
            RemoteError: The server cannot be reached.
        """
        head, _ = self._store.head(key)
        if head is None:
            raise KeyError(key)
        return tuple(name for name, _ in head.tags)

    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """Return a dict with the values of the present keys. One command reads up to 1000 keys that are not in memory.

        Values that cannot be read count as absent: one of them does not keep the others from the caller.
        """
        ordered, found = list(each("keys", keys)), dict[Any, Any]()
        asked = self._near._get_many_from_memory(ordered, found)
        is_in_order = not found
        for start in range(0, len(asked), BATCH):
            batch = asked[start : start + BATCH]
            self._near._take_many_loaded(batch, *self._store.load_many(batch), found)
        return found if is_in_order or not asked else {key: found[key] for key in ordered if key in found}

    def scan(self, prefix: str = "") -> Iterator[Any]:
        """Iterate over the keys on the server: the str keys with the prefix, or all keys.

        A key that is present all the time occurs at least once, as with the server's `SCAN`. O(keys of the database).
        """
        if not isinstance(prefix, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            message = f"prefix must be a str, not {type(prefix).__name__}"
            raise TypeError(message)
        store = self._store
        for places in self._scan(store.keys.pattern(prefix)):
            commands = [("GETRANGE", place, 0, MOST_HEAD - 1) for place in places]
            for place, raw in zip(places, store.send(self._client.execute_many, commands), strict=True):
                with contextlib.suppress(ValueError):
                    key = store.keys.key(place)
                    if (not prefix or (isinstance(key, str) and key.startswith(prefix))) and store.is_live(key, raw):
                        yield key

    def _scan(self, pattern: bytes) -> Iterator[list[bytes]]:
        self._store.begin()
        for server in self._store.send(self._client.servers):
            cursor, seen = b"", set[bytes]()
            while cursor != b"0":
                ask = functools.partial(server.scan, cursor or b"0", pattern, BATCH)
                cursor, places = self._store.send(ask)
                if cursor in seen:  # A server never returns to a cursor, so this would not end.
                    raise unexpected("SCAN", cursor)
                seen.add(cursor)
                if places:
                    yield places

    # Writing

    def put(
        self,
        key: Any,
        value: Any,
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        """Store or replace a value, for all processes.

        Args:
            key: A str, bytes, int, float, bool, None, or a tuple of these. 1, 1.0 and True are one key, as in a dict.
            value: Any value that the serializer accepts. str, bytes, int, float and None are stored directly.
            ttl: Seconds as int or float, a `timedelta` or a `datetime`; None means `default_ttl`, and `float("inf")`
                means for ever.
            tags: The tags of the entry for `evict_tag`: an iterable of str.

        Raises:
            RemoteError: With `on_error="raise"`: the server cannot be reached. If the command was sent, the value may
                have been stored.
            TypeError: The key or the tags have a wrong type.

        An exception of the serializer propagates.

        >>> with RemoteCache("valkey://localhost:6379/0", "put") as cache:
        ...     cache.put("user:1", {"name": "Ada"}, ttl=60)
        ...     print(cache["user:1"])
        {'name': 'Ada'}
        """
        self._near.put(key, value, ttl, tags)

    set = put

    def __setitem__(self, key: Any, value: Any) -> None:
        self._near[key] = value

    def add(
        self,
        key: Any,
        value: Any,
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> bool:
        """Store a value only if there is none. Returns True if it was stored. See `put`.

        >>> with RemoteCache("valkey://localhost:6379/0", "add") as cache:
        ...     print(cache.add("key", 1), cache.add("key", 2))
        True False
        """
        return self._near.add(key, value, ttl=ttl, tags=tags)

    def delete(self, key: Any) -> bool:
        """Remove a key. Returns True if it had a value.

        Raises:
            RemoteError: The server cannot be reached, whatever `on_error` is.

        >>> with RemoteCache("valkey://localhost:6379/0", "delete") as cache:
        ...     cache["key"] = 1
        ...     print(cache.delete("key"), cache.delete("key"))
        True False
        """
        return self._near.delete(key)

    def __delitem__(self, key: Any) -> None:
        if not self.delete(key):
            raise KeyError(key)

    @overload
    def pop(self, key: Any) -> Any: ...
    @overload
    def pop(self, key: Any, default: _T) -> Any | _T: ...
    def pop(self, key: Any, default: Any = _MISSING) -> Any:
        """Remove a key and return its value. If several processes do this, exactly one gets the value.

        Raises:
            KeyError: The key has no value, and no default was given.
            RemoteValueError: The value cannot be read. It stays.
            RemoteError: The server cannot be reached, whatever `on_error` is.

        >>> with RemoteCache("valkey://localhost:6379/0", "pop") as cache:
        ...     cache["key"] = 1
        ...     print(cache.pop("key"), cache.pop("key", None))
        1 None
        """
        return self._near.pop(key) if default is _MISSING else self._near.pop(key, default)

    def touch(self, key: Any, ttl: float | timedelta | datetime | None = None) -> bool:
        """Give a key another time to live, from now. None means for ever. Returns True if it has a value. See `put`."""
        return self._near.touch(key, ttl)

    def persist(self, key: Any) -> bool:
        """Remove the time to live of a key. Returns True if it has a value."""
        return self._near.touch(key, float("inf"))

    def set_many(
        self,
        entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        """Store the values of several keys, 1000 at a time. If it fails, some may have been stored. See `put`.

        >>> with RemoteCache("valkey://localhost:6379/0", "set_many") as cache:
        ...     cache.set_many({"a": 1, "b": 2}, ttl=60)
        ...     print(cache.get_many(["a", "b", "c"]))
        {'a': 1, 'b': 2}
        """
        self._near.set_many(dict(pairs("entries", entries)), ttl=ttl, tags=tags)

    def delete_many(self, keys: Iterable[Any]) -> int:
        """Remove several keys, 1000 at a time. Returns the number of keys that had a value. Raises as `delete` does.

        >>> with RemoteCache("valkey://localhost:6379/0", "delete_many") as cache:
        ...     cache.set_many({"a": 1, "b": 2})
        ...     print(cache.delete_many(["a", "b", "c"]))
        2
        """
        return self._near.delete_many(each("keys", keys))

    def incr(self, key: Any, by: int = 1, initial: int = 0, ttl: float | timedelta | datetime | None = None) -> int:
        """Add to the int of a key, atomically for all processes.

        Args:
            key: The key.
            by: The number to add.
            initial: The initial value of an absent key.
            ttl: The time to live of a new value. An existing value keeps its own.

        Returns:
            The sum.

        Raises:
            TypeError: The value is not an int.
            RemoteError: The server cannot be reached, whatever `on_error` is.

        >>> with RemoteCache("valkey://localhost:6379/0", "incr") as cache:
        ...     print(cache.incr("visits"), cache.incr("visits", 10))
        1 11
        """
        added, first = whole_number("by", by), whole_number("initial", initial)
        return int(self._past_memory(key, self._store.incr, added, first, self._near._seconds_of(ttl)))

    def decr(self, key: Any, by: int = 1, initial: int = 0, ttl: float | timedelta | datetime | None = None) -> int:
        """Subtract from the int of a key. See `incr`."""
        return self.incr(key, -whole_number("by", by), initial, ttl)

    def compare_and_set(self, key: Any, old: Any, new: Any, ttl: float | timedelta | datetime | None = None) -> bool:
        """Replace the value of a key if it equals `old`. It keeps its tags.

        The comparison uses `==` in this process. The value is replaced only if no other caller has written to the key
        in the meantime.

        Returns:
            True if it was replaced.

        Raises:
            RemoteError: The server cannot be reached, whatever `on_error` is.
        """
        return bool(self._past_memory(key, self._store.swap, old, new, self._near._seconds_of(ttl)))

    def clear(self) -> None:
        """Invalidate all entries of the namespace, for all processes. O(1).

        Their memory on the server is freed when they expire or are evicted there. `purge` frees it at once.

        Raises:
            RemoteError: The server cannot be reached, whatever `on_error` is.
        """
        self._near.clear()

    def purge(self) -> int:
        """Remove everything in the namespace from the server: values, tags, leases, locks and limiters.

        Returns the number of values. O(keys of the database).

        Raises:
            RemoteError: The server cannot be reached, whatever `on_error` is.
        """
        self._near.clear()
        removed = 0
        for prefix in self._store.keys.prefixes:
            for places in self._scan(prefix + b"{*"):
                gone = self._store.send(self._client.unlink, places)
                removed += gone if prefix == self._store.keys.prefixes[0] else 0
        self._store.forget_all()
        return removed

    def evict_tag(self, tag: str) -> None:
        """Invalidate all entries that have a tag, for all processes. O(1).

        The number of entries is not known. Every process reads its copies again.

        Raises:
            RemoteError: The server cannot be reached, whatever `on_error` is.

        >>> with RemoteCache("valkey://localhost:6379/0", "evict_tag") as cache:
        ...     cache.put("user:1", "Ada", tags=["users"])
        ...     print(cache.evict_tag("users"), "user:1" in cache)
        None False
        """
        self._near.evict_tag(tag)

    # Computing

    def get_or_set(
        self,
        key: Any,
        factory: Callable[[], _T],
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> _T:
        """Return the value of a key. If it has none, call `factory()`, store its result and return it.

        If several threads, processes and machines ask at the same time, one of them calls its factory, and the others
        wait. If a caller writes to the key during the computation, the result is returned but not stored. If the
        process dies, another caller computes after at most `lease` seconds. While the server cannot be reached, every
        process computes for itself.

        Raises:
            CircularLoadError: The factory would have to wait for itself.
            LoadFailedElsewhere: The factory of another process raised an exception that cannot be restored here.
            TypeError: The key is of another type.

        An exception of the factory propagates.

        >>> with RemoteCache("valkey://localhost:6379/0", "get_or_set") as cache:
        ...     print(cache.get_or_set("answer", lambda: 42, ttl=60), cache["answer"])
        42 42
        """
        check_callable("factory", factory)
        token = LENIENT.set(True)
        try:
            value: _T = self._near.get_or_set(key, functools.partial(_strictly, factory), ttl, tags)
        finally:
            LENIENT.reset(token)
        return value

    @overload
    def memoize(self, function: Callable[_P, _R], /) -> MemoizedFunction[_P, _R]: ...
    @overload
    def memoize(self, function: None = None, /, **options: Any) -> Memoizer: ...
    def memoize(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Keep the results of a function for all processes, as a decorator with or without arguments.

        The options are those of `FlexCache.memoize`. Concurrent calls with the same arguments compute once. The results
        have a separate memory in each process, with the options `near`. While the server cannot be reached, calls
        compute.

        Raises:
            TypeError, ValueError: As for `flexcache_rs.memoize`.
        """
        if self._front is None:
            store = self._store.of_results(self._options.get("max_items") or MOST_IN_MEMORY)
            given: dict[str, Any] = {"store": store, "default_ttl": self._default_ttl}
            self._front = FlexCache(**self._options, **given)
        return self._front.memoize(function, **options)

    # About the cache

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._store.life.is_closed

    @property
    def name(self) -> str | None:
        """The name of the cache."""
        return self._near.name

    @property
    def client(self) -> Any:
        """The user's client, for the user's own commands and pipelines."""
        return self._client.given

    @property
    def lane(self) -> str:
        """How commands reach the server: "client" or "direct"."""
        return self._client.lane

    def stats(self) -> RemoteStats:
        """Return the statistics of this process."""
        return RemoteStats.of(self._near, self._store, self._listener, *self._bounds)

    def close(self) -> None:
        """Close the connections. The data on the server stays. Later calls raise `ValueError`."""
        self._store.life.is_closed = True
        self._store.renewals.stop()
        self._listener.stop()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._store.life.is_closed else f"in_memory={self._near.items}"
        return f"<{type(self).__name__} {self.namespace!r} {state}>"

    def __reduce__(self) -> Any:
        message = "a RemoteCache has connections and cannot be pickled: make one in each process"
        raise TypeError(message)


def _strictly(factory: Callable[[], _T]) -> _T:
    """Call a factory. Inside it, calls of caches treat an unavailable server as `on_error` says."""
    token = LENIENT.set(False)
    try:
        return factory()
    finally:
        LENIENT.reset(token)
