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
def lru_cache(
    maxsize: int | None = 128, typed: bool = False
) -> Callable[[Callable[_P, _R]], _LruCacheWrapper[_P, _R]]: ...
@overload
def lru_cache(maxsize: Callable[_P, _R], typed: bool = False) -> _LruCacheWrapper[_P, _R]: ...
def cache(function: Callable[_P, _R], /) -> _LruCacheWrapper[_P, _R]: ...
