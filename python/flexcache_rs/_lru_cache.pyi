from collections.abc import Callable
from functools import _CacheInfo  # pyright: ignore[reportPrivateUsage]
from typing import Any, Concatenate, Generic, ParamSpec, TypedDict, TypeVar, overload, type_check_only

from flexcache_rs import _core

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")

@type_check_only
class _Parameters(TypedDict):
    maxsize: int | None
    typed: bool

@type_check_only
class _BoundWrapper(Generic[_P, _R]):
    __self__: Any
    __func__: Any
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def cache_info(self) -> _CacheInfo: ...
    def cache_clear(self) -> None: ...
    def cache_parameters(self) -> _Parameters: ...

class _LruCacheWrapper(_core.Memoized[_P, _R], Generic[_P, _R]):
    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> _LruCacheWrapper[_P, _R]: ...
    @overload
    def __get__(
        self: _LruCacheWrapper[Concatenate[Any, _Q], _R], instance: object, owner: type | None = None, /
    ) -> _BoundWrapper[_Q, _R]: ...
    def cache_info(self) -> _CacheInfo: ...
    def cache_clear(self) -> None: ...
    def cache_parameters(self) -> _Parameters: ...

@overload
def lru_cache(maxsize: int | None = 128, typed: bool = False) -> Callable[[Callable[_P, _R]], _LruCacheWrapper[_P, _R]]:
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

@overload
def lru_cache(maxsize: Callable[_P, _R], typed: bool = False) -> _LruCacheWrapper[_P, _R]: ...
def cache(function: Callable[_P, _R], /) -> _LruCacheWrapper[_P, _R]:
    """Keep all results of a function, as functools.cache does, but faster. The same as lru_cache(None).

    >>> from flexcache_rs import cache
    >>> @cache
    ... def factorial(number):
    ...     return number * factorial(number - 1) if number else 1
    >>> factorial(5)
    120
    """
