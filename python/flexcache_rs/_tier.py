"""What a cache's `store` is, and how `flexcache_rs.disk` is one."""

from __future__ import annotations

import contextlib
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any

    from flexcache_rs._store import Store
    from flexcache_rs.disk import Cache, FanoutCache


class _Missing(tuple[()]):
    """Stands for no value."""

    __slots__ = ()


_MISSING = _Missing()


class DiskStore:
    """A cache of `flexcache_rs.disk` as a store."""

    version = None

    def __init__(self, cache: Cache | FanoutCache) -> None:
        from flexcache_rs.disk import FanoutCache

        self._cache = cache
        fans_out = isinstance(cache, FanoutCache)
        self.databases = list(cache.shards) if fans_out else [cache]
        # Each shard waits for a hundredth of a second, and says nothing if that was not enough.
        self._retry = fans_out

    def load(self, key: Any) -> tuple[Any, float | None, tuple[str, ...]] | None:
        """Value, seconds left to live and tags of a live entry."""
        return _loaded(self._cache.get(key, _MISSING, expire_time=True, tag=True, retry=self._retry))

    def pop(self, key: Any) -> tuple[Any, float | None, tuple[str, ...]] | None:
        """Takes an entry out."""
        return _loaded(self._cache.pop(key, _MISSING, expire_time=True, tag=True, retry=self._retry))

    def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
        """Stores or replaces an entry."""
        self._cache.set(key, value, expire=ttl, tag=_only(tags), retry=self._retry)

    def add(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> bool:
        """Stores where there is no entry; whether it did."""
        return self._cache.add(key, value, expire=ttl, tag=_only(tags), retry=self._retry)

    def remove(self, key: Any) -> bool:
        """Removes an entry; whether it was there."""
        return self._cache.delete(key, retry=self._retry)

    def contains(self, key: Any) -> bool:
        """Whether there is a live entry."""
        return key in self._cache

    def touch(self, key: Any, ttl: float | None) -> bool:
        """Gives an entry another time to live; whether it is there."""
        return self._cache.touch(key, ttl, retry=self._retry)

    def evict_tag(self, tag: str) -> int:
        """Removes what has a tag; how many entries."""
        return self._cache.evict(tag, retry=self._retry)

    def clear(self) -> None:
        """Removes all entries."""
        self._cache.clear(retry=self._retry)

    def transact(self) -> AbstractContextManager[None]:
        """One transaction for many writes."""
        return self._cache.transact(retry=self._retry)


def _loaded(found: tuple[Any, float | None, Any]) -> tuple[Any, float | None, tuple[str, ...]] | None:
    value, expires, tag = found
    if value is _MISSING:
        return None
    return value, None if expires is None else expires - time.time(), (tag,) if isinstance(tag, str) else ()


def _only(tags: tuple[str, ...]) -> str | None:
    if len(tags) > 1:
        raise ValueError(f"tags must be at most one with a store on disk, which keeps one for an entry, not {tags!r}")
    return tags[0] if tags else None


class _Completed:
    """A store of the user's, with what it lacks made of what it has."""

    databases: tuple[()] = ()
    version: Callable[[], int] | None

    def __init__(self, store: Store) -> None:
        for name in ("load", "save", "remove", "clear"):
            if not callable(getattr(store, name, None)):
                raise TypeError(f"store must have the methods load, save, remove and clear; {store!r} has no {name}")
            setattr(self, name, getattr(store, name))
        for name in ("add", "pop", "contains", "touch", "evict_tag", "transact"):
            setattr(self, name, getattr(store, name, None) or getattr(self, f"_{name}"))
        self.version = getattr(store, "version", None)
        self._store = store

    def _add(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> bool:
        if self._store.load(key) is not None:
            return False
        self._store.save(key, value, ttl, tags)
        return True

    def _pop(self, key: Any) -> tuple[Any, float | None, tuple[str, ...]] | None:
        found = self._store.load(key)
        return found if found is not None and self._store.remove(key) else None

    def _contains(self, key: Any) -> bool:
        return self._store.load(key) is not None

    def _touch(self, key: Any, ttl: float | None) -> bool:
        found = self._store.load(key)
        if found is None:
            return False
        self._store.save(key, found[0], ttl, found[2])
        return True

    def _evict_tag(self, _tag: str) -> int:
        raise TypeError(f"evict_tag() needs a store that has it; {self._store!r} has not")

    def _transact(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()


def adapt(store: Any) -> DiskStore | _Completed:
    """The store with all the methods that a cache calls."""
    from flexcache_rs.disk import Cache, FanoutCache

    return DiskStore(store) if isinstance(store, (Cache, FanoutCache)) else _Completed(store)
