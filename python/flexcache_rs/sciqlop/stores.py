"""`Cache`, `FanoutCache` and `Lock` with SciQLop-cache's names."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any

from flexcache_rs import disk
from flexcache_rs._core import DiskShards, DiskTransaction
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.checks import expiry, whole
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.disk.memoize import memoizing
from flexcache_rs.sciqlop.base import StoreBase, plain_key
from flexcache_rs.sciqlop.directory import UNLIMITED, open_shards, refuse_settings

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from flexcache_rs.disk.memoize import Memoizing
    from flexcache_rs.sciqlop.serializers import Serializer


@suggesting
class CacheBase(StoreBase):
    """The common base of `Cache` and `FanoutCache`."""

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
            key: Any key that can be pickled. True and 1 are one key.
            value: Any value that the serializer accepts.
            expire: Seconds to live, or a timedelta; None means for ever.
            read: Must be False, because files are not accepted.
            tag: The tag for `evict_tag`.
            retry: Accepted without effect. Every call waits for other writers for `timeout` seconds.

        Returns:
            True.

        Raises:
            NotImplementedError: `read` is True.
            Timeout: The write lock was not acquired within `timeout` seconds.
        """
        _refuse_read(read)
        del retry
        key = plain_key(key)
        return self.shard_of(key).set(key, value, expire=_lifetime(expire), tag=tag)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.set(key, value)

    def add(
        self,
        key: Any,
        value: Any,
        expire: float | timedelta | None = None,
        read: bool = False,
        tag: str | None = None,
        retry: bool = False,
    ) -> bool:
        """Store a value only if the key has none, atomically. The arguments are those of `set`.

        Returns:
            True if it was stored.
        """
        _refuse_read(read)
        del retry
        key = plain_key(key)
        return self.shard_of(key).add(key, value, expire=_lifetime(expire), tag=tag)

    def _flexcache_get_with(self, key: Any, default: Any, read: bool, expire_time: bool, tag: bool) -> Any:
        """The part of `get` for callers that ask for more than the value."""
        _refuse_read(read)
        key = plain_key(key)
        value, expires, tagged = self.shard_of(key).get(key, ENOVAL, expire_time=True, tag=True)
        DiskShards._count(self, value is not ENOVAL)
        return _shaped(default if value is ENOVAL else value, (expire_time, expires), (tag, tagged))

    def __getitem__(self, key: Any) -> Any:
        value = DiskShards.get(self, key, ENOVAL)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def pop(
        self, key: Any, default: Any = None, expire_time: bool = False, tag: bool = False, retry: bool = False
    ) -> Any:
        """Remove a key and return its value. The arguments are those of `get`."""
        del retry
        key = plain_key(key)
        value, expires, tagged = self.shard_of(key).pop(key, ENOVAL, expire_time=True, tag=True)
        return _shaped(default if value is ENOVAL else value, (expire_time, expires), (tag, tagged))

    def touch(self, key: Any, expire: float | timedelta | None = None, retry: bool = False) -> bool:
        """Give a live entry another time to live.

        Args:
            key: The key.
            expire: Seconds, or a timedelta; None means for ever.
            retry: Accepted without effect.

        Returns:
            True if it was present.
        """
        del retry
        key = plain_key(key)
        return self.shard_of(key).touch(key, _lifetime(expire))

    def expire_and_tag(self, key: Any) -> tuple[float | None, str | None] | None:
        """Return the time of expiry of an entry in seconds since 1970 and its tag, or None if it is absent."""
        key = plain_key(key)
        value, expires, tag = self.shard_of(key).get(key, ENOVAL, expire_time=True, tag=True)
        return None if value is ENOVAL else (expires, tag)

    def iterkeys(self) -> Iterator[Any]:
        """Iterate over the keys of live entries, in the order of the keys of each database."""
        for shard in self._flexcache_shards:
            yield from (key for key in shard.iterkeys() if key in shard)

    def expire(self, retry: bool = False) -> None:
        """Remove every expired entry."""
        del retry
        for shard in self._flexcache_shards:
            shard.expire()

    def evict(self, retry: bool = False) -> int:
        """Remove the least recently used entries until the store is within `max_size`. Returns how many."""
        del retry
        return sum(shard.cull() for shard in self._flexcache_shards)

    def evict_tag(self, tag: str) -> int:
        """Remove every entry with a tag. Returns how many."""
        return sum(shard.evict(tag) for shard in self._flexcache_shards)

    def set_max_cache_size(self, value: int) -> None:
        """Change `max_size` and record it. 0 means no limit.

        Raises:
            TypeError: It is no whole number.
            ValueError: It is less than 0.
        """
        limit = whole("value", value, least=0, most=UNLIMITED)
        for shard in self._flexcache_shards:
            shard.reset("eviction_policy", "least-recently-used" if limit else "none")
            shard.reset("size_limit", limit or UNLIMITED)

    def stats(self) -> dict[str, int]:
        """Return a dict with the hits and misses of this object's `get` and `[]`."""
        hits, misses = DiskShards._counts(self)
        return {"hits": hits, "misses": misses}

    def reset_stats(self) -> None:
        """Reset the hit and miss counters."""
        DiskShards._reset_counts(self)

    def memoize(
        self,
        expire: float | timedelta | None = None,
        tag: str | None = None,
        typed: bool = False,
        version_aware: bool = False,
    ) -> Memoizing:
        """Return a decorator that stores the results of a function by its arguments.

        Args:
            expire: Seconds to live, or a timedelta; None means for ever.
            tag: The tag for `evict_tag`.
            typed: Whether the arguments' types are part of the key.
            version_aware: Whether a function with other code has other results.

        Returns:
            The decorator. The function it makes has `__cache_key__(*args, **kwargs)` and `__wrapped__`.

        Raises:
            TypeError: `expire` is callable, since the decorator was written without its parentheses; or no number.
        """
        if callable(expire):
            raise TypeError(
                f"memoize() takes no function: write @cache.memoize(), not @cache.memoize, above {expire!r}"
            )
        lifetime = expiry(expire)

        def key_of_call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
            name = f"{function.__module__}.{function.__qualname__}"
            if version_aware:
                name = f"{name}@{hashlib.sha256(function.__code__.co_code).hexdigest()[:16]}"
            told: tuple[Any, ...] = (args, tuple(sorted(kwargs.items())))
            if typed:
                kinds = (f"{type(given).__module__}.{type(given).__qualname__}" for given in (*args, *kwargs.values()))
                told += (tuple(kinds),)
            return f"{name}:{hashlib.sha256(self.serializer.dumps(told)).hexdigest()}"

        get = functools.partial(self.get, default=ENOVAL)
        store = functools.partial(self.set, expire=lifetime, tag=tag)
        return memoizing(None, typed, (), get, store, key_of_call)

    def lock(self, key: Any, expire: float | timedelta | None = None, tag: str | None = None) -> Lock:
        """Return a lock for all processes that use the directory. It is a context manager.

        Args:
            key: The key of the store that stores the lock.
            expire: The number of seconds after which the lock becomes free. None means never.
            tag: The tag for `evict_tag`.
        """
        return Lock(self, key, expire, tag)


def _refuse_read(read: bool) -> None:
    if read:
        raise NotImplementedError("read=True (file handles) is not supported")


def _lifetime(expire: float | timedelta | None) -> float | None:
    """Return the seconds to live. With 0 seconds an entry has expired at once, not an instant later."""
    seconds = expiry(expire)
    return -1.0 if seconds is not None and seconds <= 0 else seconds


def _shaped(value: Any, *asked: tuple[bool, Any]) -> Any:
    beside = [told for wanted, told in asked if wanted]
    return (value, *beside) if beside else value


@suggesting
class Lock(disk.Lock):
    """A lock for threads and processes, which is stored in a store.

    Args:
        cache: The store, a `Cache` or a `FanoutCache`.
        key: The key under which it is stored.
        expire: The number of seconds after which the lock becomes free. None means never.
        tag: The tag for `evict_tag`.

    >>> import tempfile
    >>> lock = Lock(Cache(tempfile.mkdtemp()), "report", expire=60)
    >>> lock.acquire()
    >>> lock.release(), lock.release()
    (True, False)
    """

    def __init__(
        self, cache: CacheBase, key: Any, expire: float | timedelta | None = None, tag: str | None = None
    ) -> None:
        key = plain_key(key)
        shard: Any = cache.shard_of(key)
        super().__init__(shard, key, expire, tag)

    def release(self) -> bool:  # type: ignore[override]
        """Free the lock. Returns False if another caller has removed it, or if its time was over."""
        return self._give_back()


@suggesting
class Cache(CacheBase):
    """A cache in a directory, for any number of threads and processes.

    Args:
        directory: The directory, which is created if it does not exist. None means `.cache/`.
        max_size: Bytes on disk, above which the least recently used entries are removed; an empty database takes
            some 30,000 of them. 0 is no limit. The directory records it, and it applies when the
            directory is opened without it.
        serializer: The serializer of the values. The directory records it.
        cache_path: Another name for `directory`.
        size_limit: Another name for `max_size`.
        timeout: The number of seconds to wait for other writers before `Timeout` is raised. None is 600.
        disk: Must be None.
        **settings: The settings of python-diskcache are accepted without effect.

    Raises:
        TypeError: An argument is unknown.
        ValueError: The directory was made with another serializer, or by SciQLop-cache itself.

    >>> import tempfile
    >>> cache = Cache(tempfile.mkdtemp(), max_size=10**9)
    >>> cache.set("a", [1, 2], expire=60, tag="lists")
    True
    >>> cache.get("a", tag=True), "b" in cache, cache.stats()
    (([1, 2], 'lists'), False, {'hits': 1, 'misses': 0})
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        max_size: int | None = None,
        serializer: Serializer | None = None,
        *,
        cache_path: str | os.PathLike[str] | None = None,
        size_limit: int | None = None,
        timeout: float | timedelta | None = None,
        disk: None = None,
        **settings: Any,
    ) -> None:
        refuse_settings("Cache", disk, settings)
        limit = max_size if size_limit is None else size_limit
        self._flexcache_open(
            open_shards(
                directory or cache_path or ".cache/",
                shards=None,
                serializer=serializer,
                timeout=timeout,
                max_size=None if limit is None else whole("max_size", limit, least=0, most=UNLIMITED),
            )
        )

    def transact(self, retry: bool = False) -> DiskTransaction:
        """Begin a transaction of this thread, for `with`. All of its writes take effect, or none. It may be nested."""
        del retry
        return DiskTransaction(self._flexcache_shards, False, self)

    def __repr__(self) -> str:
        return f"Cache({self._flexcache_path!r}, count={len(self)})"


@suggesting
class FanoutCache(CacheBase):
    """A `Cache` in several databases, so that several processes can write at the same time.

    Args:
        directory: As for `Cache`.
        shard_count: The number of databases. It must be the same each time.
        max_size: As for `Cache`, for each database.
        serializer: As for `Cache`.
        cache_path: Another name for `directory`.
        shards: Another name for `shard_count`.
        size_limit: Another name for `max_size`.
        timeout: As for `Cache`.
        disk: Must be None.
        **settings: As for `Cache`.

    >>> import tempfile
    >>> cache = FanoutCache(tempfile.mkdtemp(), shard_count=4)
    >>> cache["a"] = 1
    >>> cache["a"], cache.shard_count()
    (1, 4)
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        shard_count: int = 8,
        max_size: int | None = None,
        serializer: Serializer | None = None,
        *,
        cache_path: str | os.PathLike[str] | None = None,
        shards: int | None = None,
        size_limit: int | None = None,
        timeout: float | timedelta | None = None,
        disk: None = None,
        **settings: Any,
    ) -> None:
        refuse_settings("FanoutCache", disk, settings)
        limit = max_size if size_limit is None else size_limit
        self._flexcache_open(
            open_shards(
                directory or cache_path or ".cache/",
                shards=shard_count if shards is None else shards,
                serializer=serializer,
                timeout=timeout,
                max_size=None if limit is None else whole("max_size", limit, least=0, most=UNLIMITED),
            )
        )

    def shard_count(self) -> int:
        """The number of databases."""
        return len(self._flexcache_shards)

    def transact(self, key: Any, retry: bool = False) -> DiskTransaction:
        """Begin a transaction of this thread on the shard of a key, for `with`.

        There are no transactions across shards.
        """
        del retry
        return DiskTransaction((self.shard_of(plain_key(key)),), False, self)

    def __repr__(self) -> str:
        return f"FanoutCache({self._flexcache_path!r}, shards={self.shard_count()}, count={len(self)})"
