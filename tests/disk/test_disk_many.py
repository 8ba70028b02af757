"""Many entries at a time, queues over shards, closing, and durations as timedeltas."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.disk import Cache, Deque, FanoutCache, FanoutIndex, Index
from flexcache_rs.disk.recipes import Lock, barrier, memoize_stampede, throttle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=[Cache, FanoutCache])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with request.param(tmp_path / "store") as cache:
        yield cache


class Unpicklable:
    def __reduce__(self) -> Any:
        raise ZeroDivisionError


def test_many_entries(store: Any) -> None:
    assert store.set_many({number: str(number) for number in range(20)}, expire=60, tag="t") == 20
    assert store.get_many([3, 50, 4, 3]) == {3: "3", 4: "4"}
    assert list(store.get_many(range(19, -1, -1))) == list(range(19, -1, -1))
    assert store.get(3, expire_time=True, tag=True)[2] == "t"
    assert store.get(3, expire_time=True)[1] is not None
    assert store.set_many([("a", None), ("b", 2), ("b", 3)]) == 3
    assert store.get_many(["a", "b"]) == {"a": None, "b": 3}
    assert store.delete_many(["a", "b", "c"]) == 2
    assert store.delete_many(iter(range(25))) == 20
    assert len(store) == 0
    for nothing in ({}, []):
        assert store.set_many(nothing) == store.delete_many(nothing) == 0
        assert store.get_many(nothing) == {}
    assert store.check() == []


def test_all_or_nothing(store: Any) -> None:
    store["kept"] = 1
    for bad in (
        [(number, number) for number in range(20)] + [("bad", Unpicklable())],
        [("a", 1), ("kept", 2), ("large", b"x" * 100_000), ("bad", Unpicklable())],
    ):
        with pytest.raises(ZeroDivisionError):
            store.set_many(bad)
    for bad_pairs in ([("a", 1), (1, 2, 3)], [("a", 1), 5]):
        with pytest.raises((TypeError, ValueError)):
            store.set_many(bad_pairs)
    with pytest.raises(TypeError, match="unhashable"):
        store.get_many(["kept", []])
    with pytest.raises(ZeroDivisionError):
        store.delete_many(["kept", Unpicklable()])
    assert {key: store[key] for key in store} == {"kept": 1}
    assert store.check() == []


def test_many_in_a_transaction(store: Any) -> None:
    """Calls with many keys are part of an open transaction."""
    with pytest.raises(ZeroDivisionError), store.transact():
        store.set_many({"a": 1})
        store.delete_many(["a"])
        store.set_many({"b": 1})
        raise ZeroDivisionError
    assert len(store) == 0


def test_awaited(store: Any) -> None:
    async def main() -> None:
        assert await store.aset_many({"a": 1, "b": 2}, expire=60) == 2
        assert await store.aget_many(["a", "b", "c"]) == {"a": 1, "b": 2}
        with pytest.raises(ZeroDivisionError):
            async with store.atransact():
                await store.aset_many({"c": 3})
                assert await store.adelete_many(["a", "c"]) == 2
                raise ZeroDivisionError
        assert await store.aget_many("abc") == {"a": 1, "b": 2}
        assert await store.adelete_many("abc") == 2

    asyncio.run(main())


def test_others_write_all_the_time(tmp_path: Path) -> None:
    """A Cache raises Timeout, and a FanoutCache ignores the write."""
    for of in (Cache, FanoutCache):
        store: Any = of(tmp_path / of.__name__, timeout=0.01)
        holder: Any = of(tmp_path / of.__name__)
        holding, done = threading.Event(), threading.Event()

        def hold(holder: Any = holder, holding: Any = holding, done: Any = done) -> None:
            with holder.transact():
                holding.set()
                done.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        holding.wait(60)
        try:
            if of is Cache:
                from flexcache_rs.disk import Timeout

                with pytest.raises(Timeout):
                    store.set_many({"a": 1})
                with pytest.raises(Timeout):
                    store.delete_many(["a"])
            else:
                assert store.set_many({"a": 1}) == store.delete_many(["a"]) == 0
                assert store.push("x") is None
                assert store.pull() == store.peek() == (None, None)
                assert store.pull(default=7, tag=True) == (7, None)
        finally:
            done.set()
            thread.join()
        assert "a" not in store


@pytest.mark.parametrize("prefix", [None, "jobs", "a-b"])
def test_a_queue_over_shards(tmp_path: Path, prefix: str | None) -> None:
    """A queue over shards behaves like that of a Cache."""
    one, many = Cache(tmp_path / "one"), FanoutCache(tmp_path / "many", shards=4)
    stores: list[Any] = [one, many]

    def same(call: str, *args: Any, **kwargs: Any) -> Any:
        results = [getattr(store, call)(*args, prefix=prefix, **kwargs) for store in stores]
        assert results[0] == results[1]
        return results[0]

    assert same("pull") == same("peek") == (None, None)
    assert same("pull", default=5, tag=True) == (5, None)
    for number in range(8):
        key = same("push", number)
        assert one[key] == many[key] == number
    for number in range(3):
        same("push", -number, side="front", tag="t")
    same("push", "gone", expire=0)
    same("push", "gone", side="front", expire=-1)
    if prefix is None:
        for store in stores:
            store["other"] = 1
    assert same("peek", side="back")[1] == 7
    assert same("peek", tag=True)[1] == "t"
    taken = [same("pull", side="front" if number % 3 else "back") for number in range(13)]
    assert [value for _, value in taken[:3]] == [7, -2, -1]
    assert taken[-1] == (None, None)
    with pytest.raises(KeyError):
        same("push", 1, side="middle")
    for store in stores:
        with pytest.raises(KeyError):
            store.push(1, prefix=prefix, side="middle")


def test_workers_share_a_queue(tmp_path: Path) -> None:
    """Each value is pulled once, in order."""
    cache = FanoutCache(tmp_path, shards=3, timeout=60)
    pulled: list[Any] = []

    def work() -> None:
        while (item := cache.pull(retry=True)) != (None, None):
            pulled.append(item[1])

    for number in range(40):
        cache.push(number, retry=True)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(pulled) == list(range(40))


def test_keys_of_shards_in_order(tmp_path: Path) -> None:
    one, many = Cache(tmp_path / "one"), FanoutCache(tmp_path / "many", shards=5)
    keys: list[Any] = ["b", "a", "é", "aa", "", 3, -1, 2.5, 10**12, b"x", b"", (1, 2), ("a",), None, "Z", "\U0001f600"]
    for key in keys:
        one[key] = many[key] = 1
    for reverse in (False, True):
        assert list(many.iterkeys(reverse)) == list(one.iterkeys(reverse))
    assert list(many.iterkeys(reverse=True)) == list(many.iterkeys())[::-1]


@pytest.mark.parametrize("of", [Deque, Index, FanoutIndex])
def test_collections_are_closed(of: Any, tmp_path: Path) -> None:
    with of(directory=tmp_path) if of is Deque else of(str(tmp_path)) as collection:
        if of is Deque:
            collection.append(1)
        else:
            collection["a"] = 1
    assert len(collection) == 1  # It is opened again.
    collection.close()
    collection.close()
    with pytest.raises(ZeroDivisionError), collection:
        raise ZeroDivisionError


def test_durations(store: Any) -> None:
    """A timedelta has the same effect as its number of seconds."""
    minute = timedelta(minutes=1)

    def seconds(key: Any) -> float:
        moment = store.get(key, expire_time=True)[1]
        assert moment is not None
        import time

        return float(moment - time.time())

    store.set("set", 1, minute)
    store.add("add", 1, expire=minute)
    store.set("touch", 1)
    store.touch("touch", minute)
    pushed = store.push(1, expire=minute)
    store.set_many({"many": 1}, expire=minute)
    store.memoize(name="f", expire=minute)(lambda: 1)()
    Lock(store, "lock", expire=minute).acquire()
    for key in ("set", "add", "touch", pushed, "many", "lock"):
        assert 50 < seconds(key) <= 60
    store.set("gone", 1, timedelta(0))
    assert "gone" not in store
    assert memoize_stampede(store, minute, name="s")(lambda: 1)() == 1
    assert barrier(store, Lock, expire=minute)(lambda: 1)() == 1
    assert throttle(store, 10, minute, expire=minute)(lambda: 1)() == 1
    assert type(store)(store.directory, timeout=minute).timeout == 60
    for bad in ("60", minute.total_seconds, True, float("nan")):
        with pytest.raises((TypeError, ValueError), match="expire must be"):
            store.set("bad", 1, expire=bad)
    assert "bad" not in store
