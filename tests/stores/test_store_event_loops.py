"""Awaited calls over a store never stop the event loop, however long another process holds the store's lock."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from store_kinds import Kind
from waiting import TURNS, turns_while

from flexcache_rs import FlexCache
from flexcache_rs.testing import advance

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from store_process import OtherProcess


async def _await(value: str) -> str:
    await asyncio.sleep(0)
    return value


def memoized(cache: FlexCache[Any, Any]) -> Any:
    """A coroutine function with a name that is the same in every run."""

    async def load(key: str) -> str:
        return await _await(key)

    load.__module__, load.__qualname__ = "tests_of_stores", "load"
    return cache.memoize(load)


CALLS: dict[str, Callable[[FlexCache[Any, Any]], Awaitable[Any]]] = {
    "function": lambda cache: cache.aget_or_set("k", lambda: "k"),
    "coroutine": lambda cache: cache.aget_or_set("k", lambda: _await("k")),
    "many-keys": lambda cache: asyncio.gather(*(cache.aget_or_set(f"k{n}", lambda: _await("k")) for n in range(20))),
    "one-key-many-tasks": lambda cache: asyncio.gather(
        *(cache.aget_or_set("k", lambda: _await("k")) for _ in range(20))
    ),
    "memoized": lambda cache: memoized(cache)("k"),
    "memoized-many": lambda cache: asyncio.gather(*map(memoized(cache), "abcdefgh")),
}


@pytest.mark.parametrize("how", ["hit", "miss", "refresh"])
def test_a_loop_goes_on_while_the_name_of_a_function_is_read_again(how: str) -> None:
    """Part of the keys stands in the store, and what memory knows of it may be too old."""
    from gates import GatedDictionary

    store = GatedDictionary()
    load = memoized(FlexCache(store=store, coherence=5))
    asyncio.run(load("k"))
    advance(10)
    store.gates["before load"].arm()
    call = {"hit": lambda: load("k"), "miss": lambda: load("other"), "refresh": lambda: load.refresh("k")}[how]
    turns, result = turns_while(call, store.gates["before load"].open)
    assert turns >= TURNS, "the loop stood still"
    assert result == ("other" if how == "miss" else "k")


@pytest.mark.parametrize("how", ["hit", "miss", "refresh"])
def test_a_loop_goes_on_while_another_process_commits(tmp_path: Path, how: str) -> None:
    """Without SQLite's shared log nobody can read meanwhile."""
    from flexcache_rs.disk import Cache

    load = memoized(FlexCache(store=Cache(tmp_path, network=True)))
    asyncio.run(load("k"))
    program = (
        "import sqlite3, sys\nconnection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN EXCLUSIVE')\nprint('held', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "cache.db")]
    call = {"hit": lambda: load("k"), "miss": lambda: load("other"), "refresh": lambda: load.refresh("k")}[how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        turns, result = turns_while(call, holder.kill)
    assert turns >= TURNS, "the loop stood still"
    assert result == ("other" if how == "miss" else "k")


@pytest.mark.needs(shared=True, transactions=True)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_loop_goes_on_while_the_store_is_locked(kind: Kind, store: Any, other: OtherProcess, call: Any) -> None:
    """The value is computed and stored all the same."""
    cache = kind.front(store)
    other.ask("enter")
    other.ask("write", "theirs", 1)
    turns, result = turns_while(lambda: call(cache), lambda: other.ask("commit"))
    assert turns >= TURNS, "the loop stood still"
    assert result in ("k", ["k"] * 20, list("abcdefgh"))
    assert kind.read(store, "theirs") == 1


def test_a_loop_goes_on_while_a_users_store_works() -> None:
    """A user's store may take its time too: its calls are made from threads."""
    from gates import GatedDictionary

    for gate in ("before load", "before commit"):
        store = GatedDictionary()
        cache: FlexCache[str, str] = FlexCache(store=store, coherence=None)
        store.gates[gate].arm()
        turns, result = turns_while(lambda cache=cache: cache.aget_or_set("k", lambda: "k"), store.gates[gate].open)
        assert turns >= TURNS, f"the loop stood still: {gate}"
        assert result == "k"


@pytest.mark.needs(shared=True, transactions=True)
def test_a_task_that_is_cancelled_while_the_store_is_locked(kind: Kind, store: Any, other: OtherProcess) -> None:
    """It ends at once, and the key is free for the next caller."""
    cache = kind.front(store)
    other.ask("enter")

    async def cancelled() -> str:
        task = asyncio.create_task(cache.aget_or_set("k", lambda: _await("first")))
        for _ in range(5):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return "cancelled"

    turns, result = turns_while(
        lambda: asyncio.wait_for(cancelled(), 60),
        lambda: other.ask("roll_back"),
    )
    assert (result, turns >= TURNS) == ("cancelled", True)
    assert cache.get_or_set("k", lambda: "second") in ("first", "second")


def test_awaited_results_are_the_stores(kind: Kind, store: Any) -> None:
    """What a coroutine computed is there for the next cache, and computed once."""
    cache = kind.front(store)
    called: list[int] = []

    def factory() -> str:
        called.append(1)
        return "k"

    async def main(cache: Any) -> Any:
        return await asyncio.gather(*(cache.aget_or_set("k", factory) for _ in range(10)))

    assert asyncio.run(main(cache)) == ["k"] * 10
    assert asyncio.run(main(cache if not kind.notices else kind.front(store))) == ["k"] * 10
    assert called == [1]
    assert kind.read(store, "k") == "k"
