"""The awaited calls of a `RemoteCache`. They use a connection of the event loop if possible, and otherwise a thread."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from flexcache_rs._arguments import check_callable, each, pairs, whole_number
from flexcache_rs._asyncio_calls import begin_in_thread, to_thread
from flexcache_rs._core import NearCache
from flexcache_rs._suggest import called_by_position, suggesting
from flexcache_rs.remote.loop_calls import UNKNOWN
from flexcache_rs.remote.reads import LENIENT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from contextvars import Token
    from datetime import datetime, timedelta
    from types import TracebackType

    from typing_extensions import Self

    from flexcache_rs.remote.loop_calls import LoopCalls
    from flexcache_rs.remote.store import RemoteStore

_T = TypeVar("_T")
_MISSING: Any = object()


def _reset(token: Token[bool]) -> None:
    """Reset `LENIENT`. An abandoned coroutine is closed in another context, in which the token is invalid."""
    with contextlib.suppress(ValueError):
        LENIENT.reset(token)


def _repeatable(tags: Any) -> Any:
    """Return tags that can be iterated twice, because a thread may need them after the event loop."""
    return tuple(tags) if hasattr(tags, "__next__") else tags


@suggesting
class Awaited(NearCache):
    """The async calls, prefixed with `a`, for any number of event loops."""

    __slots__ = ()

    _loop_calls: LoopCalls
    _store: RemoteStore

    @called_by_position
    async def aget(self, key: Any, default: Any = None) -> Any:
        """The same as `get`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "aget") as cache:
        ...         cache["key"] = 1
        ...         print(await cache.aget("key"), await cache.aget("absent"))
        >>> asyncio.run(main())
        1 None
        """
        value: Any = self._get_from_memory(key, _MISSING)
        if value is not _MISSING:
            return value
        found: Any = await self._loop_calls.load(key)
        if found is UNKNOWN:
            return await self._in_thread("get", key, default)
        return self._near._take_loaded(key, found, default)

    def _past_memory(self, key: Any, write: Callable[..., _T], *arguments: Any) -> _T:
        """Make a call that writes a key. It also removes the copy in memory, and discards computations of the key."""
        self._near._discard([key])
        try:
            return write(key, *arguments)
        finally:
            self._near._discard([key])

    async def _in_thread(self, name: str, *arguments: Any) -> Any:
        return await to_thread(getattr(self, name), *arguments)

    async def _call(self, name: str, *arguments: Any) -> Any:
        """Make a call over the connection of the event loop, or in a thread if that is not possible."""
        result: Any = await getattr(self._loop_calls, name)(*arguments)
        return await self._in_thread(name, *arguments) if result is UNKNOWN else result

    async def afresh(self, key: Any, default: Any = None) -> Any:
        """The same as `fresh`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "afresh") as cache:
        ...         cache["key"] = 1
        ...         print(await cache.afresh("key"), await cache.afresh("absent", 0))
        >>> asyncio.run(main())
        1 0
        """
        found: Any = await self._loop_calls.load(key, anew=True)
        if found is UNKNOWN:
            return await self._in_thread("fresh", key, default)
        return default if found[0] is None else found[0][0]

    async def attl(self, key: Any) -> float | None:
        """The same as `ttl`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "attl") as cache:
        ...         await cache.aput("key", 1, ttl=60)
        ...         print(59 < await cache.attl("key") <= 60)
        >>> asyncio.run(main())
        True
        """
        seconds: float | None = await self._call("ttl", key)
        return seconds

    async def aget_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """The same as `get_many`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "aget_many") as cache:
        ...         cache.set_many({"a": 1, "b": 2})
        ...         print(await cache.aget_many(["a", "b", "c"]))
        >>> asyncio.run(main())
        {'a': 1, 'b': 2}
        """
        return await self._loop_calls.get_many(list(each("keys", keys)))

    async def ascan(self, prefix: str = "") -> list[Any]:
        """The keys of `scan`, as a list, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "ascan") as cache:
        ...         cache.set_many({"user:1": 1, "user:2": 2, "page": 3})
        ...         print(sorted(await cache.ascan("user:")))
        >>> asyncio.run(main())
        ['user:1', 'user:2']
        """
        keys: list[Any] = await to_thread(lambda: list(getattr(self, "scan")(prefix)))  # noqa: B009
        return keys

    async def aput(
        self,
        key: Any,
        value: Any,
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        """The same as `put`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "aput") as cache:
        ...         await cache.aput("key", [1, 2], ttl=60)
        ...         print(await cache.aget("key"))
        >>> asyncio.run(main())
        [1, 2]
        """
        await self._call("put", key, value, ttl, _repeatable(tags))

    aset = aput

    async def aadd(
        self,
        key: Any,
        value: Any,
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> bool:
        """The same as `add`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "aadd") as cache:
        ...         print(await cache.aadd("key", 1), await cache.aadd("key", 2))
        >>> asyncio.run(main())
        True False
        """
        return bool(await self._call("add", key, value, ttl, _repeatable(tags)))

    async def adelete(self, key: Any) -> bool:
        """The same as `delete`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "adelete") as cache:
        ...         cache["key"] = 1
        ...         print(await cache.adelete("key"), await cache.adelete("key"))
        >>> asyncio.run(main())
        True False
        """
        return bool(await self._call("delete", key))

    async def apop(self, key: Any, default: Any = _MISSING) -> Any:
        """The same as `pop`, awaited. If the task is cancelled before it has the value, the value is put back.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "apop") as cache:
        ...         cache["key"] = 1
        ...         print(await cache.apop("key"), await cache.apop("key", None))
        >>> asyncio.run(main())
        1 None
        """
        from flexcache_rs._taking import take_in_thread

        near, pop = self._near, self._store.pop

        def take() -> Any:
            return self._past_memory(key, pop)

        def put_back(taken: Any) -> None:
            if taken is not None:
                value, seconds, tags = taken
                near.add(key, value, float("inf") if seconds is None else seconds, tags=tags)

        popped: Any = await take_in_thread(begin_in_thread, take, put_back)
        if popped is not None:
            return popped[0]
        if default is _MISSING:
            raise KeyError(key)
        return default

    async def atouch(self, key: Any, ttl: float | timedelta | datetime | None = None) -> bool:
        """The same as `touch`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "atouch") as cache:
        ...         cache["key"] = 1
        ...         print(await cache.atouch("key", 60), await cache.atouch("absent", 60))
        >>> asyncio.run(main())
        True False
        """
        return bool(await self._call("touch", key, ttl))

    async def apersist(self, key: Any) -> bool:
        """The same as `persist`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "apersist") as cache:
        ...         await cache.aput("key", 1, ttl=60)
        ...         print(await cache.apersist("key"), await cache.attl("key"))
        >>> asyncio.run(main())
        True None
        """
        return bool(await self._call("touch", key, float("inf")))

    async def aset_many(
        self,
        entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        """The same as `set_many`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "aset_many") as cache:
        ...         await cache.aset_many({"a": 1, "b": 2})
        ...         print(await cache.aget_many(["a", "b", "c"]))
        >>> asyncio.run(main())
        {'a': 1, 'b': 2}
        """
        await self._call("set_many", dict(pairs("entries", entries)), ttl, _repeatable(tags))

    async def adelete_many(self, keys: Iterable[Any]) -> int:
        """The same as `delete_many`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "adelete_many") as cache:
        ...         cache.set_many({"a": 1, "b": 2})
        ...         print(await cache.adelete_many(["a", "b", "c"]))
        >>> asyncio.run(main())
        2
        """
        return int(await self._call("delete_many", list(each("keys", keys))))

    async def aincr(
        self, key: Any, by: int = 1, initial: int = 0, ttl: float | timedelta | datetime | None = None
    ) -> int:
        """The same as `incr`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "aincr") as cache:
        ...         print(await cache.aincr("visits"), await cache.aincr("visits", 10))
        >>> asyncio.run(main())
        1 11
        """
        added, first = whole_number("by", by), whole_number("initial", initial)
        return int(await self._call("incr", key, added, first, ttl))

    async def adecr(
        self, key: Any, by: int = 1, initial: int = 0, ttl: float | timedelta | datetime | None = None
    ) -> int:
        """The same as `decr`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "adecr") as cache:
        ...         print(await cache.adecr("stock", initial=10), await cache.adecr("stock", 2))
        >>> asyncio.run(main())
        9 7
        """
        return await self.aincr(key, -whole_number("by", by), initial, ttl)

    async def acompare_and_set(
        self, key: Any, old: Any, new: Any, ttl: float | timedelta | datetime | None = None
    ) -> bool:
        """The same as `compare_and_set`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "acompare_and_set") as cache:
        ...         cache["leader"] = "me"
        ...         print(await cache.acompare_and_set("leader", "you", "them"))
        ...         print(await cache.acompare_and_set("leader", "me", "you"))
        >>> asyncio.run(main())
        False
        True
        """
        return bool(await self._call("compare_and_set", key, old, new, ttl))

    async def aclear(self) -> None:
        """The same as `clear`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "aclear") as cache:
        ...         cache["key"] = 1
        ...         await cache.aclear()
        ...         print(await cache.aget("key"))
        >>> asyncio.run(main())
        None
        """
        await self._in_thread("clear")

    async def apurge(self) -> int:
        """The same as `purge`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "apurge") as cache:
        ...         cache.set_many({"a": 1, "b": 2})
        ...         print(await cache.apurge())
        >>> asyncio.run(main())
        2
        """
        return int(await self._in_thread("purge"))

    async def aevict_tag(self, tag: str) -> None:
        """The same as `evict_tag`, awaited.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "aevict_tag") as cache:
        ...         await cache.aput("key", 1, tags=("people",))
        ...         await cache.aevict_tag("people")
        ...         print(await cache.aget("key"))
        >>> asyncio.run(main())
        None
        """
        await self._in_thread("evict_tag", tag)

    async def aget_or_set(
        self,
        key: Any,
        factory: Callable[[], Awaitable[_T] | _T],
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> _T:
        """The same as `get_or_set`; `factory` may be a coroutine function. Other tasks run while it waits.

        >>> import asyncio
        >>> async def main():
        ...     async with RemoteCache("valkey://localhost:6379/0", "aget_or_set") as cache:
        ...         async def compute():
        ...             return 42
        ...         print(await cache.aget_or_set("answer", compute))
        >>> asyncio.run(main())
        42
        """
        check_callable("factory", factory)

        async def compute() -> Any:
            token = LENIENT.set(False)
            try:
                value: Any = factory()
                return await value if hasattr(value, "__await__") else value
            finally:
                _reset(token)

        token = LENIENT.set(True)
        try:
            found: _T = await self._near.aget_or_set(key, compute, ttl, tags)
        finally:
            _reset(token)
        return found

    async def aclose(self) -> None:
        """The same as `close`, awaited. The end of an `async with` block does the same.

        >>> import asyncio
        >>> async def main():
        ...     cache = RemoteCache("valkey://localhost:6379/0", "aclose")
        ...     await cache.aclose()
        ...     print(cache.closed)
        >>> asyncio.run(main())
        True
        """
        await self._in_thread("close")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
