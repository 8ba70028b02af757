"""One cache in memory for all processes of a machine.

>>> from flexcache_rs.shared import SharedCache
>>> with SharedCache("example", max_bytes=1 << 20) as cache:
...     cache["user:1"] = {"name": "Ada", "visits": 3}
...     print(cache["user:1"])
...     _ = cache.unlink()
{'name': 'Ada', 'visits': 3}

Linux only, on 64 bits. docs/shared.md says what it guarantees.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from flexcache_rs._suggest import suggesting

try:
    from flexcache_rs._core import SharedSegment
except ImportError:  # Other systems.
    raise ImportError("flexcache_rs.shared needs Linux on 64 bits") from None

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime, timedelta
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["SharedCache", "SharedStats"]

_T = TypeVar("_T")
_MISSING: Any = object()


class SharedStats(NamedTuple):
    """Sums over a cache, by all processes, since it was created."""

    entries: int
    """Entries, those included that have expired and were not met yet."""
    bytes: int
    """Bytes of the cache's file, which never change."""
    live_bytes: int
    """Bytes that entries take."""
    capacity: int
    """Bytes that entries can take."""
    largest_item: int
    """Bytes of the largest possible entry: its key and value as stored, and 32."""
    evicted: int
    """Entries that were removed to make room, expired ones included."""
    crowded: int
    """Entries that were removed because the index was full where they were: `expected_item` is too large."""
    forced: int
    """Used entries that were removed because one call may not move more."""
    resets: int
    """Parts of the cache that were emptied because a process died in them, or because of damage."""
    damaged: int
    """Damage that was found."""


class SharedCache(SharedSegment):
    """A bounded cache in memory which any number of processes share.

    Every process that opens the same name has the same entries. Reads take no lock. A process may be killed at any
    moment: at worst a part of the cache is emptied then.

    Args:
        name: A name of letters, digits, "_", "-" and ".", or the path of a file: a `PathLike`, or a str with a "/". A
            name stands for a file in a directory of the user's own under /dev/shm.
        max_bytes: The bytes of the file. They are allocated at once. A cache that is already there keeps its size.
        expected_item: The bytes of an average entry: key, value and 32. Half of it or twice as much costs little.
        max_item: The bytes of the largest entry. By default a quarter of a part of the cache, at most 1 MiB.
        default_ttl: The time to live of entries for which none is given; None for ever.
        lock_timeout: How many seconds a write waits for another process's.
        resize: Replace a cache of another size by an empty one. All processes follow.

    Raises:
        ValueError: An argument is out of range.
        MemoryError: The memory limit of the container leaves less than `max_bytes`.
        OSError: The file system has no room, or the file is not a cache or belongs to another version or pid namespace.
        PermissionError: The file or its directory is not this user's alone.

    >>> from flexcache_rs.shared import SharedCache
    >>> with SharedCache("example-class", max_bytes=1 << 20) as cache, SharedCache("example-class") as other:
    ...     cache.put("key", ("a", "value"), ttl=60)
    ...     print(other["key"])
    ...     _ = cache.unlink()
    ('a', 'value')
    """

    @suggesting
    def __init__(
        self,
        name: str | os.PathLike[str],
        max_bytes: int = 64 << 20,
        *,
        expected_item: int = 128,
        max_item: int | None = None,
        default_ttl: float | timedelta | datetime | None = None,
        lock_timeout: float | timedelta = 1.0,
        resize: bool = False,
    ) -> None:
        if not isinstance(name, (str, os.PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
            message = f"name must be a str or a path, not {type(name).__name__}"
            raise TypeError(message)
        for argument, number in (("max_bytes", max_bytes), ("expected_item", expected_item), ("max_item", max_item)):
            if number is None and argument == "max_item":
                continue
            if isinstance(number, bool) or not isinstance(number, int):
                message = f"{argument} must be an int, not {type(number).__name__}"
                raise TypeError(message)
            if not 0 <= number < 1 << 63:
                message = f"{argument} must be from 0 to 2**63 - 1, not {number}"
                raise ValueError(message)
        place = os.fspath(name)
        if not isinstance(place, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            message = f"name must be a path of str, not of {type(place).__name__}"
            raise TypeError(message)
        is_path = isinstance(name, os.PathLike) or "/" in place
        self._open(place, is_path, max_bytes, expected_item, max_item, default_ttl, lock_timeout, bool(resize))
        self._options = {
            "max_bytes": max_bytes,
            "expected_item": expected_item,
            "max_item": max_item,
            "default_ttl": default_ttl,
            "lock_timeout": lock_timeout,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            return f"<{type(self).__name__} {str(self.path)!r} entries={len(self)}>"
        except ValueError:
            return f"<{type(self).__name__} closed>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the path: another process that unpickles it shares the entries."""
        return _reopen, (type(self), str(self.path), self._options)

    @overload
    def pop(self, key: object) -> Any: ...
    @overload
    def pop(self, key: object, default: _T) -> Any | _T: ...
    def pop(self, key: object, default: Any = _MISSING) -> Any:
        """Remove a key and return its value. Of several processes exactly one gets it.

        Raises:
            KeyError: There is no value, and no default was given.
            TimeoutError: As `delete`.

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
        if default is _MISSING:
            raise KeyError(key)
        return default

    def decr(self, key: object, by: int = 1, initial: int = 0, ttl: float | timedelta | datetime | None = None) -> int:
        """Subtract from the int of a key. See `incr`."""
        return self.incr(key, -by, initial, ttl)

    def compare_and_set(
        self, key: object, old: object, new: object, ttl: float | timedelta | datetime | None = None
    ) -> bool:
        """Replace the value of a key if it equals `old`.

        `==` compares, outside all locks; the value is replaced only if nobody has written to the key meanwhile.

        Returns:
            True if it was replaced.

        Raises:
            As `put`, and what `==` raises.

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
            # Where it fails, the entry was written to, or only moved: look again.
            if self._replace(key, version, new, ttl):
                return True

    def get_many(self, keys: Iterable[object]) -> dict[Any, Any]:
        """Return the values of those keys that have one.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-many", max_bytes=1 << 20) as cache:
        ...     cache.set_many({"a": 1, "b": 2}, ttl=60)
        ...     print(cache.get_many(["a", "b", "c"]), cache.delete_many(["b", "c"]))
        ...     _ = cache.unlink()
        {'a': 1, 'b': 2} 1
        """
        found: dict[Any, Any] = {}
        for key in keys:
            value = self.get(key, _MISSING)
            if value is not _MISSING:
                found[key] = value
        return found

    def set_many(
        self,
        entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        ttl: float | timedelta | datetime | None = None,
    ) -> None:
        """Store the values of several keys, one after the other.

        Raises:
            As `put`. Entries before the one that failed are stored.
        """
        pairs: Any = entries
        if hasattr(entries, "items"):
            pairs = pairs.items()
        for key, value in pairs:
            self.put(key, value, ttl)

    def delete_many(self, keys: Iterable[object]) -> int:
        """Remove several keys, one after the other. Returns how many had a value."""
        return sum(self.delete(key) for key in keys)

    def keys(self) -> list[Any]:
        """Return the keys of all values, in no order. A key that is there all the time occurs once."""
        return self._keys()

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Iterate over keys and values. Values that are gone when their turn comes are left out."""
        for key in self._keys():
            value = self.get(key, _MISSING)
            if value is not _MISSING:
                yield key, value

    def values(self) -> Iterator[Any]:
        """Iterate over values. See `items`."""
        return (value for _, value in self.items())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys())

    def setdefault(self, key: object, default: Any = None) -> Any:
        """Return the value of a key, after storing `default` if there is none."""
        while True:
            value = self.get(key, _MISSING)
            if value is not _MISSING:
                return value
            if self.add(key, default):
                return default

    def update(self, entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **more: Any) -> None:
        """Store the values of several keys. See `set_many`."""
        self.set_many(entries)
        self.set_many(more)

    def stats(self) -> SharedStats:
        """Return sums over the cache.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-stats", max_bytes=1 << 20) as cache:
        ...     cache["a"] = 1
        ...     print(cache.stats().entries, cache.stats().bytes <= 1 << 20)
        ...     _ = cache.unlink()
        1 True
        """
        return SharedStats(**self._stats())


def _reopen(class_: type[SharedCache], path: str, options: dict[str, Any]) -> SharedCache:
    return class_(path, **options)
