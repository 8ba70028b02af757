# The wrappers are of functools' class for the type checkers, as they are for `isinstance`. That class is final, and its
# `__call__` takes any arguments that can be hashed.
# mypy: disable-error-code="misc, override, assignment"
# pyright: reportGeneralTypeIssues=false, reportIncompatibleMethodOverride=false

from collections.abc import Callable
from functools import _CacheInfo, _lru_cache_wrapper  # pyright: ignore[reportPrivateUsage]
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypedDict, TypeVar, overload, type_check_only

from typing_extensions import Self

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

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_T = TypeVar("_T")
_R_co = TypeVar("_R_co", covariant=True)
_F_co = TypeVar("_F_co", bound=Callable[..., Any], covariant=True)

@type_check_only
class _Parameters(TypedDict):
    maxsize: int | None
    typed: bool

@type_check_only
class _Wrapper(_lru_cache_wrapper[_R_co]):
    def cache_info(self) -> _CacheInfo: ...
    def cache_clear(self) -> None: ...
    def cache_parameters(self) -> _Parameters: ...

@type_check_only
class _Bound(_Wrapper[_R_co], Generic[_P, _R_co]):
    __self__: Any
    __func__: Any
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...

class _LruCacheWrapper(_Wrapper[_R_co], Generic[_P, _R_co]):
    __wrapped__: Callable[_P, _R_co]
    __name__: str
    __qualname__: str
    cache_parameters: Callable[[], _Parameters]
    def __new__(cls, function: Callable[_P, _R_co], maxsize: int | None, typed: bool) -> Self: ...
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    # A class method, and a method, whose result is Any or is not known: see `OfAnyResult`.
    @overload
    def __get__(
        self: TakesClass[_Q, _R], instance: object, owner: type[OfAnyResult[_R]], /
    ) -> _OfClass[Concatenate[type[Any], _Q], _R]: ...
    @overload
    def __get__(self: TakesClass[_Q, Anything], instance: object, owner: type[_T], /) -> _Unknown[_Q, _T]: ...
    @overload
    def __get__(
        self: TakesClass[_Q, _R], instance: object, owner: type[OfUnknownResult[_R]], /
    ) -> _Unknown[_Q, Any]: ...
    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> _OfClass[_P, _R_co]: ...
    @overload
    def __get__(self: TakesSelf[_Q, _R], instance: object, owner: type[OfAnyResult[_R]], /) -> _Bound[_Q, _R]: ...
    @overload
    def __get__(self: TakesSelf[_Q, Anything], instance: _T, owner: Any = None, /) -> _Unknown[_Q, _T]: ...
    @overload
    def __get__(
        self: TakesSelf[_Q, _R], instance: object, owner: type[OfUnknownResult[_R]], /
    ) -> _Unknown[_Q, Any]: ...
    @overload
    def __get__(self: TakesSelf[_Q, _R], instance: object, owner: Any = None, /) -> _Bound[_Q, _R]: ...
    @overload
    def __get__(
        self: TakesClass[_Q, _R], instance: object, owner: Any = None, /
    ) -> _OfClass[Concatenate[type[Any], _Q], _R]: ...
    # A static method.
    @overload
    def __get__(self: Takes[Anything, _Q, _R], instance: object, owner: Any = None, /) -> _Bound[_P, _R_co]: ...
    # A method whose first parameter has another name, or a static method.
    @overload
    def __get__(self: Takes[_T, _Q, _R], instance: _T, owner: Any = None, /) -> _Bound[_Q, _R]: ...
    @overload
    def __get__(
        self: Takes[type[_T], _Q, _R], instance: _T, owner: Any = None, /
    ) -> _OfClass[Concatenate[type[Any], _Q], _R]: ...
    @overload
    def __get__(self, instance: object, owner: Any = None, /) -> _Bound[_P, _R_co]: ...
    def cache_info(self) -> _CacheInfo: ...
    def cache_clear(self) -> None: ...

@type_check_only
class _Unknown(_Bound[_P, _R_co]):
    """A function that returns the instance, if these are its arguments, and otherwise a generic one."""
    @overload
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

@type_check_only
class _OfClass(_LruCacheWrapper[_P, _R_co], Generic[_P, _R_co]):
    """The attribute of a class. A class method gets the class, and other functions get all of their arguments."""
    @overload
    def __call__(self: _OfClass[Concatenate[type[Any], _Q], _R], *args: _Q.args, **kwargs: _Q.kwargs) -> _R: ...
    @overload
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...

# What a class has under the name of a method, as pyright compares it with that of a subclass.
@type_check_only
class _MethodOfClass(_Wrapper[Any], Generic[_F_co]):
    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str
    def __call__(
        self: _MethodOfClass[Callable[_P, _R]], instance: Any, /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _R: ...
    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> _MethodOfClass[_F_co]: ...
    @overload
    def __get__(self: _MethodOfClass[Callable[_P, _R]], instance: object, owner: Any = None, /) -> _Bound[_P, _R]: ...

@type_check_only
class _Method(_MethodOfClass[_F_co]):
    # pyright compares it with a protocol as it is, `self` included, so its parameters are not checked.
    def __call__(self: _Method[Callable[..., _R]], *args: Any, **kwargs: Any) -> _R: ...

@type_check_only
class _ClassMethod(_Wrapper[Any], Generic[_F_co]):
    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str
    # Without `/`: it may also be a function, to which `cls` is passed by name.
    def __call__(self: _ClassMethod[Callable[_P, _R]], cls: Any, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    @overload
    def __get__(
        self: _ClassMethod[Callable[_P, _R]], instance: None, owner: Any = None, /
    ) -> _OfClass[Concatenate[type[Any], _P], _R]: ...
    @overload
    def __get__(self: _ClassMethod[Callable[_P, _R]], instance: object, owner: Any = None, /) -> _Bound[_P, _R]: ...

@type_check_only
class _Decorator(Protocol):
    @overload
    def __call__(self, function: Method[_T, _P, _R], /) -> _Method[Callable[_P, _R]]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: ClassMethod[_T, _P, _R], /) -> _ClassMethod[Callable[_P, _R]]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: Callable[_P, _R], /) -> _LruCacheWrapper[_P, _R]: ...

@overload
def lru_cache(maxsize: int | None = 128, typed: bool = False) -> _Decorator:
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
def lru_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: Method[_T, _P, _R], typed: bool = False
) -> _Method[Callable[_P, _R]]: ...
@overload
def lru_cache(  # pyright: ignore[reportOverlappingOverload]
    maxsize: ClassMethod[_T, _P, _R], typed: bool = False
) -> _ClassMethod[Callable[_P, _R]]: ...
@overload
def lru_cache(maxsize: Callable[_P, _R], typed: bool = False) -> _LruCacheWrapper[_P, _R]: ...
@overload
def cache(function: Method[_T, _P, _R], /) -> _Method[Callable[_P, _R]]:  # pyright: ignore[reportOverlappingOverload]
    """Keep all results of a function, as functools.cache does, but faster. The same as lru_cache(None).

    >>> from flexcache_rs import cache
    >>> @cache
    ... def factorial(number):
    ...     return number * factorial(number - 1) if number else 1
    >>> factorial(5)
    120
    """

@overload
def cache(function: ClassMethod[_T, _P, _R], /) -> _ClassMethod[Callable[_P, _R]]: ...  # pyright: ignore[reportOverlappingOverload]
@overload
def cache(function: Callable[_P, _R], /) -> _LruCacheWrapper[_P, _R]: ...
