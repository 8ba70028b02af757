"""Decorators like functools' lru_cache, with the other ways of eviction."""

from __future__ import annotations

import math
import random
import time
from threading import Condition

from flexcache_rs._suggest import suggesting
from flexcache_rs.cachetools import FIFOCache, LFUCache, LRUCache, RRCache, TTLCache, cached, keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ("fifo_cache", "lfu_cache", "lru_cache", "rr_cache", "ttl_cache")

_MAXSIZE = 128


def _decorator(cache: Any, maxsize: Any, typed: bool) -> Any:
    def decorate(function: Any) -> Any:
        key = keys.typedkey if typed else keys.hashkey
        # The condition lets one thread compute a result for all that wait.
        wrapper: Any = cached(cache, key=key, condition=Condition(), info=True)(function)
        wrapper.cache_parameters = lambda: {"maxsize": maxsize, "typed": typed}
        return wrapper

    return decorate


def _of(make: Callable[[Any], Any], maxsize: Any, typed: bool) -> Any:
    if callable(maxsize):
        return _decorator(make(_MAXSIZE), _MAXSIZE, typed)(maxsize)
    return _decorator({} if maxsize is None else make(maxsize), maxsize, typed)


@suggesting
def fifo_cache(maxsize: Any = _MAXSIZE, typed: bool = False) -> Any:
    """Keep a function's results and evict the oldest one.

    Used with or without arguments. `maxsize=None` means no limit. With `typed`, 3 and 3.0 have different keys.
    """
    return _of(FIFOCache, maxsize, typed)


@suggesting
def lfu_cache(maxsize: Any = _MAXSIZE, typed: bool = False) -> Any:
    """Keep a function's results and evict the least often used one. See `fifo_cache`."""
    return _of(LFUCache, maxsize, typed)


@suggesting
def lru_cache(maxsize: Any = _MAXSIZE, typed: bool = False) -> Any:
    """Keep a function's results and evict the least recently used one. See `fifo_cache`."""
    return _of(LRUCache, maxsize, typed)


@suggesting
def rr_cache(maxsize: Any = _MAXSIZE, choice: Any = random.choice, typed: bool = False) -> Any:
    """Keep a function's results and evict the key that `choice` returns. See `fifo_cache`."""
    return _of(lambda size: RRCache(size, choice), maxsize, typed)


class _Unlimited(TTLCache):
    """A cache without a limit, whose `maxsize` is None."""

    @property
    def maxsize(self) -> Any:
        return None


@suggesting
def ttl_cache(maxsize: Any = _MAXSIZE, ttl: Any = 600, timer: Any = time.monotonic, typed: bool = False) -> Any:
    """Keep a function's results for `ttl` seconds and evict the least recently used one.

    See `fifo_cache`. `timer` returns the time.
    """
    if maxsize is None:
        return _decorator(_Unlimited(math.inf, ttl, timer), None, typed)
    return _of(lambda size: TTLCache(size, ttl, timer), maxsize, typed)
