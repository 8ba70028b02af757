from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, overload, type_check_only

from flexcache_rs._first_parameter import ClassMethod, Method
from flexcache_rs.cachetools import (
    _CachedFunction,  # pyright: ignore[reportPrivateUsage]
    _ClassMethodUnderCached,  # pyright: ignore[reportPrivateUsage]
    _MethodUnderCached,  # pyright: ignore[reportPrivateUsage]
)

__all__ = ("fifo_cache", "lfu_cache", "lru_cache", "rr_cache", "ttl_cache")

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")
_R_co = TypeVar("_R_co", covariant=True)
_F_co = TypeVar("_F_co", bound=Callable[..., Any], covariant=True)

@type_check_only
class _Function(_CachedFunction[_P, _R_co]):
    def cache_parameters(self) -> dict[str, Any]: ...

@type_check_only
class _Method(_MethodUnderCached[_F_co]):
    def cache_parameters(self) -> dict[str, Any]: ...

@type_check_only
class _ClassMethod(_ClassMethodUnderCached[_F_co]):
    def cache_parameters(self) -> dict[str, Any]: ...

@type_check_only
class _Decorator(Protocol):
    @overload
    def __call__(self, function: Method[_T, _P, _R], /) -> _Method[Callable[_P, _R]]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: ClassMethod[_T, _P, _R], /) -> _ClassMethod[Callable[_P, _R]]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: Callable[_P, _R], /) -> _Function[_P, _R]: ...

@overload
def fifo_cache(maxsize: float | None = 128, typed: bool = False) -> _Decorator:
    """Keep a function's results and evict the oldest one.

    Used with or without arguments. `maxsize=None` means no limit. With `typed`, 3 and 3.0 have different keys.
    """

@overload
def fifo_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: Method[_T, _P, _R], typed: bool = False
) -> _Method[Callable[_P, _R]]: ...
@overload
def fifo_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: ClassMethod[_T, _P, _R], typed: bool = False
) -> _ClassMethod[Callable[_P, _R]]: ...
@overload
def fifo_cache(maxsize: Callable[_P, _R], typed: bool = False) -> _Function[_P, _R]: ...
@overload
def lfu_cache(maxsize: float | None = 128, typed: bool = False) -> _Decorator:
    """Keep a function's results and evict the least often used one. See `fifo_cache`."""

@overload
def lfu_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: Method[_T, _P, _R], typed: bool = False
) -> _Method[Callable[_P, _R]]: ...
@overload
def lfu_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: ClassMethod[_T, _P, _R], typed: bool = False
) -> _ClassMethod[Callable[_P, _R]]: ...
@overload
def lfu_cache(maxsize: Callable[_P, _R], typed: bool = False) -> _Function[_P, _R]: ...
@overload
def lru_cache(maxsize: float | None = 128, typed: bool = False) -> _Decorator:
    """Keep a function's results and evict the least recently used one. See `fifo_cache`."""

@overload
def lru_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: Method[_T, _P, _R], typed: bool = False
) -> _Method[Callable[_P, _R]]: ...
@overload
def lru_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: ClassMethod[_T, _P, _R], typed: bool = False
) -> _ClassMethod[Callable[_P, _R]]: ...
@overload
def lru_cache(maxsize: Callable[_P, _R], typed: bool = False) -> _Function[_P, _R]: ...
@overload
def rr_cache(
    maxsize: float | None = 128, choice: Callable[[Sequence[Any]], Any] = ..., typed: bool = False
) -> _Decorator:
    """Keep a function's results and evict the key that `choice` returns. See `fifo_cache`."""

@overload
def rr_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: Method[_T, _P, _R], choice: Callable[[Sequence[Any]], Any] = ..., typed: bool = False
) -> _Method[Callable[_P, _R]]: ...
@overload
def rr_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: ClassMethod[_T, _P, _R], choice: Callable[[Sequence[Any]], Any] = ..., typed: bool = False
) -> _ClassMethod[Callable[_P, _R]]: ...
@overload
def rr_cache(
    maxsize: Callable[_P, _R], choice: Callable[[Sequence[Any]], Any] = ..., typed: bool = False
) -> _Function[_P, _R]: ...
@overload
def ttl_cache(
    maxsize: float | None = 128, ttl: Any = 600, timer: Callable[[], Any] = ..., typed: bool = False
) -> _Decorator:
    """Keep a function's results for `ttl` seconds and evict the least recently used one.

    See `fifo_cache`. `timer` returns the time.
    """

@overload
def ttl_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: Method[_T, _P, _R], ttl: Any = 600, timer: Callable[[], Any] = ..., typed: bool = False
) -> _Method[Callable[_P, _R]]: ...
@overload
def ttl_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: ClassMethod[_T, _P, _R], ttl: Any = 600, timer: Callable[[], Any] = ..., typed: bool = False
) -> _ClassMethod[Callable[_P, _R]]: ...
@overload
def ttl_cache(
    maxsize: Callable[_P, _R], ttl: Any = 600, timer: Callable[[], Any] = ..., typed: bool = False
) -> _Function[_P, _R]: ...
