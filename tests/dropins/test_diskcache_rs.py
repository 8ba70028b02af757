"""`flexcache_rs.diskcache_rs`, beside what diskcache_rs's own tests look at."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from scale import may_skip

from flexcache_rs import disk
from flexcache_rs.diskcache_rs import Cache, DjangoCache, FanoutCache, FastCache, FastFanoutCache, PickleCache, PyCache

KINDS = (Cache, FanoutCache)


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_is_one_of_the_disk_store(kind: type, tmp_path: Path) -> None:
    with kind(tmp_path) as cache:
        cache["a"], cache["b"] = [1], "text"
    plain = disk.Cache(tmp_path) if kind is Cache else disk.FanoutCache(tmp_path)
    assert {key: plain[key] for key in plain} == {"a": [1], "b": "text"}


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_attributes_as_well(kind: type, tmp_path: Path) -> None:
    cache = kind(tmp_path)
    cache["a"] = 1
    cache.set_many({"b": 2, "c": 3})
    assert cache["a"] == 1
    assert cache.get("missing") is None
    assert cache.delete("a")
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats["sets"], stats.deletes, stats.count) == (1, 1, 3, 1, 2)
    cache.stats(reset=True)
    assert cache.stats().hits == 0
    with pytest.raises(AttributeError, match="hits"):
        _ = stats.hit


@pytest.mark.parametrize("kind", [*KINDS, FastCache, FastFanoutCache])
def test_a_time_to_live_may_be_a_deadline(kind: type, tmp_path: Path) -> None:
    cache = kind(tmp_path)
    for key, expire in ("seconds", 100), ("delta", timedelta(seconds=100)), ("deadline", time.time() + 100):
        cache.set(key, 1, expire=expire)
        left = cache.get(key, expire_time=True)[1] - time.time()
        assert 90 < left <= 101


def test_the_most_entries(tmp_path: Path) -> None:
    cache = PyCache(tmp_path, max_size=10**9, max_entries=3)
    for number in range(10):
        cache[number] = number
    assert cache.keys() == [7, 8, 9]
    assert not cache.add(9, 0)
    with pytest.raises(ValueError, match="max_entries"):
        Cache(tmp_path, max_entries=0)
    with pytest.raises(TypeError, match="did you mean 'size_limit'"):
        Cache(tmp_path, maxsize=10)


@pytest.mark.parametrize("kind", KINDS)
def test_queues_count_from_zero(kind: type, tmp_path: Path) -> None:
    cache = kind(tmp_path)
    assert (cache.push("a", prefix="jobs"), cache.push("b", prefix="jobs", side="front")) == (0, -1)
    assert cache.peek("jobs", tag=True) == ((-1, "b"), None)
    assert (cache.pull("jobs"), cache.pull("jobs"), cache.pull("jobs")) == ((-1, "b"), (0, "a"), (None, None))


@pytest.mark.parametrize("directory", [None, "store"])
def test_fast_caches(directory: str | None, tmp_path: Path) -> None:
    cache = FastCache(None if directory is None else tmp_path / directory, max_size=10**9, default_ttl_seconds=60)
    assert cache.set("a", 1)
    assert cache.ttl("a") == 60
    assert (cache.incr("a"), cache.decr("a", 2), cache.pop("a"), cache.pop("a", 5)) == (2, 0, 0, 5)
    cache["text"] = "x"
    with pytest.raises(ValueError, match="'text'"):
        cache.incr("text")
    assert cache.touch("text", expire=5)
    assert cache.ttl("text") == 5
    assert list(cache) == ["text"]
    if directory is not None:
        cache.close()
        assert FastCache(tmp_path / directory)["text"] == "x"


def test_the_size_of_pickles_is_kept(tmp_path: Path) -> None:
    cache = PickleCache(tmp_path, max_size=1000)
    for number in range(10):
        cache.set(f"{number}", bytes(300))
    assert cache.keys() == ["7", "8", "9"]
    assert cache.stats().size_ratio == 90
    with pytest.raises(TypeError, match="ttl_seconds"):
        cache.set("a", 1, ttl_seconds="long")


def test_the_backend_for_django(tmp_path: Path) -> None:
    if may_skip("django", find_spec("django")):
        pytest.skip("Django is not installed")
    # As diskcache_rs's documentation has it.
    backend = DjangoCache(str(tmp_path), {"OPTIONS": {"size_limit": 1e9, "cull_limit": 0.1}})
    backend.set("a", 1, timeout=3600)
    assert backend.get("a") == 1
    assert backend.set_many({"b": 2}) == []
    assert backend.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
    backend.close()


@pytest.mark.parametrize("kind", [FastCache, FastFanoutCache])
def test_a_key_that_was_absent_is_found_when_another_process_stores_it(kind: type, tmp_path: Path) -> None:
    """Memory knows that it was absent until the directory changes."""
    cache = kind(tmp_path)
    program = (
        "import sys; from flexcache_rs import diskcache_rs as d; getattr(d, sys.argv[1])(sys.argv[2])[sys.argv[3]] = 1"
    )
    for key in ("a", "b"):
        for _ in range(2):
            assert (cache.get(key), key in cache) == (None, False)
        subprocess.run([sys.executable, "-c", program, kind.__name__, str(tmp_path), key], check=True)
        assert (key in cache, cache.get(key)) == (True, 1)
    assert cache.get("c") is None
    assert cache.incr("c", 5) == 5
    assert (cache.get("c"), "c" in cache) == (5, True)


def private_names(kind: Any, folder: Path) -> list[str]:
    """The private names of a class and its objects that the class of `flexcache_rs.disk` does not have."""
    names = []
    for one in (getattr(disk, kind.__name__, object), kind):
        made = object() if one is object else one(folder / one.__module__)
        names.append({*getattr(made, "__dict__", ()), *(name for base in one.__mro__[:-1] for name in vars(base))})
    # The prefix says whose the names are.
    return sorted(name for name in names[1] - names[0] if name.startswith("_") and not name.startswith(OURS))


OURS = ("__", "_flexcache_")
FURTHER = ("_store", "_size", "_cache", "_left", "_get_with", "_counted_and_shaped", "_near")
"""Names that programs are likely to use, or which have been ours."""


@pytest.mark.parametrize("kind", [Cache, FanoutCache, FastCache, FastFanoutCache, PickleCache])
@pytest.mark.parametrize("of", ["object", "class"])
def test_subclasses_may_have_private_names(kind: Any, of: str, tmp_path: Path) -> None:
    names = {*private_names(kind, tmp_path / "names"), *FURTHER}
    # Each subclass gets this method of its own.
    names -= {"_get_from_memory"} if of == "class" else set()

    class Own(kind):  # type: ignore[misc]
        def __init__(self, directory: Path) -> None:
            super().__init__(directory)
            for name in names if of == "object" else ():
                setattr(self, name, f"own {name}")

    for name in names if of == "class" else ():
        setattr(Own, name, f"own {name}")
    cache = Own(tmp_path / "store")
    cache["a"] = 1
    cache.set("b", [2])
    assert (cache["a"], cache.get("b"), cache.delete("a"), cache.get("a", 5), len(cache)) == (1, [2], True, 5, 1)
    if kind is not PickleCache:
        assert cache.get("b", tag=True) == ([2], None)
        assert cache.get("b", expire_time=True, tag=True)[0] == [2]
    if hasattr(cache, "ttl"):
        assert cache.ttl("b") is None
    assert {name: getattr(cache, name) for name in names} == {name: f"own {name}" for name in names}
