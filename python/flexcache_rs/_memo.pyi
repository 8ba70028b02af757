from collections.abc import Callable, Coroutine
from functools import _CacheInfo  # pyright: ignore[reportPrivateUsage]
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload, type_check_only

from flexcache_rs import _core
from flexcache_rs._first_parameter import Anything, OfAnyResult, OfUnknownResult, Takes, TakesClass, TakesSelf
from flexcache_rs._lru_cache import _Parameters  # pyright: ignore[reportPrivateUsage]

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
# What calling a function returns, and, of a coroutine function, what awaiting that returns.
_R = TypeVar("_R")
_V = TypeVar("_V")
_R_co = TypeVar("_R_co", covariant=True)
_T = TypeVar("_T")
_F_co = TypeVar("_F_co", bound=Callable[..., Any], covariant=True)

class Memo(_core.Memoized[_P, _R_co], Generic[_P, _R_co]):
    """A function that memoize() has wrapped."""
    def __set_name__(self, owner: type, name: str) -> None: ...
    def _meet(self, instance: object) -> Any: ...
    def _read_nonce(self) -> str: ...
    def cache_key(self, /, *args: _P.args, **kwargs: _P.kwargs) -> Any:
        """Return the key of a call with these arguments."""
    def invalidate(self, /, *args: _P.args, **kwargs: _P.kwargs) -> bool:
        """Forget the result of a call with these arguments. Returns True if there was one."""
    @overload
    def peek(self: Memo[_P, Coroutine[Any, Any, _V]], /, *args: _P.args, **kwargs: _P.kwargs) -> _V | None:
        """Return the stored result of a call with these arguments, or None. Does not count as an access."""
    @overload
    def peek(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R_co | None: ...
    def clear(self) -> None:
        """Forget all results of this function and nothing else. O(n) in a cache that other functions use too."""
    def stats(self) -> _core.CacheStats:
        """Return the statistics of the cache."""
    def cache_info(self) -> _CacheInfo:
        """Return the statistics of the cache in the form of functools.lru_cache: hits, misses, maxsize, currsize.

        maxsize is None if there is no limit. If other functions use the cache too, the statistics
        are those of all functions.
        """
    def cache_clear(self) -> None:
        """Do the same as clear(). Also reset the statistics, unless other functions use the cache too."""
    def cache_parameters(self) -> _Parameters:
        """Return a new dict with the largest number of results and whether types make a difference."""
    @property
    def cache(self) -> _core.FlexCache[Any, Any]: ...

class SyncMemo(Memo[_P, _R_co], Generic[_P, _R_co]):
    """A memoized function."""
    def refresh(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R_co:
        """Call the function now, even if there is a result or a computation, and keep its result."""

class AsyncMemo(Memo[_P, Coroutine[Any, Any, _V]], Generic[_P, _V]):
    """A memoized coroutine function."""
    async def refresh(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _V:
        """Call the function now, even if there is a result or a computation, and keep its result."""

# What memoize() returns has one type for functions and coroutine functions. Two types would need a choice between
# them, and a function that returns Any, or a type variable, fits both.
@type_check_only
class MemoizedFunction(Memo[_P, _R_co], Generic[_P, _R_co]):
    def refresh(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
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
    def __get__(
        self: TakesClass[_Q, Coroutine[Any, Any, _R]], instance: object, owner: type[OfAnyResult[_R]], /
    ) -> _OfClass[Concatenate[type[Any], _Q], _R_co]: ...
    @overload
    def __get__(
        self: TakesClass[_Q, Coroutine[Any, Any, Anything]], instance: object, owner: type[_T], /
    ) -> _Unknown[_Q, Coroutine[Any, Any, _T]]: ...
    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> _OfClass[_P, _R_co]: ...
    @overload
    def __get__(self: TakesSelf[_Q, _R], instance: object, owner: type[OfAnyResult[_R]], /) -> BoundMethod[_Q, _R]: ...
    @overload
    def __get__(self: TakesSelf[_Q, Anything], instance: _T, owner: Any = None, /) -> _Unknown[_Q, _T]: ...
    @overload
    def __get__(
        self: TakesSelf[_Q, _R], instance: object, owner: type[OfUnknownResult[_R]], /
    ) -> _Unknown[_Q, Any]: ...
    @overload
    def __get__(
        self: TakesSelf[_Q, Coroutine[Any, Any, _R]], instance: object, owner: type[OfAnyResult[_R]], /
    ) -> BoundMethod[_Q, _R_co]: ...
    @overload
    def __get__(
        self: TakesSelf[_Q, Coroutine[Any, Any, Anything]], instance: _T, owner: Any = None, /
    ) -> _Unknown[_Q, Coroutine[Any, Any, _T]]: ...
    @overload
    def __get__(self: TakesSelf[_Q, _R], instance: object, owner: Any = None, /) -> BoundMethod[_Q, _R]: ...
    @overload
    def __get__(
        self: TakesClass[_Q, _R], instance: object, owner: Any = None, /
    ) -> _OfClass[Concatenate[type[Any], _Q], _R]: ...
    # A static method.
    @overload
    def __get__(self: Takes[Anything, _Q, _R], instance: object, owner: Any = None, /) -> BoundMethod[_P, _R_co]: ...
    # A method whose first parameter has another name, or a static method.
    @overload
    def __get__(self: Takes[_T, _Q, _R], instance: _T, owner: Any = None, /) -> BoundMethod[_Q, _R]: ...
    @overload
    def __get__(
        self: Takes[type[_T], _Q, _R], instance: _T, owner: Any = None, /
    ) -> _OfClass[Concatenate[type[Any], _Q], _R]: ...
    @overload
    def __get__(self, instance: object, owner: Any = None, /) -> BoundMethod[_P, _R_co]: ...

@type_check_only
class _Unknown(BoundMethod[_P, _R_co]):
    """A function that returns the instance, if these are its arguments, and otherwise a generic one."""
    @overload
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

@type_check_only
class _OfClass(MemoizedFunction[_P, _R_co], Generic[_P, _R_co]):
    """The attribute of a class. A class method gets the class, and other functions get all of their arguments."""
    @overload
    def __call__(self: _OfClass[Concatenate[type[Any], _Q], _R], *args: _Q.args, **kwargs: _Q.kwargs) -> _R: ...
    @overload
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    @overload
    def cache_key(self: _OfClass[Concatenate[type[Any], _Q], _R], /, *args: _Q.args, **kwargs: _Q.kwargs) -> Any: ...
    @overload
    def cache_key(self, /, *args: _P.args, **kwargs: _P.kwargs) -> Any: ...
    @overload
    def invalidate(self: _OfClass[Concatenate[type[Any], _Q], _R], /, *args: _Q.args, **kwargs: _Q.kwargs) -> bool: ...
    @overload
    def invalidate(self, /, *args: _P.args, **kwargs: _P.kwargs) -> bool: ...
    @overload
    def peek(
        self: _OfClass[Concatenate[type[Any], _Q], Coroutine[Any, Any, _V]], /, *args: _Q.args, **kwargs: _Q.kwargs
    ) -> _V | None: ...
    @overload
    def peek(self: _OfClass[_P, Coroutine[Any, Any, _V]], /, *args: _P.args, **kwargs: _P.kwargs) -> _V | None: ...
    @overload
    def peek(self: _OfClass[Concatenate[type[Any], _Q], _R], /, *args: _Q.args, **kwargs: _Q.kwargs) -> _R | None: ...
    @overload
    def peek(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R_co | None: ...
    @overload
    def refresh(self: _OfClass[Concatenate[type[Any], _Q], _R], /, *args: _Q.args, **kwargs: _Q.kwargs) -> _R: ...
    @overload
    def refresh(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...

@type_check_only
class _Attributes:
    @property
    def cache(self) -> _core.FlexCache[Any, Any]: ...
    def clear(self) -> None: ...
    def stats(self) -> _core.CacheStats: ...
    def cache_info(self) -> _CacheInfo: ...
    def cache_clear(self) -> None: ...
    def cache_parameters(self) -> _Parameters: ...

@type_check_only
class BoundMethod(_Attributes, Generic[_P, _R_co]):
    __self__: Any
    __func__: Any
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    def cache_key(self, *args: _P.args, **kwargs: _P.kwargs) -> Any: ...
    def invalidate(self, *args: _P.args, **kwargs: _P.kwargs) -> bool: ...
    @overload
    def peek(self: BoundMethod[_P, Coroutine[Any, Any, _V]], *args: _P.args, **kwargs: _P.kwargs) -> _V | None: ...
    @overload
    def peek(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co | None: ...
    def refresh(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...

# A method, a class method or a function whose first parameter is called `self` or `cls`, which is not in the type.
@type_check_only
class _WithFirst(_Attributes, Generic[_F_co]):
    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str
    def __call__(self: _WithFirst[Callable[_P, _R]], first: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def cache_key(self: _WithFirst[Callable[_P, Any]], first: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> Any: ...
    def invalidate(self: _WithFirst[Callable[_P, Any]], first: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> bool: ...
    @overload
    def peek(
        self: _WithFirst[Callable[_P, Coroutine[Any, Any, _V]]],
        first: Any,
        /,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _V | None: ...
    @overload
    def peek(self: _WithFirst[Callable[_P, _R]], first: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _R | None: ...
    def refresh(self: _WithFirst[Callable[_P, _R]], first: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...

# What a class has under the name of a method, as pyright compares it with that of a subclass.
@type_check_only
class _MethodOfClass(_WithFirst[_F_co]):
    @overload
    def __get__(self, instance: None, owner: Any = None, /) -> _MethodOfClass[_F_co]: ...
    @overload
    def __get__(
        self: _MethodOfClass[Callable[_P, _R]], instance: object, owner: Any = None, /
    ) -> BoundMethod[_P, _R]: ...

@type_check_only
class MemoizedMethod(_MethodOfClass[_F_co]):
    # pyright compares it with a protocol as it is, `self` included, so its parameters are not checked.
    def __call__(self: MemoizedMethod[Callable[..., _R]], *args: Any, **kwargs: Any) -> _R: ...

@type_check_only
class MemoizedClassMethod(_WithFirst[_F_co]):
    # Without `/`: it may also be a function, to which `cls` is passed by name.
    def __call__(self: MemoizedClassMethod[Callable[_P, _R]], cls: Any, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    @overload
    def __get__(
        self: MemoizedClassMethod[Callable[_P, _R]], instance: None, owner: Any = None, /
    ) -> _OfClass[Concatenate[type[Any], _P], _R]: ...
    @overload
    def __get__(
        self: MemoizedClassMethod[Callable[_P, _R]], instance: object, owner: Any = None, /
    ) -> BoundMethod[_P, _R]: ...

def class_method(kind: type[classmethod[Any, ..., Any]], memo: Memo[..., Any]) -> classmethod[Any, ..., Any]:
    """Wrap a memoized function in `kind`, a subclass of classmethod, so that its attributes get the class as well."""

def is_in_class_body(function: object) -> bool:
    """Whether a function is written in a class body, judging by its qualified name, and is not bound yet."""
