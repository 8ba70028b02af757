"""The contestants: how to create, fill and read each one. To add one, write one `Contestant` below."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from importlib import import_module, metadata
from typing import Any

from .measure import Keys

HOUR = 3600.0


class Memoized:
    """`functools.lru_cache` as a cache. A call with a known key is a hit."""

    def __init__(self, capacity: int) -> None:
        self._values: Iterator[object] = iter(())
        self.call = lru_cache(maxsize=capacity or None)(self._next_value)

    def _next_value(self, _key: object) -> object:
        return next(self._values)

    def fill(self, keys: Keys, values: Sequence[object]) -> None:
        """Call the function once for each key, so that it remembers the values."""
        self._values = iter(values)
        for key in keys:
            self.call(key)


@dataclass(frozen=True)
class Contestant:
    """One cache as the figures see it.

    `make(module, capacity)` returns an empty cache for `capacity` entries, or for any number if it is 0. `get` and
    `put` name methods. `put` is None if there is only `cache[key] = value`. `subscripts` is False if there is neither
    that nor `cache[key]` and `key in cache`. `store` fills caches that need another call. `settle` is called after
    filling and `close` at the end. `found` tells a hit from a miss.
    """

    name: str
    module: str
    make: Callable[[Any, int], Any]
    get: str = "get"
    put: str | None = None
    subscripts: bool = True
    store: Callable[[Any, Any, Any], object] | None = None
    settle: Callable[[Any], object] | None = None
    close: Callable[[Any], object] | None = None
    found: Callable[[Any], bool] = lambda answer: answer is not None

    def build(self, capacity: int) -> Any:
        """Make an empty cache. Raises ImportError if the package is missing."""
        return self.make(import_module(self.module), capacity)

    def fill(self, cache: Any, keys: Keys, values: Sequence[object]) -> None:
        """Store each key with its value."""
        if isinstance(cache, Memoized):
            cache.fill(keys, values)
        elif self.store is not None:
            for key, value in zip(keys, values, strict=True):
                self.store(cache, key, value)
        elif self.subscripts:
            for key, value in zip(keys, values, strict=True):
                cache[key] = value
        else:
            put = self.putter(cache)
            assert put is not None
            for key, value in zip(keys, values, strict=True):
                put(key, value)
        if self.settle is not None:
            self.settle(cache)

    def getter(self, cache: Any) -> Callable[[Any], Any]:
        """Return the function to call with a key."""
        method: Callable[[Any], Any] = getattr(cache, self.get)
        return method

    def putter(self, cache: Any) -> Callable[[Any, Any], Any] | None:
        """Return the method to call with a key and a value, or None."""
        return None if self.put is None else getattr(cache, self.put)


def flexcache(name: str = "FlexCache", **options: Any) -> Contestant:
    """A FlexCache made with `options`."""
    return Contestant(name, "flexcache_rs", lambda m, n: m.FlexCache(max_items=n, **options), put="put")


def moka(name: str = "moka_py.Moka", **options: Any) -> Contestant:
    """A moka cache made with `options`. It evicts late; `settle` lets it finish."""
    return Contestant(
        name,
        "moka_py",
        lambda m, n: m.Moka(n, policy="lru", **options),
        put="set",
        subscripts=False,
        settle=lambda cache: cache.run_pending_tasks(),
    )


def theine(name: str = "theine.Cache", store: Callable[[Any, Any, Any], object] | None = None) -> Contestant:
    """A theine cache. Unclosed, its maintenance task would keep it alive."""
    return Contestant(
        name,
        "theine",
        lambda m, n: m.Cache(n),
        put="set",
        subscripts=False,
        store=store,
        close=lambda cache: cache.close(),
        found=lambda answer: bool(answer[1]),
    )


DICT = Contestant("dict", "builtins", lambda _, n: {})
LRU_CACHE = Contestant("functools.lru_cache", "functools", lambda _, n: Memoized(n), get="call", subscripts=False)
FLEXCACHE = flexcache()
CACHEBOX = Contestant("cachebox.LRUCache", "cachebox", lambda m, n: m.LRUCache(n), put="insert")
LRU_DICT = Contestant("lru.LRU", "lru", lambda m, n: m.LRU(n))
CACHETOOLS = Contestant("cachetools.LRUCache", "cachetools", lambda m, n: m.LRUCache(n or float("inf")))
MOKA = moka()
THEINE = theine()

BOUNDED = (FLEXCACHE, CACHEBOX, LRU_DICT, CACHETOOLS, MOKA, THEINE)
"""Caches that hold n entries and evict."""

EVERY = (DICT, LRU_CACHE, *BOUNDED)

POLICIES = tuple(
    flexcache(f'FlexCache("{policy}")', eviction_policy=policy)
    for policy in ("lru", "fifo", "lfu", "random", "sieve", "s3fifo", "tinylfu", "auto")
)

UNBOUNDED = (
    DICT,
    FLEXCACHE,
    CACHEBOX,
    CACHETOOLS,
    Contestant("moka_py.Moka", "moka_py", lambda m, n: m.Moka(1 << 40, policy="lru"), put="set", subscripts=False),
)
"""Caches that grow without limit, or up to one that is never reached."""

SHARDED = tuple(
    flexcache(f'FlexCache("{policy}", shards=16)', eviction_policy=policy, shards=16)
    for policy in ("lru", "sieve", "s3fifo", "fifo", "random")
)

THREADED = (DICT, LRU_CACHE, FLEXCACHE, *SHARDED, CACHEBOX)

CROWD = (
    DICT,
    *(policy for policy in POLICIES if policy.name.split('"')[1] in {"lru", "fifo", "lfu", "random"}),
    CACHEBOX,
    Contestant("cachebox.FIFOCache", "cachebox", lambda m, n: m.FIFOCache(n), put="insert"),
    Contestant("cachebox.LFUCache", "cachebox", lambda m, n: m.LFUCache(n), put="insert"),
    Contestant("cachebox.RRCache", "cachebox", lambda m, n: m.RRCache(n), put="insert"),
    LRU_DICT,
    CACHETOOLS,
)
"""Caches of each policy that cachebox has too."""

EXPIRING: dict[str, tuple[Contestant, Contestant]] = {
    "FlexCache": (
        FLEXCACHE,
        Contestant(
            "FlexCache",
            "flexcache_rs",
            lambda m, n: m.FlexCache(max_items=n),
            store=lambda cache, key, value: cache.put(key, value, HOUR),
        ),
    ),
    "cachebox.VTTLCache": (
        Contestant("cachebox.VTTLCache", "cachebox", lambda m, n: m.VTTLCache(n)),
        Contestant("cachebox.VTTLCache", "cachebox", lambda m, n: m.VTTLCache(n, ttl=HOUR)),
    ),
    "cachebox.TTLCache": (
        CACHEBOX,
        Contestant("cachebox.TTLCache", "cachebox", lambda m, n: m.TTLCache(n, HOUR)),
    ),
    "cachetools.TTLCache": (
        CACHETOOLS,
        Contestant("cachetools.TTLCache", "cachetools", lambda m, n: m.TTLCache(n, HOUR)),
    ),
    "moka_py.Moka": (MOKA, moka(ttl=HOUR)),
    "theine.Cache": (
        THEINE,
        theine(store=lambda cache, key, value: cache.set(key, value, timedelta(seconds=HOUR))),
    ),
}
"""Name in the table: (the cache without times to live, the cache with one hour on every entry)."""

MODULES = ("flexcache_rs", "cachetools", "cachebox", "lru", "moka_py", "theine")


def version(module: str) -> str | None:
    """Return the name and version of the distribution that contains `module`, if it is installed."""
    # An editable installation lists no modules, so try the name of the module too.
    for distribution in (*metadata.packages_distributions().get(module, ()), module):
        with suppress(metadata.PackageNotFoundError):
            found = metadata.distribution(distribution)
            return f"{found.metadata['Name']} {found.version}"
    return None
