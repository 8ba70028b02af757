"""diskcache_rs's names on flexcache_rs's directories.

`import flexcache_rs.diskcache_rs as diskcache_rs` is the only change to a program. The directories are those of
`flexcache_rs.disk`, so python-diskcache can use them as well. `flexcache disk migrate` copies existing ones.

>>> import tempfile
>>> from flexcache_rs.diskcache_rs import Cache
>>> cache = Cache(tempfile.mkdtemp(), size_limit=10**9)
>>> cache["key"] = "value"
>>> cache["key"], cache.keys(), cache.stats().hits
('value', ['key'], 1)
"""

import pickle

from flexcache_rs.disk import (
    DEFAULT_SETTINGS,
    ENOVAL,
    EVICTION_POLICY,
    UNKNOWN,
    Averager,
    BoundedSemaphore,
    Disk,
    EmptyDirWarning,
    Lock,
    RLock,
    Timeout,
    UnknownFileWarning,
    barrier,
    memoize_stampede,
    throttle,
)
from flexcache_rs.diskcache_rs.caches import Cache, Deque, Index, Statistics
from flexcache_rs.diskcache_rs.fanout import FanoutCache
from flexcache_rs.diskcache_rs.fast import FastCache, FastFanoutCache
from flexcache_rs.diskcache_rs.pickle_cache import PickleCache, cache_object, clear_cache, get_cached_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flexcache_rs.disk import JSONDisk

__all__ = [
    "DEFAULT_SETTINGS",
    "ENOVAL",
    "EVICTION_POLICY",
    "UNKNOWN",
    "Averager",
    "BoundedSemaphore",
    "Cache",
    "Deque",
    "Disk",
    "DiskCache",
    "EmptyDirWarning",
    "FanoutCache",
    "FastCache",
    "FastFanoutCache",
    "Index",
    "JSONDisk",
    "Lock",
    "PickleCache",
    "PyCache",
    "RLock",
    "Statistics",
    "Timeout",
    "UnknownFileWarning",
    "barrier",
    "cache_object",
    "clear_cache",
    "get_cached_object",
    "memoize_stampede",
    "rust_pickle_dumps",
    "rust_pickle_loads",
    "throttle",
]

DiskCache = PyCache = Cache

rust_pickle_dumps = pickle.dumps
rust_pickle_loads = pickle.loads


def __getattr__(name: str) -> object:
    """Import names that few programs use, or that need Django, on first use."""
    if name == "DjangoCache":
        from flexcache_rs.diskcache_rs.djangocache import DjangoCache

        return DjangoCache
    if name == "JSONDisk":
        from flexcache_rs.disk import JSONDisk

        return JSONDisk
    if name == "__version__":
        from flexcache_rs import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
