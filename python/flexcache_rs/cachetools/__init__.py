"""cachetools on FlexCache: the same names, with the lookups and writes done natively.

`import flexcache_rs.cachetools as cachetools` is the only change to a program. docs/cachetools.md lists the
differences.

>>> import flexcache_rs.cachetools as cachetools
>>> @cachetools.cached(cachetools.TTLCache(maxsize=100, ttl=60))
... def square(number):
...     print("computing")
...     return number * number
>>> square(3), square(3)
computing
(9, 9)
"""

from __future__ import annotations

from collections import namedtuple

from flexcache_rs._first_use import importing
from flexcache_rs._suggest import suggesting
from flexcache_rs.cachetools import keys
from flexcache_rs.cachetools.caches import Cache, FIFOCache, LFUCache, LRUCache
from flexcache_rs.cachetools.methods import wrapped_method
from flexcache_rs.cachetools.random_cache import RRCache
from flexcache_rs.cachetools.timed import TLRUCache, TTLCache
from flexcache_rs.cachetools.wrapped import wrapped_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = (
    "Cache",
    "CacheInfo",
    "FIFOCache",
    "LFUCache",
    "LRUCache",
    "RRCache",
    "TLRUCache",
    "TTLCache",
    "cached",
    "cachedmethod",
)

__version__ = "8.0.2"
"""The version of cachetools whose interface this is."""

if not TYPE_CHECKING:
    __getattr__, __dir__ = importing(__name__, {}, ("func",))


CacheInfo = namedtuple("CacheInfo", "hits misses maxsize currsize")  # noqa: PYI024
CacheInfo.__doc__ = "What `cache_info()` returns: hits, misses, the largest and the current size."


def _info(cache: Any, hits: int, misses: int) -> CacheInfo:
    """Return the counters together with the sizes of the cache."""
    if isinstance(cache, Cache):
        return CacheInfo(hits, misses, cache.maxsize, cache.currsize)
    return CacheInfo(hits, misses, None, len(cache))


@suggesting
def cached(cache: Any, key: Any = keys.hashkey, lock: Any = None, condition: Any = None, info: bool = False) -> Any:
    """Keep a function's results in a cache.

    Args:
        cache: A cache of this module, or any mapping.
        key: A function of the arguments that returns the key.
        lock: A context manager that is entered to use the cache, and not while the function runs.
        condition: As `lock`. One thread then computes a result for all threads that ask for it.
        info: Whether to count hits and misses for `cache_info()`.

    Raises:
        TypeError: If the cache is None.

    The result has `cache`, `cache_key`, `cache_lock`, `cache_condition`, `cache_clear()` and, with `info`,
    `cache_info()`.
    """
    if cache is None:
        raise TypeError("cache must not be None")
    return lambda function: wrapped_function(function, cache, key, lock, condition, _info if info else None)


@suggesting
def cachedmethod(
    cache: Any, key: Any = keys.methodkey, lock: Any = None, condition: Any = None, info: bool = False
) -> Any:
    """Keep a method's results in a cache of the instance.

    Args:
        cache: A function of the instance that returns the cache.
        key: A function of the instance and the arguments that returns the key.
        lock: A function of the instance that returns the lock.
        condition: A function of the instance that returns the condition.
        info: As for `cached`.

    Raises:
        TypeError: `cache` is not callable.
    """
    if not callable(cache):
        raise TypeError(f"cache must be callable, such as lambda self: self.cache, not {type(cache).__name__}")
    return lambda method: wrapped_method(method, cache, key, lock, condition, _info if info else None)
