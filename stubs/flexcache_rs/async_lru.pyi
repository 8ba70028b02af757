from collections.abc import Callable, Coroutine, Hashable
from functools import _CacheInfo  # pyright: ignore[reportPrivateUsage]
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypedDict, TypeVar, overload, type_check_only

from typing_extensions import Self

__all__ = ("AlruCacheLoopResetWarning", "alru_cache")

__version__: str

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_S = TypeVar("_S")

class AlruCacheLoopResetWarning(UserWarning):
    """Another event loop uses the function than before, and its results were forgotten. Once for each function."""

@type_check_only
class _Parameters(TypedDict):
    typed: bool
    maxsize: int | None
    tasks: int
    closed: bool

@type_check_only
class _CachedCoroutine(Generic[_P, _R]):
    __wrapped__: Callable[_P, Coroutine[Any, Any, _R]]
    __name__: str
    __qualname__: str
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> Coroutine[Any, Any, _R]: ...
    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: _CachedCoroutine[Concatenate[_S, _Q], _R], instance: _S, owner: type | None = None
    ) -> _CachedCoroutine[_Q, _R]: ...
    def cache_contains(self, *args: Hashable, **kwargs: Any) -> bool: ...
    def cache_invalidate(self, *args: Hashable, **kwargs: Any) -> bool: ...
    def cache_clear(self) -> None: ...
    def cache_info(self) -> _CacheInfo: ...
    def cache_parameters(self) -> _Parameters: ...
    async def cache_close(self, *, wait: bool = False) -> None: ...

@type_check_only
class _Decorator(Protocol):
    def __call__(self, function: Callable[_P, Coroutine[Any, Any, _R]], /) -> _CachedCoroutine[_P, _R]: ...

@overload
def alru_cache(
    maxsize: int | None = 128,
    typed: bool = False,
    *,
    ttl: float | None = None,
    jitter: float | None = None,
    key: Callable[..., Hashable] | None = None,
) -> _Decorator:
    """Remember the most recent results of a coroutine function."""

@overload
def alru_cache(maxsize: Callable[_P, Coroutine[Any, Any, _R]], /) -> _CachedCoroutine[_P, _R]: ...
