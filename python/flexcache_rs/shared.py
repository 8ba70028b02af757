"""One cache in memory for all processes of a machine.

>>> from flexcache_rs.shared import SharedCache
>>> with SharedCache("example", max_bytes=1 << 20) as cache:
...     cache["user:1"] = {"name": "Ada", "visits": 3}
...     print(cache["user:1"])
...     _ = cache.unlink()
{'name': 'Ada', 'visits': 3}

This module needs 64-bit Linux, macOS or Windows. docs/shared.md describes its guarantees, and on which systems it has
run.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, overload

from flexcache_rs._arguments import whole_number
from flexcache_rs._asyncio_calls import at_once, to_thread
from flexcache_rs._core import FlexCache
from flexcache_rs._first_use import importing
from flexcache_rs._hit_ratio import hit_ratio
from flexcache_rs._registry import register_shared
from flexcache_rs._shared_files import checked_place, name_of
from flexcache_rs._suggest import suggesting

try:
    from flexcache_rs._shared_calls import MISSING, SharedCalls
except ImportError:  # Other systems.
    raise ImportError("flexcache_rs.shared needs 64-bit Linux, macOS or Windows") from None

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from datetime import datetime, timedelta
    from types import TracebackType

    from typing_extensions import Self

    from flexcache_rs._memo import MemoizedFunction
    from flexcache_rs._memoize import Memoizer
    from flexcache_rs._shared_django import DjangoCache
    from flexcache_rs._shared_locks import SharedLimiter, SharedLock
    from flexcache_rs.disk.serializers import Serializer

__all__ = ["DjangoCache", "SharedCache", "SharedStats"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")


class SharedStats(NamedTuple):
    """The sums of all processes since the cache was created."""

    hits: int
    """Reads that found a value. Another process adds its counts after 256 reads, and when it closes the cache."""
    misses: int
    """Reads that found no value, counted in the same way."""
    entries: int
    """Entries, including expired ones that were not removed yet."""
    bytes: int
    """Bytes of the file of the cache. They never change."""
    live_bytes: int
    """Bytes that entries take."""
    capacity: int
    """Bytes that entries can take."""
    largest_item: int
    """Bytes of the largest possible entry: its stored key, its stored value and 24."""
    evicted: int
    """Entries that were removed to make room, including expired ones."""
    crowded: int
    """Entries that were removed because their part of the index was full. `expected_item` is then too large."""
    forced: int
    """Used entries that were removed because one call may only move a limited number of entries."""
    resets: int
    """Parts of the cache that were emptied because a process died in them, or because of damage."""
    damaged: int
    """Cases of damage that were found."""

    @property
    def hit_ratio(self) -> float:
        """Hits divided by reads, or 0.0 without reads."""
        return hit_ratio(self.hits, self.hits + self.misses)


@suggesting
class SharedCache(SharedCalls):
    """A bounded cache in memory that any number of processes share.

    Every process that opens the same name has the same entries. Reads take no lock. A process may be killed at any
    moment. In the worst case, a part of the cache is then emptied.

    Args:
        name: A name of letters, digits, "_", "-" and ".", or the path of a file: a `PathLike`, or a str with a "/". A
            name stands for a file in a directory that belongs to the user: under /dev/shm, on macOS among the user's
            temporary files, and on Windows among the user's local data. None makes a temporary cache. Children that are
            forked share it, and so do processes that get the pickled object. It is removed when the last process has
            closed it or has ended.
        max_bytes: The bytes of the file. They are allocated at once. An existing cache keeps its size.
        expected_item: The bytes of an average entry: key, value and 24. An error by a factor of two costs little.
        max_item: The bytes of the largest entry. By default a quarter of a part of the cache, at most 1 MiB.
        default_ttl: The time to live of entries without one of their own. None means for ever.
        lock_timeout: The number of seconds for which a write waits for the write of another process.
        resize: Whether to replace a cache of another size by an empty one. All processes then use the new one.
        create: Whether to create the cache if there is none. False raises `FileNotFoundError` instead, also in later
            calls after the cache was removed.
        serializer: The serializer for values that are not plain: one of `flexcache_rs.disk.serializers`.
            `PickleSerializer(allow=[...])` loads only the named classes, and `JSONSerializer()` loads no pickles.
            None means pickle, which loads everything. All processes must use the same serializer.

    Raises:
        ValueError: An argument is out of range.
        MemoryError: The memory limit of the container leaves less than `max_bytes`.
        OSError: The file system has no room, or the file is not a cache or belongs to another version or pid namespace.
        PermissionError: Other users have access to the file or its directory.

    >>> from flexcache_rs.shared import SharedCache
    >>> with SharedCache("example-class", max_bytes=1 << 20) as cache, SharedCache("example-class") as other:
    ...     cache.put("key", ("a", "value"), ttl=60)
    ...     print(other["key"])
    ...     _ = cache.unlink()
    ('a', 'value')
    """

    def __init__(
        self,
        name: str | os.PathLike[str] | None,
        max_bytes: int = 64 << 20,
        *,
        expected_item: int = 128,
        max_item: int | None = None,
        default_ttl: float | timedelta | datetime | None = None,
        lock_timeout: float | timedelta = 1.0,
        resize: bool = False,
        create: bool = True,
        serializer: Serializer | None = None,
    ) -> None:
        for argument, number in (("max_bytes", max_bytes), ("expected_item", expected_item), ("max_item", max_item)):
            if number is not None or argument != "max_item":
                whole_number(argument, number, 0, (1 << 63) - 1)
        place, is_path = (None, False) if name is None else checked_place(name)
        if serializer is not None and not all(callable(getattr(serializer, name, None)) for name in ("dumps", "loads")):
            message = f"serializer must have the methods dumps and loads, unlike {type(serializer).__name__}"
            raise TypeError(message)
        self._open(
            place,
            is_path,
            max_bytes,
            expected_item,
            max_item,
            default_ttl,
            lock_timeout,
            bool(resize),
            bool(create),
            serializer,
        )
        self._options: dict[str, Any] = {
            "max_bytes": max_bytes,
            "expected_item": expected_item,
            "max_item": max_item,
            "default_ttl": default_ttl,
            "lock_timeout": lock_timeout,
            "create": create,
            "serializer": serializer,
        }
        self._front: FlexCache[Any, Any] | None = None
        self.name: str = name_of(Path(self.path)) if place is None else place
        """The name with which it was opened, in this process or in the process that pickled it.

        A temporary cache gets one.
        """
        register_shared(self)

    def _in_front(self) -> FlexCache[Any, Any]:
        """The cache in memory that coordinates computations. It keeps almost no entries."""
        if self._front is None:
            self._front = FlexCache(max_items=1, store=self, default_ttl=self._options["default_ttl"])
        return self._front

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
        """Pickle the path. Another process that unpickles it shares the entries."""
        return _reopen, (type(self), str(self.path), self._options, self.name)

    def get_or_set(
        self,
        key: object,
        factory: Callable[[], _T],
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> _T:
        """Return the value of a key. If it has none, call `factory()`, store its result and return it.

        If several threads and processes ask at the same time, one of them calls its factory, and the others wait. If
        a caller writes to the key during the computation, the result is returned but not stored. If the process dies,
        or computes for longer than 30 seconds, another caller computes.

        Raises:
            CircularLoadError: The factory would have to wait for itself.
            LoadFailedElsewhere: The factory of another process raised an exception that cannot be restored here.
            TypeError: The key is of another type.

        An exception of the factory propagates. A value that is too large is returned and not stored, and a warning is
        issued.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-load", max_bytes=1 << 20) as cache:
        ...     print(cache.get_or_set("page", lambda: "computed", ttl=60), cache["page"])
        ...     _ = cache.unlink()
        computed computed
        """
        found: Any = self._find(key, MISSING)
        if found is MISSING:
            found = self._in_front().get_or_set(key, factory, ttl, tags)
        value: _T = found
        return value

    async def aget_or_set(
        self,
        key: object,
        factory: Callable[[], Awaitable[_T] | _T],
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> _T:
        """The same as `get_or_set`, and `factory` may be a coroutine function. Other tasks run while it waits.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache("example-aget_or_set", max_bytes=1 << 20) as cache:
        ...         async def compute():
        ...             return 42
        ...         print(await cache.aget_or_set("answer", compute), cache["answer"])
        ...         await cache.aunlink()
        >>> asyncio.run(main())
        42 42
        """
        found: Any = self._find(key, MISSING)
        if found is MISSING:
            found = await self._in_front().aget_or_set(key, factory, ttl, tags)
        value: _T = found
        return value

    @overload
    def memoize(self, function: Callable[_P, _R], /) -> MemoizedFunction[_P, _R]: ...
    @overload
    def memoize(self, function: None = None, /, **options: Any) -> Memoizer: ...
    def memoize(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Keep the results of a function, as a decorator with or without arguments.

        All processes with a function of this name share the results. The options are those of `FlexCache.memoize`.
        Concurrent calls with the same arguments compute once. To also keep results in the memory of the process, use
        the `memoize` of a `FlexCache(store=cache)`.

        Raises:
            TypeError, ValueError: As for `flexcache_rs.memoize`.

        >>> from flexcache_rs.shared import SharedCache
        >>> cache = SharedCache("example-memoize", max_bytes=1 << 20)
        >>> @cache.memoize(ttl=60, name="square")
        ... def square(n):
        ...     return n * n
        >>> square(4), cache.unlink()
        (16, True)
        """
        return self._in_front().memoize(function, **options)

    def lock(self, name: object, ttl: float | timedelta = 30.0, timeout: float | timedelta | None = None) -> SharedLock:
        """Return a lock that excludes other threads and processes.

        It is advisory. It becomes free when `ttl` is over. Eviction, `clear` or the death of a process inside the
        cache can free it too.

        Args:
            name: The name of the lock, which is a key. The lock is independent of the entry of that key.
            ttl: The largest number of seconds for which it is held, unless `renew()` is called. It becomes free when
                its process dies.
            timeout: The number of seconds for which `with` and `acquire()` wait. None means for ever.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-lock", max_bytes=1 << 20) as cache:
        ...     with cache.lock("report"):
        ...         print(cache.lock("report").acquire(timeout=0))
        ...     _ = cache.unlink()
        False
        """
        from flexcache_rs._shared_locks import SharedLock

        return SharedLock(self, name, ttl, timeout)

    def limiter(self, name: object, limit: int, per: float | timedelta = 1.0) -> SharedLimiter:
        """Return a rate limiter for all threads and processes together.

        Args:
            name: The name of the limiter, which is a key. The limiter is independent of the entry of that key.
            limit: The number of uses in each `per` seconds. They return at an even rate. After a pause, a caller may
                take all of them at once.
            per: A number of seconds.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-limiter", max_bytes=1 << 20) as cache:
        ...     limiter = cache.limiter("mails", 2, per=3600)
        ...     print([limiter.acquire(timeout=0) for _ in range(3)])
        ...     _ = cache.unlink()
        [True, True, False]
        """
        from flexcache_rs._shared_locks import SharedLimiter

        return SharedLimiter(self, name, limit, per)

    # Calls that must wait for another process's write wait in a thread.

    async def aput(
        self,
        key: object,
        value: object,
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        """The same as `put`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache("example-aput", max_bytes=1 << 20) as cache:
        ...         await cache.aput("key", [1, 2], ttl=60)
        ...         print(cache["key"])
        ...         await cache.aunlink()
        >>> asyncio.run(main())
        [1, 2]
        """
        await to_thread(self.put, key, value, ttl, tags)

    aset = aput

    async def aadd(
        self,
        key: object,
        value: object,
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> bool:
        """The same as `add`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache("example-aadd", max_bytes=1 << 20) as cache:
        ...         print(await cache.aadd("key", 1), await cache.aadd("key", 2))
        ...         await cache.aunlink()
        >>> asyncio.run(main())
        True False
        """
        return await to_thread(self.add, key, value, ttl, tags)

    async def adelete(self, key: object) -> bool:
        """The same as `delete`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache("example-adelete", max_bytes=1 << 20) as cache:
        ...         cache["key"] = 1
        ...         print(await cache.adelete("key"), await cache.adelete("key"))
        ...         await cache.aunlink()
        >>> asyncio.run(main())
        True False
        """
        return await to_thread(self.delete, key)

    async def apop(self, key: object, default: Any = MISSING) -> Any:
        """The same as `pop`, awaited. A task that is cancelled has taken nothing: no value is taken in a thread.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache("example-apop", max_bytes=1 << 20) as cache:
        ...         cache["key"] = 1
        ...         print(await cache.apop("key"), await cache.apop("key", None))
        ...         await cache.aunlink()
        >>> asyncio.run(main())
        1 None
        """
        (found,) = await at_once(self, key, functools.partial(self._pop_at_once, key)) or (default,)
        if found is MISSING:
            raise KeyError(key)
        return found

    async def atouch(self, key: object, ttl: float | timedelta | datetime | None = None) -> bool:
        """The same as `touch`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache(None, max_bytes=1 << 20) as cache:
        ...         cache["a"] = 1
        ...         print(await cache.atouch("a", 60), await cache.atouch("b", 60))
        >>> asyncio.run(main())
        True False
        """
        return await to_thread(self.touch, key, ttl)

    async def aincr(
        self, key: object, by: int = 1, initial: int = 0, ttl: float | timedelta | datetime | None = None
    ) -> int:
        """The same as `incr`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache("example-aincr", max_bytes=1 << 20) as cache:
        ...         print(await cache.aincr("visits"), await cache.aincr("visits", 10))
        ...         await cache.aunlink()
        >>> asyncio.run(main())
        1 11
        """
        return await to_thread(self.incr, key, by, initial, ttl)

    async def adecr(
        self, key: object, by: int = 1, initial: int = 0, ttl: float | timedelta | datetime | None = None
    ) -> int:
        """The same as `decr`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache(None, max_bytes=1 << 20) as cache:
        ...         print(await cache.adecr("left", initial=10))
        >>> asyncio.run(main())
        9
        """
        return await to_thread(self.decr, key, by, initial, ttl)

    async def acompare_and_set(
        self, key: object, old: object, new: object, ttl: float | timedelta | datetime | None = None
    ) -> bool:
        """The same as `compare_and_set`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache(None, max_bytes=1 << 20) as cache:
        ...         cache["leader"] = "me"
        ...         print(await cache.acompare_and_set("leader", "me", "you"))
        >>> asyncio.run(main())
        True
        """
        return await to_thread(self.compare_and_set, key, old, new, ttl)

    async def aset_many(
        self,
        entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        """The same as `set_many`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache("example-aset_many", max_bytes=1 << 20) as cache:
        ...         await cache.aset_many({"a": 1, "b": 2})
        ...         print(cache.get_many(["a", "b"]))
        ...         await cache.aunlink()
        >>> asyncio.run(main())
        {'a': 1, 'b': 2}
        """
        await to_thread(self.set_many, entries, ttl, tags)

    async def adelete_many(self, keys: Iterable[object]) -> int:
        """The same as `delete_many`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache(None, max_bytes=1 << 20) as cache:
        ...         cache.update(a=1, b=2)
        ...         print(await cache.adelete_many(["a", "c"]))
        >>> asyncio.run(main())
        1
        """
        return await to_thread(self.delete_many, keys)

    async def aevict_tag(self, tag: str) -> int:
        """The same as `evict_tag`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache(None, max_bytes=1 << 20) as cache:
        ...         cache.put("a", 1, tags=("page",))
        ...         print(await cache.aevict_tag("page"))
        >>> asyncio.run(main())
        1
        """
        return await to_thread(self.evict_tag, tag)

    async def aclear(self) -> int:
        """The same as `clear`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache(None, max_bytes=1 << 20) as cache:
        ...         cache.update(a=1, b=2)
        ...         print(await cache.aclear())
        >>> asyncio.run(main())
        2
        """
        return await to_thread(self.clear)

    async def aunlink(self) -> bool:
        """The same as `unlink`, awaited.

        >>> import asyncio
        >>> from flexcache_rs.shared import SharedCache
        >>> async def main():
        ...     async with SharedCache(None, max_bytes=1 << 20) as cache:
        ...         print(await cache.aunlink())
        >>> asyncio.run(main())
        True
        """
        return await to_thread(self.unlink)

    async def aclose(self) -> None:
        """The same as `close`, which does not wait. The end of an `async with` block does the same."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def stats(self) -> SharedStats:
        """Return the sums of all processes.

        >>> from flexcache_rs.shared import SharedCache
        >>> with SharedCache("example-stats", max_bytes=1 << 20) as cache:
        ...     cache["a"] = 1
        ...     print(cache.stats().entries, cache.stats().bytes <= 1 << 20)
        ...     _ = cache.unlink()
        1 True
        """
        return SharedStats(**self._stats())


def _reopen(class_: type[SharedCache], path: str, options: dict[str, Any], name: str) -> SharedCache:
    cache = class_(path, **options)
    cache.name = name
    return cache


if not TYPE_CHECKING:
    __getattr__, __dir__ = importing(__name__, {"DjangoCache": "flexcache_rs._shared_django"})
