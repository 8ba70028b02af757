"""lru_cache and cache with the interface of functools, on FlexCache's core.

Types are in the stub: `typing` takes longer to import than all of this package.
"""

from flexcache_rs import _core
from flexcache_rs._absent import hide

# Read through the class, because wrapped functions may have attributes of the same names.
_cache_of = _core.Memoized.cache.__get__
_uncached_of = _core.Memoized._uncached.__get__
_forget_uncached = _core.Memoized._forget_uncached


class _LruCacheWrapper(_core.Memoized):
    """A function that lru_cache() has wrapped."""

    # Some libraries recognize functools' wrappers by name. pydantic takes them for methods of a model, not for fields.
    __module__, __qualname__ = "functools", "_lru_cache_wrapper"

    # A slot, because update_wrapper() fills __dict__ with the attributes of the function.
    __slots__ = ("__maxsize",)

    def __new__(cls, function, maxsize, typed):
        from functools import update_wrapper  # Not imported before it is used.

        kept = None if maxsize == 0 else _core._cache_of_results(maxsize)
        wrapper = _core.Memoized.__new__(cls, function, kept, typed=bool(typed))
        wrapper.__maxsize = maxsize
        update_wrapper(wrapper, function)
        # Attributes of the function must not hide the wrapper's methods.
        for name in ("cache_info", "cache_clear"):
            wrapper.__dict__.pop(name, None)
        # In __dict__ as with functools, so that wraps() copies it.
        wrapper.cache_parameters = lambda: {"maxsize": maxsize, "typed": typed}
        return wrapper

    @property
    def __class__(self):
        # Programs recognize wrappers by isinstance(), such as pytest fixtures that clear all caches of a process.
        from functools import _lru_cache_wrapper

        return _lru_cache_wrapper

    def cache_info(self):
        """Report cache statistics."""
        # The type that functools returns, so that results compare and unpickle alike.
        from functools import _CacheInfo

        kept = _cache_of(self)
        if kept is None:
            return _CacheInfo(0, _uncached_of(self), self.__maxsize, 0)
        stats = kept.stats()
        return _CacheInfo(stats.hits, stats.misses, self.__maxsize, kept.items)

    def cache_clear(self):
        """Clear the cache and cache statistics."""
        _forget_uncached(self)
        kept = _cache_of(self)
        if kept is not None:
            kept.clear()
            kept.reset_stats()


_LruCacheWrapper.__name__ = "_lru_cache_wrapper"
hide(_LruCacheWrapper, [name for name in vars(_core.Memoized) if not name.startswith("__")])
_core._call_directly(_LruCacheWrapper)


def lru_cache(maxsize=128, typed=False, **unknown):
    """Keep the most recent results of a function, as functools.lru_cache does, but faster.

    Used with or without arguments. The result has cache_info(), cache_clear(), cache_parameters()
    and __wrapped__. It works as a method, and can be pickled, copied and weakly referenced. Many
    threads may call it. Calls that miss the same key at the same time each compute it, as with
    functools. With memoize(), one of them computes for all.

    Args:
        maxsize: The largest number of results. None means no limit, and 0 or less keeps no result.
        typed: Whether equal arguments of different types have different keys, as in f(3) and f(3.0).
        **unknown: Unknown arguments raise TypeError, which suggests the name that was meant.

    Raises:
        TypeError: maxsize is neither an integer nor None nor a callable.

    A hit is O(1) and takes less time than with functools. Results are never closed, whatever methods they have.

    >>> from flexcache_rs import lru_cache
    >>> @lru_cache(maxsize=32)
    ... def square(number):
    ...     return number * number
    >>> square(3), square(3)
    (9, 9)
    >>> square.cache_info()
    CacheInfo(hits=1, misses=1, maxsize=32, currsize=1)
    """
    for name in unknown:
        raise TypeError(_core._unexpected_argument("lru_cache", name, ["maxsize", "typed"]))
    if callable(maxsize) and isinstance(typed, bool):
        return _LruCacheWrapper(maxsize, 128, typed)
    if maxsize is not None and not isinstance(maxsize, int):
        raise TypeError("Expected first argument to be an integer, a callable, or None")
    # Accept any subclass of int, as functools does.
    most = None if maxsize is None else max(int(maxsize), 0)

    def wrap(function):
        if not callable(function):
            raise TypeError(f"the first argument must be callable, not {type(function).__name__}")
        return _LruCacheWrapper(function, most, typed)

    return wrap


def cache(function, /):
    """Keep all results of a function, as functools.cache does, but faster. The same as lru_cache(None).

    >>> from flexcache_rs import cache
    >>> @cache
    ... def factorial(number):
    ...     return number * factorial(number - 1) if number else 1
    >>> factorial(5)
    120
    """
    return lru_cache(maxsize=None)(function)
