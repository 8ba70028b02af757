"""`DjangoCache`: a cache backend for Django in shared memory. Needs Django.

In the settings: `CACHES = {"default": {"BACKEND": "flexcache_rs.shared.DjangoCache", "LOCATION": "site"}}`. `LOCATION`
is the name or the path of a `SharedCache`, and `OPTIONS` are its arguments: `max_bytes`, `max_item` and so on.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from flexcache_rs._django import Backend, options_of
from flexcache_rs._suggest import suggesting
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["DjangoCache"]

_MISSING: Any = object()

_OPTIONS = ("max_bytes", "expected_item", "max_item", "lock_timeout", "resize", "create", "serializer")


def _options(params: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the `SharedCache`.

    Raises:
        TypeError: A name is misspelt, or belongs in `OPTIONS`.
    """
    options = options_of(params, _OPTIONS, {"name": "LOCATION"}, ignores_others=False)
    for name in options:
        if name not in _OPTIONS:
            near = difflib.get_close_matches(name.lower(), _OPTIONS, 1, 0.7)
            raise TypeError(f"no such option: {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return options


@suggesting
class DjangoCache(Backend):
    """A cache backend on a `SharedCache`, which is one cache for all workers of a machine.

    Args:
        location: `LOCATION` of the settings: a name or a path.
        params: The rest of the settings.
    """

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        options = _options(params)
        if not location:
            message = "LOCATION must be the name or the path of a cache in shared memory"
            raise ValueError(message)
        self._flexcache_cache = SharedCache(location, **options)

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float:
        """Return the time to live in seconds for a timeout of Django: None means for ever, and 0 not at all."""
        if timeout == DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return float("inf") if timeout is None else timeout

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Store only if absent. Returns True if it was stored. Exactly one of several processes succeeds."""
        return self._flexcache_cache.add(self._flexcache_key(key, version), value, self.get_backend_timeout(timeout))

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value of a key."""
        return self._flexcache_cache.get(self._flexcache_key(key, version), default)

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Store, or replace."""
        self._flexcache_cache.put(self._flexcache_key(key, version), value, self.get_backend_timeout(timeout))

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Give a key another time to live. Returns True if it was present."""
        return self._flexcache_cache.touch(self._flexcache_key(key, version), self.get_backend_timeout(timeout))

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Delete a key. Returns True if it was present."""
        return self._flexcache_cache.delete(self._flexcache_key(key, version))

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Whether a key has a live value."""
        return self._flexcache_key(key, version) in self._flexcache_cache

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> Any:
        """Add to a number, atomically for all processes. Returns the sum. The time to live stays.

        Raises:
            ValueError: There is none.
        """
        name = self._flexcache_key(key, version)
        while True:
            found = self._flexcache_cache._read_version(name)
            if found is None:
                raise ValueError(f"Key {key!r} not found")
            value, seen = found
            if type(value) is int and type(delta) is int:
                total = self._flexcache_cache._incr_present(name, delta)
                if total is not None:
                    return total
            else:
                try:
                    ttl = self._flexcache_cache.ttl(name)
                except KeyError:
                    continue
                if self._flexcache_cache._replace(name, seen, value + delta, float("inf") if ttl is None else ttl):
                    return value + delta

    def _flexcache_move(self, old: str, new: str) -> bool:
        # Only one of several callers moves the value. The block holds a single call: a signal handler that raises at
        # certain instructions of a loop or `try` would leave the lock held.
        with self._flexcache_cache.lock(("incr_version", old)):
            return self._flexcache_move_alone(old, new)

    def _flexcache_move_alone(self, old: str, new: str) -> bool:
        is_moved = False
        while (found := self._flexcache_cache._read_version(old)) is not None:
            value, seen = found
            try:
                ttl = self._flexcache_cache.ttl(old)
            except KeyError:
                break
            # Store before removing. If storing fails, the value stays where it is.
            self._flexcache_cache.put(new, value, float("inf") if ttl is None else ttl)
            is_moved = True
            if self._flexcache_cache._delete_version(old, seen):
                break
        return is_moved

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return a dict with the values of the present keys."""
        found = {}
        for key in keys:
            value = self.get(key, _MISSING, version)
            if value is not _MISSING:
                found[key] = value
        return found

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """Store several values, one after the other. Returns the keys that could not be stored: none."""
        for key, value in data.items():
            self.set(key, value, timeout, version)
        return []

    def clear(self) -> None:
        """Remove everything, for all processes."""
        self._flexcache_cache.clear()
