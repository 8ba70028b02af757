from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, overload, type_check_only

from typing_extensions import Self
from typing_extensions import TypeVar as TypeVarWithDefault

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
from flexcache_rs.cachetools import func as func
from flexcache_rs.cachetools import keys as keys

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
)

__version__: str

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)
_F_co = TypeVar("_F_co", bound=Callable[..., Any], covariant=True)
_T = TypeVar("_T")
_K = TypeVar("_K")
_V = TypeVar("_V")
_Time = TypeVarWithDefault("_Time", default=float)

class Cache(MutableMapping[_K, _V]):
    """A mapping of limited size, which is the base of the others. If it is full, the oldest entry is evicted.

    Args:
        maxsize: The largest size of the cache. `math.inf` means no limit, and 0 stores nothing.
        getsizeof: A function of a value that returns its size. Without it, each value has size 1.

    Raises:
        ValueError: If `maxsize` is negative. From `cache[key] = value`, if the value is larger than the cache.

    With `getsizeof`, in a subclass that overrides calls, and in caches with times, several threads need a lock.

    >>> from flexcache_rs.cachetools import LRUCache
    >>> cache = LRUCache(maxsize=2)
    >>> cache["a"], cache["b"] = 1, 2
    >>> cache["a"]
    1
    >>> cache["c"] = 3
    >>> cache
    LRUCache({'a': 1, 'c': 3}, maxsize=2, currsize=2)
    """

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
    def get(self, key: _K, default: None = None) -> _V | None:
        """Return the value of a key, or the default if it is absent."""
    @overload
    def get(self, key: _K, default: _V | _T) -> _V | _T: ...
    @overload
    def pop(self, key: _K) -> _V:
        """Remove an entry and return its value, or the default if the key is absent."""
    @overload
    def pop(self, key: _K, default: _V | _T) -> _V | _T: ...
    @overload
    def setdefault(self: Cache[_K, _T | None], key: _K, default: None = None) -> _T | None:
        """Return the value of a key. If it is absent, store the default."""
    @overload
    def setdefault(self, key: _K, default: _V) -> _V: ...
    def popitem(self) -> tuple[_K, _V]:
        """Remove and return the key and value that were stored first."""
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
    """A cache that evicts entries in the order in which they were stored. Storing another value renews an entry."""

    def popitem(self) -> tuple[_K, _V]:
        """Remove and return the key and value that would be evicted next."""

class LFUCache(Cache[_K, _V]):
    """A cache that evicts the least often used entry.

    Among equals, it evicts the one that has been so for the longest time.
    """

    def popitem(self) -> tuple[_K, _V]:
        """Remove and return the key and value that would be evicted next."""

class LRUCache(Cache[_K, _V]):
    """A cache that evicts the least recently used entry."""

    def popitem(self) -> tuple[_K, _V]:
        """Remove and return the key and value that would be evicted next."""

class RRCache(Cache[_K, _V]):
    """A cache that evicts a random entry.

    Args:
        maxsize: As for `Cache`.
        choice: A function of a sequence of the keys that returns the key to evict. The default is `random.choice`.
        getsizeof: As for `Cache`.
    """

    @overload
    def __init__(self, maxsize: float, *, getsizeof: Callable[[_V], float] | None = None) -> None: ...
    @overload
    def __init__(
        self, maxsize: float, choice: Callable[[Sequence[_K]], _K], getsizeof: Callable[[_V], float] | None = None
    ) -> None: ...
    @property
    def choice(self) -> Callable[[Sequence[_K]], _K]:
        """The function that chooses the key to evict."""
    def popitem(self) -> tuple[_K, _V]:
        """Remove a chosen key, and return the key and its value."""

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
    """A cache whose entries have a time to live. It evicts the least recently used entry.

    Args:
        maxsize: As for `Cache`.
        ttl: The time to live of an entry, which is added to the time of the timer.
        timer: A function without arguments that returns the time. The default is `time.monotonic`.
        getsizeof: As for `Cache`.

    >>> from flexcache_rs.cachetools import TTLCache
    >>> cache = TTLCache(maxsize=10, ttl=60)
    >>> cache["a"] = 1
    >>> "a" in cache, cache.ttl
    (True, 60)
    """

    @overload
    def __init__(self, maxsize: float, ttl: float, *, getsizeof: Callable[[_V], float] | None = None) -> None: ...
    @overload
    def __init__(
        self, maxsize: float, ttl: Any, timer: Callable[[], _Time], getsizeof: Callable[[_V], float] | None = None
    ) -> None: ...
    @property
    def ttl(self) -> Any:
        """The time to live of an entry."""
    def popitem(self) -> tuple[_K, _V]:
        """Remove and return the least recently used key that has not expired, and its value."""

class TLRUCache(_TimedCache[_K, _V, _Time]):
    """A cache in which each entry has its own time of expiry. It evicts the least recently used entry.

    Args:
        maxsize: As for `Cache`.
        ttu: A function of key, value and time that returns the time of expiry.
        timer: A function without arguments that returns the time. The default is `time.monotonic`.
        getsizeof: As for `Cache`.

    >>> from flexcache_rs.cachetools import TLRUCache
    >>> cache = TLRUCache(maxsize=10, ttu=lambda key, value, now: now + value)
    >>> cache["a"] = 60
    >>> cache["b"] = 0
    >>> list(cache)
    ['a']
    """

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
        """The function that returns the time of expiry."""
    def popitem(self) -> tuple[_K, _V]:
        """Remove and return the least recently used key that has not expired, and its value."""

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
class _Attributes:
    __name__: str
    __qualname__: str
    cache: Any
    cache_key: Callable[..., Any]
    cache_lock: Any
    cache_condition: Any
    def cache_clear(self) -> None: ...
    def cache_info(self) -> CacheInfo: ...

@type_check_only
class _CachedFunction(_Attributes, Generic[_P, _R_co]):
    __wrapped__: Callable[_P, _R_co]
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    # A class method, and a method, whose result is Any or is not known: see `OfAnyResult`.
    @overload
    def __get__(
        self: TakesClass[_Q, _R], instance: object, owner: type[OfAnyResult[_R]]
    ) -> _OfClass[Concatenate[type[Any], _Q], _R]: ...
    @overload
    def __get__(self: TakesClass[_Q, Anything], instance: object, owner: type[_T]) -> _Unknown[_Q, _T]: ...
    @overload
    def __get__(self: TakesClass[_Q, _R], instance: object, owner: type[OfUnknownResult[_R]]) -> _Unknown[_Q, Any]: ...
    @overload
    def __get__(self, instance: None, owner: Any = None) -> _OfClass[_P, _R_co]: ...
    @overload
    def __get__(self: TakesSelf[_Q, _R], instance: object, owner: type[OfAnyResult[_R]]) -> _CachedFunction[_Q, _R]: ...
    @overload
    def __get__(self: TakesSelf[_Q, Anything], instance: _T, owner: Any = None) -> _Unknown[_Q, _T]: ...
    @overload
    def __get__(self: TakesSelf[_Q, _R], instance: object, owner: type[OfUnknownResult[_R]]) -> _Unknown[_Q, Any]: ...
    @overload
    def __get__(self: TakesSelf[_Q, _R], instance: object, owner: Any = None) -> _CachedFunction[_Q, _R]: ...
    @overload
    def __get__(
        self: TakesClass[_Q, _R], instance: object, owner: Any = None
    ) -> _OfClass[Concatenate[type[Any], _Q], _R]: ...
    # A static method.
    @overload
    def __get__(self: Takes[Anything, _Q, _R], instance: object, owner: Any = None) -> _CachedFunction[_P, _R_co]: ...
    # A method whose first parameter has another name, or a static method.
    @overload
    def __get__(self: Takes[_T, _Q, _R], instance: _T, owner: Any = None) -> _CachedFunction[_Q, _R]: ...
    @overload
    def __get__(
        self: Takes[type[_T], _Q, _R], instance: _T, owner: Any = None
    ) -> _OfClass[Concatenate[type[Any], _Q], _R]: ...
    @overload
    def __get__(self, instance: object, owner: Any = None) -> _CachedFunction[_P, _R_co]: ...

@type_check_only
class _Unknown(_CachedFunction[_P, _R_co]):
    """A function that returns the instance, if these are its arguments, and otherwise a generic one."""
    @overload
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

@type_check_only
class _OfClass(_CachedFunction[_P, _R_co], Generic[_P, _R_co]):
    """What a class has under the name. A class method gets the class, and the others all of their arguments."""
    @overload
    def __call__(self: _OfClass[Concatenate[type[Any], _Q], _R], *args: _Q.args, **kwargs: _Q.kwargs) -> _R: ...
    @overload
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...

# What a class has under the name of a method, as pyright compares it with that of a subclass.
@type_check_only
class _MethodOfClass(_Attributes, Generic[_F_co]):
    __wrapped__: Callable[..., Any]
    def __call__(
        self: _MethodOfClass[Callable[_P, _R]], instance: Any, /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _R: ...
    @overload
    def __get__(self, instance: None, owner: Any = None) -> _MethodOfClass[_F_co]: ...
    @overload
    def __get__(
        self: _MethodOfClass[Callable[_P, _R]], instance: object, owner: Any = None
    ) -> _CachedFunction[_P, _R]: ...

@type_check_only
class _MethodUnderCached(_MethodOfClass[_F_co]):
    # pyright compares it with a protocol as it is, `self` included, so its parameters are not checked.
    def __call__(self: _MethodUnderCached[Callable[..., _R]], *args: Any, **kwargs: Any) -> _R: ...

@type_check_only
class _ClassMethodUnderCached(_Attributes, Generic[_F_co]):
    __wrapped__: Callable[..., Any]
    # Without `/`: it may also be a function, to which `cls` is passed by name.
    def __call__(
        self: _ClassMethodUnderCached[Callable[_P, _R]], cls: Any, *args: _P.args, **kwargs: _P.kwargs
    ) -> _R: ...
    @overload
    def __get__(
        self: _ClassMethodUnderCached[Callable[_P, _R]], instance: None, owner: Any = None
    ) -> _OfClass[Concatenate[type[Any], _P], _R]: ...
    @overload
    def __get__(
        self: _ClassMethodUnderCached[Callable[_P, _R]], instance: object, owner: Any = None
    ) -> _CachedFunction[_P, _R]: ...

@type_check_only
class _Decorator(Protocol):
    @overload
    def __call__(self, function: Method[_T, _P, _R], /) -> _MethodUnderCached[Callable[_P, _R]]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: ClassMethod[_T, _P, _R], /) -> _ClassMethodUnderCached[Callable[_P, _R]]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: Callable[_P, _R], /) -> _CachedFunction[_P, _R]: ...

@type_check_only
class _MethodDecorator(Protocol):
    @overload
    def __call__(self, method: Method[_T, _P, _R], /) -> _MethodUnderCached[Callable[_P, _R]]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, method: Callable[_P, _R], /) -> _CachedFunction[_P, _R]: ...

def cached(
    cache: MutableMapping[Any, Any] | Any,
    key: Callable[..., Any] = ...,
    lock: AbstractContextManager[Any] | None = None,
    condition: _Condition | None = None,
    info: bool = False,
) -> _Decorator:
    """Keep a function's results in a cache.

    Args:
        cache: A cache of this module, or any mapping.
        key: A function of the arguments that returns the key.
        lock: A context manager that is entered to use the cache, and not while the function runs.
        condition: As `lock`. One thread then computes a result for all threads that ask for it.
        info: Whether to count hits and misses for `cache_info()`.

    Raises:
        TypeError: If the cache is None.

    The result has `cache`, `cache_key`, `cache_lock`, `cache_condition`, `cache_clear()` and, with `info`,
    `cache_info()`.
    """

def cachedmethod(
    cache: Callable[[Any], Any],
    key: Callable[..., Any] = ...,
    lock: Callable[[Any], AbstractContextManager[Any]] | None = None,
    condition: Callable[[Any], _Condition] | None = None,
    info: bool = False,
) -> _MethodDecorator:
    """Keep a method's results in a cache of the instance.

    Args:
        cache: A function of the instance that returns the cache.
        key: A function of the instance and the arguments that returns the key.
        lock: A function of the instance that returns the lock.
        condition: A function of the instance that returns the condition.
        info: As for `cached`.

    Raises:
        TypeError: `cache` is not callable.
    """
