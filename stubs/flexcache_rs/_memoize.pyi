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
def memoize(function: classmethod[_S, _P, _V], /) -> classmethod[_S, _P, _V]: ...
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
) -> AsyncMemo[_P, _V]: ...
@overload
def memoize_in(self: _core.FlexCache[Any, Any], function: Callable[_P, _V], /) -> SyncMemo[_P, _V]: ...
@overload
def memoize_in(self: _core.FlexCache[Any, Any], function: None = None, /, **arguments: Any) -> Memoizer: ...
