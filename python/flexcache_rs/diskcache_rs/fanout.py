"""`FanoutCache` with diskcache_rs's names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from flexcache_rs import disk
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.checks import duration
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.disk.fanout import published
from flexcache_rs.diskcache_rs.cache import (
    Cache,
    Calls,
    Deque,
    Index,
    Numbers,
    directory_or_default,
    settings_of,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from datetime import timedelta


@suggesting
class FanoutCache(Calls, disk.FanoutCache):  # type: ignore[misc]  # As `Cache`.
    """A cache in several databases. As `flexcache_rs.disk.FanoutCache`, with diskcache_rs's arguments and calls.

    Args:
        directory: As for `Cache`.
        shards: The number of databases. It must be the same every time.
        timeout: As for `Cache`.
        **settings: As for `Cache`, but for `max_entries` and `count_limit`, which are not known here.

    >>> import tempfile
    >>> cache = FanoutCache(tempfile.mkdtemp(), shards=4)
    >>> cache["b"], cache["a"] = 1, 2
    >>> cache.keys(), cache.peekitem()
    (['a', 'b'], ('b', 1))
    """

    _flexcache_plain = disk.FanoutCache
    _flexcache_class_of_shards: ClassVar[type[disk.Cache]] = disk.Cache

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        shards: int = 8,
        timeout: float | timedelta = 60.0,
        **settings: Any,
    ) -> None:
        self._flexcache_counted = Numbers()
        super().__init__(
            directory_or_default(directory), shards, duration("timeout", timeout, least=0), **settings_of(settings)
        )

    @property
    def directory(self) -> Path:  # type: ignore[override]
        """The directory."""
        return Path(super().directory)

    def _flexcache_cache_of(self, key: Any) -> disk.Cache:
        return self._flexcache_shard(key)

    def expire(self, now: float | None = None, retry: bool = False) -> int:  # type: ignore[override]
        """Remove the entries that have expired at `now`, in seconds since 1970; None means now. Returns how many."""
        return sum(shard.expire(now, retry) for shard in self._shards)

    def __reversed__(self) -> Iterator[Any]:
        return self.iterkeys(reverse=True)

    def peekitem(
        self, last: bool = True, expire_time: bool = False, tag: bool = False, retry: bool = False
    ) -> tuple[Any, ...]:
        """Return the last or the first key in their order, its value and the other requested data, in one tuple.

        Raises:
            KeyError: The cache is empty.
        """
        for key in self.iterkeys(reverse=last):
            value, *beside = disk.FanoutCache.get(self, key, ENOVAL, False, True, True, retry)
            # Another process may have removed it meanwhile.
            if value is not ENOVAL:
                return (key, value, *(told for wanted, told in zip((expire_time, tag), beside, strict=True) if wanted))
        raise KeyError("the cache is empty")

    def reset(self, key: str, value: Any = None) -> Any:
        """The same as `Cache.reset`, in every database. `size_limit` is that of all databases together."""
        try:
            if value is None:
                found = super().reset(key)
                return found * self._count if key == "size_limit" else found
            if key == "size_limit":
                super().reset(key, value / self._count)
                return value
            return super().reset(key, value)
        except ValueError:
            if value is None:
                return None
            raise

    def __getstate__(self) -> tuple[Any, ...]:
        return str(self.directory), self._count, self.timeout

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def cache(self, name: str, timeout: float = 60, **settings: Any) -> Cache:  # type: ignore[override]
        """Return a separate cache in the directory. Calls with the same name return the same one."""
        opened = self._caches.get(name)
        if opened is None:
            opened = published(self._caches, name, Cache(self._flexcache_below("cache", name), timeout, **settings))
        return opened  # type: ignore[return-value]

    def deque(self, name: str, maxlen: int | None = None) -> Deque:
        """Return a separate deque in the directory. Calls with the same name return the same one."""
        opened = self._deques.get(name)
        if opened is None:
            opened = published(self._deques, name, Deque(directory=self._flexcache_below("deque", name), maxlen=maxlen))
        return opened  # type: ignore[return-value]

    def index(self, name: str) -> Index:
        """Return a separate index in the directory. Calls with the same name return the same one."""
        opened = self._indexes.get(name)
        if opened is None:
            opened = published(self._indexes, name, Index(directory=self._flexcache_below("index", name)))
        return opened  # type: ignore[return-value]
