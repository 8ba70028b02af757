"""What a cache may serve from memory, rule by rule, over every store.

1. Every write returns what it did. A call that wrote nothing changes nothing.
2. A version has an identity, which changes when a store is reopened, a process forks, or a cache is copied.
3. A written value may be served from memory only after its commit. (`test_store_commits.py`)
4. In a transaction its own thread or task sees its own writes, and memory keeps none of them before the commit.
5. Two keys share an entry in memory only if the store considers them equal.
6. The stamp of an entry is taken when the store says that it is correct. (`test_store_commits.py`)
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import os
import pickle
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import store_remote
from scale import scaled
from store_kinds import ABSENT, EQUAL, KEYS, SAME, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from store_process import OtherProcess

WRITES_NOTHING: dict[str, Callable[[Any], Any]] = {
    "delete": lambda cache: cache.delete("absent"),
    "pop": lambda cache: cache.pop("absent", None),
    "touch": lambda cache: cache.touch("absent", 5),
    "add": lambda cache: cache.add("there", "again"),
    "evict_tag": lambda cache: cache.evict_tag("nobody's"),
    "delete_many": lambda cache: cache.delete_many(["absent"]),
    "delete_many-empty": lambda cache: cache.delete_many([]),
    "set_many-empty": lambda cache: cache.set_many({}),
}


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether a condition becomes true."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def in_thread(call: Callable[[], Any]) -> Any:
    """What a call returns in another thread."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


# Rule 1.


@pytest.mark.needs(notices=True)
@pytest.mark.parametrize("call", WRITES_NOTHING.values(), ids=WRITES_NOTHING)
def test_a_write_that_wrote_nothing_does_not_hide_another(kind: Kind, store: Any, call: Any) -> None:
    """A commit of somebody else is not taken for the call's own."""
    if call is WRITES_NOTHING["evict_tag"] and not kind.evicts_tags:
        pytest.skip("the store has no evict_tag()")
    cache = kind.front(store)
    cache["there"], cache["a"] = 0, 1
    kind.write(store, "a", 2)
    call(cache)
    assert cache["a"] == 2
    kind.erase(store, "a")
    call(cache)
    assert cache.get("a") is None


@pytest.mark.needs(shared=True)
@pytest.mark.parametrize("call", WRITES_NOTHING.values(), ids=WRITES_NOTHING)
def test_a_write_that_wrote_nothing_does_not_hide_another_process(
    kind: Kind, store: Any, other: OtherProcess, call: Any
) -> None:
    """The same where the other's write is known by the store's version alone."""
    cache = kind.front(store)
    cache["there"], cache["a"] = 0, 1
    other.ask("write", "a", 2)
    call(cache)
    assert cache["a"] == 2
    other.ask("wipe")
    if call is not WRITES_NOTHING["add"]:
        call(cache)
    assert cache.get("a") is None


@pytest.mark.needs(shared=True)
def test_an_own_write_does_not_hide_another_process(kind: Kind, store: Any, other: OtherProcess) -> None:
    """Nor do several, whatever they write and however many commits lie between."""
    cache = kind.front(store)
    for theirs, ours in itertools.product((1, 2, 3, 7), repeat=2):
        cache["a"] = old = (theirs, ours)
        assert cache["a"] == old
        for number in range(theirs):
            other.ask("write", "a", number)
        for number in range(ours):
            cache[number] = number
        assert cache["a"] == theirs - 1, (theirs, ours)


def test_writes_return_what_they_did(kind: Kind, store: Any) -> None:
    """As the store has it, also where memory has nothing or something older."""
    for clears in (False, True):
        cache = kind.front(store)

        def front(cache: Any = cache, clears: bool = clears) -> Any:
            return kind.front(store) if clears and kind.notices else cache

        assert front().add("a", 1) is True
        assert front().add("a", 2) is False
        assert front().touch("a", 100) is True
        assert front().touch("b", 100) is False
        assert front().pop("b", ABSENT) is ABSENT
        assert front().delete("b") is False
        front().set_many({"b": 1, "c": 2})
        assert front().delete_many(["b", "c", "d"]) == 2
        assert front().pop("a") == 1
        assert front().delete("a") is False


@pytest.mark.needs(notices=True, keeps_written=True)
def test_own_writes_keep_memory(kind: Kind, store: Any) -> None:
    """As long as nobody else writes, what is in memory is served from it: it is the same object.

    Keys may share a counter of the tracker, and a write of one then costs the other its place; most do not.
    """
    if kind.coherence == 0.0:
        pytest.skip("the store is asked each time")
    cache = kind.front(store)
    values = [[number] for number in range(16)]
    for number, value in enumerate(values):
        cache[number] = value
        cache.delete("absent")
    assert sum(cache[number] is value for number, value in enumerate(values)) >= 8


# Rule 2.


@pytest.mark.needs(shared=True)
@pytest.mark.parametrize("bound", ["the kind's", None])
def test_a_store_that_was_closed_and_reopened(kind: Kind, store: Any, other: OtherProcess, bound: Any) -> None:
    """The version of a new log may be the number of the old one, for other contents."""
    cache = kind.front(store, **({} if bound == "the kind's" else {"coherence": bound}))
    for number in range(scaled(50)):
        other.ask("write", "a", number)
        other.ask("close")
        assert cache["a"] == number
        kind.close(store)
        other.ask("write", "a", -number - 1)
        other.ask("close")
        assert cache["a"] == -number - 1
        kind.close(store)


@pytest.mark.needs(shared=True)
@pytest.mark.parametrize("how", [copy.copy, lambda cache: cache.copy()], ids=["copy.copy", "copy"])
def test_a_cache_that_was_copied(kind: Kind, store: Any, other: OtherProcess, how: Any) -> None:
    """A copy does not take over what is no longer current."""
    cache = kind.front(store)
    cache["a"] = 1
    assert cache["a"] == 1
    other.ask("write", "a", 2)
    assert how(cache)["a"] == 2


@pytest.mark.needs(notices=True)
@pytest.mark.parametrize("how", [copy.copy, lambda cache: cache.copy()], ids=["copy.copy", "copy"])
def test_a_copy_beside_its_original(kind: Kind, store: Any, how: Any) -> None:
    """Each sees the other's writes and the store's."""
    cache = kind.front(store)
    cache["a"] = 1
    twin = how(cache)
    assert twin["a"] == 1
    cache["a"] = 2
    assert twin["a"] == 2
    twin["a"] = 3
    assert cache["a"] == 3
    kind.write(store, "a", 4)
    assert (cache["a"], twin["a"]) == (4, 4)


@pytest.mark.needs(shared=True, pickles=True)
def test_a_cache_that_was_pickled(kind: Kind, store: Any) -> None:
    """The copy has a store object of its own over the same data."""
    cache = kind.front(store)
    cache["a"] = 1
    twin = pickle.loads(pickle.dumps(cache))
    try:
        assert twin["a"] == 1
        cache["a"] = 2
        assert twin["a"] == 2
        twin["a"] = 3
        assert cache["a"] == 3
    finally:
        kind.close(twin.store)


@pytest.mark.needs(shared=True)
def test_a_fork(kind: Kind, store: Any) -> None:
    """Parent and child write in turn; neither takes the other's commits for its own."""
    cache = kind.front(store)
    cache["a"] = 0
    assert cache["a"] == 0
    to_child, from_parent = os.pipe()
    to_parent, from_child = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(from_parent)
            cache["a"] = 1
            assert cache["a"] == 1
            os.write(from_child, b".")
            assert os.read(to_child, 1)
            store_remote.hear()
            assert cache["a"] == 2
            cache["a"] = 3
            status = 0
        finally:
            os._exit(status)
    os.close(to_child)
    os.close(from_child)
    try:
        assert os.read(to_parent, 1)
        store_remote.hear()
        assert cache["a"] == 1
        cache["a"] = 2
        os.write(from_parent, b".")
        assert os.waitpid(child, 0)[1] == 0
        store_remote.hear()
        assert cache["a"] == 3
    finally:
        os.close(from_parent)
        os.close(to_parent)


@pytest.mark.needs(shared=True, lags=True)
def test_a_bound_in_seconds_ends_with_a_fork(kind: Kind, store: Any, other: OtherProcess) -> None:
    """The child asks the store, whatever its parent still believes."""
    cache = kind.front(store, coherence=3600)
    cache["a"] = "old"
    other.ask("write", "a", "new")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests
        child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if cache["a"] == "new" else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cache["a"] == "old"


@pytest.mark.needs(shared=True, durable=True, transactions=True)
def test_a_directory_restored_from_a_backup(kind: Kind, store: Any, other: OtherProcess, tmp_path: Path) -> None:
    """The open store notices within about a second that its database was replaced, and so does memory."""
    cache = kind.front(store)
    cache["a"] = "backup"
    kind.close(store)
    other.ask("close")
    other.ask("copy", str(tmp_path / "store"), str(tmp_path / "backup"))
    cache["a"] = "now"
    assert cache["a"] == "now"
    other.ask("restore", str(tmp_path / "backup"), str(tmp_path / "store"))
    assert eventually(lambda: cache["a"] == "backup", 5), f"{cache['a']!r}, the store has {kind.read(store, 'a')!r}"
    cache["a"] = "later"
    assert other.ask("read", "a") == ("later", "later")


# Rule 4.


@pytest.fixture
def undone() -> Any:
    """A context that ends a transaction by an exception."""

    @contextlib.contextmanager
    def undo(transaction: Any) -> Iterator[None]:
        with pytest.raises(ZeroDivisionError), transaction:
            yield
            raise ZeroDivisionError

    return undo


@pytest.mark.needs(transactions=True)
def test_own_writes_in_an_own_transaction(kind: Kind, store: Any, undone: Any) -> None:
    """Through the cache, through another one, and through the store: all are seen, and undone."""
    cache, second = kind.front(store), kind.front(store)
    cache["n"], cache["m"] = 1, 1
    assert (cache["n"], second["n"]) == (1, 1)
    with undone(kind.transaction(store)):
        kind.write(store, "n", 2)
        assert (cache["n"], second["n"]) == (2, 2)
        cache["n"] = 3
        assert (cache["n"], second["n"], kind.read(store, "n")) == (3, 3, 3)
        assert cache.delete("m") is True
        assert cache.add("k", 4) is True
        assert (second.get("m"), second.get("k")) == (None, 4)
        cache.set_many({"n": 5, "o": 6})
        assert (second["n"], second["o"]) == (5, 6)
        cache.clear()
        assert [second.get(key) for key in "nmko"] == [None] * 4
    for each in (cache, second):
        assert [each.get(key) for key in "nmko"] == [1, 1, None, None]


@pytest.mark.needs(transactions=True)
@pytest.mark.parametrize("bound", ["strict", None, 3600])
def test_what_is_undone_is_not_in_memory(kind: Kind, store: Any, undone: Any, bound: Any) -> None:
    """However long memory is trusted."""
    cache = kind.front(store, coherence=bound)
    cache["a"] = 1
    with undone(kind.transaction(store)):
        cache["a"], cache["b"] = 2, 2
        assert (cache["a"], cache["b"]) == (2, 2)
        assert cache.get_or_set("c", lambda: 2) == 2
    assert (cache["a"], cache.get("b"), cache.get("c")) == (1, None, None)


@pytest.mark.needs(transactions=True)
def test_other_threads_keep_what_was_committed(kind: Kind, store: Any) -> None:
    """Memory stays valid for them until the commit, and not after it: the very objects are served meanwhile."""
    cache = kind.front(store)
    cache["a"] = cache["b"] = ["before"]
    values = cache["a"], cache["b"]
    with kind.transaction(store):
        cache["a"] = ["after"]
        kind.write(store, "b", ["after"])
        assert in_thread(lambda: cache["a"]) is values[0]
        assert in_thread(lambda: cache["b"]) is values[1]
    assert in_thread(lambda: (cache["a"], cache["b"])) == (["after"], ["after"])
    assert (cache["a"], cache["b"]) == (["after"], ["after"])


@pytest.mark.needs(transactions=True)
def test_what_others_read_during_a_transaction_is_not_kept(kind: Kind, store: Any) -> None:
    """They read what was committed before, also from the store, and not after the commit."""
    kind.write(store, "a", "before")
    kind.write(store, "b", "before")
    cache, second = kind.front(store), kind.front(store)
    with kind.transaction(store):
        cache["a"] = "after"
        kind.write(store, "b", "after")
        for each in (cache, second):
            assert in_thread(lambda each=each: (each["a"], each["b"])) == ("before", "before")
    for each in (cache, second):
        assert in_thread(lambda each=each: (each["a"], each["b"])) == ("after", "after")
        assert (each["a"], each["b"]) == ("after", "after")


@pytest.mark.needs(transactions=True)
def test_nested_transactions(kind: Kind, store: Any, undone: Any) -> None:
    """Only the outermost commits or undoes."""
    cache = kind.front(store)
    cache["a"] = 1
    with undone(kind.transaction(store)):
        with kind.transaction(store):
            cache["a"] = 2
        assert cache["a"] == 2
        assert in_thread(lambda: cache["a"]) == 1
    assert cache["a"] == 1
    with kind.transaction(store):
        with undone(kind.transaction(store)):
            cache["a"] = 3
        assert cache["a"] == kind.read(store, "a") == 3
    assert cache["a"] == kind.read(store, "a") == 3


@pytest.mark.needs(transactions=True)
def test_another_process_and_a_transaction(kind: Kind, store: Any, other: OtherProcess) -> None:
    """It sees what is committed; so do we of its transactions, also when it dies in one."""
    cache = kind.front(store)
    cache["a"] = 1
    assert other.ask("read", "a") == (1, 1)
    with kind.transaction(store):
        cache["a"] = 2
        assert other.ask("read", "a") == (1, 1)
    assert other.ask("read", "a") == (2, 2)
    for end, value in (("roll_back", 2), ("commit", 3), ("kill", 3)):
        other.ask("enter")
        other.ask("put", "a", value if end != "kill" else 4)
        assert cache["a"] == (3 if end == "kill" else 2)
        if end == "kill":
            other.kill()
        elif end == "roll_back":
            other.ask("roll_back")
        else:
            other.ask("commit")
        assert cache["a"] == value


@pytest.mark.needs(transactions=True)
def test_a_transaction_belongs_to_a_task(kind: Kind, store: Any) -> None:
    """By identity, and to tasks that it starts while the block is open; afterwards those are outside."""
    cache = kind.front(store)
    cache["a"] = "before"

    async def main() -> None:
        inside, go = asyncio.Event(), asyncio.Event()

        async def neighbour() -> str:
            await inside.wait()
            return await asyncio.to_thread(cache.get, "a")

        async def child(open_: bool) -> Any:
            if not open_:
                await go.wait()
            return await store.aget("a")

        beside = asyncio.create_task(neighbour())
        async with store.atransact():
            await store.aset("a", "inside")
            assert await store.aget("a") == "inside"
            inside.set()
            assert await beside == "before"
            assert await asyncio.create_task(child(True)) == "inside"
            outlives = asyncio.create_task(child(False))
            await store.aset("a", "after")
        go.set()
        assert await outlives == "after"

    asyncio.run(main())
    assert cache["a"] == "after"


@pytest.mark.needs(times_out=True)
def test_a_cache_in_a_transaction_of_a_task(kind: Kind, tmp_path: Path) -> None:
    """Awaited calls of the cache belong to the transaction of their task; those of a task beside it do not."""
    store = kind.make(tmp_path, timeout=2)
    cache = kind.front(store)
    cache["a"] = "before"

    async def beside() -> str:
        found: str = await cache.aget_or_set("a", lambda: "computed")
        return found

    async def main() -> None:
        inside, seen = asyncio.Event(), asyncio.Event()

        async def neighbour() -> None:
            await inside.wait()
            assert await beside() == "before"
            seen.set()

        task = asyncio.create_task(neighbour())
        with pytest.raises(ZeroDivisionError):
            async with store.atransact():
                await store.aset("a", "inside")
                inside.set()
                await seen.wait()
                assert await beside() == "inside"
                assert await cache.aget_or_set("b", lambda: "computed") == "computed"
                assert await store.aget("b") == "computed"
                raise ZeroDivisionError
        await task
        assert await beside() == "before"

    try:
        asyncio.run(main())
        assert (cache["a"], cache.get("b")) == ("before", None)
    finally:
        kind.close(store)


# Rule 5.


def test_keys_are_told_apart_as_the_store_does(kind: Kind, store: Any) -> None:
    """By writing, reading, removing and batches: 1 and True, (1,) and (1.0,), (s, s) and (s, t)."""
    cache = kind.front(store)
    model: dict[Any, Any] = {}
    for number, key in enumerate(KEYS):
        cache[key] = number
        model[kind.identity(key)] = number
    expected = [model[kind.identity(key)] for key in KEYS]
    assert [cache[key] for key in KEYS] == expected
    assert [kind.read(store, key) for key in KEYS] == expected
    assert [kind.front(store)[key] for key in KEYS] == expected
    for key in KEYS:
        there = model.pop(kind.identity(key), None) is not None
        assert cache.delete(key) is there
        for each in KEYS:
            assert cache.get(each) == model.get(kind.identity(each)), f"{each!r} after deleting {key!r}"
    pairs = [(key, str(number)) for number, key in enumerate(KEYS)]
    cache.set_many(pairs)
    model = {kind.identity(key): value for key, value in pairs}
    assert [cache.get(key) for key in KEYS] == [model[kind.identity(key)] for key in KEYS]
    assert cache.delete_many(KEYS) == len(model)


@pytest.mark.needs(equality="typed")
def test_equal_numbers_of_different_types(kind: Kind, store: Any) -> None:
    """The smallest example: True is a key of its own, beside 1."""
    cache = kind.front(store)
    cache[1], cache[True], cache[(1,)], cache[(True,)] = "int", "bool", "(int,)", "(bool,)"
    assert (cache[1], cache[True], cache[(1,)], cache[(True,)]) == ("int", "bool", "(int,)", "(bool,)")
    assert cache.pop(True) == "bool"
    assert cache[1] == "int"


@pytest.mark.needs(equality="typed")
def test_equal_parts_that_are_different_objects(kind: Kind, store: Any) -> None:
    """A key is what it is encoded to, and pickle refers back to an object that it has written before."""
    assert SAME is not EQUAL
    cache = kind.front(store)
    cache[(SAME, SAME)], cache[(SAME, EQUAL)] = 1, 2
    assert (cache[(SAME, SAME)], cache[(SAME, EQUAL)]) == (1, 2)
