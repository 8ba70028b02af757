from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, overload, type_check_only

from typing_extensions import Self
from typing_extensions import TypeVar as TypeVarWithDefault

from flexcache_rs.cachetools import keys

__all__ = (
    "Cache",
    "CacheInfo",
    "FIFOCache",
    "LFUCache",
    "LRUCache",
    "RRCache",
    "TLRUCache",
    "TTLCache",
    "cached",
    "cachedmethod",
    "keys",
)

__version__: str

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_S = TypeVar("_S")
_T = TypeVar("_T")
_K = TypeVar("_K")
_V = TypeVar("_V")
_Time = TypeVarWithDefault("_Time", default=float)

class Cache(MutableMapping[_K, _V]):
    """A mapping of limited size, the base of the others: where it is full, the entry that was inserted first leaves."""

    def __init__(self, maxsize: float, getsizeof: Callable[[_V], float] | None = None) -> None: ...
    def __getitem__(self, key: _K, /) -> _V: ...
    def __setitem__(self, key: _K, value: _V, /) -> None: ...
    def __delitem__(self, key: _K, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __missing__(self, key: _K) -> _V:
        """Return what `cache[key]` is for a key that is absent; a subclass may compute and store it."""
    def __iter__(self) -> Iterator[_K]: ...
    def __len__(self) -> int: ...
    def __copy__(self) -> Self: ...
    @overload
    def get(self, key: _K, default: None = None) -> _V | None: ...
    @overload
    def get(self, key: _K, default: _V | _T) -> _V | _T: ...
    @overload
    def pop(self, key: _K) -> _V: ...
    @overload
    def pop(self, key: _K, default: _V | _T) -> _V | _T: ...
    @overload
    def setdefault(self: Cache[_K, _T | None], key: _K, default: None = None) -> _T | None: ...
    @overload
    def setdefault(self, key: _K, default: _V) -> _V: ...
    def popitem(self) -> tuple[_K, _V]:
        """Remove and return the key and value that leave next."""
    def clear(self) -> None:
        """Remove every entry."""
    @property
    def maxsize(self) -> float:
        """The largest size of the cache."""
    @property
    def currsize(self) -> float:
        """The sum of the sizes of all values."""
    @staticmethod
    def getsizeof(value: Any) -> float:
        """Return the size of a value: 1."""

class FIFOCache(Cache[_K, _V]):
    """A cache whose entries leave in the order in which they were stored; storing another value renews an entry."""

class LFUCache(Cache[_K, _V]):
    """A cache whose least often used entry leaves first; among those, the one that has been so for the longest time."""

class LRUCache(Cache[_K, _V]):
    """A cache whose least recently used entry leaves first."""

class RRCache(Cache[_K, _V]):
    """A cache whose entries leave at random."""

    @overload
    def __init__(self, maxsize: float, *, getsizeof: Callable[[_V], float] | None = None) -> None: ...
    @overload
    def __init__(
        self, maxsize: float, choice: Callable[[Sequence[_K]], _K], getsizeof: Callable[[_V], float] | None = None
    ) -> None: ...
    @property
    def choice(self) -> Callable[[Sequence[_K]], _K]:
        """What chooses the key which leaves."""

@type_check_only
class _Timer(AbstractContextManager[_T], Generic[_T]):
    def __call__(self) -> _T: ...
    def __enter__(self) -> _T: ...
    def __exit__(self, *exception: object) -> None: ...
    def __getattr__(self, name: str) -> Any: ...

@type_check_only
class _TimedCache(Cache[_K, _V], Generic[_K, _V, _Time]):
    @property
    def timer(self) -> _Timer[_Time]: ...
    def expire(self, time: _Time | None = None) -> list[tuple[_K, _V]]: ...

class TTLCache(_TimedCache[_K, _V, _Time]):
    """A cache whose entries live for a time, and whose least recently used entry leaves first."""

    @overload
    def __init__(self, maxsize: float, ttl: float, *, getsizeof: Callable[[_V], float] | None = None) -> None: ...
    @overload
    def __init__(
        self, maxsize: float, ttl: Any, timer: Callable[[], _Time], getsizeof: Callable[[_V], float] | None = None
    ) -> None: ...
    @property
    def ttl(self) -> Any:
        """How long an entry lives."""

class TLRUCache(_TimedCache[_K, _V, _Time]):
    """A cache in which each entry has an end of its own, and whose least recently used entry leaves first."""

    @overload
    def __init__(
        self,
        maxsize: float,
        ttu: Callable[[_K, _V, float], float],
        *,
        getsizeof: Callable[[_V], float] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        maxsize: float,
        ttu: Callable[[_K, _V, _Time], _Time],
        timer: Callable[[], _Time],
        getsizeof: Callable[[_V], float] | None = None,
    ) -> None: ...
    @property
    def ttu(self) -> Callable[[_K, _V, _Time], _Time]:
        """What says when an entry expires."""

class CacheInfo(NamedTuple):
    """What `cache_info()` returns: hits, misses, the largest and the current size."""

    hits: int
    misses: int
    maxsize: float | None
    currsize: float

@type_check_only
class _Condition(AbstractContextManager[Any], Protocol):
    def wait(self, timeout: float | None = None) -> bool: ...
    def notify_all(self) -> None: ...

@type_check_only
class _CachedFunction(Generic[_P, _R]):
    __wrapped__: Callable[_P, _R]
    __name__: str
    __qualname__: str
    cache: Any
    cache_key: Callable[..., Any]
    cache_lock: AbstractContextManager[Any] | None
    cache_condition: _Condition | None
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: _CachedFunction[Concatenate[_S, _Q], _R], instance: _S, owner: type | None = None
    ) -> _CachedFunction[_Q, _R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Any: ...
    def cache_clear(self) -> None: ...
    def cache_info(self) -> CacheInfo: ...

@type_check_only
class _CachedMethod(Generic[_S, _P, _R]):
    __wrapped__: Callable[Concatenate[_S, _P], _R]
    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Callable[Concatenate[_S, _P], _R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> _CachedFunction[_P, _R]: ...

@type_check_only
class _Decorator(Protocol):
    def __call__(self, function: Callable[_P, _R], /) -> _CachedFunction[_P, _R]: ...

@type_check_only
class _MethodDecorator(Protocol):
    def __call__(self, method: Callable[Concatenate[_S, _P], _R], /) -> _CachedMethod[_S, _P, _R]: ...

def cached(
    cache: MutableMapping[Any, Any] | Any,
    key: Callable[..., Any] = ...,
    lock: AbstractContextManager[Any] | None = None,
    condition: _Condition | None = None,
    info: bool = False,
) -> _Decorator:
    """Remember a function's results in a cache."""

def cachedmethod(
    cache: Callable[[Any], Any],
    key: Callable[..., Any] = ...,
    lock: Callable[[Any], AbstractContextManager[Any]] | None = None,
    condition: Callable[[Any], _Condition] | None = None,
    info: bool = False,
) -> _MethodDecorator:
    """Remember a method's results in a cache of the instance's."""
