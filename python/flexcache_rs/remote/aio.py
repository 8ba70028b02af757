"""The awaited calls of a `RemoteCache`. They use a connection of the event loop if possible, and otherwise a thread."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from flexcache_rs._asyncio_calls import begin_in_thread, to_thread
from flexcache_rs._core import NearCache
from flexcache_rs._suggest import suggesting
from flexcache_rs.remote import awaited_writes
from flexcache_rs.remote.awaited_reads import UNKNOWN, load
from flexcache_rs.remote.store import LENIENT, POPPED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from contextvars import Token
    from datetime import datetime, timedelta
    from types import TracebackType

    from typing_extensions import Self

    from flexcache_rs.remote.client import Client
    from flexcache_rs.remote.store import RemoteStore

_T = TypeVar("_T")
_MISSING: Any = object()


def _reset(token: Token[bool]) -> None:
    """What the server being away means is as before. An abandoned coroutine is closed in another context."""
    with contextlib.suppress(ValueError):
        LENIENT.reset(token)


@suggesting
class Awaited(NearCache):
    """Calls with an `a` in front, for any number of event loops."""

    __slots__ = ()

    _client: Client
    _store: RemoteStore

    async def aget(self, key: Any, default: Any = None) -> Any:
        """The same as `get`, awaited."""
        near = self._near
        value: Any = near._get_from_memory(key, _MISSING)
        if value is not _MISSING:
            return value
        found: Any = await self._awaited_load(key)
        if found is None:
            return await self._in_thread("get", key, default)
        (value,) = near._take_loaded((key,), (found,), default)
        return value

    async def _awaited_load(self, key: Any, *, anew: bool = False) -> Any:
        """What the server has of a key, and the stamp of that, without a thread; None where that needs one."""
        found = await load(self._store, self._client, key, anew=anew)
        return None if found is UNKNOWN else found

    async def _in_thread(self, name: str, *arguments: Any) -> Any:
        return await to_thread(getattr(self, name), *arguments)

    async def afresh(self, key: Any, default: Any = None) -> Any:
        """The same as `fresh`, awaited."""
        found: Any = await self._awaited_load(key, anew=True)
        if found is None:
            return await self._in_thread("fresh", key, default)
        return default if found[0] is None else found[0][0]

    async def attl(self, key: Any) -> float | None:
        """The same as `ttl`, awaited."""
        seconds: float | None = await self._in_thread("ttl", key)
        return seconds

    async def aget_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """The same as `get_many`, awaited."""
        found: dict[Any, Any] = await self._in_thread("get_many", keys)
        return found

    async def ascan(self, prefix: str = "") -> list[Any]:
        """The keys of `scan`, as a list, awaited."""
        keys: list[Any] = await to_thread(lambda: list(getattr(self, "scan")(prefix)))  # noqa: B009
        return keys

    async def aput(
        self,
        key: Any,
        value: Any,
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        """The same as `put`, awaited."""
        await awaited_writes.put(self._store, self._client, self._near, key, value, ttl, tags)

    aset = aput

    async def aadd(
        self,
        key: Any,
        value: Any,
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> bool:
        """The same as `add`, awaited."""
        return bool(await self._in_thread("add", key, value, ttl, tags))

    async def adelete(self, key: Any) -> bool:
        """The same as `delete`, awaited."""
        return await awaited_writes.delete(self._store, self._client, self._near, key)

    async def apop(self, key: Any, default: Any = _MISSING) -> Any:
        """The same as `pop`, awaited. If the task is cancelled before it has the value, the value is put back."""
        from flexcache_rs._taking import take_in_thread

        pop: Callable[[Any, Any], Any] = getattr(self, "pop")  # noqa: B009
        add: Callable[..., bool] = getattr(self, "add")  # noqa: B009

        def take() -> tuple[Any, list[Any]]:
            popped: list[Any] = []
            token = POPPED.set(popped)
            try:
                return pop(key, _MISSING), popped
            finally:
                POPPED.reset(token)

        def put_back(taken: tuple[Any, list[Any]]) -> None:
            for entry in taken[1]:
                if entry is not None:
                    value, seconds, tags = entry
                    add(key, value, float("inf") if seconds is None else seconds, tags)

        value, _ = await take_in_thread(begin_in_thread, take, put_back)
        if value is not _MISSING:
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    async def atouch(self, key: Any, ttl: float | timedelta | datetime | None = None) -> bool:
        """The same as `touch`, awaited."""
        return bool(await self._in_thread("touch", key, ttl))

    async def apersist(self, key: Any) -> bool:
        """The same as `persist`, awaited."""
        return bool(await self._in_thread("persist", key))

    async def aset_many(
        self,
        entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        """The same as `set_many`, awaited."""
        await self._in_thread("set_many", entries, ttl, tags)

    async def adelete_many(self, keys: Iterable[Any]) -> int:
        """The same as `delete_many`, awaited."""
        return int(await self._in_thread("delete_many", keys))

    async def aincr(
        self, key: Any, by: int = 1, initial: int = 0, ttl: float | timedelta | datetime | None = None
    ) -> int:
        """The same as `incr`, awaited."""
        return int(await self._in_thread("incr", key, by, initial, ttl))

    async def adecr(
        self, key: Any, by: int = 1, initial: int = 0, ttl: float | timedelta | datetime | None = None
    ) -> int:
        """The same as `decr`, awaited."""
        return int(await self._in_thread("decr", key, by, initial, ttl))

    async def acompare_and_set(
        self, key: Any, old: Any, new: Any, ttl: float | timedelta | datetime | None = None
    ) -> bool:
        """The same as `compare_and_set`, awaited."""
        return bool(await self._in_thread("compare_and_set", key, old, new, ttl))

    async def aclear(self) -> None:
        """The same as `clear`, awaited."""
        await self._in_thread("clear")

    async def apurge(self) -> int:
        """The same as `purge`, awaited."""
        return int(await self._in_thread("purge"))

    async def aevict_tag(self, tag: str) -> None:
        """The same as `evict_tag`, awaited."""
        await self._in_thread("evict_tag", tag)

    async def aget_or_set(
        self,
        key: Any,
        factory: Callable[[], Awaitable[_T] | _T],
        ttl: float | timedelta | datetime | None = None,
        tags: Iterable[str] | None = None,
    ) -> _T:
        """The same as `get_or_set`; `factory` may be a coroutine function. Other tasks run while it waits."""

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
        """The same as `close`, awaited."""
        await self._in_thread("close")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
