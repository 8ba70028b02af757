"""`PickleCache`, and three functions for a single object."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from flexcache_rs import disk
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.checks import duration, whole
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.diskcache_rs.cache import Statistics

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from datetime import timedelta

    from typing_extensions import Self

UNLIMITED = 2**62


@suggesting
class PickleCache:
    """Objects in a directory, by name, with a time to live.

    Args:
        directory: The directory, which is created if it does not exist.
        max_size: The largest number of bytes of the stored values. Beyond it, the oldest ones are removed. None
            means no limit.
        default_ttl_seconds: The default time to live in seconds. None means for ever.

    >>> import tempfile
    >>> cache = PickleCache(tempfile.mkdtemp(), default_ttl_seconds=60)
    >>> cache.set("key", {"a": 1})
    >>> cache.get("key"), cache.ttl("key"), len(cache)
    ({'a': 1}, 60, 1)
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        max_size: int | None = None,
        default_ttl_seconds: float | timedelta | None = None,
    ) -> None:
        self._flexcache_most = None if max_size is None else whole("max_size", max_size, least=0)
        self._flexcache_default = _seconds("default_ttl_seconds", default_ttl_seconds)
        # Store each value in a separate file. `max_size` limits the sum of their sizes.
        self._flexcache_store = disk.Cache(
            directory, size_limit=UNLIMITED, eviction_policy="none", disk_min_file_size=1
        )

    def set(self, key: str, value: Any, ttl_seconds: float | timedelta | None = None) -> None:
        """Store or replace an object.

        Args:
            key: Its name.
            value: Any object that can be pickled.
            ttl_seconds: Seconds to live, or a timedelta; None is `default_ttl_seconds`.
        """
        seconds = _seconds("ttl_seconds", ttl_seconds)
        self._flexcache_store.set(key, value, self._flexcache_default if seconds is None else seconds, retry=True)
        if self._flexcache_most is not None and self._flexcache_size() > self._flexcache_most:
            with self._flexcache_store.transact(retry=True):
                while len(self._flexcache_store) and self._flexcache_size() > self._flexcache_most:
                    (first, _) = self._flexcache_store.peekitem(last=False, retry=True)
                    self._flexcache_store.delete(first, retry=True)

    def _flexcache_size(self) -> int:
        return int(self._flexcache_store.reset("size"))

    def get(self, key: str, default: Any = None) -> Any:
        """Return an object, or the default."""
        return self._flexcache_store.get(key, default, retry=True)

    def delete(self, key: str) -> bool:
        """Remove an object. Returns True if it was present."""
        return self._flexcache_store.delete(key, retry=True)

    def exists(self, key: str) -> bool:
        """Whether there is an object of that name, whose time is not over."""
        return key in self._flexcache_store

    def keys(self) -> list[str]:
        """The names of all objects whose time is not over."""
        return [key for key in self._flexcache_store if key in self._flexcache_store]

    def clear(self) -> None:
        """Remove everything."""
        self._flexcache_store.clear(retry=True)

    def stats(self) -> Statistics:
        """Numbers: `entries`, `size_bytes`, and with a limit `max_size_bytes` and `size_ratio`, in per cent."""
        size = self._flexcache_size()
        numbers = Statistics(entries=len(self._flexcache_store), size_bytes=size)
        if self._flexcache_most is not None:
            numbers |= {
                "max_size_bytes": self._flexcache_most,
                "size_ratio": round(100 * size / self._flexcache_most) if self._flexcache_most else 0,
            }
        return numbers

    def expire(self, key: str, ttl_seconds: float | timedelta) -> bool:
        """Give an object another time to live. Returns True if it was present."""
        return self._flexcache_store.touch(key, _seconds("ttl_seconds", ttl_seconds), retry=True)

    def ttl(self, key: str) -> int | None:
        """Return the seconds that an object has left, rounded up. None if it never expires, or if there is none."""
        found, expires = self._flexcache_store.get(key, ENOVAL, expire_time=True, retry=True)
        return None if found is ENOVAL or expires is None else max(0, math.ceil(expires - time.time()))

    def close(self) -> None:
        """Close the connections of this process. The next call opens them again."""
        self._flexcache_store.close()

    def __contains__(self, key: str) -> bool:
        return self.exists(key)

    def __getitem__(self, key: str) -> Any:
        found = self.get(key, ENOVAL)
        if found is ENOVAL:
            raise KeyError(key)
        return found

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _seconds(name: str, value: float | timedelta | None) -> float | None:
    return None if value is None else duration(name, value)


@suggesting
def cache_object(
    directory: str | os.PathLike[str],
    key: str,
    value: Any,
    ttl_seconds: float | timedelta | None = None,
    max_size: int | None = None,
) -> None:
    """Store an object in a directory. As `PickleCache.set`."""
    with PickleCache(directory, max_size) as cache:
        cache.set(key, value, ttl_seconds)


@suggesting
def get_cached_object(directory: str | os.PathLike[str], key: str, default: Any = None) -> Any:
    """Return an object of a directory, or the default."""
    with PickleCache(directory) as cache:
        return cache.get(key, default)


@suggesting
def clear_cache(directory: str | os.PathLike[str]) -> None:
    """Remove every object of a directory."""
    with PickleCache(directory) as cache:
        cache.clear()
