"""An in-process cache whose hits cost about as much as those of a dict.

>>> from flexcache_rs import FlexCache
>>> cache = FlexCache(max_items=2)
>>> cache["a"], cache["b"] = 1, 2
>>> cache["a"]
1
>>> cache["c"] = 3
>>> list(cache)
['a', 'c']
"""

from flexcache_rs import _before_core
from flexcache_rs._core import (
    CacheStats,
    CircularLoadError,
    FlexCache,
    LoadCancelled,
    LoadFailedElsewhere,
    TooLargeError,
    __version__,
    reset_logging,
)
from flexcache_rs._first_use import importing, listing
from flexcache_rs._loading import aget_or_set
from flexcache_rs._lru_cache import cache, lru_cache
from flexcache_rs._mapping import make_mapping
from flexcache_rs._memoize import memoize, memoize_in
from flexcache_rs._registry import caches
from flexcache_rs._report import describe, repr_html
from flexcache_rs._weigher import size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flexcache_rs._store import Store
    from flexcache_rs.disk import Cache, Deque, Disk, FanoutCache, FanoutIndex, Index, JSONDisk, Timeout
    from flexcache_rs.remote import RemoteCache as RemoteCache
    from flexcache_rs.shared import SharedCache as SharedCache

# The methods of FlexCache that are written in Python.
FlexCache.aget_or_set = aget_or_set  # type: ignore[method-assign]
FlexCache.memoize = memoize_in  # type: ignore[method-assign]
FlexCache.describe = describe  # type: ignore[method-assign]
FlexCache._repr_html_ = repr_html  # type: ignore[method-assign]
make_mapping()
del aget_or_set, describe, make_mapping, memoize_in, repr_html

__all__ = [
    "Cache",
    "CacheStats",
    "CircularLoadError",
    "Deque",
    "Disk",
    "FanoutCache",
    "FanoutIndex",
    "FlexCache",
    "Index",
    "JSONDisk",
    "LoadCancelled",
    "LoadFailedElsewhere",
    "Store",
    "Timeout",
    "TooLargeError",
    "__version__",
    "cache",
    "caches",
    "lru_cache",
    "memoize",
    "reset_logging",
    "size_of",
]

_OF_DISK = ("Cache", "Deque", "Disk", "FanoutCache", "FanoutIndex", "Index", "JSONDisk", "Timeout")
# `SharedCache` and `RemoteCache` are not in `__all__`: `import *` must work on every system, and import little.
_MODULES = {
    "Store": "flexcache_rs._store",
    "SharedCache": "flexcache_rs.shared",
    "RemoteCache": "flexcache_rs.remote",
    **dict.fromkeys(_OF_DISK, "flexcache_rs.disk"),
}

if not TYPE_CHECKING:
    __getattr__ = importing(__name__, _MODULES)
    __dir__ = listing(__name__)

del _before_core, importing, listing
