from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from os import PathLike
from typing import (
    Any,
    Literal,
    ParamSpec,
    Protocol,
    SupportsIndex,
    TypeAlias,
    TypeVar,
    overload,
    type_check_only,
)

from flexcache_rs import _core
from flexcache_rs._core import EvictionPolicy
from flexcache_rs._first_parameter import ClassMethod, Method
from flexcache_rs._memo import MemoizedClassMethod, MemoizedFunction, MemoizedMethod

_P = ParamSpec("_P")
_S = TypeVar("_S")
_R = TypeVar("_R")

_Seconds: TypeAlias = float | timedelta
_Ttl: TypeAlias = _Seconds | datetime
_Exceptions: TypeAlias = bool | type[Exception] | Iterable[type[Exception]]

@type_check_only
class Memoizer(Protocol):
    @overload
    def __call__(self, function: classmethod[_S, _P, _R], /) -> classmethod[_S, _P, _R]: ...
    @overload
    def __call__(self, function: Method[_S, _P, _R], /) -> MemoizedMethod[Callable[_P, _R]]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: ClassMethod[_S, _P, _R], /) -> MemoizedClassMethod[Callable[_P, _R]]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: Callable[_P, _R], /) -> MemoizedFunction[_P, _R]: ...

@overload
def memoize(function: classmethod[_S, _P, _R], /) -> classmethod[_S, _P, _R]:
    """Keep the results of a function, a method or a coroutine function.

    Used with or without arguments. If several threads and tasks miss the same call at the same
    time, one of them computes and the others wait. They share its result or its exception. In
    front of a directory, this includes the callers in all processes.

    The function gets cache_key(*args), invalidate(*args), peek(*args), refresh(*args), clear(),
    stats(), cache_info(), cache_clear() and the attribute cache. The results of a method are kept
    for each instance, and do not keep the instance alive.

    Args:
        function: The function that computes a result. It must not be a generator function.
        cache: The FlexCache that keeps the results, which other functions may use too. None
            creates a separate cache with the options.
        ttl: The time to live of a result, as for FlexCache.put(), or a function of the result that returns it.
        soft_ttl: The time after which a result is still returned, but refreshed in the background. It
            must be shorter than the ttl.
        early_refresh: How eagerly individual calls refresh a result near its expiry, so that not
            all callers wait when it expires. 1.0 is a good start, and 0.0 (the default) means
            never. The probability rises as expiry nears and with the time that the function
            takes.
        stale_if_error: For how long after its ttl a result is returned instead of raising an exception.
        jitter: The largest share by which a ttl is reduced at random, from 0.0 (the default) to
            1.0. Results that were stored together then do not expire together.
        typed: Whether equal arguments of different types have different keys.
        key: A function of the arguments that returns the key. By default, all arguments make the key. It cannot be
            combined with typed and ignore.
        ignore: The names of parameters that are not part of the key.
        condition: A function of the result. The result is kept if it returns a true value.
        cache_exceptions: The classes of exceptions to keep like results, or True for Exception.
        exception_ttl: The time to live of an exception. None means that of a result.
        tags: The tags of the results for FlexCache.evict_tag(): one str, several, or a function
            of the arguments that returns them.
        copy: Whether each caller gets its own copy of the result, which it may change. True means
            copy.deepcopy. A function is called with the result.
        normalize: Whether f(1), f(number=1), and a call that omits the default 1 have the same
            key. It costs each call a few microseconds.
        per_instance: For methods: whether each instance has its own cache, with its own limits
            and statistics. The cache is dropped with the instance.
        name: The name of the function in a store, and of its own cache in caches(). None means
            its module and qualified name. Lambdas, nested functions, partials, bound methods,
            instances, functions named _ and functions of a script have no name that is the same
            in another process. In a store, no other process finds their results without a name,
            and a RuntimeWarning is issued.
        version: A text that separates the results of a changed function from the old results.
        **options: The other options of FlexCache: max_items, max_bytes, eviction_policy and so on.

    Raises:
        TypeError, ValueError: The function cannot be memoized, it is already memoized in the
            cache, it has the name of another function in the store, or an argument is invalid.
        CircularLoadError: A call would have to wait for itself.
        LoadCancelled: The computation itself raised asyncio.CancelledError.
        LoadFailedElsewhere: The computation in another process raised an exception that cannot be restored here.

    A hit costs O(1), and takes less time than a hit of functools.lru_cache.

    >>> from flexcache_rs import memoize
    >>> @memoize(max_items=100, ttl=60)
    ... def square(number):
    ...     print("computing")
    ...     return number * number
    >>> square(3), square(3)
    computing
    (9, 9)
    >>> square.invalidate(3), square.peek(3)
    (True, None)
    """

@overload
def memoize(function: Method[_S, _P, _R], /) -> MemoizedMethod[Callable[_P, _R]]: ...  # pyright: ignore[reportOverlappingOverload]
@overload
def memoize(function: ClassMethod[_S, _P, _R], /) -> MemoizedClassMethod[Callable[_P, _R]]: ...  # pyright: ignore[reportOverlappingOverload]
@overload
def memoize(function: Callable[_P, _R], /) -> MemoizedFunction[_P, _R]: ...
@overload
def memoize(
    function: None = None,
    /,
    *,
    cache: _core.FlexCache[Any, Any] | None = None,
    ttl: _Ttl | Callable[[Any], _Ttl] | None = None,
    soft_ttl: _Seconds | None = None,
    early_refresh: float = 0.0,
    stale_if_error: _Seconds | None = None,
    jitter: float = 0.0,
    typed: bool = False,
    key: Callable[..., Any] | None = None,
    ignore: Iterable[str] = (),
    condition: Callable[[Any], object] | None = None,
    cache_exceptions: _Exceptions = False,
    exception_ttl: _Ttl | None = None,
    tags: str | Iterable[str] | Callable[..., str | Iterable[str]] | None = None,
    copy: bool | Callable[[Any], Any] = False,
    normalize: bool = False,
    per_instance: bool = False,
    name: str | None = None,
    version: str | None = None,
    eviction_policy: Literal["lru", "fifo", "lfu", "random", "sieve", "s3fifo", "tinylfu", "auto"]
    | EvictionPolicy[Any] = "lru",
    scan_interval: _Seconds = 0.0,
    max_items: SupportsIndex = 0,
    max_bytes: SupportsIndex = 0,
    default_ttl: _Ttl | None = None,
    thread_safe: bool = True,
    shards: SupportsIndex = 1,
    background_expiry: bool | _Seconds = False,
    on_evict: Callable[[Any, Any, Any], object] | None = None,
    weigher: Callable[[Any], int] | Callable[[Any, Any], int] | None = None,
    clock: Callable[[], float] | None = None,
    close_values: bool = True,
    store: Any = None,
    coherence: Literal["strict"] | _Seconds | None = "strict",
    lease: _Seconds | None = 30.0,
    lease_wait: _Seconds = 30.0,
    negative_ttl: _Seconds | None = None,
    record: str | PathLike[str] | None = None,
    record_limit: SupportsIndex = 10000000,
    optimize: Literal["hits", "bytes"] = "hits",
) -> Memoizer: ...

# What stands as a method on FlexCache.
@overload
def memoize_in(  # pyright: ignore[reportOverlappingOverload]
    self: _core.FlexCache[Any, Any], function: Method[_S, _P, _R], /
) -> MemoizedMethod[Callable[_P, _R]]:
    """Keep a function's results in this cache. The same as memoize() with cache=self.

    Raises:
        TypeError, ValueError: As for memoize().

    >>> from flexcache_rs import FlexCache
    >>> cache = FlexCache(max_items=1000)
    >>> @cache.memoize(ttl=60)
    ... def double(number):
    ...     return 2 * number
    >>> double(4), cache.items
    (8, 1)
    """

@overload
def memoize_in(  # pyright: ignore[reportOverlappingOverload]
    self: _core.FlexCache[Any, Any], function: ClassMethod[_S, _P, _R], /
) -> MemoizedClassMethod[Callable[_P, _R]]: ...
@overload
def memoize_in(self: _core.FlexCache[Any, Any], function: Callable[_P, _R], /) -> MemoizedFunction[_P, _R]: ...
@overload
def memoize_in(self: _core.FlexCache[Any, Any], function: None = None, /, **arguments: Any) -> Memoizer: ...
