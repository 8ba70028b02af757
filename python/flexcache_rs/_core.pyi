import builtins
from array import array
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Hashable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    Sequence,
    ValuesView,
)
from datetime import datetime, timedelta
from io import BufferedReader
from os import PathLike
from pathlib import Path
from types import GenericAlias, TracebackType
from typing import (
    Any,
    ClassVar,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    SupportsIndex,
    TypeAlias,
    TypeVar,
    final,
    overload,
    type_check_only,
)

from _typeshed import SupportsKeysAndGetItem
from typing_extensions import Self, disjoint_base

from flexcache_rs._first_parameter import ClassMethod, Method
from flexcache_rs._mapping import EntryCount
from flexcache_rs._memo import MemoizedClassMethod, MemoizedFunction, MemoizedMethod
from flexcache_rs._memoize import Memoizer
from flexcache_rs._store import Store
from flexcache_rs.disk import Cache, FanoutCache

__all__ = [
    "_DISK_EVICTION_POLICIES",
    "_DISK_PRAGMAS",
    "_KEYWORDS",
    "AwaitedBlock",
    "Block",
    "BoundMemoized",
    "CacheItemsView",
    "CacheIterator",
    "CacheKeysView",
    "CacheStats",
    "CacheValuesView",
    "CacheView",
    "CircularLoadError",
    "Disk",
    "DiskCache",
    "DiskHold",
    "DiskKeys",
    "DiskSession",
    "DiskShards",
    "DiskTransaction",
    "FlexCache",
    "LeaseHolder",
    "LoadCancelled",
    "LoadFailedElsewhere",
    "Memoized",
    "MemoryKeys",
    "MemorySession",
    "MemorySessionTransaction",
    "NearCache",
    "PushTracker",
    "Remembered",
    "RemoteLane",
    "RemoteReplies",
    "RemoteSocket",
    "SessionCall",
    "SessionCodec",
    "SharedHold",
    "SharedSegment",
    "SharedVersion",
    "SqliteFinder",
    "StandingTime",
    "Timeout",
    "TooLargeError",
    "WriteInFlight",
    "_InstanceResults",
    "__version__",
    "_advance_clock",
    "_cache_of_results",
    "_call_directly",
    "_canonical_key",
    "_check",
    "_compress",
    "_copy_of_exception",
    "_decompress",
    "_discard_loads_of",
    "_discard_void_loads",
    "_expired_result",
    "_has_leased_load",
    "_has_negative_controls",
    "_is_single_use",
    "_load",
    "_load_in_task",
    "_loads_in_progress",
    "_loads_that_wait",
    "_panics",
    "_parse_plain",
    "_random",
    "_refresh_in_task",
    "_refresh_in_thread",
    "_remote_command",
    "_remote_commands",
    "_remote_entries",
    "_remote_entry",
    "_remote_places",
    "_replay",
    "_restore",
    "_set_registrar",
    "_show_once",
    "_tags",
    "_unexpected_argument",
    "after_fork_in_child",
    "disk_decompress_lz4",
    "disk_open_value",
    "disk_remove_value",
    "guard_sqlite3",
    "reset_logging",
    "scan_pickle",
    "stores_after_fork_in_child",
    "stores_after_fork_in_parent",
    "stores_before_fork",
]

__version__: str
_DISK_EVICTION_POLICIES: dict[str, dict[str, str | None]]
_DISK_PRAGMAS: frozenset[str]

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
_T = TypeVar("_T")
_S = TypeVar("_S")
_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)
_T_co = TypeVar("_T_co", covariant=True)
_K_co = TypeVar("_K_co", covariant=True)
_K_contra = TypeVar("_K_contra", contravariant=True)

_Seconds: TypeAlias = float | timedelta
_Ttl: TypeAlias = _Seconds | datetime
_PolicyName: TypeAlias = Literal["lru", "fifo", "lfu", "random", "sieve", "s3fifo", "tinylfu", "auto"]
_Event: TypeAlias = Literal["hit", "miss", "insert", "update", "evict", "expire", "remove", "load"]
_Reason: TypeAlias = Literal["evicted", "expired", "deleted", "popped", "replaced", "cleared", "closed"]

@type_check_only
class EvictionPolicy(Protocol[_K_contra]):
    def on_insert(self, key: _K_contra, /) -> object: ...
    def on_access(self, key: _K_contra, /) -> object: ...
    def on_remove(self, key: _K_contra, /) -> object: ...
    def victim(self) -> object: ...

@disjoint_base
class FlexCache(MutableMapping[_K, _V]):
    """An in-process cache with a policy, limits, expiry and hooks.

    Args:
        eviction_policy: The policy that selects the entry to evict: "lru" (the default: least recently used),
            "fifo" (first in, first out), "lfu" (least frequently used, with aging), "random", "sieve",
            "s3fifo", "tinylfu" (windowed), "auto" (adapts to the workload), or an object with the methods
            on_insert(key), on_access(key), on_remove(key) and victim(). docs/policies.md compares the policies.
        scan_interval: The least number of seconds between two automatic removals of all expired entries. With
            0.0 (the default), each write and each count removes them.
        max_items: The largest number of entries. 0 (the default) means no limit.
        max_bytes: The largest sum of sizes. 0 (the default) means no limit. The size of an entry is the result
            of the weigher or of its value's method item_size(), or 1.
        default_ttl: The time to live of entries without one of their own: seconds as int or float, a timedelta,
            or a datetime (without a time zone in local time). None or float("inf") means for ever.
        thread_safe: With False, threads do not wait for each other on builds without a GIL. Simultaneous calls
            then raise RuntimeError. With a GIL it makes no difference.
        shards: The number of parts of the cache. Each part has its own lock and its own order of eviction. With
            more than 1, threads can run at the same time on builds without a GIL.
        background_expiry: With True, a thread removes entries when they expire, even if no call uses the cache.
            A number is the least number of seconds between two such removals.
        on_evict: A function that is called as on_evict(key, value, reason) after an entry was removed. The
            reason is "evicted", "expired", "deleted", "popped", "replaced", "cleared" or "closed".
        weigher: A function of a value, or of a key and a value, that returns the size of the entry as an
            integer that is not negative. None (the default) means the result of the value's method item_size(),
            or 1. flexcache_rs.size_of estimates bytes.
        clock: A function without arguments that returns the time in seconds, like time.monotonic, for tests,
            simulations and replays. The cache calls it at each call. If it goes back, time stands still until
            it has caught up. None (the default) means the system's monotonic clock. It cannot be combined with
            store or background_expiry.
        close_values: With False, the cache does not call close() and aclose() of values.
        store: The store behind the cache: a `Cache` or `FanoutCache` of `flexcache_rs.disk`, a `SharedCache`,
            another FlexCache, or an object of your own with the methods of `flexcache_rs.Store`. A read looks
            in memory first and then in the store. A write goes to both. An entry that is evicted from memory
            stays in the store. Length and iteration are those of memory. None (the default) means no store.
        coherence: How long a hit in memory is served without asking the store. "strict" (the default) means
            until another process writes to the store. A number of seconds (or a timedelta) means for that
            long. None means for ever. Use it only if no other process writes to the store. In front of a
            SharedCache, coherence is always strict.
        lease: The number of seconds for which a computation reserves its key in the store. Other processes
            wait for its result for this long (default 30.0). None means that each process computes for itself.
        lease_wait: The largest number of seconds for which a call waits for a computation of another process
            (default 30.0). After that, it computes for its own callers and stores nothing.
        negative_ttl: The largest number of seconds for which memory remembers that the store does not have a
            key. With None (the default), each read asks the store. `coherence` applies to it too. Such a key
            takes a place and a size of 1, and is no entry otherwise.
        name: The name of the cache in its reports and in caches().
        record: The file for a trace of all lookups, which `python -m flexcache_rs replay` reads. The trace has
            hashes of the keys, and the sizes if there is a max_bytes. It is compressed if the name ends in
            ".gz". It is complete when the cache is closed or the program ends. A lookup then takes about twice
            as long.
        record_limit: The number of lookups after which recording ends. 0 means no limit.
        optimize: What "auto" and "tinylfu" maximize if max_bytes limits the cache and sizes differ. "hits" (the
            default) prefers small entries. "bytes" maximizes the sum of the sizes of the hits.

    Values may have the methods item_size(), close() and aclose(), which are looked up on their type. When an
    entry is removed, close() runs exactly once, or aclose() if there is no close(). They do not run for pop()
    and popitem(). An exception of a hook is logged to the logger "flexcache_rs" and counted. In the main thread,
    KeyboardInterrupt and SystemExit of a hook are raised after the call.

    Every call is O(1) unless its description says otherwise.

    Raises:
        TypeError, ValueError, OverflowError: An argument is invalid, or has no effect without another one, such
            as coherence without store.

    >>> from flexcache_rs import FlexCache
    >>> cache = FlexCache("lru", max_items=2)
    >>> cache["a"], cache["b"] = 1, 2
    >>> cache.get("a")
    1
    >>> cache.put("c", 3, ttl=60)
    >>> "b" in cache, cache.items
    (False, 2)
    """
    def __new__(cls, *args: Any, **options: Any) -> Self: ...
    def __init__(
        self,
        eviction_policy: _PolicyName | EvictionPolicy[_K] = "lru",
        scan_interval: _Seconds = 0.0,
        max_items: SupportsIndex = 0,
        max_bytes: SupportsIndex = 0,
        *,
        default_ttl: _Ttl | None = None,
        thread_safe: bool = True,
        shards: SupportsIndex = 1,
        background_expiry: bool | _Seconds = False,
        on_evict: Callable[[_K, _V, _Reason], object] | None = None,
        weigher: Callable[[_V], int] | Callable[[_K, _V], int] | None = None,
        clock: Callable[[], float] | None = None,
        close_values: bool = True,
        store: Store | Cache | FanoutCache | SharedSegment | None = None,
        coherence: Literal["strict"] | _Seconds | None = "strict",
        lease: _Seconds | None = 30.0,
        lease_wait: _Seconds = 30.0,
        negative_ttl: _Seconds | None = None,
        name: str | None = None,
        record: str | PathLike[str] | None = None,
        record_limit: SupportsIndex = 10000000,
        optimize: Literal["hits", "bytes"] = "hits",
    ) -> None: ...
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...
    @overload
    def get(self, key: _K, default: None = None) -> _V | None:
        """Return the value of a key, or `default` if it is absent or has expired.

        Counts as an access and as a hit or a miss.

        Raises:
            TypeError: The key is not hashable.

        O(1).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache["a"] = 1
        >>> cache.get("a"), cache.get("b"), cache.get("b", 0)
        (1, None, 0)
        """
    @overload
    def get(self, key: _K, default: _V | _T) -> _V | _T: ...
    def put(self, key: _K, value: _V, ttl: _Ttl | None = None, tags: Iterable[str] | None = None) -> None:
        """Store or replace a value. The same as `cache[key] = value`.

        Args:
            key: Any hashable object.
            value: Any object. See FlexCache for the methods that it may have.
            ttl: The time to live: seconds as int or float, a timedelta, or a datetime (without a time
                zone in local time). A time that is not in the future has already expired. float("inf")
                means for ever, and None means the cache's default_ttl.
            tags: The tags of the entry for evict_tag(): an iterable of str, or None for no tags. A value
                that replaces another one has only the tags of this call.

        Raises:
            TypeError: The key is not hashable, the ttl is no time, item_size() is no integer, or tags is
                no iterable of str. A single tag is written ("user:1",).
            ValueError: The ttl is NaN, item_size() is negative or larger than max_bytes, or a tag has
                lone surrogates.
            OverflowError: The ttl is longer than 292 years, or the sum of sizes does not fit 64 bits.

        If it raises an exception, the cache is unchanged. O(1) for each removed entry.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache.put("a", 1)
        >>> cache.put("a", 2, ttl=60)
        >>> cache["a"]
        2
        """
    def set(self, key: _K, value: _V, ttl: _Ttl | None = None, tags: Iterable[str] | None = None) -> None:
        """Store a value under a key that is absent or has expired.

        The arguments and other exceptions are those of put().

        Raises:
            KeyError: The key is present.

        O(1) for each removed entry.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache.set("a", 1)
        >>> cache.set("a", 2)
        Traceback (most recent call last):
            ...
        KeyError: 'a'
        """
    def add(self, key: _K, value: _V, ttl: _Ttl | None = None, *, tags: Iterable[str] | None = None) -> bool:
        """Store a value only if the key is absent. Returns True if it was stored.

        Args:
            key: Any hashable object.
            value: Any object.
            ttl: The time to live, as for :meth:`put`.
            tags: The tags of the entry for :meth:`evict_tag`.

        Raises:
            TypeError, ValueError, OverflowError: As for :meth:`put`.

        O(1).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache.add("a", 1), cache.add("a", 2), cache["a"]
        (True, False, 1)
        """
    def get_or_set(
        self, key: _K, factory: Callable[[], _V], ttl: _Ttl | None = None, tags: Iterable[str] | None = None
    ) -> _V:
        """Return the value of a key. If it is absent, call factory(), store its result and return it.

        If several threads and tasks ask for an absent key at the same time, one of them calls its factory.
        The others wait, and share its result or its exception. An exception is not stored, so the next call
        tries again. If a caller writes to the key while the factory runs, the callers that wait get the
        result, and the cache does not keep it. In front of a directory, all of this includes the callers
        and writes of other caches and processes. A caller waits for them for at most `lease_wait` seconds.

        Args:
            key: Any hashable object.
            factory: A function without arguments. It must not be a coroutine function; use aget_or_set()
                for these.
            ttl: The time to live, as for put().
            tags: The tags of the entry for evict_tag().

        Raises:
            CircularLoadError: The factory would have to wait for itself.
            LoadCancelled: The factory for which this call waited raised asyncio.CancelledError.
            LoadFailedElsewhere: The factory of another process raised an exception that cannot be restored
                here.
            TypeError, ValueError, OverflowError: As for put().

        An exception of the factory propagates. O(1), without the factory.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache.get_or_set("a", lambda: 1), cache.get_or_set("a", lambda: 2)
        (1, 1)
        """
    async def aget_or_set(
        self,
        key: _K,
        factory: Callable[[], _V | Awaitable[_V]],
        ttl: _Ttl | None = None,
        tags: Iterable[str] | None = None,
    ) -> _V:
        """The same as get_or_set(), for asyncio. It awaits the result of the factory if it is awaitable.

        Tasks of all event loops, and threads in get_or_set(), share one computation. A caller that is
        cancelled does not cancel other callers. The computation is cancelled when no caller waits for
        it any more. If a caller writes to the key while the factory runs, the callers that wait get
        the result, and the cache does not keep it. In front of a directory, all of this includes the
        callers and writes of other caches and processes. A caller waits for them for at most
        `lease_wait` seconds.

        Args:
            key: Any hashable object.
            factory: A function without arguments, which may be a coroutine function.
            ttl: The time to live, as for put().
            tags: The tags of the entry for evict_tag().

        Raises:
            CircularLoadError: The factory would have to wait for itself.
            LoadCancelled: The factory itself raised asyncio.CancelledError.
            LoadFailedElsewhere: The factory of another process raised an exception that cannot be restored here.
            TypeError, ValueError, OverflowError: As for put().

        An exception of the factory propagates. O(1), without the factory.

        >>> import asyncio
        >>> from flexcache_rs import FlexCache
        >>> async def load():
        ...     return 1
        >>> async def main():
        ...     cache = FlexCache()
        ...     return await cache.aget_or_set("a", load), cache["a"]
        >>> asyncio.run(main())
        (1, 1)
        """
    @overload
    def memoize(  # pyright: ignore[reportOverlappingOverload]
        self, function: Method[_S, _P, _T], /
    ) -> MemoizedMethod[Callable[_P, _T]]:
        """Keep a function's results in this cache. The same as memoize() with cache=self.

        Raises:
            TypeError, ValueError: As for memoize().

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache(max_items=1000)
        >>> @cache.memoize(ttl=60)
        ... def double(number):
        ...     return 2 * number
        >>> double(4), cache.items
        (8, 1)
        """
    @overload
    def memoize(  # pyright: ignore[reportOverlappingOverload]
        self, function: ClassMethod[_S, _P, _T], /
    ) -> MemoizedClassMethod[Callable[_P, _T]]: ...
    @overload
    def memoize(self, function: Callable[_P, _T], /) -> MemoizedFunction[_P, _T]: ...
    @overload
    def memoize(
        self,
        function: None = None,
        /,
        *,
        ttl: _Ttl | Callable[[Any], _Ttl] | None = None,
        soft_ttl: _Seconds | None = None,
        early_refresh: float = 0.0,
        stale_if_error: _Seconds | None = None,
        jitter: float = 0.0,
        typed: bool = False,
        key: Callable[..., Any] | None = None,
        ignore: Iterable[str] = (),
        condition: Callable[[Any], object] | None = None,
        cache_exceptions: bool | type[Exception] | Iterable[type[Exception]] = False,
        exception_ttl: _Ttl | None = None,
        tags: str | Iterable[str] | Callable[..., str | Iterable[str]] | None = None,
        copy: bool | Callable[[Any], Any] = False,
        normalize: bool = False,
        name: str | None = None,
        version: str | None = None,
    ) -> Memoizer: ...
    def listen(self, listener: Callable[[_Event, Any, Any], object], *events: _Event) -> None:
        """Call a function at each event of the cache, until unlisten() removes it.

        Args:
            listener: A function that is called as listener(event, key, value) after each event, in the thread
                that caused it. The value of a miss is None. An exception of the listener is logged and counted.
            *events: "hit", "miss", "insert", "update", "evict", "expire", "remove" (by a call) and "load"
                (computed by get_or_set() or a memoized function). Without events, it is called for all of them.

        Raises:
            TypeError, ValueError: The listener is not callable, or an event is unknown.

        With a listener, lookups and writes use a slower path. O(1).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache(max_items=1)
        >>> cache.listen(print, "miss", "evict")
        >>> cache.get("a")
        miss a None
        >>> cache["a"], cache["b"] = 1, 2
        evict a 1
        """
    def unlisten(self, listener: Callable[[_Event, Any, Any], object]) -> bool:
        """Remove a listener that listen() added. Returns True if it was present. O(number of listeners).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache.listen(print)
        >>> cache.unlisten(print), cache.unlisten(print)
        (True, False)
        """
    def _count_load(self) -> None: ...
    def _loaded(self, key: object, value: object) -> None: ...
    def _remember(
        self, value: Any, raised: bool, fresh: float, good: float, cost: float, results: Any = None
    ) -> Remembered: ...
    def describe(self) -> str:
        """Return a report for people, as text: what the cache holds and what it counted. Print it.

        O(1), and O(1) more for each entry that has expired.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache(max_items=10, name="users")
        >>> cache["a"] = 1
        >>> _ = cache.get("a"), cache.get("b")
        >>> lines = cache.describe().splitlines()
        >>> lines[0], lines[2]
        ("FlexCache 'users'", '  entries      1 of at most 10 (10%)')
        """
    def _repr_html_(self) -> str: ...
    def evict_tag(self, tag: str) -> int:
        """Remove all entries that have a tag, and close their values. Returns how many.

        All of these entries are removed before the first hook runs.

        Args:
            tag: A tag of put(), set() or add().

        Raises:
            TypeError: The tag is no str.

        O(1) for each entry that has the tag.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache.put("page", "<html>", tags=("user:1", "site"))
        >>> cache.evict_tag("user:1"), "page" in cache, cache.evict_tag("site")
        (1, False, 0)
        """
    def tags(self, key: _K) -> tuple[str, ...]:
        """Return a tuple with the tags of an entry. It is empty if the key is absent. Does not count as an access.

        Raises:
            TypeError: The key is not hashable.

        O(number of tags).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache.put("page", "<html>", tags=("user:1",))
        >>> cache.tags("page")
        ('user:1',)
        """
    @property
    def _default_ttl(self) -> float | None: ...
    @property
    def _given_default_ttl(self) -> float | datetime | None: ...
    def _check_tags(self, tags: Iterable[str]) -> None: ...
    def _get_from_memory(self, key: Any, default: Any) -> Any: ...
    def _get_many_from_memory(self, keys: Sequence[Any], found: dict[Any, Any]) -> list[Any]: ...
    def _take_loaded(
        self, key: Any, loaded: tuple[tuple[Any, float | None, tuple[str, ...]] | None, int], default: Any
    ) -> Any: ...
    def _take_many_loaded(
        self,
        keys: Sequence[Any],
        entries: Sequence[tuple[Any, float | None, tuple[str, ...]] | None],
        stamps: Sequence[int],
        found: dict[Any, Any],
    ) -> None: ...
    def _seconds_of(self, ttl: Any) -> float | None: ...
    def _terms_of_put(self, key: Any, value: Any, ttl: Any, tags: Any) -> tuple[float | None, list[str], bool]: ...
    def _discard(self, keys: Sequence[Any]) -> None: ...
    def _get_in_turn(self, key: Any, default: Any) -> Any: ...
    # For the subclasses that stand in for cachetools'.
    def _choose_in_python(self, in_python: bool) -> None: ...
    def _compose_in_python(self, in_python: bool) -> None: ...
    def _get_item_or(self, key: _K, default: Any = None) -> Any: ...
    def _key_at(self, rank: int) -> _K: ...
    def _peek_item(self, key: _K, /) -> _V: ...
    def _get_or_store(self, key: _K, default: Any = None) -> Any: ...
    def _iter_listed(self) -> Iterator[_K]: ...
    def _keys_by_rank(self) -> tuple[_K, ...]: ...
    def _popitem_at(self, rank: int) -> tuple[_K, _V]: ...
    def _listed_keys(self) -> tuple[_K, ...]: ...
    def _next_victim(self) -> _K: ...
    def _next_victims(self) -> list[tuple[_K, int]]: ...
    def _restore_use(self, key: _K, uses: int) -> None: ...
    def _store_in_python(self, in_python: bool) -> None: ...
    @overload
    def peek(self, key: _K, default: None = None) -> _V | None:
        """The same as :meth:`get`, but it does not count as an access. It does not change the order of eviction
        and the statistics. O(1).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache(max_items=2)
        >>> cache["a"], cache["b"] = 1, 2
        >>> cache.peek("a"), cache.peek("c", 0), next(iter(cache))
        (1, 0, 'a')
        """
    @overload
    def peek(self, key: _K, default: _V | _T) -> _V | _T: ...
    def __getitem__(self, key: _K, /) -> _V: ...
    def __setitem__(self, key: _K, value: _V, /) -> None: ...
    def __delitem__(self, key: _K, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def delete(self, key: _K) -> bool:
        """Remove an entry and close its value. Returns True if it was present. O(1).

        Raises:
            TypeError: The key is not hashable.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache["a"] = 1
        >>> cache.delete("a"), cache.delete("a")
        (True, False)
        """
    @overload
    def pop(self, key: _K) -> _V:
        """Remove an entry and return its value. The value is not closed, because it then belongs to the caller.

        Raises:
            KeyError: The key is absent, and no default was given.

        O(1).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache["a"] = 1
        >>> cache.pop("a"), cache.pop("a", None)
        (1, None)
        """
    @overload
    def pop(self, key: _K, default: _V | _T = ...) -> _V | _T: ...
    def popitem(self) -> tuple[_K, _V]:
        """Remove the next victim and return its key and value. The value is not closed.

        With shards, it is the next victim of the fullest shard.

        Raises:
            KeyError: The cache is empty.

        O(1), and O(1) more for each entry that has expired.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache("lru")
        >>> cache["a"], cache["b"] = 1, 2
        >>> cache.popitem()
        ('a', 1)
        """
    def clear(self) -> None:
        """Remove every entry and close the values. O(n), but other threads can use the cache again at once.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache["a"] = 1
        >>> cache.clear()
        >>> cache.items
        0
        """
    def touch(self, key: _K, ttl: _Ttl | None) -> bool:
        """Give an entry another time to live, from now on. Returns True if it was present.

        Args:
            key: Any hashable object.
            ttl: As for :meth:`put`, but None means that the entry does not expire.

        Does not count as an access. O(1).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache(default_ttl=60)
        >>> cache["a"] = 1
        >>> cache.touch("a", None), cache.ttl("a")
        (True, None)
        """
    def ttl(self, key: _K) -> float | None:
        """Return the seconds that an entry has left, or None if it does not expire.

        Raises:
            KeyError: The key is absent.

        O(1).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache.put("a", 1, ttl=60)
        >>> 59 < cache.ttl("a") <= 60
        True
        """
    def set_many(
        self,
        mapping: Mapping[_K, _V] | Iterable[tuple[_K, _V]],
        ttl: _Ttl | None = None,
        *,
        tags: Iterable[str] | None = None,
    ) -> None:
        """Store or replace many values.

        Args:
            mapping: A mapping, or an iterable of pairs of key and value.
            ttl: As for :meth:`put`, for all entries.
            tags: As for :meth:`put`, for all entries.

        Raises:
            TypeError, ValueError, OverflowError: As for :meth:`put`. Nothing was stored.

        O(1) for each entry.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache.set_many({"a": 1, "b": 2}, ttl=60)
        >>> cache.get_many(["a", "b", "c"])
        {'a': 1, 'b': 2}
        """
    def get_many(self, keys: Iterable[_K]) -> dict[_K, _V]:
        """Return a dict with the values of the keys that are present. Counts as an access of each key.

        Raises:
            TypeError: A key is not hashable. Nothing was looked up.

        O(1) for each key.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache["a"], cache["b"] = 1, 2
        >>> cache.get_many(["b", "c"])
        {'b': 2}
        """
    def delete_many(self, keys: Iterable[_K]) -> int:
        """Remove the entries of these keys. Returns how many were present.

        Raises:
            TypeError: A key is not hashable. Nothing was removed.

        O(1) for each key.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache.set_many({"a": 1, "b": 2})
        >>> cache.delete_many(["a", "c"])
        1
        """
    def scan(self) -> int:
        """Remove all expired entries. Returns how many.

        This call is rarely needed. No call returns an expired entry, and calls that store or count remove
        expired entries, at most every `scan_interval` seconds.

        O(1) for each entry that has expired.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache(scan_interval=3600)
        >>> cache.put("a", 1, ttl=0)
        >>> cache.scan(), cache.items
        (1, 0)
        """
    def resize(self, *, max_items: SupportsIndex | None = None, max_bytes: SupportsIndex | None = None) -> None:
        """Change the limits. Entries that no longer fit are evicted before the call returns.

        Args:
            max_items: The largest number of entries, or 0 for no limit. None does not change it.
            max_bytes: The largest sum of sizes, or 0 for no limit. None does not change it.

        Raises:
            TypeError, ValueError: A limit is no integer, or it is negative.

        O(n).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache(max_items=3)
        >>> cache.set_many({"a": 1, "b": 2, "c": 3})
        >>> cache.resize(max_items=1)
        >>> list(cache)
        ['c']
        """
    def copy(self) -> Self:
        """Return a cache with the same configuration, keys and values, order of eviction and times left to live.
        Its statistics start at 0.

        Values with hooks are then in two caches, and each cache closes them. Pickling does the same, but it
        divides the keys among the shards again. Keys of a full shard may then find no room.

        O(n).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache(max_items=10)
        >>> cache["a"] = 1
        >>> other = cache.copy()
        >>> other["a"] = 2
        >>> cache["a"], other.max_items
        (1, 10)
        """
    def __copy__(self) -> Self: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __setstate__(self, state: Any) -> None: ...
    @property
    def items(self) -> EntryCount[_K, _V]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The number of entries, the same as len(cache). The call items() returns a view of the pairs of key and value.

        O(1), and O(1) more for each entry that has expired.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache["a"], cache["b"] = 1, 2
        >>> cache.items, list(cache.items())
        (2, [('a', 1), ('b', 2)])
        """
    @property
    def bytes(self) -> int:
        """The sum of the sizes of all entries. The size of an entry is the result of `item_size` or of the
        weigher, or 1. O(1), and O(1) more for each entry that has expired.
        """
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_K]: ...
    def keys(self) -> CacheKeysView[_K]:
        """Return a view of the keys, the next victim first. O(1).

        Iterating over the view is O(n), and the cache may change meanwhile.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache("lru")
        >>> cache["a"], cache["b"] = 1, 2
        >>> _ = cache["a"]
        >>> list(cache.keys())
        ['b', 'a']
        """
    def values(self) -> CacheValuesView[_V]:
        """Return a view of the values, in the order of :meth:`keys`. O(1).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache["a"], cache["b"] = 1, 2
        >>> sum(cache.values())
        3
        """
    def entries(self) -> CacheItemsView[_K, _V]:
        """Return a view of the pairs of key and value, in the order of :meth:`keys`. O(1).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache("lru")
        >>> cache["a"], cache["b"] = 1, 2
        >>> _ = cache["a"]
        >>> list(cache.entries())
        [('b', 2), ('a', 1)]
        """
    @overload
    def setdefault(self: FlexCache[_K, _T | None], key: _K, default: None = None, /) -> _T | None:
        """Return the value of a key. If it is absent, store and return the default.

        The call is atomic. If several threads do this, one stores its default, and all get it. get_or_set() computes a
        value only if it is needed.

        Args:
            self: The cache.
            key: Any hashable object.
            default: The value to store if the key is absent.

        Raises:
            TypeError, ValueError: As for :meth:`add`.

        Counts as an access. O(1).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache.setdefault("a", 1), cache.setdefault("a", 2)
        (1, 1)
        """
    @overload
    def setdefault(self, key: _K, default: _V) -> _V: ...
    @overload
    def update(self, other: SupportsKeysAndGetItem[_K, _V], /) -> None:
        """Store or replace the entries of a mapping, of an iterable of pairs, and of keyword arguments.

        Args:
            self: The cache.
            other: A mapping, another cache, or an iterable of pairs of key and value.
            **entries: More entries, with str keys.

        Raises:
            TypeError, ValueError: As for :meth:`put`. Nothing was stored.

        The same as set_many(), which takes a ttl and tags. O(1) for each entry.

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache.update({"a": 1}, b=2)
        >>> dict(cache)
        {'a': 1, 'b': 2}
        """
    @overload
    def update(self: FlexCache[str, _V], other: SupportsKeysAndGetItem[str, _V], /, **entries: _V) -> None: ...
    @overload
    def update(self, other: Iterable[tuple[_K, _V]], /) -> None: ...
    @overload
    def update(self: FlexCache[str, _V], other: Iterable[tuple[str, _V]], /, **entries: _V) -> None: ...
    @overload
    def update(self: FlexCache[str, _V], **entries: _V) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]
    def __or__(self, other: Mapping[_K, _V], /) -> Self: ...
    def __ror__(self, other: Mapping[_K, _V], /) -> dict[_K, _V]: ...
    def __ior__(self, other: SupportsKeysAndGetItem[_K, _V] | Iterable[tuple[_K, _V]], /) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def stats(self) -> CacheStats:
        """Return the statistics of the cache as a :class:`CacheStats`. O(1).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> cache["a"] = 1
        >>> _ = cache.get("a"), cache.get("b")
        >>> cache.stats().hits, cache.stats().hit_ratio
        (1, 0.5)
        """
    def reset_stats(self) -> None:
        """Set the counts of :meth:`stats` to 0. O(1).

        >>> from flexcache_rs import FlexCache
        >>> cache = FlexCache()
        >>> _ = cache.get("a")
        >>> cache.reset_stats()
        >>> cache.stats().misses
        0
        """
    def close(self) -> None:
        """Remove every entry, close the values, and wait for the `aclose` hooks in the background thread. The end
        of a `with` block does the same.

        In a thread with a running event loop, `aclose` hooks are scheduled there, and this call does not wait
        for them. Use `async with`, or await :meth:`aclose`. The cache can be used again afterwards. O(n).

        >>> from flexcache_rs import FlexCache
        >>> with FlexCache(on_evict=lambda key, value, reason: print(key, reason)) as cache:
        ...     cache["a"] = 1
        a closed
        """
    def aclose(self) -> Awaitable[None]:
        """The same as :meth:`close`, but awaitable. It waits until the `aclose` hooks on the running event loop
        have finished. The end of an `async with` block does the same.

        >>> import asyncio
        >>> from flexcache_rs import FlexCache
        >>> class Connection:
        ...     async def aclose(self):
        ...         print("closed")
        >>> async def main():
        ...     async with FlexCache() as cache:
        ...         cache["db"] = Connection()
        >>> asyncio.run(main())
        closed
        """
    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None, /
    ) -> None: ...
    def __aenter__(self) -> Awaitable[Self]: ...
    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None, /
    ) -> Awaitable[None]: ...
    @property
    def eviction_policy(self) -> _PolicyName | EvictionPolicy[_K]:
        """The name of the policy, or the policy object."""
    @property
    def max_items(self) -> int:
        """The largest number of entries, or 0 for no limit."""
    @property
    def max_bytes(self) -> int:
        """The largest sum of sizes, or 0 for no limit."""
    @property
    def store(self) -> Store | Cache | FanoutCache | SharedSegment | None:
        """The store behind the cache, or None."""
    @property
    def name(self) -> str | None:
        """The name of the cache, or None."""
    def __sizeof__(self) -> int: ...
    def __del__(self) -> None: ...

@final
class CacheStats:
    """The exact statistics of a cache at one moment, since its creation or `reset_stats()`."""
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]
    def __reduce__(self) -> tuple[Any, ...]: ...
    @staticmethod
    def _of(counts: Sequence[int], bytes: int) -> CacheStats:
        """The counts that `__reduce__` has returned."""
    @property
    def hits(self) -> int:
        """Reads that found a live entry, or got the result of a computation of another call."""
    @property
    def misses(self) -> int:
        """Reads that found no live entry."""
    @property
    def loads(self) -> int:
        """Values that get_or_set(), aget_or_set() and memoized functions computed, kept or not."""
    @property
    def insertions(self) -> int:
        """Entries stored under a key that had no entry."""
    @property
    def updates(self) -> int:
        """Values that were replaced."""
    @property
    def evictions(self) -> int:
        """Entries that were evicted to make room."""
    @property
    def expirations(self) -> int:
        """Entries that were removed because they had expired."""
    @property
    def removals(self) -> int:
        """Entries that a call removed: deleted, popped, cleared or closed."""
    @property
    def hook_errors(self) -> int:
        """Exceptions of hooks."""
    @property
    def items(self) -> int:
        """Entries in the cache, including expired ones that are not removed yet."""
    @property
    def bytes(self) -> int:
        """The sum of their sizes."""
    @property
    def hit_ratio(self) -> float:
        """Hits divided by reads, or 0.0 without reads."""

@disjoint_base
class CacheView(Generic[_T_co]):
    """A view of the keys, values or entries of a cache. It shows the current contents."""
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> CacheIterator[_T_co]: ...
    def __contains__(self, wanted: object, /) -> bool: ...

@final
class CacheKeysView(CacheView[_T_co], KeysView[_T_co]):  # pyright: ignore[reportGeneralTypeIssues]
    """The keys of a cache: a `KeysView`, with the operations of a set."""
    def __iter__(self) -> CacheIterator[_T_co]: ...
    def isdisjoint(self, other: Iterable[Any]) -> bool:
        """Return True if two sets have a null intersection."""
    __hash__: None  # type: ignore[assignment]

@final
class CacheValuesView(CacheView[_T_co], ValuesView[_T_co]):  # pyright: ignore[reportGeneralTypeIssues]
    """The values of a cache: a `ValuesView`."""
    def __iter__(self) -> CacheIterator[_T_co]: ...

@final
class CacheItemsView(CacheView[tuple[_K_co, _T_co]], ItemsView[_K_co, _T_co]):  # pyright: ignore[reportGeneralTypeIssues]
    """The pairs of key and value of a cache: an `ItemsView`, with the operations of a set."""
    def __iter__(self) -> CacheIterator[tuple[_K_co, _T_co]]: ...
    def isdisjoint(self, other: Iterable[Any]) -> bool:
        """Return True if two sets have a null intersection."""
    __hash__: None  # type: ignore[assignment]

@final
class CacheIterator(Generic[_T_co]):
    """Iterates over the entries that a cache had at the beginning, without those that were removed since."""
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> _T_co: ...
    def __length_hint__(self) -> int: ...

def reset_logging() -> None:
    """Read the log levels again.

    The library looks up the levels of the logger ``flexcache_rs`` once, so that a record below the level costs
    nothing. Call this after you have changed the levels. O(1).

    >>> import logging, flexcache_rs
    >>> logging.getLogger("flexcache_rs").setLevel(logging.DEBUG)
    >>> flexcache_rs.reset_logging()
    >>> logging.getLogger("flexcache_rs").setLevel(logging.NOTSET)
    >>> flexcache_rs.reset_logging()
    """

def _unexpected_argument(callable_: str, given: str, allowed: Sequence[str]) -> str: ...
def after_fork_in_child() -> None:
    """Forget the threads of the parent, which a forked child does not have."""

def _advance_clock(seconds: _Seconds) -> None: ...
def _check(cache: FlexCache[Any, Any]) -> None: ...
def _has_negative_controls() -> bool: ...
def _panics() -> int: ...
def _restore(class_: type[FlexCache[Any, Any]], configuration: dict[str, Any]) -> FlexCache[Any, Any]: ...

@disjoint_base
class Memoized(Generic[_P, _R_co]):
    """A function whose results are kept in a cache.

    Args:
        function: The function that computes a result.
        cache: The cache of the results. None means that none is kept.
        typed: Whether equal arguments of different types have different keys.
        prefix: The first part of every key, if several functions share a cache.
        in_store: Whether keys are texts for a store. A nonce follows the prefix. The method _read_nonce() returns
            it.
        ignored_positions: A bit for each positional argument that is not part of the key.
        ignored_names: The keyword arguments that are not part of the key.
        key: A function of the arguments that returns the key. It replaces the options above.
        ready: A function of a kept result that returns what the caller gets: a coroutine, or a copy.
        awaited: The name of a coroutine function. Its calls must not wait for a store.
        normalize: A function of the arguments, a tuple and a dict. It returns the same arguments for all forms of
            a call.
        loads: Whether a miss calls the method _load(key, args, kwargs).
        examines: Whether values in the cache may be of the class Remembered. The method
            _reconsider(key, remembered, args, kwargs) answers a call whose value is not fresh.
        keeps_results: Whether each result is kept as it is. A miss then needs no method while `examines` is false.
        ttl: The time to live of these results.

    Programs use lru_cache and memoize, which create it.
    """

    __wrapped__: Callable[_P, _R_co]
    __name__: str
    __qualname__: str
    def __new__(
        cls,
        function: Callable[_P, _R_co],
        cache: FlexCache[Any, Any] | None,
        *,
        typed: bool = False,
        prefix: object = None,
        ignored_positions: int = 0,
        ignored_names: list[str] = ...,
        key: Callable[..., Any] | None = None,
        ready: Callable[[Any], Any] | None = None,
        awaited: str | None = None,
        normalize: Callable[[Any, Any], Any] | None = None,
        loads: bool = False,
        examines: bool = False,
        in_store: bool = False,
        keeps_results: bool = False,
        ttl: object = None,
    ) -> Self: ...
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    def __get__(self, instance: Any, owner: Any = None, /) -> Any: ...
    def __reduce__(self) -> str: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, memo: Any, /) -> Self: ...
    @property
    def cache(self) -> FlexCache[Any, Any] | None:
        """The cache in which results are kept; None where they are not."""
    def cache_key(self, *args: _P.args, **kwargs: _P.kwargs) -> Any:
        """The key of a call with these arguments."""
    @property
    def _uncached(self) -> int: ...
    def _forget_uncached(self) -> None: ...
    @property
    def _function(self) -> Any: ...
    def _may_be_method(self, instances: dict[int, Any]) -> None: ...
    def _forget_nonce(self) -> None: ...

@final
class Remembered:
    """A result, or an exception of the function, and how long it can be used.

    Args:
        value: The result, or the exception.
        raised: Whether it is an exception.
        fresh: The number of seconds for which calls return the result at once.
        good: The number of seconds for which the result is valid. Afterwards it only replaces an error.
        cost: The number of seconds that the computation took.
        results: The object that holds the value, if this one does not.
    """
    def __new__(
        cls,
        value: object,
        raised: bool,
        fresh: float,
        good: float,
        cost: float,
        results: _InstanceResults | None = None,
    ) -> Self: ...
    @property
    def value(self) -> Any:
        """The result, or the exception. None if it is lost."""
    @property
    def lost(self) -> bool:
        """Whether the instance that held the result no longer has it."""
    @property
    def raised(self) -> bool: ...
    @property
    def cost(self) -> float: ...
    @property
    def good_for(self) -> float:
        """The number of seconds for which the result is still valid. It is negative afterwards."""
    @property
    def fresh(self) -> bool:
        """Whether calls return the result at once."""
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class _InstanceResults:
    def __new__(cls, instance: object) -> Self: ...
    def belong_to(self, instance: object) -> bool:
        """Whether they are those of an instance, and not those of another one that it was copied from."""
    def __reduce__(self) -> tuple[Any, ...]: ...

class Block:
    """The base class of objects with a `with` block."""
    def __new__(cls, *_arguments: Any, **_options: Any) -> Self: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: object, _raised: object, _traceback: object) -> None: ...

@disjoint_base
class StandingTime:
    """The base class of a timer. Its clock is any function without arguments."""
    def __new__(cls, clock: Callable[[], Any]) -> Self: ...
    @property
    def _clock(self) -> Callable[[], Any]: ...
    def _time(self) -> Any: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, *_raised: object) -> None: ...

class AwaitedBlock:
    """The base class of objects with an `async with` block."""
    def __new__(cls, *_arguments: Any, **_options: Any) -> Self: ...
    def __aenter__(self) -> Awaitable[Self]: ...
    def __aexit__(self, kind: object, _raised: object, _traceback: object) -> Awaitable[None]: ...

@final
class BoundMemoized:
    """A memoized function that is bound to an instance. All its calls apply to this instance."""
    @property
    def __self__(self) -> Any: ...
    @property
    def __func__(self) -> Memoized[..., Any]: ...
    @property
    def __signature__(self) -> Any: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __deepcopy__(self, memo: object) -> Any: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def cache_key(self, *args: Any, **kwargs: Any) -> Any:
        """Return the key of a call with these arguments."""
    def invalidate(self, *args: Any, **kwargs: Any) -> bool:
        """Forget the result of a call with these arguments. Returns True if there was one."""
    def peek(self, *args: Any, **kwargs: Any) -> Any:
        """Return the stored result of a call with these arguments, or None. Does not count as an access."""
    def refresh(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method now, even if there is a result or a computation, and keep its result."""

_Look: TypeAlias = Callable[[], Any]
_AnyCache: TypeAlias = FlexCache[Any, Any]
_Compute: TypeAlias = Callable[[_Load], Coroutine[Any, Any, _V]]

# A load as its computation sees it.
@final
@type_check_only
class _Load:
    def store(
        self, cache: _AnyCache, value: object, ttl: _Ttl | None = None, tags: Iterable[str] | None = None
    ) -> bool: ...
    def declare(self, cache: _AnyCache, tags: Iterable[str]) -> None: ...
    def do_not_share(self) -> None: ...
    def lease(self, cache: _AnyCache, look: _Look, nothing: Any, blocks: bool = True, patient: bool = True) -> Any: ...
    def take_lease(self, cache: FlexCache[Any, Any]) -> None: ...

class TooLargeError(ValueError):
    """The entry is larger than the whole cache may be."""

class CircularLoadError(RuntimeError):
    """A computation would have to wait for itself."""

class LoadCancelled(Exception):  # noqa: N818
    """A computation that others wait for was cancelled from inside: it raised CancelledError."""

class LoadFailedElsewhere(Exception):  # noqa: N818
    """The computation of a value failed in another process, with an exception that cannot be restored here."""

_KEYWORDS: Any

def _cache_of_results(most: int | None) -> FlexCache[Any, Any]: ...
def _call_directly(class_: type) -> None: ...
def _set_registrar(registrar: Callable[[FlexCache[Any, Any]], object]) -> None: ...
def _show_once(object: _T, show: Callable[[_T], str]) -> str: ...
def _tags(tags: Iterable[str]) -> tuple[str, ...]: ...
def _random() -> float: ...
def _load(cache: _AnyCache, key: object, compute: Callable[[_Load], _V], refresh: bool = False) -> _V: ...
def _load_in_task(cache: _AnyCache, key: object, compute: _Compute[_V], refresh: bool = False) -> Awaitable[_V]: ...
def _refresh_in_thread(cache: FlexCache[Any, Any], key: object, compute: Callable[[_Load], object]) -> bool: ...
def _refresh_in_task(cache: _AnyCache, key: object, compute: _Compute[Any]) -> bool: ...
def _has_leased_load(cache: FlexCache[Any, Any], key: object) -> bool: ...
def _discard_void_loads(cache: FlexCache[Any, Any], key: object) -> None: ...
def _canonical_key(parts: tuple[Any, ...]) -> str: ...
def _discard_loads_of(cache: FlexCache[Any, Any], prefix: str) -> None: ...
def _loads_that_wait(cache: _AnyCache) -> list[Any]: ...
def _loads_in_progress(cache: _AnyCache) -> list[tuple[Any, int]]: ...
def _compress(data: bytes, name: str) -> bytes | None: ...
def _decompress(data: bytes, name: str) -> bytes: ...
def _copy_of_exception(error: BaseException) -> BaseException: ...
def _is_single_use(value: object) -> bool: ...
def _remote_command(*parts: bytes | str | int) -> bytes: ...
def _remote_commands(commands: Iterable[Sequence[bytes | str | int]]) -> bytes: ...
def _remote_entries(
    found: Sequence[bytes | None], known: tuple[bytes, float, Callable[[bytes], Any]]
) -> tuple[list[Any], list[int]]: ...
def _remote_entry(raw: bytes | None, known: tuple[bytes, float, Callable[[bytes], Any]]) -> Any: ...
def _remote_places(before: bytes, keys: Sequence[Any], other: Callable[[Any], bytes]) -> list[bytes]: ...
def _expired_result(value: Any) -> tuple[Any, ...] | None: ...
def _parse_plain(text: bytes) -> tuple[bytes, bytes | None, int] | None: ...
def _replay(
    keys: array[int],
    weights: array[int] | None,
    policies: Sequence[str],
    sizes: Sequence[int],
    seed: int,
    threads: int,
    report: Callable[[float], object],
) -> list[tuple[str, int, int, int, int, int, int, float | None]]: ...
def disk_decompress_lz4(data: bytes) -> bytes:
    """Decompress a block of LZ4. Its length comes first, in four bytes."""

def disk_open_value(directory: str | PathLike[str], name: str) -> BufferedReader | None:
    """Open the file of a value as a file object of the mode "rb". Returns None if its name does not lead to a regular
    file inside the directory.
    """

def disk_remove_value(directory: str | PathLike[str], name: str) -> None:
    """Remove the file of a value, and the directories that are then empty. Does nothing if its name does not lead to
    a file inside the directory.
    """

class Timeout(RuntimeError):  # noqa: N818
    """The write lock was not acquired within `timeout` seconds, and `retry` was not given. Nothing was changed."""

_Tag: TypeAlias = float | str | bytes | None
_Side: TypeAlias = Literal["front", "back"]

@disjoint_base
class Disk:
    """Converts keys and values to what the table and the files store, and back.

    A subclass may replace `put` and `get` (keys), `store` and `fetch` (values), `filename` and `remove` (files).
    Pass the class to a cache: `Cache(directory, disk=MyDisk)`. The class gets the settings of the cache that begin
    with `disk_`, without this prefix.

    Args:
        directory: The directory of the cache.
        min_file_size: The number of bytes (characters of a `str`) from which a value gets its own file.
        pickle_protocol: The protocol with which objects are pickled.
        serializer: Converts objects to bytes and back, instead of pickle. It has `dumps(object, protocol)` and
            `loads(data)`. It may have `dumps_key` and `loads_key`, which convert keys.
        compression: "zstd", "lz4" or None. Values of 256 bytes and more are compressed if this makes them smaller.
        whole_files: Whether a file appears only when it is complete on the disk. Its name then contains a
            checksum. Other machines may then read the directory.

    >>> from flexcache_rs.disk import Disk
    >>> Disk("/tmp").put("a string is a key as it is")
    ('a string is a key as it is', True)
    """
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(
        self,
        directory: str | PathLike[str],
        min_file_size: int = 0,
        pickle_protocol: int = 0,
        serializer: Any = None,
        compression: Literal["lz4", "zstd"] | None = None,
        whole_files: bool = False,
    ) -> None: ...
    @property
    def _directory(self) -> str: ...
    min_file_size: int
    pickle_protocol: int
    @property
    def serializer(self) -> Any:
        """The serializer that replaces pickle, or None."""
    def hash(self, key: Any, /) -> int:
        """Return a number for a key that is the same in every process. FanoutCache uses it to choose a shard.

        >>> from flexcache_rs.disk import Disk
        >>> Disk("/tmp").hash("key")
        42402122
        """
    def put(self, key: Any, /) -> tuple[Any, bool]:
        """Return the stored form of a key, and whether it is the key itself."""
    def get(self, key: Any, raw: bool, /) -> Any:
        """Return the key for a stored form."""
    def store(self, value: Any, read: bool, key: Any = None) -> tuple[int, int, str | None, Any]:
        """Prepare a value, and write its file if it gets one. Returns (size, mode, filename, value)."""
    def fetch(self, mode: int, filename: str | None, value: Any, read: bool, /) -> Any:
        """Return the value for what `store` returned. If it has a file and `read` is true, return the open file.

        Raises:
            OSError: The file does not exist.
        """
    def filename(self, key: Any = None, value: Any = None) -> tuple[str, str]:
        """Return a name for a new file, relative to the directory and as a full path."""
    def _write(self, full_path: str, iterator: Iterable[Any], mode: str, encoding: str | None = None) -> int: ...
    def remove(self, file_path: str, /) -> None:
        """Remove a file inside the directory, and the directories that are then empty. It is no error if the file
        does not exist. A file outside the directory is not removed.
        """

@final
class DiskKeys:
    """An iterator over the keys of a cache."""
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

@disjoint_base
class DiskShards:
    """The databases among which a cache divides its keys, and the counts of hits and misses."""
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def _set_shards(self, shards: Sequence[DiskCache]) -> None: ...
    def _close_reads(self) -> None: ...
    def get(
        self,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return the value of a key.

        Args:
            key: The key.
            default: The result if there is no value.
            read: Must be False, because files are not returned.
            expire_time: Whether to also return the time of expiry in seconds since 1970.
            tag: Whether to also return the tag.
            retry: Accepted without effect.

        Returns:
            The value, or a tuple of the value and the requested data.
        """
    def __contains__(self, key: Any, /) -> bool: ...
    def _count(self, found: bool) -> None: ...
    def _counts(self) -> tuple[int, int]: ...
    def _reset_counts(self) -> None: ...

@final
class DiskTransaction:
    """A transaction of the calling thread, from `__enter__` to `__exit__`, in one cache or in each of several.

    Entering and leaving are native calls: a signal handler that raises finds all of them begun, or none. A block that
    is left on another thread is undone. A generator is left in this way if another thread collects it. A block that is
    dropped without being left is undone too. The blocks around it find their transaction lost.
    """
    def __new__(cls, caches: Sequence[DiskCache], retry: bool, target: Any = None, last: int | None = None) -> Self: ...
    def __enter__(self) -> Any: ...
    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None: ...

def guard_sqlite3(wanted: bool) -> None:
    """Set whether `sqlite3` gets a RuntimeError for a database that is open here."""

@final
class SqliteFinder:
    """A finder of modules that finds none. It notices when `sqlite3` is imported."""
    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> None: ...

def scan_pickle(data: bytes) -> tuple[bool, bool]:
    """Check a pickle. Returns whether it sets the state of objects that classes created, and of objects that calls
    returned.

    Raises:
        MemoryError: There is no memory for the check.
        pickle.UnpicklingError: It is damaged, claims more memory than it has bytes for, changes an object that it
            finds by name, or avoids the choice of what may be loaded.
    """

@disjoint_base
class DiskHold:
    """The base class of the locks of `flexcache_rs.disk.recipes`."""
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(self, *_args: Any, **_kwargs: Any) -> None: ...
    def _make(self, cache: DiskCache, key: Any, expire: _Seconds | None, tag: Any, kind: str, places: int) -> None: ...
    def _take(self) -> None: ...
    def _give_back(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_raised: object) -> None: ...

@disjoint_base
class DiskCache:
    """The base class of `flexcache_rs.disk.Cache`."""
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(self, *_args: Any, **_kwargs: Any) -> None: ...
    def _set_unreadable_is_missing(self, is_missing: bool) -> None: ...
    @staticmethod
    def _other_writers(directory: str) -> str | None: ...
    def _connect(self, directory: str, timeout: float) -> dict[str, Any]: ...
    def _use_disk(self, disk: Disk) -> None: ...
    def _create(self, settings: dict[str, Any], init: str | None) -> None: ...
    def _set_rules(
        self, get: str | None, cull: str | None, size_limit: float, cull_limit: int, statistics: bool
    ) -> None: ...
    def _setting(self, key: str) -> Any: ...
    def _change_setting(self, key: str, value: Any, update: bool) -> None: ...
    def _index_tags(self, wanted: bool) -> None: ...
    def _warn_not_stored(self) -> None: ...
    def _query(self, sql: str, given: Any, retry: bool) -> tuple[list[str], list[tuple[Any, ...]], int, int] | None: ...
    def _run(self, sql: str, given: Any, retry: bool) -> tuple[list[str], list[tuple[Any, ...]], int, int]: ...
    @property
    def read_only(self) -> bool:
        """Whether the directory can only be read, because of its permissions or because its file system is mounted
        read-only. Calls that only read then work, and write no statistics and no access times. Memoized
        functions compute and do not store. Calls that write raise `PermissionError`.

        >>> from flexcache_rs.disk import Cache
        >>> Cache().read_only
        False
        """
    def _stats(self, reset: bool) -> tuple[int, int]: ...
    def _check(self, fix: bool, retry: bool) -> list[tuple[str, str]]: ...
    @property
    def _disk(self) -> Disk: ...
    @property
    def disk(self) -> Disk:
        """The object that converts keys and values to what the directory stores."""
    @property
    def directory(self) -> str:
        """The directory, as an absolute path."""
    def set(
        self,
        key: Any,
        value: Any,
        expire: _Seconds | None = None,
        read: bool = False,
        tag: _Tag = None,
        retry: bool = False,
    ) -> bool:
        """Store or replace a value. After that, up to `cull_limit` expired entries are removed. If the directory
        is too large, further entries are evicted.

        Args:
            key: Any object that can be pickled. Strings, bytes, floats and 64-bit integers are stored directly.
                Other keys are equal if their pickles are equal.
            value: Any object that can be pickled, or a file with `read`.
            expire: The time to live in seconds or as a timedelta. None means for ever.
            read: Whether to store the result of `value.read()`.
            tag: The tag for `evict`: None, a number, text or bytes.
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            True.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache.set("answer", 42, expire=60, tag="numbers")
        True
        """
    def add(
        self,
        key: Any,
        value: Any,
        expire: _Seconds | None = None,
        read: bool = False,
        tag: _Tag = None,
        retry: bool = False,
    ) -> bool:
        """Store a value only if the key has no live value. If several processes do this at the same time, one
        succeeds. The arguments are those of `set`.

        Returns:
            True if it was stored.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache.add("answer", 42), cache.add("answer", 43), cache["answer"]
        (True, False, 42)
        """
    def get(
        self,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return the value of a key. It writes only with `statistics`, or if the policy evicts by use.

        Args:
            key: The key.
            default: The result if there is no live value.
            read: Whether to return an open file if the value is stored in a file of bytes.
            expire_time: Whether to return (value, time of expiry in seconds since the epoch).
            tag: Whether to return (value, tag). With `expire_time`, the result has all three.
            retry: Whether to wait for other writers for longer than `timeout`.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds, and this read needed it.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache["answer"] = 42
        >>> cache.get("answer"), cache.get("question", "what?"), cache.get("answer", expire_time=True)
        (42, 'what?', (42, None))
        """
    def __getitem__(self, key: Any, /) -> Any: ...
    def __setitem__(self, key: Any, value: Any, /) -> None: ...
    def __delitem__(self, key: Any, /) -> None: ...
    def __contains__(self, key: Any, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> DiskKeys: ...
    def __reversed__(self) -> DiskKeys: ...
    def iterkeys(self, reverse: bool = False) -> DiskKeys:
        """Return an iterator over the keys in sorted order: numbers, then text, then bytes, including pickled
            keys. Changes during the iteration are allowed.

        Args:
            reverse: Whether to start with the largest key.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> for key in "b", 1, "a": cache[key] = None
        >>> list(cache.iterkeys()), list(cache)
        ([1, 'a', 'b'], ['b', 1, 'a'])
        """
    def read(self, key: Any, retry: bool = False) -> Any:
        """Return a value as an open file if it is stored in a file of bytes, otherwise the value.

        Raises:
            KeyError: There is no live value.
            Timeout: As for `get`.

        >>> import io
        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache.set("page", io.BytesIO(b"hello"), read=True)
        True
        >>> with cache.read("page") as file:
        ...     file.read()
        b'hello'
        """
    def delete(self, key: Any, retry: bool = False) -> bool:
        """Delete a key. An expired key counts as absent.

        Returns:
            True if it was present.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache["a"] = 1
        >>> cache.delete("a"), cache.delete("a")
        (True, False)
        """
    def pop(
        self, key: Any, default: Any = None, expire_time: bool = False, tag: bool = False, retry: bool = False
    ) -> Any:
        """Remove a key and return its value. If several processes do this at the same time, one gets the value.

        Args:
            key: The key.
            default: The result if there is no live value.
            expire_time: As for `get`.
            tag: As for `get`.
            retry: Whether to wait for other writers for longer than `timeout`.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache["a"] = 1
        >>> cache.pop("a"), cache.pop("a", default="gone")
        (1, 'gone')
        """
    def touch(self, key: Any, expire: _Seconds | None = None, retry: bool = False) -> bool:
        """Give a key another time to live.

        Args:
            key: The key.
            expire: The time to live from now, in seconds or as a timedelta. None means for ever.
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            True if it was present.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache["a"] = 1
        >>> cache.touch("a", expire=60), cache.touch("b")
        (True, False)
        """
    def incr(self, key: Any, delta: float = 1, default: float | None = 0, retry: bool = False) -> Any:
        """Add to a number, atomically for all processes.

        Args:
            key: The key.
            delta: The int or float to add.
            default: The initial value if there is no live value. None means to raise KeyError.
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            The sum.

        Raises:
            KeyError: There is no live value, and `default` is None.
            TypeError: The value is no number, or it does not fit 64 bits.
            OverflowError: The sum does not fit 64 bits.
            Timeout: The write lock was not acquired within `timeout` seconds.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache.incr("visits"), cache.incr("visits", 10)
        (1, 11)
        """
    def decr(self, key: Any, delta: float = 1, default: float | None = 0, retry: bool = False) -> Any:
        """Subtract from a number. The arguments, the result and the errors are those of `incr`.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache.decr("left", default=10)
        9
        """
    def transact(self, retry: bool = False) -> DiskTransaction:
        """Begin a transaction of this thread. All of the changes in the block take effect, or none of them. Other
        writers wait, and writing many values takes a fraction of the time. Transactions may be nested, and the
        outermost one decides. An exception undoes all changes.

        Args:
            retry: Whether to wait for other writers for longer than `timeout`.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds. It is raised at the start of the block.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> with cache.transact():
        ...     total = cache.incr("total", 3)
        ...     count = cache.incr("count")
        >>> total, count
        (3, 1)
        """
    def push(
        self,
        value: Any,
        prefix: str | None = None,
        side: _Side = "back",
        expire: _Seconds | None = None,
        read: bool = False,
        tag: _Tag = None,
        retry: bool = False,
    ) -> Any:
        """Add a value at an end of a queue, under a new key.

        Args:
            value: As for `set`.
            prefix: The name of the queue. None means the queue of all keys that are numbers.
            side: "back" or "front".
            expire: As for `set`, and also `read`, `tag` and `retry`.

        Returns:
            The key.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.
            KeyError: `side` is neither "back" nor "front".

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache.push("first"), cache.push("job", prefix="jobs")
        (500000000000000, 'jobs-500000000000000')
        """
    def pull(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: _Side = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Remove a value from an end of a queue and return it.

        Args:
            prefix: The name of the queue. None means the queue of all keys that are numbers.
            default: The result if the queue is empty.
            side: "front" or "back".
            expire_time: As for `get`, around (key, value), and also `tag`.
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            (key, value)

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.
            KeyError: `side` is neither "back" nor "front".

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> for job in "wash", "dry": _ = cache.push(job)
        >>> cache.pull(), cache.pull(), cache.pull()
        ((500000000000000, 'wash'), (500000000000001, 'dry'), (None, None))
        """
    def peek(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: _Side = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return a value at an end of a queue without removing it. The arguments are those of `pull`.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.
            KeyError: `side` is neither "back" nor "front".

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> for job in "wash", "dry": _ = cache.push(job)
        >>> cache.peek(side="back")
        (500000000000001, 'dry')
        """
    def peekitem(self, last: bool = True, expire_time: bool = False, tag: bool = False, retry: bool = False) -> Any:
        """Return the entry that was stored last (or first) without removing it. Expired entries that it meets are deleted.

        Args:
            last: Whether to return the last entry instead of the first.
            expire_time: As for `get`, around (key, value), and also `tag`.
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            (key, value)

        Raises:
            KeyError: The cache is empty.
            Timeout: The write lock was not acquired within `timeout` seconds.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache["a"], cache["b"] = 1, 2
        >>> cache.peekitem(), cache.peekitem(last=False)
        (('b', 2), ('a', 1))
        """
    def expire(self, now: float | None = None, retry: bool = False) -> int:
        """Remove expired entries.

        Args:
            now: The time in seconds since the epoch before which entries have expired. None means the current time.
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            The number of removed entries.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds. Its argument is the number so far.

        >>> import time
        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> _ = cache.set("a", 1, expire=60)
        >>> cache.expire(), cache.expire(now=time.time() + 61), len(cache)
        (0, 1, 0)
        """
    def evict(self, tag: _Tag, retry: bool = False) -> int:
        """Remove all entries with a tag. It checks every entry unless the cache has `tag_index`.

        Args:
            tag: The tag. No entry has the tag None.
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            The number of removed entries.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds. Its argument is the number so far.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache(tag_index=True)
        >>> _ = cache.set("a", 1, tag="letters")
        >>> cache.evict("letters"), len(cache)
        (1, 0)
        """
    def clear(self, retry: bool = False) -> int:
        """Remove everything.

        Args:
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            The number of removed entries.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds. Its argument is the number so far.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache["a"], cache["b"] = 1, 2
        >>> cache.clear(), len(cache)
        (2, 0)
        """
    def cull(self, retry: bool = False) -> int:
        """Remove expired entries, then evict until the directory is within `size_limit`.

        Args:
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            The number of removed entries.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds. Its argument is the number so far.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache(size_limit=100_000, cull_limit=0)
        >>> for number in range(10): cache[number] = b"x" * 40_000
        >>> cache.cull()
        10
        """
    def volume(self) -> int:
        """Return the bytes on disk of the database and of the files of values.

        >>> from flexcache_rs.disk import Cache
        >>> Cache().volume() < 100_000
        True
        """
    def close(self) -> None:
        """Close the connections of this process. The next call opens them again.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache["a"] = 1
        >>> cache.close()
        >>> cache["a"]
        1
        """
    def __enter__(self) -> Self: ...
    def __exit__(self, *_raised: object) -> None: ...

@final
class SessionCall:
    """A call that is ready to be made."""
    @property
    def writes(self) -> bool:
        """Whether it may change something."""
    def nothing(self, codec: SessionCodec) -> tuple[Any] | None:
        """The result in a store that has nothing and stores nothing, in a tuple. None if there is no such result."""

@final
class SessionCodec:
    """Encodes and decodes for one session.

    The serializer encodes objects that have no cell of their own. `missing` is the result of reads of absent
    values.
    """
    def __new__(cls, serializer: Any, missing: Any) -> Self: ...
    def call(self, name: str, *arguments: Any) -> SessionCall:
        """A call that is ready to be made."""
    def act(self, kind: str, key: str, touch: tuple[str, int], name: str, *arguments: Any) -> SessionCall:
        """Return a call on the container of a key."""
    def encode(self, object: Any, is_member: bool = False) -> bytes:
        """Encode an object as a cell."""
    def decode(self, cell: bytes) -> Any:
        """Decode the object of a cell."""

@final
class DiskSession:
    """The typed values of a directory, in one namespace, with the codec of one session."""
    def __new__(cls, database: str | PathLike[str], namespace: str, codec: SessionCodec, timeout: float) -> Self: ...
    def execute(self, call: SessionCall) -> Any:
        """Make a call, in the thread's transaction if there is one."""
    def version(self) -> int:
        """Return a number that changes with every write to the database."""
    def execute_many(self, calls: list[SessionCall], writes: bool) -> list[tuple[Any, BaseException | None]]:
        """Make several calls, which all write or all read. Writes are one transaction. Returns the result of each
        call, or its exception. Does not wait for other writers.
        """
    def begin(self) -> None:
        """Begin a transaction of the calling thread, or one inside its transaction."""
    def commit(self) -> None:
        """Commit the thread's transaction. An inner transaction leaves its changes to the outer one."""
    def roll_back(self) -> None:
        """Roll back the thread's transaction, or only the inner one."""
    def depth(self) -> int:
        """Return how many transactions of the calling thread are open, one inside the other."""
    def close(self) -> None:
        """Close the database. The next call opens it again."""

def stores_before_fork() -> None: ...
def stores_after_fork_in_parent() -> None: ...
def stores_after_fork_in_child() -> None: ...

@final
class MemoryKeys:
    """The keys in memory, of all namespaces. The sessions of one URL share them."""

    policies: ClassVar[list[str]]
    def __new__(cls, max_items: int, max_bytes: int, policy: str) -> Self: ...
    @property
    def bytes(self) -> int | None:
        """The approximate number of bytes of the keys and their values. None without `max_bytes`."""
    def session(self, namespace: str, codec: SessionCodec) -> MemorySession:
        """Return the keys of a namespace, for one session."""
    @property
    def evictions(self) -> int:
        """The number of evicted keys."""
    @property
    def timed(self) -> tuple[int, int]:
        """The number of keys of limiters, and the number of leases."""
    @property
    def writes(self) -> int:
        """The number of the last write."""
    def image(self, size: int) -> tuple[list[builtins.bytes], int, int]:
        """Return all live entries of one moment in blocks of about `size` bytes, their number, and the number of the
        last write before that moment.
        """
    def restore(self, blocks: list[builtins.bytes]) -> int:
        """Store the entries of blocks, all or none. Returns the number of entries that have not expired."""
    def check(self) -> None:
        """Recount the structure."""
    def __len__(self) -> int: ...

@final
class MemorySession:
    """The keys of one namespace, with the codec of one session."""
    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or `default`."""
    def set_text(self, key: str, value: Any, micros: int | None) -> bool:
        """Store a str, which expires after `micros` microseconds, or never if `micros` is None. Returns False for a value that this
        call does not store.
        """
    def gate(self, name: str, interval: int, burst: int, cost: int) -> tuple[bool, int, float]:
        """Ask a limiter to let a call through. Returns whether it did, how many further calls it allows, and the
        seconds to wait for these.
        """
    def execute(self, call: SessionCall) -> Any:
        """Make a call."""
    def execute_many(self, calls: list[SessionCall]) -> list[tuple[Any, BaseException | None]]:
        """Make several calls at once. Returns the result of each, or its exception."""
    def begin(self) -> MemorySessionTransaction:
        """Begin a transaction."""

@final
class MemorySessionTransaction:
    """A transaction on private copies."""
    def execute(self, call: SessionCall) -> Any:
        """Make a call in the transaction."""
    def begin_inner(self) -> None:
        """Begin a transaction inside the transaction."""
    def depth(self) -> int:
        """Return how many transactions are open, one inside the other."""
    def commit(self) -> None:
        """Store all changes, or leave them to the outer transaction."""
    def roll_back(self) -> None:
        """Discard all changes."""

@disjoint_base
class NearCache:
    """The base class of `flexcache_rs.remote.RemoteCache` and `flexcache_rs.diskcache_rs.FastCache`."""
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init_subclass__(cls, **_options: Any) -> None: ...
    def _set_near(self, near: FlexCache[Any, Any]) -> None: ...
    @property
    def _near(self) -> FlexCache[Any, Any]: ...
    def _get_from_memory(self, key: Any, default: Any) -> Any: ...
    @overload
    def get(self, key: Any, default: None = None) -> Any:
        """Return the value of a key, or `default` if there is none.

        Raises:
            TypeError: The key is not a str, bytes, int, float, bool, None or a tuple of these.
            RemoteError: With `on_error="raise"`: the server cannot be reached.
            RemoteValueError: The key holds something that is no value of this cache.

        A hit in memory sends no command. Any other call sends one.

        >>> with RemoteCache("valkey://localhost:6379/0", "get") as cache:
        ...     cache["key"] = 1
        ...     print(cache.get("key"), cache.get("absent"), cache.get("absent", 0))
        1 None 0
        """
    @overload
    def get(self, key: Any, default: _T) -> Any | _T: ...
    def __getitem__(self, key: Any, /) -> Any: ...
    def __contains__(self, key: Any, /) -> bool: ...

@final
class PushTracker:
    """Decides which copies of a server's entries are valid.

    The thread that listens to the server calls it. Caches in memory ask it at every hit, without Python code.
    """
    def __new__(cls, copies: int) -> Self: ...
    @staticmethod
    def now() -> int:
        """Return the time in nanoseconds, for `believe_until`."""
    def stamp(self, key: bytes) -> int:
        """Return the stamp for a read of a key that begins after this call."""
    def stamps(self, keys: Sequence[bytes]) -> list[int]:
        """Return the stamps for reads of keys that begin after this call."""
    def is_live(self, stamp: int) -> bool:
        """Whether a copy with this stamp is valid."""
    def is_unchanged(self, stamp: int) -> bool:
        """Whether no write after the stamp is known."""
    def is_last_known(self, stamp: int) -> bool:
        """The same, and still true after the server has become silent, until it reports writes again."""
    def is_believed(self) -> bool:
        """Whether any copy is valid."""
    def invalidate(self, keys: Sequence[bytes]) -> None:
        """Record a write to these keys."""
    def write(self, keys: Sequence[bytes]) -> WriteInFlight:
        """Return a block for a write to these keys. Memory keeps nothing that is read of them during the block."""
    def start_generation(self) -> None:
        """Record a write to any number of keys."""
    def believe_until(self, moment: int) -> None:
        """Record that all writes before now are known, and that copies are valid until a moment."""
    def doubt(self) -> None:
        """Record that later writes are not known. No copy from before is valid again."""

@final
class RemoteLane:
    """One connection to a server for all threads of a process. A forked child has its own.

    Calls wait without the interpreter's lock, and handle signals every 50 ms. `failed` creates the exceptions from
    a word and a text. The word is "refused", "timeout" or "lost". For a request that was not sent, it is
    "unsent_timeout" or "unsent".
    """
    def __new__(
        cls,
        address: tuple[str, int] | str,
        timeout: float,
        failed: Callable[[str, str], BaseException],
        *,
        name: str | None = None,
        username: str | None = None,
        password: str | None = None,
        database: int = 0,
    ) -> Self: ...
    def execute(self, *parts: object) -> Any:
        """Send a command and return its reply."""
    def entry(self, place: bytes, known: tuple[bytes, float, Callable[[bytes], Any]]) -> Any:
        """Send `GET` and return the entry: a value, the seconds that it has left, and no tags. Returns None if there
        is no valid entry. Bytes that need more data to be read are returned as they are.

        `known` is the nonce of the namespace, the milliseconds by which the server's clock is ahead of ours, and
        the function that loads the serializer's bytes.
        """
    def execute_many(self, commands: Sequence[Sequence[object]]) -> list[Any]:
        """Send commands without others in between, and return their replies. The reply of a refused command is an
        exception.
        """
    @property
    def connects(self) -> int:
        """The number of connections that this process has made."""
    def renew(self) -> None:
        """Make another connection for later calls, because the server may be another one now. Earlier calls still get
        their replies.
        """
    def close(self) -> None:
        """End the connection. A call that is still running, or a later one, makes another connection and ends it."""

@final
class RemoteReplies:
    """Takes the bytes of a connection as they arrive, and returns replies when they are complete.

    `pushed` is called with the parts of a push, which no request asked for. `failed` creates the exceptions from a
    word ("refused" or "protocol") and a text.
    """
    def __new__(cls, pushed: Callable[[list[Any]], Any], failed: Callable[[str, str], BaseException]) -> Self: ...
    def feed(self, data: bytes) -> list[Any]:
        """Take bytes and return the complete replies. A refusal is returned as an exception."""

@final
class RemoteSocket:
    """A connected socket, for one call at a time. It has a descriptor of its own. If Python's socket is closed
    meanwhile, it therefore reads from no other file.

    `failed` creates the exceptions from a word ("refused" or "protocol") and a text.
    """
    def __new__(cls, descriptor: int, failed: Callable[[str, str], BaseException]) -> Self: ...
    def exchange(self, data: bytes, count: int, seconds: float) -> list[Any] | None:
        """Send commands and return `count` replies. The reply of a refused command is an exception.

        Returns None, and sends nothing, if something has arrived without a request, such as the end of the
        connection. `seconds` is the longest pause between two parts of the replies. After an exception, the
        connection cannot be used.
        """
    def receive(
        self, seconds: float, tracker: PushTracker, start: bytes, pushed: Callable[[list[Any]], Any]
    ) -> list[Any]:
        """Wait for replies and pushes, and return them. `pushed` makes a push from its parts.

        A push that reports writes to keys that begin with `start` goes to the tracker. It is not returned.

        Raises:
            TimeoutError: Nothing else has arrived for `seconds` seconds.
        """
    @property
    def invalidated(self) -> int:
        """The number of keys that the tracker got."""

@final
class LeaseHolder:
    """The computation that has a lease, for a store that renews the lease. It keeps no object alive."""
    def is_over(self) -> bool:
        """Whether the computation has ended or was abandoned."""

@final
class WriteInFlight:
    """Keys that this process is writing. The write ends with the `with` block, or when this object is collected."""
    def __enter__(self) -> Self: ...
    def __exit__(self, _type: object, _value: object, _traceback: object) -> None: ...
    def end(self) -> None:
        """Record that the write has ended, or that its outcome is unknown."""

@final
class SharedHold:
    """States whether a lock is held. It is changed before the call that acquires the lock returns, so no signal can
    come in between.
    """
    def __new__(cls) -> Self: ...
    def is_held(self) -> bool:
        """Whether the lock is held, as far as this object knows."""

@final
class SharedVersion:
    """The version of a value that was read, for `_replace`."""

@disjoint_base
class SharedSegment:
    """The base class of `flexcache_rs.shared.SharedCache`."""
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def _open(
        self,
        place: str | PathLike[str] | None,
        is_path: bool,
        max_bytes: int,
        expected_item: int,
        max_item: int | None,
        default_ttl: _Seconds | datetime | None,
        lock_timeout: _Seconds,
        resize: bool,
        create: bool,
        serializer: Any,
    ) -> None: ...
    def close(self) -> None:
        """Close the cache in this process. Its entries stay for other processes. Later calls raise `ValueError`. A temporary cache is
        removed if no other process has it open.

        The memory stays mapped as long as this object is alive, so that no call in another thread can outlive it.

        >>> from flexcache_rs.shared import SharedCache
        >>> cache = SharedCache("example-close", max_bytes=1 << 20)
        >>> cache.close()
        >>> cache.get("key")
        Traceback (most recent call last):
        ValueError: the cache is closed
        >>> with SharedCache("example-close") as cache:
        ...     cache.unlink()
        True
        """
    def unlink(self) -> bool:
        """Remove the cache and all its entries, for all processes. The next call of a process that has it open
        starts a new, empty cache. The memory is freed when all processes have closed the old one.

        Returns:
            True, or False if it had been removed or replaced before.

        >>> from flexcache_rs.shared import SharedCache
        >>> cache = SharedCache("example-unlink", max_bytes=1 << 20)
        >>> cache.unlink(), cache.unlink()
        (True, False)
        """
    @property
    def path(self) -> Path:
        """The path of the file of the cache."""
    @property
    def closed(self) -> bool:
        """Whether the cache is closed in this process."""
    @overload
    def get(self, key: object) -> Any:
        """Return the value of a key, or `default` if there is none. Takes no lock.

        Every call makes a new object.

        Raises:
            TypeError: The key is not a str, bytes, int, float, bool, None or a tuple of these.
            RuntimeError: The stored bytes are damaged. The message names the file.
            Exception: What the serializer raises for a value that it cannot load, with a note that names the file.

        O(1), and the copy of the value.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-get", max_bytes=1 << 20) as cache:
        ...     cache["answer"] = {"value": 42}
        ...     print(cache.get("answer"), cache.get("question", "unknown"))
        ...     _ = cache.unlink()
        {'value': 42} unknown
        """
    @overload
    def get(self, key: object, default: _T) -> Any | _T: ...
    def __getitem__(self, key: object, /) -> Any: ...
    def __contains__(self, key: object, /) -> bool: ...
    def put(
        self,
        key: object,
        value: Any,
        ttl: _Seconds | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        """Store or replace a value.

        Args:
            key: A str, bytes, int, float, bool, None, or a tuple of these. 1, 1.0 and True are one key, as in a dict.
            value: Anything that can be pickled. Plain types, and tuples, lists and dicts of them, are stored without pickle.
            ttl: Seconds as int or float, a `timedelta` or a `datetime`; None for `default_ttl`, `float("inf")` for ever.
            tags: The tags of the entry for `evict_tag`: an iterable of str.

        Raises:
            TooLargeError: The entry is larger than `stats().largest_item`.
            TimeoutError: Another process did not release the lock within `lock_timeout`. Nothing was changed.
            TypeError: The key or the tags are of another type.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-put", max_bytes=1 << 20) as cache:
        ...     cache.put("session", ["a", "list"], ttl=60)
        ...     print(cache["session"])
        ...     _ = cache.unlink()
        ['a', 'list']
        """
    def set(
        self,
        key: object,
        value: Any,
        ttl: _Seconds | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        """The same as `put`."""
    def __setitem__(self, key: object, value: Any, /) -> None: ...
    def add(
        self,
        key: object,
        value: Any,
        ttl: _Seconds | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> bool:
        """Store a value only if the key has none. If several processes do this, exactly one succeeds.

        Returns:
            True if it was stored.

        Raises:
            TooLargeError, TimeoutError, TypeError: As for `put`.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-add", max_bytes=1 << 20) as cache:
        ...     print(cache.add("leader", 1), cache.add("leader", 2), cache["leader"])
        ...     _ = cache.unlink()
        True False 1
        """
    def evict_tag(self, tag: str) -> int:
        """Remove every entry with a tag.

        A tag is stored as one of 4,096 numbers, so an entry with another tag is now and then removed too. The
        call checks every entry without a lock, to count them.

        Returns:
            The number of entries. Of several concurrent calls, one counts each entry.

        Raises:
            TimeoutError: Another process did not release a lock within `lock_timeout`. Nothing was changed.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-tags", max_bytes=1 << 20) as cache:
        ...     cache.put("a", 1, tags=("user:1",))
        ...     print(cache.evict_tag("user:1"), "a" in cache)
        ...     _ = cache.unlink()
        1 False
        """
    @overload
    def _take_lock(self, hold: SharedHold, key: object, seconds: _Seconds, wait: float) -> bool: ...
    @overload
    def _take_lock(
        self, hold: SharedHold, key: object, seconds: _Seconds, wait: float, may_wait: bool
    ) -> bool | None: ...
    @overload
    def _release_lock(self, hold: SharedHold, key: object) -> bool: ...
    @overload
    def _release_lock(self, hold: SharedHold, key: object, may_wait: bool) -> bool | None: ...
    @overload
    def _renew_lock(self, hold: SharedHold, key: object, seconds: _Seconds) -> bool: ...
    @overload
    def _renew_lock(self, hold: SharedHold, key: object, seconds: _Seconds, may_wait: bool) -> bool | None: ...
    @overload
    def _take_use(self, key: object, limit: int, period: _Seconds) -> float: ...
    @overload
    def _take_use(self, key: object, limit: int, period: _Seconds, may_wait: bool) -> float | None: ...
    def _wait_for_writers(self, key: object) -> None: ...
    @staticmethod
    def _directory() -> Path: ...
    @staticmethod
    def _remove_left() -> int: ...
    @staticmethod
    def _remove_unused(file: str) -> bool: ...
    def delete(self, key: object) -> bool:
        """Remove a key.

        Returns:
            True if it had a value.

        Raises:
            TimeoutError: The lock was not free within `lock_timeout`. The value may still be there.
            TypeError: The key is of another type.

        O(1).

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-delete", max_bytes=1 << 20) as cache:
        ...     cache["a"] = 1
        ...     print(cache.delete("a"), cache.delete("a"))
        ...     _ = cache.unlink()
        True False
        """
    def __delitem__(self, key: object, /) -> None: ...
    def _pop(self, key: object) -> tuple[Any] | None: ...
    def touch(self, key: object, ttl: _Seconds | datetime | None = None) -> bool:
        """Give the value of a key another time to live.

        Args:
            key: The key.
            ttl: As for `put`, from now, but None (the default) means that the entry does not expire.

        Returns:
            True if there was a value.

        Raises:
            TimeoutError, TypeError: As for `put`.

        O(1).

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-touch", max_bytes=1 << 20, default_ttl=60) as cache:
        ...     cache["a"] = 1
        ...     print(cache.touch("a", None), cache.ttl("a"))
        ...     _ = cache.unlink()
        True None
        """
    def ttl(self, key: object) -> float | None:
        """Return the seconds that a key has left.

        Returns:
            The seconds, or None if the key never expires.

        Raises:
            KeyError: The key has no value.
            TypeError: The key is of another type.

        O(1).

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-ttl", max_bytes=1 << 20) as cache:
        ...     cache.put("a", 1, ttl=60)
        ...     print(59 < cache.ttl("a") <= 60)
        ...     _ = cache.unlink()
        True
        """
    def incr(self, key: object, by: int = 1, initial: int = 0, ttl: _Seconds | datetime | None = None) -> int:
        """Add to the int of a key, in one step for all processes.

        Args:
            key: The key.
            by: The int to add.
            initial: The initial value of an absent key.
            ttl: The time to live of a new value. An existing value keeps its own.

        Returns:
            The sum.

        Raises:
            TypeError: The value, `by` or `initial` is not an int.
            ValueError: `by` or `initial` does not fit 64 bits.
            OverflowError: The sum does not fit 64 bits.
            TimeoutError: As for `put`.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-incr", max_bytes=1 << 20) as cache:
        ...     print(cache.incr("visits"), cache.incr("visits", 10))
        ...     _ = cache.unlink()
        1 11
        """
    def clear(self) -> int:
        """Remove everything. Returns the number of entries.

        Raises:
            TimeoutError: A part of the cache was not free within `lock_timeout`. The rest was emptied.

        O(n).

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-clear", max_bytes=1 << 20) as cache:
        ...     cache["a"] = 1
        ...     print(cache.clear(), len(cache))
        ...     _ = cache.unlink()
        1 0
        """
    def __len__(self) -> int: ...
    def _keys(self) -> list[Any]: ...
    def _find(self, key: object, default: Any = None) -> Any: ...
    def _incr_present(self, key: object, by: int) -> int | None: ...
    def _read_version(self, key: object) -> tuple[Any, SharedVersion] | None: ...
    def _replace(self, key: object, version: SharedVersion, value: Any, ttl: _Seconds | datetime | None) -> bool: ...
    def _stats(self) -> dict[str, int]: ...
    def _check(self) -> None: ...
    def _put_many(
        self, entries: Sequence[tuple[Any, Any]], ttl: _Seconds | datetime | None, tags: Iterable[str] | None
    ) -> None: ...
    def _delete_many(self, keys: Sequence[object]) -> int: ...
    def _pop_at_once(self, key: object) -> tuple[Any, ...] | None: ...
    def _delete_version(self, key: object, version: SharedVersion) -> bool: ...
