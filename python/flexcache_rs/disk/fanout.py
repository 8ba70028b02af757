"""`FanoutCache`: several caches that divide the keys, so that several writers can write at the same time."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import operator
import os
import warnings

from flexcache_rs._core import DiskCache, DiskTransaction
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.aio import awaitable, taking, transaction
from flexcache_rs.disk.check_report import CheckReport
from flexcache_rs.disk.checks import (
    check_key_of_queue,
    check_serializer,
    checked_settings,
    duration,
    unreadable_is_missing,
    uses_serializer,
    whole,
)
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.disk.core import PARAMETERS, Cache, Disk, Timeout
from flexcache_rs.disk.deque_index import Deque, Index
from flexcache_rs.disk.directory import path_of, prepare_directory
from flexcache_rs.disk.format import DEFAULT_SETTINGS, MOST_SHARDS
from flexcache_rs.disk.mixins import CacheMixin
from flexcache_rs.disk.overridden import OF_FANOUT, follow_overrides

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta
    from typing import Any, ClassVar, Literal, TypeVar

    from typing_extensions import Self

    from flexcache_rs.disk.serializers import Serializer

    _Part = TypeVar("_Part", Cache, Deque, Index)

_FIRST_IN_QUEUE = 500_000_000_000_000
"""The key of the first value pushed into an empty queue."""

_PASSED_ON = frozenset(DEFAULT_SETTINGS) | {"timeout", "disk"}


class _InaccessibleError(AttributeError, AssertionError):
    """Both AttributeError, which Python expects for a missing attribute, and python-diskcache's error."""


@suggesting
class FanoutCache(CacheMixin):
    """A cache of several shards in one directory. Writers of different shards do not wait for each other.

    It has the calls of `Cache`. A write that would raise `Timeout` returns False (or None) instead, because a cache
    may forget entries. Each shard has its own share of `size_limit`. The number of shards must be the same each time.

    Args:
        directory: The directory, which is created if it does not exist. None means a new temporary directory, which
            is not removed.
        shards: The number of shards. The default is 8.
        timeout: The number of seconds to wait for other writers. The default is 0.01.
        disk: As for `Cache`.
        serializer: As for `Cache`.
        unreadable: As for `Cache`.
        **settings: As for `Cache`. `size_limit` applies to all shards together.

    Raises:
        ValueError: `shards` is less than 1, or as for `Cache`.
        UserWarning: A warning: other users can write to the directory or to a shard. There is one for all.

    >>> cache = FanoutCache(shards=4, timeout=1)
    >>> cache.set("a", 1)
    True
    >>> cache["a"], len(cache)
    (1, 1)
    """

    _flexcache_class_of_shards: ClassVar[type[Cache]] = Cache

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        follow_overrides(cls, FanoutCache, OF_FANOUT)

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        shards: int = 8,
        timeout: float | timedelta = 0.010,
        disk: type[Disk] = Disk,
        *,
        serializer: Serializer | None = None,
        unreadable: Literal["raise", "missing"] = "raise",
        **settings: Any,
    ) -> None:
        shards = whole("shards", shards, least=1, most=MOST_SHARDS)
        timeout = duration("timeout", timeout, least=0)
        check_serializer(serializer, disk)
        unreadable_is_missing(unreadable)
        first = None if directory is None else os.path.join(path_of(directory), "000")  # noqa: PTH118
        settings = checked_settings(first, settings, (*PARAMETERS, "shards"), plain_disk=disk is Disk)
        self._directory = prepare_directory(directory)
        self._count = shards
        if "size_limit" in settings:
            settings["size_limit"] /= shards
        # The arguments to make this object again, for pickle.
        is_missing = {"unreadable": unreadable} if unreadable_is_missing(unreadable) else {}
        self._flexcache_options: dict[str, Any] = {"serializer": serializer} | is_missing
        self._flexcache_disk_class = disk
        paths = [os.path.join(self._directory, f"{number:03d}") for number in range(shards)]  # noqa: PTH118
        if message := next(filter(None, map(DiskCache._other_writers, (self._directory, *paths))), None):
            warnings.warn(message, stacklevel=2)
        options = {"serializer": serializer, "unreadable": unreadable} | settings
        self._shards = tuple(self._flexcache_opened(path, timeout, disk, options) for path in paths)
        self._hash = self._shards[0].disk.hash
        self._caches: dict[str, Cache] = {}
        self._deques: dict[str, Deque] = {}
        self._indexes: dict[str, Index] = {}

    def _flexcache_opened(self, path: str, timeout: float, disk: type[Disk], options: dict[str, Any]) -> Cache:
        """Open a shard, which does not warn of other users: the cache has done so once for all."""
        shard = self._flexcache_class_of_shards.__new__(self._flexcache_class_of_shards)
        shard._flexcache_warns_of_writers = False  # pyright: ignore[reportPrivateUsage]
        share = {"size_limit": shard.default_settings["size_limit"] / self._count}
        shard.default_settings = shard.default_settings | share  # type: ignore[misc]
        shard.__init__(path, timeout, disk, **options)  # type: ignore[misc]
        return shard

    @property
    def directory(self) -> str:
        """The directory."""
        return self._directory

    @property
    def shards(self) -> tuple[Cache, ...]:
        """The caches among which the keys are divided."""
        return self._shards

    def __getattr__(self, name: str) -> Any:
        if name not in _PASSED_ON:
            raise _InaccessibleError(f"cannot access {name} in cache shard")
        return getattr(self._shards[0], name)

    @property
    def read_only(self) -> bool:
        """Whether any shard is read-only. See `Cache.read_only`."""
        return any(shard.read_only for shard in self._shards)

    def _flexcache_warn_not_stored(self) -> None:
        self._shards[0]._flexcache_warn_not_stored()  # pyright: ignore[reportPrivateUsage]

    def _flexcache_shard(self, key: Any) -> Cache:
        return self._shards[self._hash(key) % self._count]

    def transact(self, retry: bool = True) -> DiskTransaction:
        """Begin a transaction of this thread in every shard.

        Args:
            retry: Must be True, because a transaction in some of the shards would be useless.

        >>> cache = FanoutCache()
        >>> with cache.transact():
        ...     cache.incr("total", 3)
        3
        """
        if not retry:
            raise AssertionError("retry must be True in FanoutCache")
        return DiskTransaction(self._shards, True)

    def set(
        self,
        key: Any,
        value: Any,
        expire: float | timedelta | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """As `Cache.set`. Returns False if the write lock was not acquired in time."""
        try:
            return self._flexcache_shard(key).set(key, value, expire, read, tag, retry)
        except Timeout:
            return False

    def __setitem__(self, key: Any, value: Any) -> None:
        self._flexcache_shard(key)[key] = value

    _flexcache_raises_timeout = False

    def _flexcache_transaction_of_many(self, retry: bool) -> DiskTransaction:
        return DiskTransaction(self._shards, retry)

    def _flexcache_transaction_of_move(self, old: Any, new: Any) -> DiskTransaction:
        source, target = self._flexcache_shard(old), self._flexcache_shard(new)
        # All processes lock shards in this order. `target` commits first, so a crash in between loses no value.
        both = [shard for shard in self._shards if shard in (source, target)]
        return DiskTransaction(both, True, last=both.index(source))

    def touch(self, key: Any, expire: float | timedelta | None = None, retry: bool = False) -> bool:
        """As `Cache.touch`. Returns False if the write lock was not acquired in time."""
        try:
            return self._flexcache_shard(key).touch(key, expire, retry)
        except Timeout:
            return False

    def add(
        self,
        key: Any,
        value: Any,
        expire: float | timedelta | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """As `Cache.add`. Returns False if the write lock was not acquired in time."""
        try:
            return self._flexcache_shard(key).add(key, value, expire, read, tag, retry)
        except Timeout:
            return False

    def incr(self, key: Any, delta: float = 1, default: float | None = 0, retry: bool = False) -> Any:
        """As `Cache.incr`. Returns None if the write lock was not acquired in time."""
        try:
            return self._flexcache_shard(key).incr(key, delta, default, retry)
        except Timeout:
            return None

    def decr(self, key: Any, delta: float = 1, default: float | None = 0, retry: bool = False) -> Any:
        """As `Cache.decr`. Returns None if the write lock was not acquired in time."""
        try:
            return self._flexcache_shard(key).decr(key, delta, default, retry)
        except Timeout:
            return None

    def get(
        self,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """As `Cache.get`. Returns the default if the lock was not acquired in time, or if the shard cannot be read."""
        try:
            return self._flexcache_shard(key).get(key, default, read, expire_time, tag, retry)
        except (Timeout, operational_error()):
            return _shaped(default, expire_time, tag)

    def __getitem__(self, key: Any) -> Any:
        return self._flexcache_shard(key)[key]

    def read(self, key: Any) -> Any:
        """The same as `Cache.read`, but it waits for other writers."""
        return self._flexcache_shard(key).read(key, retry=True)

    def __contains__(self, key: Any) -> bool:
        return key in self._flexcache_shard(key)

    def pop(
        self, key: Any, default: Any = None, expire_time: bool = False, tag: bool = False, retry: bool = False
    ) -> Any:
        """As `Cache.pop`. Returns the default if the write lock was not acquired in time."""
        try:
            return self._flexcache_shard(key).pop(key, default, expire_time, tag, retry)
        except Timeout:
            return _shaped(default, expire_time, tag)

    def delete(self, key: Any, retry: bool = False) -> bool:
        """As `Cache.delete`. Returns False if the write lock was not acquired in time."""
        try:
            return self._flexcache_shard(key).delete(key, retry)
        except Timeout:
            return False

    def __delitem__(self, key: Any) -> None:
        del self._flexcache_shard(key)[key]

    def check(self, fix: bool = False, retry: bool = False) -> CheckReport:
        """As `Cache.check`, of every shard."""
        report = CheckReport()
        for shard in self._shards:
            report.extend_from(shard.check(fix, retry))
        return report

    def expire(self, retry: bool = False) -> int:
        """Remove expired entries. Returns how many."""
        return self._flexcache_until_done("expire", retry=retry)

    def evict(self, tag: Any, retry: bool = False) -> int:
        """Remove all entries with a tag. Returns how many."""
        return self._flexcache_until_done("evict", tag, retry=retry)

    def cull(self, retry: bool = False) -> int:
        """Remove expired entries, then evict until each shard is within its limit. Returns how many."""
        return self._flexcache_until_done("cull", retry=retry)

    def clear(self, retry: bool = False) -> int:
        """Remove everything. Returns how many."""
        return self._flexcache_until_done("clear", retry=retry)

    def _flexcache_until_done(self, remove: str, *args: Any, retry: bool) -> int:
        total = 0
        for shard in self._shards:
            while True:
                try:
                    total += getattr(shard, remove)(*args, retry=retry)
                except Timeout as timeout:  # noqa: PERF203
                    total += timeout.args[0] if timeout.args else 0
                else:
                    break
        return total

    def create_tag_index(self) -> None:
        """Create the index that makes `evict` fast, in every shard."""
        for shard in self._shards:
            shard.create_tag_index()

    def drop_tag_index(self) -> None:
        """Drop the index that makes `evict` fast, in every shard."""
        for shard in self._shards:
            shard.drop_tag_index()

    def iterkeys(self, reverse: bool = False) -> Iterator[Any]:
        """As `Cache.iterkeys`, over the keys of all shards.

        >>> cache = FanoutCache(shards=3)
        >>> for key in "b", 1, "a": cache[key] = None
        >>> list(cache.iterkeys()), list(cache.iterkeys(reverse=True))
        ([1, 'a', 'b'], ['b', 'a', 1])
        """
        each = (shard.iterkeys(reverse) for shard in self._shards)
        return heapq.merge(*each, key=self._flexcache_place, reverse=reverse)

    def _flexcache_place(self, key: Any) -> tuple[int, Any, bool]:
        """Return a sort key in SQLite's order: numbers, then text by its bytes, then bytes."""
        stored, raw = self._shards[0].disk.put(key)
        if isinstance(stored, str):
            return 1, stored.encode("utf-8", "surrogatepass"), raw
        if isinstance(stored, (int, float)):
            return 0, stored, raw
        return 2, bytes(stored), raw

    def _flexcache_ends(self, prefix: str | None, side: Literal["front", "back"]) -> list[tuple[Any, Cache]]:
        """Return the keys at an end of a queue, one per non-empty shard. The end of the whole queue comes first."""
        found = ((shard.peek(prefix, side=side, retry=True)[0], shard) for shard in self._shards)
        ends = [(key, shard) for key, shard in found if key is not None]
        return sorted(ends, key=lambda end: self._flexcache_place(end[0]), reverse=side == "back")

    def push(
        self,
        value: Any,
        prefix: str | None = None,
        side: Literal["front", "back"] = "back",
        expire: float | timedelta | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> Any:
        """As `Cache.push`. Returns None if the write lock was not acquired in time. It locks every shard.

        >>> cache = FanoutCache()
        >>> cache.push("first"), cache.push("job", prefix="jobs")
        (500000000000000, 'jobs-500000000000000')
        """
        try:
            # No Python code between the begin and the block: a signal handler could raise there.
            with self._flexcache_transaction_of_many(retry):
                ends = self._flexcache_ends(prefix, side)
                number = _FIRST_IN_QUEUE
                if ends:
                    last = ends[0][0]
                    number = (last if prefix is None else int(last[len(prefix) + 1 :])) + (1 if side == "back" else -1)
                key: Any = number if prefix is None else f"{prefix}-{number:015d}"
                check_key_of_queue(self._shards[0].disk, key)
                self._flexcache_shard(key).set(key, value, expire, read, tag, True)
                return key
        except Timeout:
            return None

    def pull(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: Literal["front", "back"] = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """As `Cache.pull`. Returns the default if the write lock was not acquired in time. It locks every shard.

        >>> cache = FanoutCache()
        >>> for job in "wash", "dry": _ = cache.push(job)
        >>> cache.pull(), cache.pull(), cache.pull()
        ((500000000000000, 'wash'), (500000000000001, 'dry'), (None, None))
        """
        return self._flexcache_end_of_queue("pull", prefix, default, side, expire_time, tag, retry)

    def peek(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: Literal["front", "back"] = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """As `Cache.peek`. Returns the default if the write lock was not acquired in time. It locks every shard.

        >>> cache = FanoutCache()
        >>> _ = cache.push("wash")
        >>> cache.peek()
        (500000000000000, 'wash')
        """
        return self._flexcache_end_of_queue("peek", prefix, default, side, expire_time, tag, retry)

    def _flexcache_end_of_queue(
        self,
        call: str,
        prefix: str | None,
        default: Any,
        side: Literal["front", "back"],
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> Any:
        try:
            alone = call == "peek" and self.read_only
            with contextlib.nullcontext() if alone else self._flexcache_transaction_of_many(retry):
                ends = self._flexcache_ends(prefix, side)
                if ends:
                    return getattr(ends[0][1], call)(prefix, default, side, expire_time, tag, True)
        except Timeout:
            pass
        return _shaped(default, expire_time, tag)

    def stats(self, enable: bool = True, reset: bool = False) -> tuple[int, int]:
        """As `Cache.stats`, summed over the shards."""
        counted = [shard.stats(enable, reset) for shard in self._shards]
        return sum(hits for hits, _ in counted), sum(misses for _, misses in counted)

    def reset_stats(self) -> None:
        """Reset the hit and miss counters."""
        for shard in self._shards:
            shard.reset_stats()

    def volume(self) -> int:
        """Return the bytes on disk of all shards."""
        return sum(shard.volume() for shard in self._shards)

    def close(self) -> None:
        """Close the connections of this process. The next call opens them again."""
        for shard in self._shards:
            shard.close()
        for opened in (self._caches, self._deques, self._indexes):
            opened.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __getstate__(self) -> tuple[Any, ...]:
        return (
            self._directory,
            self._count,
            self.timeout,
            self._flexcache_disk_class,
            self.size_limit * self._count,
            self._flexcache_options,
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        directory, shards, timeout, disk, size_limit, options = state
        self.__init__(directory, shards, timeout, disk, size_limit=size_limit, **options)  # type: ignore[misc]

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self._shards)

    def __reversed__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(map(reversed, reversed(self._shards)))

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def reset(self, key: str, value: Any = ENOVAL) -> Any:
        """As `Cache.reset`, in every shard. Returns the value of the last shard."""
        result = None
        for shard in self._shards:
            while True:
                try:
                    result = shard.reset(key, value)
                except Timeout:
                    continue
                break
        return result

    aset = awaitable(set)  # noqa: A003
    aadd = awaitable(add)
    aget = awaitable(get)
    aread = awaitable(read)
    adelete = awaitable(delete)
    apop = taking(pop)
    atouch = awaitable(touch)
    aincr = awaitable(incr)
    adecr = awaitable(decr)
    aget_many = awaitable(CacheMixin.get_many)
    aset_many = awaitable(CacheMixin.set_many)
    adelete_many = awaitable(CacheMixin.delete_many)
    aexpire = awaitable(expire)
    aevict = awaitable(evict)
    aevict_tag = awaitable(CacheMixin.evict_tag)
    aclear = awaitable(clear)
    acull = awaitable(cull)
    apush = awaitable(push)
    apull = taking(pull)
    apeek = awaitable(peek)
    avolume = awaitable(volume)
    acheck = awaitable(check)
    aclose = awaitable(close)

    def atransact(self, retry: bool = True) -> AbstractAsyncContextManager[None]:
        """The same as `transact`, for `async with`.

        It covers the awaited calls of this task and of the tasks that it starts.
        """
        return transaction(self, retry)

    def _flexcache_below(self, kind: str, name: Any) -> str:
        if not isinstance(name, str) or {"", ".", ".."} & set(name.split("/")) or "\0" in name:
            raise ValueError(f"name must be a path inside the directory, such as 'jobs/first', not {name!r:.100}")
        if os.name == "nt" and any(separator in name for separator in ":\\"):
            raise ValueError(f"name must have no drive and no backslash, not {name!r:.100}")
        return os.path.join(self._directory, kind, *name.split("/"))  # noqa: PTH118

    def cache(self, name: str, timeout: float = 60, disk: type[Disk] | None = None, **settings: Any) -> Cache:
        """Return a separate cache in the directory. The same name returns the same cache.

        >>> fanout = FanoutCache()
        >>> fanout.cache("pages") is fanout.cache("pages")
        True
        """
        opened = self._caches.get(name)
        if opened is None:
            disk = self._flexcache_disk_class if disk is None else disk
            # The settings of the directory, except those that are given or have no effect with the disk.
            options = {**self._flexcache_options, **settings}
            if "serializer" not in settings and not uses_serializer(disk):
                del options["serializer"]
            opened = published(
                self._caches, name, Cache(self._flexcache_below("cache", name), timeout, disk, **options)
            )
        return opened

    def _flexcache_part(self, kind: str, name: str) -> Cache:
        folder, options = self._flexcache_below(kind, name), self._flexcache_options
        return Cache(folder, disk=self._flexcache_disk_class, eviction_policy="none", **options)

    def deque(self, name: str, maxlen: int | None = None) -> Deque:
        """Return a separate deque in the directory. The same name returns the same deque."""
        opened = self._deques.get(name)
        if opened is None:
            cache = self._flexcache_part("deque", name)
            opened = published(self._deques, name, Deque.fromcache(cache, maxlen=maxlen))
        return opened

    def index(self, name: str) -> Index:
        """Return a separate index in the directory. The same name returns the same index."""
        opened = self._indexes.get(name)
        if opened is None:
            cache = self._flexcache_part("index", name)
            opened = published(self._indexes, name, Index.fromcache(cache))
        return opened


def published(opened: dict[str, _Part], name: str, new: _Part) -> _Part:
    """Return what a dict has under a name: the new object, or the one that another thread has just put there."""
    kept = opened.setdefault(name, new)
    if kept is not new:
        new.close()
    return kept


def operational_error() -> type[Exception]:
    """Return SQLite's exception class, which is imported after a failure."""
    from sqlite3 import OperationalError

    return OperationalError


def _shaped(default: Any, expire_time: bool, tag: bool) -> Any:
    """Return a default in the form in which `get` does, with None for expiry time and tag if they are wanted."""
    wanted = operator.countOf((expire_time, tag), True)
    return (default, *[None] * wanted) if wanted else default
