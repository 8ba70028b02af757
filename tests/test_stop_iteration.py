"""A value or a key that raises `StopIteration` while it is pickled or restored, in calls that are awaited.

Before Python 3.12, a future refuses this exception, and its task waits for ever.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache, disk, sessions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.every_python


class Unpicklable:
    def __reduce__(self) -> Any:
        raise StopIteration("write")


def restore() -> None:
    raise StopIteration("read")


class Unreadable:
    def __reduce__(self) -> Any:
        return restore, ()


class Serializer:
    """Stores every value as nothing, and restores none."""

    name = "stopping"

    def dumps(self, value: object, protocol: int, /) -> bytes:
        return b""

    def loads(self, data: bytes, /) -> Any:
        raise StopIteration("read")


async def stops(call: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(RuntimeError, match="a call raised StopIteration"):
        await asyncio.wait_for(call(), 60)


def test_directory(tmp_path: Path) -> None:
    async def main() -> None:
        cache["unreadable"] = Unreadable()
        cache.push(Unreadable())
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: cache.aset("key", Unpicklable()),
            lambda: cache.aset_many({"key": Unpicklable()}),
            lambda: cache.aget("unreadable"),
            lambda: cache.apull(),
        ]
        for call in calls:
            await stops(call)
        for call in calls:
            async with cache.atransact():
                await stops(call)

    with disk.Cache(tmp_path) as cache:
        asyncio.run(main())


def test_cache_in_front_of_a_directory(tmp_path: Path) -> None:
    async def main() -> None:
        store["unreadable"] = Unreadable()
        await stops(lambda: cache.aget_or_set("unreadable", lambda: 1))
        await stops(lambda: cache.aget_or_set("key", Unpicklable))

    with disk.Cache(tmp_path) as store:
        cache = FlexCache[Any, Any](store=store)
        asyncio.run(main())


def test_shared_cache(tmp_path: Path) -> None:
    from flexcache_rs.shared import SharedCache

    async def main() -> None:
        await stops(lambda: cache.aput("key", Unpicklable()))
        await stops(lambda: cache.asetdefault("key", Unpicklable()))

    with SharedCache(str(tmp_path / "cache"), max_bytes=1 << 20) as cache:
        asyncio.run(main())


def test_transaction_of_a_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with sessions.connect(f"disk://{tmp_path}", serializer=Serializer()) as session:
            await session.set("unreadable", object())
            async with session.transaction() as transaction:
                await stops(lambda: transaction.get("unreadable"))

    asyncio.run(main())
