from collections.abc import Coroutine
from functools import _CacheInfo  # pyright: ignore[reportPrivateUsage]
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload, type_check_only

from flexcache_rs import _core
from flexcache_rs._lru_cache import _Parameters  # pyright: ignore[reportPrivateUsage]

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
# What memoize() makes of a function, by what calling it returns (_R) and what is remembered (_V).
_R = TypeVar("_R")
_V = TypeVar("_V")

class Memo(_core.Memoized[_P, _R], Generic[_P, _R, _V]):
    """A function that memoize() has wrapped."""
    def __set_name__(self, owner: type, name: str) -> None: ...
    def _meet(self, instance: object) -> Any: ...
    def _read_nonce(self) -> str: ...
    def cache_key(self, /, *args: _P.args, **kwargs: _P.kwargs) -> Any:
        """Return the key of a call with these arguments."""
    def invalidate(self, /, *args: _P.args, **kwargs: _P.kwargs) -> bool:
        """Forget the result of a call with these arguments. Returns True if there was one."""
    def peek(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _V | None:
        """Return the stored result of a call with these arguments, or None. Does not count as an access."""
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

@type_check_only
class _Bound(Generic[_P, _R, _V]):
    __self__: Any
    __func__: Any
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def cache_key(self, *args: _P.args, **kwargs: _P.kwargs) -> Any: ...
    def invalidate(self, *args: _P.args, **kwargs: _P.kwargs) -> bool: ...
    def peek(self, *args: _P.args, **kwargs: _P.kwargs) -> _V | None: ...
    def refresh(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def clear(self) -> None: ...
    def stats(self) -> _core.CacheStats: ...
    def cache_info(self) -> _CacheInfo: ...
    def cache_clear(self) -> None: ...
    def cache_parameters(self) -> _Parameters: ...
    @property
    def cache(self) -> _core.FlexCache[Any, Any]: ...

class SyncMemo(Memo[_P, _V, _V], Generic[_P, _V]):
    """A memoized function."""
    def refresh(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _V:
        """Call the function now, even if there is a result or a computation, and keep its result."""
    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> SyncMemo[_P, _V]: ...
    @overload
    def __get__(
        self: SyncMemo[Concatenate[Any, _Q], _V], instance: object, owner: type | None = None, /
    ) -> _Bound[_Q, _V, _V]: ...

class AsyncMemo(Memo[_P, Coroutine[Any, Any, _V], _V], Generic[_P, _V]):
    """A memoized coroutine function."""
    async def refresh(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _V:
        """Call the function now, even if there is a result or a computation, and keep its result."""
    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> AsyncMemo[_P, _V]: ...
    @overload
    def __get__(
        self: AsyncMemo[Concatenate[Any, _Q], _V], instance: object, owner: type | None = None, /
    ) -> _Bound[_Q, Coroutine[Any, Any, _V], _V]: ...

def class_method(kind: type[classmethod[Any, ..., Any]], memo: Memo[..., Any, Any]) -> classmethod[Any, ..., Any]:
    """A class method of some kind around a memoized function, whose attributes get the class as well."""

def is_in_class_body(function: object) -> bool:
    """Whether a function is written in the body of a class, as far as its name tells, and not bound yet."""

async def ready(value: _V) -> _V: ...
