from collections.abc import Callable, Coroutine, Hashable
from functools import _CacheInfo  # pyright: ignore[reportPrivateUsage]
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypedDict, TypeVar, overload, type_check_only

from flexcache_rs._first_parameter import (
    Anything,
    ClassMethod,
    Method,
    OfAnyResult,
    OfUnknownResult,
    Takes,
    TakesClass,
    TakesSelf,
)

__all__ = ("AlruCacheLoopResetWarning", "alru_cache")

__version__: str

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)
_T = TypeVar("_T")
_F_co = TypeVar("_F_co", bound=Callable[..., Any], covariant=True)

class AlruCacheLoopResetWarning(UserWarning):
    """Another event loop uses the function, and its results were forgotten. Issued once for each function."""

@type_check_only
class _Parameters(TypedDict):
    typed: bool
    maxsize: int | None
    tasks: int
    closed: bool

@type_check_only
class _Attributes:
    __name__: str
    __qualname__: str
    def cache_contains(self, *args: Hashable, **kwargs: Any) -> bool: ...
    def cache_invalidate(self, *args: Hashable, **kwargs: Any) -> bool: ...
    def cache_clear(self) -> None: ...
    def cache_info(self) -> _CacheInfo: ...
    def cache_parameters(self) -> _Parameters: ...
    async def cache_close(self, *, wait: bool = False) -> None: ...

# As async functions, which mypy takes for less vague than those that return a Coroutine[Any, Any, _R].
@type_check_only
class _CachedCoroutine(_Attributes, Generic[_P, _R_co]):
    __wrapped__: Callable[_P, Coroutine[Any, Any, _R_co]]
    async def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    # A class method, and a method, whose result is Any or is not known: see `OfAnyResult`.
    @overload
    def __get__(
        self: TakesClass[_Q, Coroutine[Any, Any, _R]], instance: object, owner: type[OfAnyResult[_R]]
    ) -> _OfClass[Concatenate[type[Any], _Q], _R]: ...
    @overload
    def __get__(
        self: TakesClass[_Q, Coroutine[Any, Any, Anything]], instance: object, owner: type[_T]
    ) -> _Unknown[_Q, _T]: ...
    @overload
    def __get__(
        self: TakesClass[_Q, Coroutine[Any, Any, _R]], instance: object, owner: type[OfUnknownResult[_R]]
    ) -> _Unknown[_Q, Any]: ...
    @overload
    def __get__(self, instance: None, owner: Any = None) -> _OfClass[_P, _R_co]: ...
    @overload
    def __get__(
        self: TakesSelf[_Q, Coroutine[Any, Any, _R]], instance: object, owner: type[OfAnyResult[_R]]
    ) -> _CachedCoroutine[_Q, _R]: ...
    @overload
    def __get__(
        self: TakesSelf[_Q, Coroutine[Any, Any, Anything]], instance: _T, owner: Any = None
    ) -> _Unknown[_Q, _T]: ...
    @overload
    def __get__(
        self: TakesSelf[_Q, Coroutine[Any, Any, _R]], instance: object, owner: type[OfUnknownResult[_R]]
    ) -> _Unknown[_Q, Any]: ...
    @overload
    def __get__(
        self: TakesSelf[_Q, Coroutine[Any, Any, _R]], instance: object, owner: Any = None
    ) -> _CachedCoroutine[_Q, _R]: ...
    @overload
    def __get__(
        self: TakesClass[_Q, Coroutine[Any, Any, _R]], instance: object, owner: Any = None
    ) -> _OfClass[Concatenate[type[Any], _Q], _R]: ...
    # A static method.
    @overload
    def __get__(
        self: Takes[Anything, _Q, Coroutine[Any, Any, _R]], instance: object, owner: Any = None
    ) -> _CachedCoroutine[_P, _R_co]: ...
    # A method whose first parameter has another name, or a static method.
    @overload
    def __get__(
        self: Takes[_T, _Q, Coroutine[Any, Any, _R]], instance: _T, owner: Any = None
    ) -> _CachedCoroutine[_Q, _R]: ...
    @overload
    def __get__(
        self: Takes[type[_T], _Q, Coroutine[Any, Any, _R]], instance: _T, owner: Any = None
    ) -> _OfClass[Concatenate[type[Any], _Q], _R]: ...
    @overload
    def __get__(self, instance: object, owner: Any = None) -> _CachedCoroutine[_P, _R_co]: ...

@type_check_only
class _Unknown(_CachedCoroutine[_P, _R_co]):
    """A function that returns the instance, if these are its arguments, and otherwise a generic one."""
    @overload
    async def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    @overload
    async def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

@type_check_only
class _OfClass(_CachedCoroutine[_P, _R_co], Generic[_P, _R_co]):
    """The attribute of a class. A class method gets the class, and other functions get all of their arguments."""
    @overload
    async def __call__(self: _OfClass[Concatenate[type[Any], _Q], _R], *args: _Q.args, **kwargs: _Q.kwargs) -> _R: ...
    @overload
    async def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...

# What a class has under the name of a method, as pyright compares it with that of a subclass.
@type_check_only
class _MethodOfClass(_Attributes, Generic[_F_co]):
    __wrapped__: Callable[..., Any]
    async def __call__(
        self: _MethodOfClass[Callable[_P, Coroutine[Any, Any, _R]]],
        instance: Any,
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _R: ...
    @overload
    def __get__(self, instance: None, owner: Any = None) -> _MethodOfClass[_F_co]: ...
    @overload
    def __get__(
        self: _MethodOfClass[Callable[_P, Coroutine[Any, Any, _R]]], instance: object, owner: Any = None
    ) -> _CachedCoroutine[_P, _R]: ...

@type_check_only
class _Method(_MethodOfClass[_F_co]):
    # pyright compares it with a protocol as it is, `self` included, so its parameters are not checked.
    async def __call__(self: _Method[Callable[..., Coroutine[Any, Any, _R]]], *args: Any, **kwargs: Any) -> _R: ...

@type_check_only
class _ClassMethod(_Attributes, Generic[_F_co]):
    __wrapped__: Callable[..., Any]
    # Without `/`: it may also be a function, to which `cls` is passed by name.
    async def __call__(
        self: _ClassMethod[Callable[_P, Coroutine[Any, Any, _R]]], cls: Any, *args: _P.args, **kwargs: _P.kwargs
    ) -> _R: ...
    @overload
    def __get__(
        self: _ClassMethod[Callable[_P, Coroutine[Any, Any, _R]]], instance: None, owner: Any = None
    ) -> _OfClass[Concatenate[type[Any], _P], _R]: ...
    @overload
    def __get__(
        self: _ClassMethod[Callable[_P, Coroutine[Any, Any, _R]]], instance: object, owner: Any = None
    ) -> _CachedCoroutine[_P, _R]: ...

@type_check_only
class _Decorator(Protocol):
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]
        self, function: Method[_T, _P, Coroutine[Any, Any, _R]], /
    ) -> _Method[Callable[_P, Coroutine[Any, Any, _R]]]: ...
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]
        self, function: ClassMethod[_T, _P, Coroutine[Any, Any, _R]], /
    ) -> _ClassMethod[Callable[_P, Coroutine[Any, Any, _R]]]: ...
    @overload
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
    exception is not kept. The result has cache_contains(), cache_invalidate(), cache_clear(), cache_close(),
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
def alru_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: Method[_T, _P, Coroutine[Any, Any, _R]], /
) -> _Method[Callable[_P, Coroutine[Any, Any, _R]]]: ...
@overload
def alru_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: ClassMethod[_T, _P, Coroutine[Any, Any, _R]], /
) -> _ClassMethod[Callable[_P, Coroutine[Any, Any, _R]]]: ...
@overload
def alru_cache(maxsize: Callable[_P, Coroutine[Any, Any, _R]], /) -> _CachedCoroutine[_P, _R]: ...
