from collections.abc import Callable, Mapping
from functools import _CacheInfo  # pyright: ignore[reportPrivateUsage]
from typing import Any

from flexcache_rs._lru_cache import _Parameters  # pyright: ignore[reportPrivateUsage]
from flexcache_rs._memo import Memo

class PerInstance:
    """A method that memoize() has wrapped. `instance.method` is a memoized function with the instance's own cache."""
    def __init__(self, function: Callable[..., Any], make: Callable[[], Memo[..., Any]], parameters: Any) -> None: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any: ...
    def __call__(self, instance: object, /, *args: Any, **kwargs: Any) -> Any: ...
    def cache_key(self, instance: object, /, *args: Any, **kwargs: Any) -> Any:
        """Return the key of a call with these arguments in the cache of the instance."""
    def invalidate(self, instance: object, /, *args: Any, **kwargs: Any) -> bool:
        """Forget the instance's result of a call with these arguments. Returns True if there was one."""
    def peek(self, instance: object, /, *args: Any, **kwargs: Any) -> Any:
        """Return the instance's stored result of a call with these arguments, or None. Does not count as an access."""
    def refresh(self, instance: object, /, *args: Any, **kwargs: Any) -> Any:
        """Call the method of an instance now, even if there is a result, and keep its result."""
    def clear(self) -> None:
        """Forget the results of all instances. O(n)."""
    def cache_clear(self) -> None:
        """Do the same as clear(). Also reset the statistics."""
    def cache_info(self) -> _CacheInfo:
        """Return the sums of all live instances in the form of functools.lru_cache. maxsize is that of one instance."""
    def cache_parameters(self) -> _Parameters:
        """Return a new dict with the largest number of results of an instance and whether types make a difference."""
    @property
    def cache(self) -> Any:
        """Raise AttributeError, because each instance has a cache of its own: `instance.method.cache`."""
    def __copy__(self) -> PerInstance: ...
    def __deepcopy__(self, memo: Any) -> PerInstance: ...

def refuse_other_methods(function: object) -> None:
    """Check that a function is neither a class method, which has no instances, nor a static method.

    Raises:
        TypeError: It is one.
    """

def per_instance_of(
    function: Callable[..., Any],
    make: Callable[[], Memo[..., Any]],
    parameters: Any,
    mark: Callable[[Any], None] | None,
) -> PerInstance:
    """Wrap a method, so that each instance has a separate memoized function, which `make` makes."""

def check_per_instance(wanted: object, cache: object, options: Mapping[str, Any], version: str | None) -> None:
    """Check the options that are given with `per_instance`.

    Raises:
        TypeError: It is no bool; or with it stands a cache, or what only one cache can have.
    """
