"""The calls of a `SharedCache` that consist of native ones: those of a mapping, and those of several keys."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, overload

from flexcache_rs._arguments import each, pairs, whole_number
from flexcache_rs._asyncio_calls import at_once, to_thread
from flexcache_rs._core import SharedSegment
from flexcache_rs._suggest import suggesting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime, timedelta

_T = TypeVar("_T")
MISSING: Any = object()
"""The value of a key that has none."""
EMPTY = "the cache is empty"
"""The message of the error of `popitem`."""


@suggesting
class SharedCalls(SharedSegment):
    """The calls that need no more than the segment."""

    __slots__ = ()

    @overload
    def pop(self, key: object) -> Any: ...
    @overload
    def pop(self, key: object, default: _T) -> Any | _T: ...
    def pop(self, key: object, default: Any = MISSING) -> Any:
        """Remove a key and return its value. If several processes do this, exactly one gets the value.

        Raises:
            KeyError: The key has no value, and no default was given.
            TimeoutError: As for `delete`.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-pop", max_bytes=1 << 20) as cache:
        ...     cache["job"] = 1
        ...     print(cache.pop("job"), cache.pop("job", None))
        ...     _ = cache.unlink()
        1 None
        """
        found = self._pop(key)
        if found is not None:
            return found[0]
        if default is MISSING:
            raise KeyError(key)
        return default

    def decr(self, key: object, by: int = 1, initial: int = 0, ttl: float | timedelta | datetime | None = None) -> int:
        """Subtract from the int of a key. See `incr`.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-decr", max_bytes=1 << 20) as cache:
        ...     print(cache.decr("left", initial=10), cache.decr("left", 5))
        ...     _ = cache.unlink()
        9 4
        """
        return self.incr(key, -whole_number("by", by, -(1 << 63) + 1, 1 << 63), initial, ttl)

    def compare_and_set(
        self, key: object, old: object, new: object, ttl: float | timedelta | datetime | None = None
    ) -> bool:
        """Replace the value of a key if it equals `old`. It keeps its tags.

        The comparison uses `==`, outside all locks. The value is replaced only if no other caller has written to the
        key in the meantime.

        Returns:
            True if it was replaced.

        Raises:
            TooLargeError, TimeoutError, TypeError: As for `put`. An exception of `==` propagates to the caller.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-cas", max_bytes=1 << 20) as cache:
        ...     cache["state"] = "idle"
        ...     print(cache.compare_and_set("state", "idle", "busy"), cache.compare_and_set("state", "idle", "busy"))
        ...     _ = cache.unlink()
        True False
        """
        while True:
            found = self._read_version(key)
            if found is None:
                return False
            value, version = found
            if not (value is old or value == old):
                return False
            # If replacing fails, the entry was written, or only moved in memory. Look again.
            if self._replace(key, version, new, ttl):
                return True

    def get_many(self, keys: Iterable[object]) -> dict[Any, Any]:
        """Return a dict with the values of the present keys.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-many", max_bytes=1 << 20) as cache:
        ...     cache.set_many({"a": 1, "b": 2}, ttl=60)
        ...     print(cache.get_many(["a", "b", "c"]), cache.delete_many(["b", "c"]))
        ...     _ = cache.unlink()
        {'a': 1, 'b': 2} 1
        """
        found: dict[Any, Any] = {}
        for key in each("keys", keys):
            value = self.get(key, MISSING)
            if value is not MISSING:
                found[key] = value
        return found

    def set_many(
        self,
        entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        """Store the values of several keys, one after the other.

        Raises:
            TypeError: As for `put`. Nothing was stored.
            TooLargeError, TimeoutError: As for `put`. The entries before the failed one are stored.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-set_many", max_bytes=1 << 20) as cache:
        ...     cache.set_many({"a": 1, "b": 2}, ttl=60, tags=["letters"])
        ...     print(cache["a"], cache.evict_tag("letters"))
        ...     _ = cache.unlink()
        1 2
        """
        self._put_many(list(pairs("entries", entries)), ttl, tags)

    def delete_many(self, keys: Iterable[object]) -> int:
        """Remove several keys, one after the other. Returns the number of keys that had a value.

        Raises:
            TypeError: One of the keys cannot be a key. Nothing was removed.
            TimeoutError: As for `delete`. The keys before the failed one are removed.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-delete_many", max_bytes=1 << 20) as cache:
        ...     cache.update(a=1, b=2)
        ...     print(cache.delete_many(["a", "b", "c"]))
        ...     _ = cache.unlink()
        2
        """
        return self._delete_many(list(each("keys", keys)))

    def keys(self) -> list[Any]:
        """Return the keys of all values, in no particular order. A key that is present all the time occurs once.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-keys", max_bytes=1 << 20) as cache:
        ...     cache.update(a=1, b=2)
        ...     print(sorted(cache.keys()), sorted(cache))
        ...     _ = cache.unlink()
        ['a', 'b'] ['a', 'b']
        """
        return self._keys()

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Iterate over keys and values. Values that are removed during the iteration may be left out.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-items", max_bytes=1 << 20) as cache:
        ...     cache.update(a=1, b=2)
        ...     print(sorted(cache.items()))
        ...     _ = cache.unlink()
        [('a', 1), ('b', 2)]
        """
        for key in self._keys():
            value = self.get(key, MISSING)
            if value is not MISSING:
                yield key, value

    def values(self) -> Iterator[Any]:
        """Iterate over values. See `items`.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-values", max_bytes=1 << 20) as cache:
        ...     cache.update(a=1, b=2)
        ...     print(sorted(cache.values()))
        ...     _ = cache.unlink()
        [1, 2]
        """
        return (value for _, value in self.items())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys())

    def setdefault(self, key: object, default: Any = None) -> Any:
        """Return the value of a key. If there is none, store `default` first.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-setdefault", max_bytes=1 << 20) as cache:
        ...     print(cache.setdefault("a", 1), cache.setdefault("a", 2))
        ...     _ = cache.unlink()
        1 1
        """
        while True:
            value = self.get(key, MISSING)
            if value is not MISSING:
                return value
            if self.add(key, default):
                return default

    def update(self, entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **more: Any) -> None:
        """Store the values of several keys. See `set_many`.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-update", max_bytes=1 << 20) as cache:
        ...     cache.update({"a": 1}, b=2)
        ...     print(cache.get_many(["a", "b"]))
        ...     _ = cache.unlink()
        {'a': 1, 'b': 2}
        """
        self.set_many([*pairs("entries", entries), *more.items()])

    def popitem(self) -> tuple[Any, Any]:
        """Remove the first key that is found, and return the key and its value. Exactly one caller gets an entry.

        Raises:
            KeyError: The cache is empty.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-popitem", max_bytes=1 << 20) as cache:
        ...     cache["a"] = 1
        ...     print(cache.popitem(), len(cache))
        ...     _ = cache.unlink()
        ('a', 1) 0
        """
        for key in self._keys():
            found = self._pop(key)
            if found is not None:
                return key, found[0]
        raise KeyError(EMPTY)

    async def asetdefault(self, key: object, default: Any = None) -> Any:
        """The same as `setdefault`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache(None, max_bytes=1 << 20) as cache:
        ...         print(await cache.asetdefault("a", 1), await cache.asetdefault("a", 2))
        >>> asyncio.run(main())
        1 1
        """
        return await to_thread(self.setdefault, key, default)

    async def aupdate(self, entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **more: Any) -> None:
        """The same as `update`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache(None, max_bytes=1 << 20) as cache:
        ...         await cache.aupdate({"a": 1}, b=2)
        ...         print(cache.get_many(["a", "b"]))
        >>> asyncio.run(main())
        {'a': 1, 'b': 2}
        """
        await to_thread(self.update, entries, **more)

    async def apopitem(self) -> tuple[Any, Any]:
        """The same as `popitem`, awaited. See `apop`.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache(None, max_bytes=1 << 20) as cache:
        ...         cache["a"] = 1
        ...         print(await cache.apopitem())
        >>> asyncio.run(main())
        ('a', 1)
        """
        for key in await to_thread(self._keys):
            if found := await at_once(self, key, functools.partial(self._pop_at_once, key)):
                return key, found[0]
        raise KeyError(EMPTY)
