"""`flexcache_rs.sciqlop`, beside what SciQLop-cache's own tests look at."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import weakref
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flexcache_rs import disk
from flexcache_rs.sciqlop import (
    Cache,
    FanoutCache,
    FanoutIndex,
    Index,
    Lock,
    MsgspecSerializer,
    PickleOOBSerializer,
    migrate,
)
from flexcache_rs.sciqlop import serializers as of_sciqlop

KINDS = (Cache, FanoutCache, Index, FanoutIndex)


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_is_one_of_the_disk_store(kind: type, tmp_path: Path) -> None:
    with kind(tmp_path / "store") as store:
        store["a"], store["b"] = [1], "text"
    store.close()
    sharded = kind in (FanoutCache, FanoutIndex)
    plain = disk.FanoutCache(tmp_path / "store") if sharded else disk.Cache(tmp_path / "store")
    assert {key: plain[key] for key in plain} == {"a": [1], "b": "text"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_of_the_other_library_is_refused(kind: type, tmp_path: Path) -> None:
    folder = tmp_path / "00" if kind in (FanoutCache, FanoutIndex) else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / "sciqlop-cache.db").touch()
    with pytest.raises(ValueError, match="migrate"):
        kind(tmp_path)
    assert not list(tmp_path.rglob("cache.db"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_sise": 5}, r"did you mean max_size=\?"),
        ({"disk": object}, "serializer="),
        ({"max_size": -1}, "max_size must be at least 0"),
        ({"timeout": "a while"}, "timeout must be a number of seconds"),
    ],
)
def test_arguments_that_make_no_sense_are_named(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Cache(tmp_path, **options)


def test_stores_are_closed_at_exit(tmp_path: Path) -> None:
    """Also if closing one of them opens another one."""
    program = """
import sys
from flexcache_rs.sciqlop import Cache
class Told(Cache):
    def close(self):
        print("closed", flush=True)
        more.append(Cache(sys.argv[1] + f"/more-{len(more)}"))
        super().close()
more = []
stores = [Told(sys.argv[1] + f"/{number}") for number in range(3)]
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout.split(), done.stderr) == (["closed"] * 3, "")


def test_a_store_that_is_not_used_any_more_is_not_kept_until_the_exit(tmp_path: Path) -> None:
    store = Cache(tmp_path)
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None


def test_a_limit_is_recorded_and_can_be_changed(tmp_path: Path) -> None:
    with Cache(tmp_path, max_size=500_000) as cache:
        cache.close()
    cache = Cache(tmp_path)
    assert cache.get_meta("max_size") == "500000"
    cache.set_max_cache_size(0)
    for number in range(30):
        cache[number] = os.urandom(40_000)
    assert len(cache) == 30
    cache.set_max_cache_size(500_000)
    cache.evict()
    assert 0 < cache.size() <= 500_000


def test_metadata_of_a_program(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get_meta("version") is None
    cache.set_meta("version", "7")
    cache.close()
    assert Cache(tmp_path).get_meta("version") == "7"
    with pytest.raises(ValueError, match="serializer"):
        Cache(tmp_path).set_meta("serializer", "json")


def test_transactions_give_the_store(tmp_path: Path) -> None:
    for kind in KINDS:
        store = kind(tmp_path / kind.__name__)
        begun = store.transact("a") if kind in (FanoutCache, FanoutIndex) else store.transact()
        with pytest.raises(ZeroDivisionError), begun as same:
            same["a"] = 1
            raise ZeroDivisionError
        assert same is store
        assert "a" not in store


def test_times_to_live_may_be_timedeltas(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.set("a", 1, expire=timedelta(hours=1))
    cache.add("b", 1, expire=timedelta(0))
    assert cache.touch("a", timedelta(hours=2))
    assert cache.keys() == ["a"]
    lock = Lock(cache, "lock", expire=timedelta(minutes=1))
    lock.acquire()
    assert (lock.release(), lock.release()) == (True, False)


def test_memoized_coroutine_functions_are_awaited(tmp_path: Path) -> None:
    import asyncio

    calls = []

    @Cache(tmp_path).memoize(expire=60)
    async def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    async def twice() -> tuple[int, int]:
        return await double(4), await double(4)

    assert asyncio.run(twice()) == (8, 8)
    assert calls == [4]


def test_values_that_only_the_other_library_reads_are_named() -> None:
    serializer = PickleOOBSerializer()
    compressed = serializer.MAGIC + of_sciqlop._HEAD.pack(1, 0) + of_sciqlop._BUFFER.pack(1, 0, 8)
    with pytest.raises(Exception, match="blosc2"):
        serializer.loads(compressed)


@pytest.mark.parametrize("length", range(0, 60, 7))
def test_damaged_values_raise_and_take_no_memory(length: int) -> None:
    serializer = PickleOOBSerializer()
    head = serializer.MAGIC + of_sciqlop._HEAD.pack(2**32 - 1, 2**63) + of_sciqlop._BUFFER.pack(0, 2**63, 2**63)
    with pytest.raises(Exception, match=r"ends|empty|unknown|truncated"):
        serializer.loads(head[: 8 + length])


def old_directory(folder: Path) -> None:
    """A directory as SciQLop-cache makes it."""
    import pickle

    folder.mkdir()
    connection = sqlite3.connect(folder / "sciqlop-cache.db")
    connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)")
    connection.execute(
        "CREATE TABLE cache (key TEXT PRIMARY KEY, path TEXT, value BLOB, expire REAL, tag TEXT, size INTEGER)"
    )
    rows = [("text", pickle.dumps([1]), None, "letters"), ("\x00i7", pickle.dumps("seven"), 2**33, None)]
    connection.executemany("INSERT INTO cache VALUES (?, NULL, ?, ?, ?, 1)", rows)
    connection.execute("INSERT INTO meta VALUES ('encoded_keys', '1')")
    connection.commit()
    connection.close()


def test_directories_of_the_other_library_are_copied(tmp_path: Path) -> None:
    old_directory(tmp_path / "old")
    result = migrate.migrate(tmp_path / "old", tmp_path / "new")
    assert (result["migrated"], result["skipped"], result["errors"]) == (2, 0, 0)
    cache = Cache(tmp_path / "new")
    assert cache.get("text", tag=True) == ([1], "letters")
    assert cache.get(7, expire_time=True)[0] == "seven"
    with pytest.raises(ValueError, match="drop"):
        migrate.migrate(tmp_path / "old", tmp_path / "other", drop=True)


@pytest.mark.parametrize("serializer", [PickleOOBSerializer, MsgspecSerializer])
@pytest.mark.parametrize("shards", [{}, {"shard_count": 2}])
def test_directories_of_these_classes_are_copied(
    tmp_path: Path, serializer: type[PickleOOBSerializer | MsgspecSerializer], shards: dict[str, int]
) -> None:
    """A source of these classes is read with the serializer that it was made with.

    Programs that look for a file `cache.db` take such a directory for one of python-diskcache, and copy it.
    """
    kind: Any = FanoutCache if shards else Cache
    with kind(tmp_path / "old", serializer=serializer(), **shards) as old:
        old.set("a", [1, "one"], tag="letters")
        old.set(("b", 2), "x" * 100_000)
    result = migrate.migrate(tmp_path / "old", tmp_path / "new")
    assert (result["migrated"], result["skipped"], result["errors"]) == (2, 0, 0)
    with kind(tmp_path / "new", **shards) as new:
        assert new.get("a", tag=True) == ([1, "one"], "letters")
        assert new["b", 2] == "x" * 100_000


@pytest.mark.parametrize("arguments", [["--type", "index"], ["--drop"], ["--shards", "2"]])
def test_the_command(arguments: list[str], tmp_path: Path) -> None:
    with disk.Cache(tmp_path / "old") as old:
        old["a"] = 1
    command = [sys.executable, "-m", "flexcache_rs.sciqlop.migrate", *arguments]
    done = subprocess.run(
        [*command, tmp_path / "old", tmp_path / "new"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "1 migrated" in done.stdout
    kind = Index if "--type" in arguments else FanoutCache if "--shards" in arguments else Cache
    store = kind(tmp_path / "new", **({"shard_count": 2} if kind is FanoutCache else {}))
    assert store["a"] == 1
    with disk.Cache(tmp_path / "old") as old:
        assert len(old) == (0 if "--drop" in arguments else 1)
    failed = subprocess.run(
        [*command, tmp_path / "nowhere", tmp_path / "new"], capture_output=True, text=True, check=False, timeout=60
    )
    assert failed.returncode == 2
    assert "nowhere" in failed.stderr


def test_what_calls_return(tmp_path: Path) -> None:
    with Cache(tmp_path / "a", max_size=200_000) as cache, FanoutCache(tmp_path / "b", 2) as fanout:
        for number in range(3):
            cache.set(str(number), b"x" * 40_000)
        cache.set_max_cache_size(100_000)
        assert cache.evict() == 3 - len(cache) > 0
        assert fanout.evict() == 0


def test_a_decorator_without_parentheses(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache, pytest.raises(TypeError, match=r"write @cache\.memoize\(\)"):
        cache.memoize(len)  # type: ignore[arg-type]


def test_a_directory_that_is_none() -> None:
    for kind in KINDS:
        with pytest.raises(TypeError, match="directory must be a str or a path, not 5"):
            kind(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [disk.Lock, disk.RLock, disk.BoundedSemaphore, Lock])
def test_with_gives_the_lock(kind: type, tmp_path: Path) -> None:
    """As SciQLop-cache's does."""
    with (Cache if kind is Lock else disk.Cache)(tmp_path) as cache, (lock := kind(cache, "report")) as entered:
        assert entered is lock


def private_names(kind: Any, folder: Path) -> list[str]:
    """The private names of a class and its objects, which subclasses may use for what they like."""
    with kind(folder) as made:
        found = {*vars(made), *(name for one in kind.__mro__[:-1] for name in vars(one))}
        made.close()
    # The prefix says whose the names are.
    return sorted(name for name in found if name.startswith("_") and not name.startswith(("__", "_flexcache_")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", ["object", "class"])
def test_subclasses_may_override_calls_by_others_and_have_private_names(kind: Any, of: str, tmp_path: Path) -> None:
    """SciQLop-cache's `[]` does not call `get`, and its `exists` and `count` do not call the operators."""
    # The last ones are names that programs are likely to use.
    names = [*private_names(kind, tmp_path / "names"), "_shards", "_get_with", "_path", "_files"]

    class Own(kind):  # type: ignore[misc]
        def __init__(self, directory: Path) -> None:
            super().__init__(directory)
            for name in names if of == "object" else ():
                setattr(self, name, f"own {name}")

        def get(self, key: Any, default: Any = None) -> Any:
            try:
                return self[key]
            except KeyError:
                return default

        def __contains__(self, key: object) -> bool:
            return bool(self.exists(key))

        def __len__(self) -> int:
            return int(self.count())

    for name in names if of == "class" else ():
        setattr(Own, name, f"own {name}")
    store = Own(tmp_path / "store")
    store["a"] = 1
    assert (store["a"], store.get("a"), store.get("b"), "a" in store, len(store)) == (1, 1, None, True, 1)
    if issubclass(kind, (Cache, FanoutCache)):
        assert super(Own, store).get("a", tag=True) == (1, None)
        assert store.stats()["hits"] > 0
        store.reset_stats()
        assert store.stats() == {"hits": 0, "misses": 0}
    assert (list(store), store.check().ok, store.path()) == (["a"], True, str(tmp_path / "store"))
    assert [getattr(store, name) for name in names] == [f"own {name}" for name in names]
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        store.exists("a")


@pytest.mark.parametrize("kind", [Index, FanoutIndex])
def test_an_index_stores_without_set(kind: Any, tmp_path: Path) -> None:
    class Own(kind):  # type: ignore[misc]
        def set(self, key: Any, value: Any, retry: bool = False) -> None:
            self[key] = [value]

    with Own(tmp_path) as index:
        index.set("a", 1)
        assert index["a"] == [1]
