"""`DjangoCache`: a cache backend for Django with copies in memory. Needs Django.

In the settings: `CACHES = {"default": {"BACKEND": "flexcache_rs.remote.DjangoCache", "LOCATION": "valkey://localhost:6379/0"}}`.
`OPTIONS` are arguments of `RemoteCache`. All threads of a process share one, whose namespace is "django" by default.
"""

from __future__ import annotations

import fnmatch
import functools
import inspect
from typing import TYPE_CHECKING, Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from flexcache_rs._arguments import whole_number
from flexcache_rs._django import Backend, options_of
from flexcache_rs._suggest import suggesting
from flexcache_rs._threads import ForkSafeRLock
from flexcache_rs.remote.cache import RemoteCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flexcache_rs.remote.locks import RemoteLimiter, RemoteLock

__all__ = ["DjangoCache"]

_OPTIONS = frozenset(inspect.signature(RemoteCache).parameters)

_CACHES: dict[str, RemoteCache] = {}


# Reentrant, because a signal handler may need the cache that its thread is making.
_MAKING = ForkSafeRLock()


def _shared(location: str, options: dict[str, Any]) -> RemoteCache:
    """Return the cache of this process with these options. All threads share it, although each has its own backend."""
    name = repr((location, sorted(options.items())))
    with _MAKING:
        cache = _CACHES.get(name)
        if cache is None:
            cache = _CACHES[name] = RemoteCache(location, **{"namespace": "django", **options})
        return cache


@suggesting
class DjangoCache(Backend):
    """A backend for Django's cache framework.

    It has the additional calls of django-redis: `delete_pattern`, `keys`, `ttl`, `expire`, `persist`, `lock`.

    Args:
        server: The URL of the server, `LOCATION` in the settings.
        params: The settings of the backend.

    Raises:
        TypeError: A setting is misspelt, or `OPTIONS` has a name that is no argument of `RemoteCache`.
        RemoteError: As `RemoteCache`.
    """

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._flexcache_options = options_of(params, _OPTIONS, {"client": "LOCATION"})
        self._flexcache_server = server

    @functools.cached_property
    def cache(self) -> RemoteCache:
        """The `RemoteCache`, for calls that Django does not have."""
        return _shared(self._flexcache_server, self._flexcache_options)

    def _flexcache_seconds(self, timeout: Any) -> Any:
        """Return the time to live for a timeout of Django: None means for ever."""
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return float("inf") if seconds is None else seconds

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Store a value only if there is none. Returns True if it was stored."""
        return self.cache.add(self._flexcache_key(key, version), value, self._flexcache_seconds(timeout))

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value of a key, or `default`."""
        return self.cache.get(self._flexcache_key(key, version), default)

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Store or replace a value."""
        self.cache.put(self._flexcache_key(key, version), value, self._flexcache_seconds(timeout))

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Give a key another time to live. Returns True if it has a value."""
        return self.cache.touch(self._flexcache_key(key, version), self._flexcache_seconds(timeout))

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Remove a key. Returns True if it had a value."""
        return self.cache.delete(self._flexcache_key(key, version))

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Whether a key has a value."""
        return self._flexcache_key(key, version) in self.cache

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add to the int of a key, atomically.

        Raises:
            ValueError: The key has no value.
        """
        added = whole_number("delta", delta)
        try:
            return self.cache._past_memory(self._flexcache_key(key, version), self.cache._store.incr, added, None, None)
        except KeyError:
            message = f"Key '{key}' not found"
            raise ValueError(message) from None

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return a dict with the values of the present keys."""
        names = {self._flexcache_key(key, version): key for key in keys}
        return {names[name]: value for name, value in self.cache.get_many(names).items()}

    def set_many(self, data: dict[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> list[Any]:
        """Store or replace values. Returns the keys that failed: none."""
        entries = {self._flexcache_key(key, version): value for key, value in data.items()}
        self.cache.set_many(entries, self._flexcache_seconds(timeout))
        return []

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> int | None:
        """Remove keys. Returns how many had a value, or None if no keys are given."""
        names = [self._flexcache_key(key, version) for key in keys]
        return self.cache.delete_many(names) if names else None

    def get_or_set(self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> Any:
        """Return the value of a key. If it has none, store and return `default`, or its result if it can be called.

        If several processes ask at the same time, one of them computes.
        """
        factory: Callable[[], Any] = default if callable(default) else lambda: default
        return self.cache.get_or_set(self._flexcache_key(key, version), factory, self._flexcache_seconds(timeout))

    def _flexcache_move(self, old: str, new: str) -> bool:
        # Only one of several concurrent callers moves the value.
        with self.cache.lock(("incr_version", old)):
            return self.cache._store.move(old, new)

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """The same as `get`, awaited."""
        return await self.cache.aget(self._flexcache_key(key, version), default)

    async def aget_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """The same as `get_or_set`, awaited."""
        factory: Callable[[], Any] = default if callable(default) else lambda: default
        return await self.cache.aget_or_set(
            self._flexcache_key(key, version), factory, self._flexcache_seconds(timeout)
        )

    def clear(self) -> None:
        """Invalidate everything in the namespace."""
        self.cache.clear()

    def close(self, **_signal: Any) -> None:
        """Do nothing. Django calls this after each request, and the process keeps its connections."""

    # The additional calls of django-redis.

    def ttl(self, key: Any, version: int | None = None) -> int | None:
        """Return the whole seconds that a key has left, None if it never expires, or 0 if it has no value."""
        try:
            seconds = self.cache.ttl(self._flexcache_key(key, version))
        except KeyError:
            return 0
        return None if seconds is None else int(seconds)

    def expire(self, key: Any, timeout: float, version: int | None = None) -> bool:
        """Give a key another time to live. Returns True if it has a value."""
        return self.touch(key, timeout, version)

    def persist(self, key: Any, version: int | None = None) -> bool:
        """Remove the time to live of a key. Returns True if it has a value."""
        return self.cache.persist(self._flexcache_key(key, version))

    def iter_keys(self, search: str, version: int | None = None) -> Iterator[str]:
        """Iterate over the keys that match a pattern such as `"user:*"`. O(keys of the database)."""
        start = self.make_key("", version)
        fixed = search[: next((at for at, sign in enumerate(search) if sign in "*?["), len(search))]
        # The prefix of the settings is no pattern, whatever characters it has.
        for name in self.cache.scan(start + fixed):
            if isinstance(name, str) and fnmatch.fnmatchcase(name[len(start) :], search):
                yield name[len(start) :]

    def keys(self, search: str, version: int | None = None) -> list[str]:
        """Return the keys that match a pattern. See `iter_keys`."""
        return list(self.iter_keys(search, version))

    def delete_pattern(self, pattern: str, version: int | None = None, **_ignored: Any) -> int:
        """Remove the keys that match a pattern. Returns how many had a value. O(keys of the database)."""
        return self.delete_many(self.keys(pattern, version), version) or 0

    def lock(
        self, key: Any, version: int | None = None, timeout: float | None = 30.0, blocking_timeout: float | None = None
    ) -> RemoteLock:
        """Return a lock. It becomes free after `timeout` seconds. See `RemoteCache.lock`."""
        return self.cache.lock(
            self._flexcache_key(key, version), 30.0 if timeout is None else timeout, blocking_timeout
        )

    def limiter(self, key: Any, limit: int, per: float = 1.0, version: int | None = None) -> RemoteLimiter:
        """Return a limiter. See `RemoteCache.limiter`."""
        return self.cache.limiter(self._flexcache_key(key, version), limit, per)

    def evict_tag(self, tag: str) -> None:
        """Invalidate all entries that have a tag."""
        self.cache.evict_tag(tag)
