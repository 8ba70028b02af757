"""`DjangoCache`: a cache backend for Django. Needs Django.

In the settings: `CACHES = {"default": {"BACKEND": "flexcache_rs.disk.DjangoCache", "LOCATION": "/path"}}`. Besides:
`SHARDS` (8), `DATABASE_TIMEOUT` (0.010 seconds), and `OPTIONS`, which are settings of the cache.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from flexcache_rs._django import Backend, options_of
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.checks import expiry, ignored
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.disk.core import PARAMETERS
from flexcache_rs.disk.fanout import FanoutCache
from flexcache_rs.disk.format import DEFAULT_SETTINGS
from flexcache_rs.disk.memoize import memoizing

if TYPE_CHECKING:
    from collections.abc import Collection

    from flexcache_rs.disk.core import Cache
    from flexcache_rs.disk.deque_index import Deque, Index
    from flexcache_rs.disk.memoize import Memoizing

__all__ = ["DjangoCache"]


_BESIDE = {"directory": "LOCATION", "shards": "SHARDS", "timeout": "DATABASE_TIMEOUT"}
"""Settings beside `OPTIONS`, by the arguments of `FanoutCache`."""

_OPTIONS = frozenset(DEFAULT_SETTINGS) | set(PARAMETERS)


@suggesting
class DjangoCache(Backend):
    """A cache backend on a `FanoutCache`.

    Args:
        directory: `LOCATION` of the settings.
        params: The rest of the settings.
    """

    def __init__(self, directory: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        options = options_of(params, _OPTIONS, _BESIDE)
        shards = params.get("SHARDS", 8)
        timeout = params.get("DATABASE_TIMEOUT", 0.010)
        self._cache = FanoutCache(directory, shards, timeout, **options)

    @property
    def directory(self) -> str:
        """The directory."""
        return self._cache.directory

    def cache(self, name: str) -> Cache:
        """Return a separate cache in the directory."""
        return self._cache.cache(name)

    def deque(self, name: str, maxlen: int | None = None) -> Deque:
        """Return a separate deque in the directory."""
        return self._cache.deque(name, maxlen=maxlen)

    def index(self, name: str) -> Index:
        """Return a separate index in the directory."""
        return self._cache.index(name)

    def add(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = True,
    ) -> bool:
        """Store only if absent. Returns True if it was stored."""
        key = self._flexcache_key(key, version)
        return self._cache.add(key, value, self.get_backend_timeout(timeout), read, tag, retry)

    def get(
        self,
        key: Any,
        default: Any = None,
        version: int | None = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """The value of a key."""
        key = self._flexcache_key(key, version)
        return self._cache.get(key, default, read, expire_time, tag, retry)

    def read(self, key: Any, version: int | None = None) -> Any:
        """The value of a key as an open file."""
        return self._cache.read(self._flexcache_key(key, version))

    def set(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = True,
    ) -> bool:
        """Store or replace a value. Returns True if it was stored."""
        key = self._flexcache_key(key, version)
        return self._cache.set(key, value, self.get_backend_timeout(timeout), read, tag, retry)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, retry: bool = True) -> bool:
        """Give a key another time to live. Returns True if it was present."""
        key = self._flexcache_key(key, version)
        return self._cache.touch(key, self.get_backend_timeout(timeout), retry)

    def pop(
        self,
        key: Any,
        default: Any = None,
        version: int | None = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = True,
    ) -> Any:
        """Takes a value out."""
        return self._cache.pop(self._flexcache_key(key, version), default, expire_time, tag, retry)

    def delete(self, key: Any, version: int | None = None, retry: bool = True) -> bool:
        """Delete a key. Returns True if it was present."""
        return self._cache.delete(self._flexcache_key(key, version), retry)

    def incr(
        self, key: Any, delta: int = 1, version: int | None = None, default: int | None = None, retry: bool = True
    ) -> Any:
        """Add to a number. Returns the sum.

        Raises:
            ValueError: The key has no value, and no default was given.
        """
        try:
            return self._cache.incr(self._flexcache_key(key, version), delta, default, retry)
        except KeyError:
            raise ValueError(f"Key '{key}' not found") from None

    def decr(
        self, key: Any, delta: int = 1, version: int | None = None, default: int | None = None, retry: bool = True
    ) -> Any:
        """Subtract from a number. Returns the difference.

        Raises:
            ValueError: The key has no value, and no default was given.
        """
        return self.incr(key, -delta, version, default, retry)

    def _flexcache_key(self, key: Any, version: int | None) -> Any:
        # As in python-diskcache, any key is good.
        return self.make_key(key, version)

    def _flexcache_move(self, old: Any, new: Any) -> bool:
        return self._cache._flexcache_move(old, new)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Whether a key has a live value."""
        return self._flexcache_key(key, version) in self._cache

    def expire(self) -> int:
        """Remove expired entries. Returns how many."""
        return self._cache.expire()

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """Return hits and misses, and set whether to count them from now on."""
        return self._cache.stats(enable=enable, reset=reset)

    def create_tag_index(self) -> None:
        """Create the index that makes `evict` fast."""
        self._cache.create_tag_index()

    def drop_tag_index(self) -> None:
        """Drop the index that makes `evict` fast."""
        self._cache.drop_tag_index()

    def evict(self, tag: Any) -> int:
        """Remove all entries with a tag. Returns how many."""
        return self._cache.evict(tag)

    def cull(self) -> int:
        """Remove expired entries, then evict until the limit holds. Returns how many."""
        return self._cache.cull()

    def clear(self) -> int:
        """Remove everything. Returns how many."""
        return self._cache.clear()

    def close(self, **kwargs: Any) -> None:
        """Close the connections of this process. Django calls this after each request."""
        del kwargs
        self._cache.close()

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float | None:
        """Return the time to live in seconds for a timeout of Django: None means for ever, and 0 not at all."""
        if timeout == DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        timeout = expiry(timeout, name="timeout")
        # In Django a timeout of 0 has expired at once. In a cache, 0 seconds expire only an instant later.
        return -1 if timeout == 0 else timeout

    def memoize(
        self,
        name: str | None = None,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        typed: bool = False,
        tag: Any = None,
        ignore: Collection[int | str] = (),
    ) -> Memoizing:
        """Return a decorator that stores the results of a function. See `Cache.memoize`."""
        if timeout != DEFAULT_TIMEOUT:
            timeout = expiry(timeout, name="timeout")
        store = functools.partial(self.set, timeout=timeout, version=version, tag=tag, retry=True)
        get = functools.partial(self.get, default=ENOVAL, version=version, retry=True)
        return memoizing(
            name,
            typed,
            ignored(ignore),
            get,
            store if timeout is None or timeout == DEFAULT_TIMEOUT or timeout > 0 else None,
        )
