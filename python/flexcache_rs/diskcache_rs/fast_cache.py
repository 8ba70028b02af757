"""`FastCache` and `FastFanoutCache`: a `FlexCache`, in memory or in front of a directory."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from flexcache_rs import FlexCache, disk
from flexcache_rs._absent import hide
from flexcache_rs._core import NearCache
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.checks import whole
from flexcache_rs.diskcache_rs.cache import Statistics, lifetime
from flexcache_rs.diskcache_rs.pickle_cache import UNLIMITED

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from datetime import timedelta

    from typing_extensions import Self

_IN_MEMORY = 100_000
"""The default limit of entries in memory."""

_ABSENT_FOR = 3600.0
"""The seconds for which memory remembers that a key is absent from the directory, unless it is written."""


@suggesting
class FastCache(NearCache):
    """A cache in memory, or in front of a directory, which keeps all entries.

    Args:
        directory: The directory of the entries. None means memory only.
        max_size: The largest number of bytes on disk. Without a directory, the largest number of entries, unless
            `max_entries` is given.
        max_entries: The most entries in memory. None is 100,000.
        default_ttl_seconds: The default time to live in seconds. None means for ever.
        shards: The number of databases in the directory. None means a single one.

    >>> cache = FastCache(max_size=1000)
    >>> cache["a"] = 1
    >>> cache.incr("a"), cache.add("a", 5), cache.keys()
    (2, False, ['a'])
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        max_size: int | None = None,
        max_entries: int | None = None,
        default_ttl_seconds: float | timedelta | None = None,
        *,
        shards: int | None = None,
    ) -> None:
        self.directory = directory
        self._flexcache_store: disk.Cache | disk.FanoutCache | None = None
        most = max_entries if directory is not None or max_entries is not None else max_size
        options: dict[str, Any] = {"default_ttl": default_ttl_seconds}
        if directory is not None:
            limit = UNLIMITED if max_size is None else whole("max_size", max_size, least=0)
            self._flexcache_store = (
                disk.Cache(directory, size_limit=limit)
                if shards is None
                else disk.FanoutCache(directory, shards, timeout=60, size_limit=limit)
            )
            options |= {"store": self._flexcache_store, "negative_ttl": _ABSENT_FOR}
        self._flexcache_memory: FlexCache[Any, Any] = FlexCache(
            max_items=_IN_MEMORY if most is None else most, **options
        )
        NearCache._set_near(self, self._flexcache_memory)

    def set(
        self,
        key: Any,
        value: Any,
        expire: float | timedelta | None = None,
        read: bool = False,
        tag: str | None = None,
        retry: bool = False,
    ) -> bool:
        """Store or replace a value.

        Args:
            key: The key.
            value: The value.
            expire: Seconds to live, or a timedelta, or the deadline in seconds since 1970; None is
                `default_ttl_seconds`.
            read: Must be False, because files are not accepted.
            tag: Accepted without effect, as in diskcache_rs.
            retry: Accepted without effect.

        Returns:
            True.
        """
        del tag, retry
        if read:
            raise NotImplementedError("read=True (files) is not supported")
        self._flexcache_memory.put(key, value, ttl=lifetime(expire))
        return True

    if TYPE_CHECKING:

        def get(
            self,
            key: Any,
            default: Any = None,
            read: bool = False,
            expire_time: bool = False,
            tag: bool = False,
            retry: bool = False,
        ) -> Any:
            """Return the value of a key, or the default.

            Args:
                key: The key.
                default: The result if there is no value.
                read: Must be False.
                expire_time: Whether to also return the time of expiry in seconds since 1970.
                tag: Whether to also return the tag, which is None.
                retry: Accepted without effect.
            """

    def _flexcache_get_with(self, key: Any, default: Any, read: bool, expire_time: bool, tag: bool) -> Any:
        """The part of `get` for callers that ask for more than the value."""
        if read:
            raise NotImplementedError("read=True (files) is not supported")
        beside: list[Any] = [self._flexcache_memory.get(key, default)]
        if expire_time:
            left = self._flexcache_left(key)
            beside.append(None if left is None else time.time() + left)
        if tag:
            beside.append(None)
        return tuple(beside)

    def _flexcache_left(self, key: Any) -> float | None:
        try:
            return self._flexcache_memory.ttl(key)
        except KeyError:
            return None

    def delete(self, key: Any) -> bool:
        """Remove a key. Returns True if it was present."""
        return self._flexcache_memory.delete(key)

    def exists(self, key: Any) -> bool:
        """Return whether a key has a live value."""
        return key in self._flexcache_memory

    def keys(self) -> list[Any]:
        """Return a list of the keys of all live entries."""
        every = self._flexcache_memory if self._flexcache_store is None else self._flexcache_store
        return [key for key in every if key in self._flexcache_memory]

    def clear(self) -> None:
        """Remove everything."""
        self._flexcache_memory.clear()

    def stats(self) -> Statistics:
        """Return the numbers `entries`, `size_bytes`, `hits` and `misses`."""
        counted = self._flexcache_memory.stats()
        return Statistics(entries=len(self.keys()), size_bytes=self.volume(), hits=counted.hits, misses=counted.misses)

    def volume(self) -> int:
        """Return the bytes on disk. Without a directory, return the number of entries."""
        return self._flexcache_memory.bytes if self._flexcache_store is None else self._flexcache_store.volume()

    def expire(self, key: Any, ttl_seconds: float | timedelta) -> bool:
        """Give a live entry another time to live. Returns True if it was present."""
        return self._flexcache_memory.touch(key, ttl_seconds)

    def ttl(self, key: Any) -> int | None:
        """Return the seconds that an entry has left, rounded up. None means that it never expires or is absent."""
        left = self._flexcache_left(key)
        return None if left is None else max(0, math.ceil(left))

    def add(self, key: Any, value: Any, expire: float | timedelta | None = None) -> bool:
        """Store a value only if the key has none. Returns True if it was stored."""
        return self._flexcache_memory.add(key, value, ttl=lifetime(expire))

    def touch(self, key: Any, expire: float | timedelta | None = None) -> bool:
        """Give a live entry another time to live. None keeps it. Returns True if it was present."""
        return self.exists(key) if expire is None else self._flexcache_memory.touch(key, lifetime(expire))

    def pop(self, key: Any, default: Any = None) -> Any:
        """Remove a key and return its value, or the default."""
        return self._flexcache_memory.pop(key, default)

    def incr(self, key: Any, delta: int = 1) -> Any:
        """Add to a number. Returns the sum.

        It is one step with a directory, and two steps in memory, as in diskcache_rs.

        Raises:
            ValueError: The value is no number.
        """
        if self._flexcache_store is not None:
            try:
                return self._flexcache_store.incr(key, delta, 0, retry=True)
            except TypeError as error:
                raise ValueError(f"the value of {key!r} is no number") from error
        value = self._flexcache_memory.get(key, 0)
        if not isinstance(value, int | float):
            raise ValueError(f"the value of {key!r} is no number")
        self._flexcache_memory.put(key, value + delta)
        return value + delta

    def decr(self, key: Any, delta: int = 1) -> Any:
        """Subtract from a number. Returns the difference. See `incr`."""
        return self.incr(key, -delta)

    def close(self) -> None:
        """Close the directory in this process. The next call opens it again."""
        if self._flexcache_store is not None:
            self._flexcache_store.close()

    def __setitem__(self, key: Any, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: Any) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


# It cannot be assigned, and a subclass may have an attribute of this name.
hide(FastCache, ["_near"])


@suggesting
class FastFanoutCache(FastCache):
    """A `FastCache` whose directory has several databases.

    Args:
        directory: As for `FastCache`.
        shards: The number of databases.
        max_size: As for `FastCache`, for all of them.
        max_entries: As for `FastCache`.
        default_ttl_seconds: As for `FastCache`.

    >>> import tempfile
    >>> cache = FastFanoutCache(tempfile.mkdtemp(), shards=2)
    >>> cache["a"] = 1
    >>> cache["a"], cache.shards
    (1, 2)
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        shards: int = 8,
        max_size: int | None = None,
        max_entries: int | None = None,
        default_ttl_seconds: float | timedelta | None = None,
    ) -> None:
        super().__init__(directory, max_size, max_entries, default_ttl_seconds, shards=shards)
        self.shards = shards
