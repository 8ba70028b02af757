"""An in-process cache as cheap as a dict.

>>> from flexcache_rs import FlexCache
>>> cache = FlexCache(max_items=2)
>>> cache["a"], cache["b"] = 1, 2
>>> cache["a"]
1
>>> cache["c"] = 3
>>> list(cache)
['a', 'c']
"""

from flexcache_rs._core import CacheStats, FlexCache, TooLargeError, __version__, reset_logging
from flexcache_rs._flights import CircularLoadError
from flexcache_rs._loading import aget_or_set
from flexcache_rs._lru_cache import cache, lru_cache
from flexcache_rs._memoize import memoize, memoize_in
from flexcache_rs._registry import caches
from flexcache_rs._report import describe, repr_html

# The calls of FlexCache that are written in Python.
FlexCache.aget_or_set = aget_or_set  # type: ignore[method-assign]
FlexCache.memoize = memoize_in  # type: ignore[method-assign]
FlexCache.describe = describe  # type: ignore[method-assign]
FlexCache._repr_html_ = repr_html  # type: ignore[method-assign]
del aget_or_set, describe, memoize_in, repr_html

__all__ = [
    "CacheStats",
    "CircularLoadError",
    "FlexCache",
    "TooLargeError",
    "__version__",
    "cache",
    "caches",
    "lru_cache",
    "memoize",
    "reset_logging",
]
