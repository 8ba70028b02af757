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

from flexcache_rs import __version__ as __version__
from flexcache_rs._first_use import importing, listing
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
from flexcache_rs.diskcache_rs.cache import Cache, Deque, Index, Statistics
from flexcache_rs.diskcache_rs.fanout import FanoutCache
from flexcache_rs.diskcache_rs.fast_cache import FastCache, FastFanoutCache
from flexcache_rs.diskcache_rs.pickle_cache import PickleCache, cache_object, clear_cache, get_cached_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    # The modules that diskcache_rs has under these names.
    from flexcache_rs.disk import JSONDisk
    from flexcache_rs.diskcache_rs import cache as cache
    from flexcache_rs.diskcache_rs import constants as constants
    from flexcache_rs.diskcache_rs import disk as disk
    from flexcache_rs.diskcache_rs import djangocache as djangocache
    from flexcache_rs.diskcache_rs import fast_cache as fast_cache
    from flexcache_rs.diskcache_rs import pickle_cache as pickle_cache
    from flexcache_rs.diskcache_rs import recipes as recipes
    from flexcache_rs.diskcache_rs.djangocache import DjangoCache as DjangoCache

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

_MODULES = {
    "DjangoCache": "flexcache_rs.diskcache_rs.djangocache",
    "JSONDisk": "flexcache_rs.disk.json_disk",
}

if not TYPE_CHECKING:
    __getattr__ = importing(__name__, _MODULES, ("constants", "disk", "djangocache", "recipes"))
    __dir__ = listing(__name__)
