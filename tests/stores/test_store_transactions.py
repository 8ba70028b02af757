"""Caches in a transaction of the store behind them, of a thread or of a task: what is computed there stays there."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
from store_kinds import Kind

from flexcache_rs import CircularLoadError, FlexCache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

pytestmark = pytest.mark.needs(transactions=True)

PATIENCE = 30


class UndoError(Exception):
    """Ends a block."""


@contextlib.contextmanager
def undone(transaction: AbstractContextManager[None]) -> Iterator[None]:
    with contextlib.suppress(UndoError), transaction:
        yield
        raise UndoError


async def double(number: int) -> int:
    return 2 * number


def test_a_thread_inside_shares_no_computation_with_others(kind: Kind, store: Any) -> None:
    """It would wait for one whose result waits for its own commit, and give away what it may yet undo."""
    cache = kind.front(store)
    begun, go, found = threading.Event(), threading.Event(), []

    def outside() -> str:
        begun.set()
        assert go.wait(PATIENCE)
        return "outside"

    thread = threading.Thread(target=lambda: found.append(cache.get_or_set("a", outside)))
    thread.start()
    try:
        # Before the block, as one who computes reserves the key in a write of its own.
        assert begun.wait(PATIENCE)
        with undone(kind.transaction(store)):
            assert cache.get_or_set("a", lambda: "inside") == "inside"
            assert cache.get("a") == "inside"
            go.set()
    finally:
        go.set()
        thread.join()
    assert found == ["outside"]
    assert cache.get("a") in {None, "outside"}


def test_a_circle_inside_is_seen(kind: Kind, store: Any) -> None:
    """A computation that asks for itself raises there as well."""
    cache = kind.front(store)

    def compute() -> Any:
        return cache.get_or_set("a", compute)

    with kind.transaction(store), pytest.raises(CircularLoadError):
        cache.get_or_set("a", compute)


def test_tasks_share_computations_inside_or_outside(kind: Kind, store: Any) -> None:
    """Those of one transaction share among themselves alone."""
    cache = kind.front(store)
    calls = []

    async def main() -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def outside() -> str:
            begun.set()
            await go.wait()
            return "outside"

        async def inside() -> str:
            calls.append(1)
            await asyncio.sleep(0)
            return "inside"

        beside = asyncio.create_task(cache.aget_or_set("a", outside))
        await begun.wait()
        with contextlib.suppress(UndoError):
            async with store.atransact():
                found = await asyncio.gather(*(cache.aget_or_set("a", inside) for _ in range(5)))
                assert found == ["inside"] * 5
                go.set()
                raise UndoError
        assert await beside == "outside"

    asyncio.run(main())
    assert calls == [1]
    assert cache.get("a") in {None, "outside"}


@pytest.mark.parametrize("undo", [False, True])
def test_what_outlives_its_transaction_is_not_stored(kind: Kind, store: Any, undo: bool) -> None:
    """It may have been computed from what was undone."""
    cache = kind.front(store)

    async def main() -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def compute() -> Any:
            seen = await store.aget("a")
            begun.set()
            await go.wait()
            return f"of {seen}"

        with contextlib.suppress(UndoError):
            async with store.atransact():
                await store.aset("a", "inside")
                task = asyncio.create_task(cache.aget_or_set("b", compute))
                await begun.wait()
                if undo:
                    raise UndoError
        go.set()
        assert await task == "of inside"

    asyncio.run(main())
    assert cache.get("b") is None
    assert cache.get("a") == (None if undo else "inside")


def test_memoized_coroutines_in_a_transaction_of_a_task(kind: Kind, store: Any) -> None:
    """They see what the task wrote, and are remembered only if it is committed."""
    cache = kind.front(store)
    memo = cache.memoize(double)

    async def main() -> None:
        assert await memo(1) == 2
        for undo in (True, False):
            with contextlib.suppress(UndoError):
                async with store.atransact():
                    assert (await memo(1), await memo(2), await memo(2)) == (2, 4, 4)
                    await store.aset(memo.cache_key(2), "replaced")
                    assert await memo(2) == "replaced"
                    if undo:
                        raise UndoError
            expected: Any = None if undo else "replaced"
            assert await asyncio.to_thread(memo.peek, 2) == expected

    asyncio.run(main())
    assert (memo.peek(1), memo.peek(2)) == (2, "replaced")


def test_memory_of_others_stays_valid_until_a_task_commits(kind: Kind, store: Any) -> None:
    """Other threads and tasks get the very objects."""
    cache = kind.front(store)
    cache["a"] = ["before"]
    before = cache["a"]

    async def main() -> None:
        inside, seen = asyncio.Event(), asyncio.Event()

        async def beside() -> None:
            await inside.wait()
            assert await cache.aget_or_set("a", list) is before
            seen.set()

        task = asyncio.create_task(beside())
        async with store.atransact():
            await store.aset("a", ["after"])
            inside.set()
            await seen.wait()
            assert await asyncio.to_thread(cache.get, "a") is before
            assert await cache.aget_or_set("a", list) == ["after"]
        await task
        assert await cache.aget_or_set("a", list) == ["after"]

    asyncio.run(main())


@pytest.mark.parametrize("coherence", ["strict", None, 3600])
def test_a_cache_in_front_of_a_cache_in_front_of_a_store(kind: Kind, store: Any, coherence: Any) -> None:
    """It is bypassed as well, in a transaction of a thread and in one of a task."""
    behind = kind.front(store)
    cache = FlexCache(store=behind, coherence=coherence)
    cache["a"] = "before"
    assert cache["a"] == "before"
    with undone(kind.transaction(store)):
        cache["a"] = cache["b"] = "inside"
        assert (cache["a"], cache["b"], behind["a"]) == ("inside", "inside", "inside")
    assert (cache.get("a"), cache.get("b"), behind.get("a")) == ("before", None, "before")

    async def main() -> None:
        with contextlib.suppress(UndoError):
            async with store.atransact():
                await store.aset("a", "inside")
                assert await cache.aget_or_set("a", list) == "inside"
                raise UndoError

    asyncio.run(main())
    assert cache.get("a") == "before"
