"""The wrappers that `cached` and `cachedmethod` return. Their calls look in the cache first.

A class for each combination, so that a call does no more than what was asked for. Wrappers get the attributes of their
function, so those of ours that cachetools does not have too are called `_cachetools_...`.
"""

# mypy: ignore-errors

from __future__ import annotations

import functools
from types import MethodType

from flexcache_rs.cachetools import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# A global of this module, which a call finds faster than an attribute.
_hashkey = keys.hashkey


class _Plain:
    """Looks in the cache, else computes and stores the result."""

    cache: Any
    cache_key: Any

    def _cachetools_use(self, function: Any, _info: Any) -> None:
        self._cachetools_function = function

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        # For positional arguments alone, hashkey() would return an equal key.
        key = args if not kwargs and self.cache_key is _hashkey else self.cache_key(*args, **kwargs)
        try:
            return self.cache[key]
        except KeyError:
            pass
        value = self._cachetools_function(*args, **kwargs)
        try:
            self.cache[key] = value
        except ValueError:  # The value is too large for the cache.
            return value
        return value

    def cache_clear(self) -> None:
        """Remove every result from the cache."""
        self.cache.clear()


class _Counting(_Plain):
    """The same as `_Plain`, and counts hits and misses."""

    def _cachetools_use(self, function: Any, info: Any) -> None:
        super()._cachetools_use(function, info)
        self._cachetools_info, self._cachetools_hits, self._cachetools_misses = info, 0, 0

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        # For positional arguments alone, hashkey() would return an equal key.
        key = args if not kwargs and self.cache_key is _hashkey else self.cache_key(*args, **kwargs)
        try:
            value = self.cache[key]
        except KeyError:
            self._cachetools_misses += 1
        else:
            self._cachetools_hits += 1
            return value
        value = self._cachetools_function(*args, **kwargs)
        try:
            self.cache[key] = value
        except ValueError:  # The value is too large for the cache.
            return value
        return value

    def cache_clear(self) -> None:
        """Remove every result from the cache and reset the statistics."""
        self.cache.clear()
        self._cachetools_hits = self._cachetools_misses = 0

    def cache_info(self) -> Any:
        """Return hits, misses, the largest and the current size."""
        return self._cachetools_info(self.cache, self._cachetools_hits, self._cachetools_misses)


class _Locked(_Counting):
    """Uses the cache under a lock, which is not held while the function runs."""

    cache_lock: Any

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        # For positional arguments alone, hashkey() would return an equal key.
        key = args if not kwargs and self.cache_key is _hashkey else self.cache_key(*args, **kwargs)
        lock, cache = self.cache_lock, self.cache
        with lock:
            try:
                value = cache[key]
            except KeyError:
                self._cachetools_misses += 1
            else:
                self._cachetools_hits += 1
                return value
        value = self._cachetools_function(*args, **kwargs)
        with lock:
            try:
                # If another thread has stored a result meanwhile, return that one.
                return cache.setdefault(key, value)
            except ValueError:
                return value

    def cache_clear(self) -> None:
        """Remove every result from the cache and reset the statistics."""
        with self.cache_lock:
            super().cache_clear()

    def cache_info(self) -> Any:
        """Return hits, misses, the largest and the current size."""
        with self.cache_lock:
            return super().cache_info()


class _Waiting(_Locked):
    """Lets one thread compute a result, for which the others wait."""

    cache_condition: Any

    def _cachetools_use(self, function: Any, info: Any) -> None:
        super()._cachetools_use(function, info)
        self._cachetools_pending: set[Any] = set()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        # For positional arguments alone, hashkey() would return an equal key.
        key = args if not kwargs and self.cache_key is _hashkey else self.cache_key(*args, **kwargs)
        lock, condition, cache = self.cache_lock, self.cache_condition, self.cache
        with lock:
            while key in self._cachetools_pending:
                condition.wait()
            try:
                value = cache[key]
            except KeyError:
                self._cachetools_misses += 1
                self._cachetools_pending.add(key)
            else:
                self._cachetools_hits += 1
                return value
        try:
            value = self._cachetools_function(*args, **kwargs)
            with lock:
                try:
                    cache[key] = value
                except ValueError:  # The value is too large for the cache.
                    return value
                return value
        finally:
            with lock:
                self._cachetools_pending.discard(key)
                condition.notify_all()


class _Silent:
    """Hides `cache_info`, for wrappers without info=True."""

    @property
    def cache_info(self) -> Any:
        raise AttributeError("cache_info is available only with info=True")


def class_for(lock: Any, condition: Any, info: Any) -> tuple[type, ...]:
    """Return the base classes of a wrapper with these options."""
    if condition is not None:
        kind: type = _Waiting
    elif lock is not None:
        kind = _Locked
    else:
        return (_Plain,) if info is None else (_Counting,)
    return (kind,) if info is not None else (_Silent, kind)


class _Function:
    """A function wrapped by `cached`."""

    def __init__(self, function: Any, cache: Any, key: Any, lock: Any, condition: Any, info: Any) -> None:
        # Do this first, so that attributes of the function do not hide those of the wrapper.
        functools.update_wrapper(self, function)
        self.cache, self.cache_key, self.cache_lock, self.cache_condition = cache, key, lock, condition
        self._cachetools_use(function, info)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, _memo: Any) -> Any:
        return self

    def __reduce__(self) -> Any:
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<cached {self.__wrapped__!r}>"


_KINDS: dict[tuple[type, ...], type] = {}


def _of_functions(kinds: tuple[type, ...]) -> type:
    return _KINDS.setdefault(kinds, type("_CachedFunction", (_Function, *kinds), {}))


def wrapped_function(function: Any, cache: Any, key: Any, lock: Any, condition: Any, info: Any) -> Any:
    """Return a wrapper of the function, which keeps results in the cache."""
    made = _of_functions(class_for(lock, condition, info))
    return made(function, cache, key, condition if lock is None else lock, condition, info)
