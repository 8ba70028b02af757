"""PyCache's sessions: what others change meanwhile, and ends that fail."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.pycache.adapters import InMemory
from flexcache_rs.pycache.datatypes import List, Map, Numeric, Queue, Set, String
from flexcache_rs.pycache.py_cache import PyCache
from flexcache_rs.pycache.snapshot import SnapshotConfig
from flexcache_rs.sessions import KindError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("stored", "other"),
    [(List([1]), None), (List([1]), Map({"a": 1})), (Map({"a": 1}), String("x")), (Set([1]), None), (Numeric(1), None)],
    ids=["removed list", "list", "map", "removed set", "removed number"],
)
def test_a_key_that_is_replaced_while_its_kind_is_checked(stored: Any, other: Any) -> None:
    """The value that was read is the one that is checked."""

    async def main() -> None:
        async with PyCache(InMemory()).session() as session:
            await session.set("key", stored)
            inner: Any = session._session
            kind = inner.kind

            async def kind_later(key: str) -> Any:
                if other is None:
                    await session.delete(key)
                else:
                    await session.set(key, other)
                return await kind(key)

            inner.kind = kind_later
            assert await session.get("key", type(stored)) == stored.value
            await session.set("key", stored)
            with pytest.raises(KindError, match="'key' holds a"):
                await session.get("key", Queue)

    asyncio.run(main())


def test_a_session_that_cannot_be_closed_is_saved(tmp_path: Path) -> None:
    async def main() -> None:
        config = SnapshotConfig(dir=str(tmp_path), auto=False)
        cache = PyCache(InMemory(snapshot=True, snapshot_config=config))
        with pytest.raises(ZeroDivisionError):
            async with cache:
                await cache.set("key", Numeric(1))

                async def fail() -> None:
                    raise ZeroDivisionError

                inner: Any = cache._session
                inner.aclose = fail
        assert list(tmp_path.glob("*.snapshot"))

    asyncio.run(main())
