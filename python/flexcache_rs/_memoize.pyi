from collections.abc import Callable, Coroutine, Iterable
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
from flexcache_rs._memo import AsyncMemo, SyncMemo

_P = ParamSpec("_P")
_S = TypeVar("_S")
_V = TypeVar("_V")

_Seconds: TypeAlias = float | timedelta
_Ttl: TypeAlias = _Seconds | datetime
_Exceptions: TypeAlias = bool | type[Exception] | Iterable[type[Exception]]

@type_check_only
class Memoizer(Protocol):
    @overload
    def __call__(self, function: classmethod[_S, _P, _V], /) -> classmethod[_S, _P, _V]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, function: Callable[_P, Coroutine[Any, Any, _V]], /
    ) -> AsyncMemo[_P, _V]: ...
    @overload
    def __call__(self, function: Callable[_P, _V], /) -> SyncMemo[_P, _V]: ...

@overload
def memoize(function: classmethod[_S, _P, _V], /) -> classmethod[_S, _P, _V]:
    """Remember a function's results: for functions, methods and coroutine functions.

    Used bare or with arguments. Threads and tasks that miss the same call at once wait for one of
    them to compute it, and share what that returns or raises; in front of a directory, those of all
    processes.

    The function gets cache_key(*args), invalidate(*args), peek(*args), refresh(*args), clear(),
    stats(), cache_info(), cache_clear() and the attribute cache. A method's results are kept for each
    instance, without keeping the instance alive.

    Args:
        function: what computes a result; not a generator function.
        cache: a FlexCache to keep results in, which others may use as well; None for one of the
            function's own, made with the options.
        ttl: how long a result lives, as for FlexCache.put(), or a function that says so of a result.
        soft_ttl: after how long a result is still served, but refreshed in the background.
        early_refresh: how eagerly single calls refresh a result shortly before it expires, so that
            not all wait when it does: 1.0 is a good start, 0.0 (the default) is never. It is
            likelier the nearer the end is and the longer the function takes.
        stale_if_error: for how long after its ttl a result still replaces an exception.
        jitter: by up to which part of it a ttl is cut at random, so that what was stored together
            does not expire together: 0.0 (the default) to 1.0.
        typed: whether equal arguments of different types are different.
        key: called with the arguments to get the key, instead of making one of all arguments.
        ignore: names of parameters that make no difference.
        condition: called with a result; it is kept if that returns something true.
        cache_exceptions: classes of exceptions to keep like results, or True for Exception.
        exception_ttl: how long an exception lives; None for the same as a result.
        tags: what FlexCache.evict_tag() knows the results by, one str or several, or a function that
            says so of the arguments.
        copy: whether each caller gets a copy of the result, which it may change: True is
            copy.deepcopy, and a function is called with the result.
        normalize: whether f(1), f(number=1), and a call that leaves out the default 1, are one call.
            It costs each call a few microseconds.
        per_instance: whether each instance has a cache of its own, with limits and statistics of its own: for methods.
            It is dropped with the instance.
        name: what the function is called in a store, and its own cache in caches(); None for its module
            and qualified name. Lambdas, nested functions, partials, bound methods, instances, functions
            called _ and those of a script have no name that another process knows: in a store their
            results are found by nobody else without one, and a RuntimeWarning says so.
        version: another text keeps the results of a function that has changed from the old ones.
        **options: the others of FlexCache: max_items, max_bytes, eviction_policy and so on.

    Raises:
        TypeError, ValueError: for a function that cannot be memoized, that is memoized in the cache
            already, or that has the name of another one in the store; for an argument that makes no sense.
        CircularLoadError: from a call that would have to wait for itself.
        LoadCancelled: from a call whose computation itself raised asyncio.CancelledError.
        LoadFailedElsewhere: from a call that another process computed, where that raised what cannot
            be made again here.

    A call that is remembered costs O(1), and a fraction of what it costs with functools.lru_cache.

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
def memoize(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    function: Callable[_P, Coroutine[Any, Any, _V]], /
) -> AsyncMemo[_P, _V]: ...
@overload
def memoize(function: Callable[_P, _V], /) -> SyncMemo[_P, _V]: ...
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
def memoize_in(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    self: _core.FlexCache[Any, Any], function: Callable[_P, Coroutine[Any, Any, _V]], /
) -> AsyncMemo[_P, _V]:
    """Remember a function's results in this cache: memoize() with cache=self.

    Raises:
        TypeError, ValueError: as memoize().

    >>> from flexcache_rs import FlexCache
    >>> cache = FlexCache(max_items=1000)
    >>> @cache.memoize(ttl=60)
    ... def double(number):
    ...     return 2 * number
    >>> double(4), cache.items
    (8, 1)
    """

@overload
def memoize_in(self: _core.FlexCache[Any, Any], function: Callable[_P, _V], /) -> SyncMemo[_P, _V]: ...
@overload
def memoize_in(self: _core.FlexCache[Any, Any], function: None = None, /, **arguments: Any) -> Memoizer: ...
