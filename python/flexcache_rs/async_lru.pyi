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
    """Another event loop uses the function, and its results were forgotten. Issued once for each function."""

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
    """Keep the most recent results of a coroutine function.

    Used bare or with arguments. Tasks that miss the same call at once wait for one task which computes it. An
    exception is not kept. What is returned has cache_contains(), cache_invalidate(), cache_clear(), cache_close(),
    cache_info() and cache_parameters(), and works as a method.

    Args:
        maxsize: The largest number of results. None means no limit.
        typed: Whether equal arguments of different types have different keys.
        ttl: The number of seconds after its computation at which a result is forgotten. None means never.
        jitter: The largest number of seconds that are added to each ttl at random.
        key: A function of the arguments that returns the key.

    Raises:
        RuntimeError: If the function is no coroutine function. From a call, if the cache was closed.
        ValueError: If there is a jitter without ttl or below 0, or `typed` with a key.
        TypeError: If the key cannot be called.

    >>> import asyncio
    >>> from flexcache_rs.async_lru import alru_cache
    >>> @alru_cache(maxsize=32, ttl=60)
    ... async def square(number):
    ...     print("computing")
    ...     return number * number
    >>> async def main():
    ...     return await square(3), await square(3)
    >>> asyncio.run(main())
    computing
    (9, 9)
    """

@overload
def alru_cache(maxsize: Callable[_P, Coroutine[Any, Any, _R]], /) -> _CachedCoroutine[_P, _R]: ...
