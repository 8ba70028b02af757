"""One directory that this library and python-diskcache use at the same time."""

from __future__ import annotations

import contextlib
import io
import itertools
import pickle
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from drivers import NEEDS_THEIRS, THEIRS, Driver, contents
from operations import STORABLE, VALUES, Files, real

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.skipif(not THEIRS, reason=NEEDS_THEIRS), pytest.mark.usefixtures("forgotten")]


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_each_finds_what_the_other_stored(ours: Driver, theirs: Driver, tmp_path: Path, first: str) -> None:
    """Both libraries find every kind of value under every kind of key."""
    writer, reader = (ours, theirs) if first == "ours" else (theirs, ours)
    for driver in (writer, reader):
        driver.make("cache", "Cache", str(tmp_path), disk_min_file_size=64)
    for number, key in enumerate(STORABLE):
        assert writer.call("cache", "set", key, (number, key), tag="t", expire=1000) == "True"
        assert reader.call("cache", "get", key, tag=True) == repr(((number, key), "t"))
    for value in VALUES:
        if isinstance(value, str) and any(0xD800 <= ord(character) < 0xE000 for character in value):
            continue
        if isinstance(value, Files):
            assert writer.call("cache", "set", "value", io.BytesIO(value.data), read=True) == "True"
            assert reader.call("cache", "read", "value") == repr(("file", value.data))
            continue
        assert writer.call("cache", "set", "value", real(value)) == "True"
        assert reader.call("cache", "get", "value") == repr(real(value))
    assert reader.call("cache", "__iter__") == writer.call("cache", "__iter__")
    assert reader.call("cache", "iterkeys") == writer.call("cache", "iterkeys")
    assert reader.call("cache", "check") == writer.call("cache", "check") == "[]"


@pytest.mark.parametrize("kind", ["Cache", "FanoutCache"])
def test_each_memoizes_for_the_other(ours: Driver, theirs: Driver, tmp_path: Path, kind: str) -> None:
    """The keys of calls are the same in both libraries, and so are their results."""
    for driver in (ours, theirs):
        driver.make("cache", kind, str(tmp_path))
    calls: list[tuple[dict[str, Any], tuple[Any, ...], dict[str, Any]]] = [
        ({}, (2, 3), {}),
        ({}, (2,), {"height": 3}),
        ({"typed": True}, (2.0, 3), {"unit": "m"}),
        ({"name": "other", "typed": True}, (4,), {"height": 3, "unit": "m"}),
        ({"ignore": {0, "unit"}}, (5,), {"height": 2, "unit": "m"}),
        ({"tag": "t", "expire": 100}, (6, 7), {}),
    ]
    for turn, (options, given_args, named) in enumerate(calls):
        first, second = (ours, theirs) if turn % 2 else (theirs, ours)
        made = first.do("memoized", "cache", **options, given=given_args, named=named)
        found = second.do("memoized", "cache", **options, given=given_args, named=named)
        assert "[(" in made, "the first computes"
        assert found == re.sub(r"\[\(.*?\)\]", "[]", made), "the second finds it under the same key"


def test_each_sees_the_locks_of_the_other(ours: Driver, theirs: Driver, tmp_path: Path) -> None:
    """Lock, RLock and BoundedSemaphore use the same records in both libraries."""
    for driver in (ours, theirs):
        driver.make("cache", "Cache", str(tmp_path))
        driver.make("lock", "Lock", "@cache", "lock")
        driver.make("rlock", "RLock", "@cache", "rlock")
        driver.make("places", "BoundedSemaphore", "@cache", "places", 2)
        driver.make("average", "Averager", "@cache", "average")
    for one, other in [(ours, theirs), (theirs, ours)]:
        one.call("lock", "acquire")
        assert other.call("lock", "locked") == "True"
        other.begin("call", "lock", "acquire", (), {})
        one.call("lock", "release")
        assert other.end() == ("returned", "None")
        assert one.call("lock", "locked") == "True"
        other.call("lock", "release")
        one.call("rlock", "acquire")
        one.call("rlock", "acquire")
        assert other.ask("call", "rlock", "release", (), {})[:2] == ("raised", "AssertionError")
        one.call("rlock", "release")
        other.begin("call", "rlock", "acquire", (), {})
        one.call("rlock", "release")
        assert other.end() == ("returned", "None")
        other.call("rlock", "release")
        one.call("places", "acquire")
        other.call("places", "acquire")
        one.begin("call", "places", "acquire", (), {})
        other.call("places", "release")
        assert one.end() == ("returned", "None")
        one.call("places", "release")
        other.call("places", "release")
        assert one.ask("call", "places", "release", (), {})[:2] == ("raised", "AssertionError")
        one.call("average", "add", 1)
        other.call("average", "add", 2)
        assert one.call("average", "get") == other.call("average", "get") == "1.5"
    assert ours.call("cache", "check") == theirs.call("cache", "check") == "[]"


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_collections_in_a_fanout_cache_are_shared(ours: Driver, theirs: Driver, tmp_path: Path, first: str) -> None:
    """`cache`, `deque` and `index` are stored where the other library looks for them."""
    one, other = (ours, theirs) if first == "ours" else (theirs, ours)
    for driver in (one, other):
        driver.make("fanout", "FanoutCache", str(tmp_path), shards=2)
        driver.do("make", "found", "Cache", (), {"directory": str(tmp_path / "cache" / "a" / "b")})
        driver.do("make", "deque", "Deque", (), {"directory": str(tmp_path / "deque" / "d")})
        driver.do("make", "index", "Index", (str(tmp_path / "index" / "i"),), {})
    one.call("fanout", "cache", "a/b")
    one.call("found", "set", "key", 1)
    assert other.call("found", "get", "key") == "1"
    one.call("deque", "append", 1)
    assert other.call("deque", "__iter__") == "[1]"
    one.call("index", "__setitem__", "k", 1)
    assert other.call("index", "__getitem__", "k") == "1"


def settings_rows(directory: Path) -> list[Any]:
    with closing(sqlite3.connect(directory / "cache.db")) as connection:
        return connection.execute("SELECT key, value, typeof(value) FROM Settings ORDER BY key").fetchall()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size_limit": 12345, "cull_limit": 3, "statistics": True, "tag_index": True},
        {"eviction_policy": "least-frequently-used", "disk_min_file_size": 10, "disk_pickle_protocol": 3},
        {"sqlite_mmap_size": 0, "sqlite_cache_size": 100, "sqlite_synchronous": 2, "sqlite_journal_mode": "delete"},
        {"sqlite_wal_autocheckpoint": 500, "sqlite_journal_size_limit": 10**6, "cull_limit": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["Cache", "FanoutCache"])
def test_a_new_directory_is_the_same(
    ours: Driver, theirs: Driver, fresh: Any, kind: str, options: dict[str, Any]
) -> None:
    """Settings, tables, indexes and triggers are the same, also after the other library has opened the directory."""
    made = {}
    for driver in (ours, theirs):
        directory = fresh()
        driver.make("cache", kind, str(directory), **options)
        made[driver.library] = directory, contents(directory)
        driver.do("forget")
    assert made["ours"][1] == made["theirs"][1]
    for driver, other in [(ours, "theirs"), (theirs, "ours")]:
        directory, before = made[other]
        again = {"size_limit": options["size_limit"]} if kind == "FanoutCache" and "size_limit" in options else {}
        driver.make("cache", kind, str(directory), **again)
        assert contents(directory) == before
        driver.do("forget")


def test_settings_are_the_directorys(ours: Driver, theirs: Driver, tmp_path: Path) -> None:
    """A setting that one library stores applies when the other opens the directory, including the pickle protocol."""
    theirs.make("cache", "Cache", str(tmp_path), disk_pickle_protocol=2, disk_min_file_size=10, cull_limit=4)
    theirs.call("cache", "set", (1, 2), "x")
    ours.make("cache", "Cache", str(tmp_path))
    assert ours.do("attribute", "cache.disk_pickle_protocol") == "2"
    assert ours.do("attribute", "cache.disk.min_file_size") == "10"
    assert ours.do("attribute", "cache.cull_limit") == "4"
    assert ours.call("cache", "get", (1, 2)) == "'x'"
    ours.call("cache", "reset", "cull_limit", 6)
    assert theirs.do("attribute", "cache.cull_limit") == "4"
    assert theirs.call("cache", "reset", "cull_limit") == "6"


def test_both_at_once(tmp_path: Path) -> None:
    """Two processes of each library use the same keys at the same time. No count is lost, and nothing is damaged."""
    rounds = 400
    with contextlib.ExitStack() as stack:
        drivers = [stack.enter_context(Driver(library)) for library in ("ours", "theirs") * 2]
        for driver in drivers:
            driver.make("cache", "Cache", str(tmp_path), disk_min_file_size=100)
        for number, driver in enumerate(drivers):
            driver.begin("repeat", "cache", rounds, number)
        for driver in drivers:
            assert driver.end() == ("returned", "[]")
        assert {driver.call("cache", "get", "counter") for driver in drivers} == {str(4 * rounds)}
        assert {driver.call("cache", "check") for driver in drivers} == {"[]"}
        keys = {driver.call("cache", "__iter__") for driver in drivers}
        assert len(keys) == 1
        for key in eval(keys.pop()):
            assert len({driver.call("cache", "get", key) for driver in drivers}) == 1


def test_both_at_once_as_a_queue(tmp_path: Path) -> None:
    """Of the values that one library pushes, exactly one process pulls each."""
    with Driver("ours") as ours, Driver("theirs") as theirs:
        for driver in (ours, theirs):
            driver.make("cache", "Cache", str(tmp_path))
        for number in range(100):
            (ours if number % 3 else theirs).call("cache", "push", number)
        pulled = []
        for turn in itertools.count():
            key, value = eval((ours if turn % 2 else theirs).call("cache", "pull"))
            if key is None:
                break
            pulled.append(value)
        assert pulled == list(range(100))


def test_what_they_lose_is_kept_here(ours: Driver, theirs: Driver, tmp_path: Path) -> None:
    """NaN and line ends in long texts are preserved."""
    for driver in (ours, theirs):
        driver.make("cache", "Cache", str(tmp_path), disk_min_file_size=10)
    text = "a\rb\r\nc\n" * 10
    ours.call("cache", "set", "nan", float("nan"))
    assert ours.call("cache", "get", "nan") == theirs.call("cache", "get", "nan") == "nan"
    for writer in (ours, theirs):
        writer.call("cache", "set", "text", text)
        assert ours.call("cache", "get", "text") == repr(text)
    assert theirs.call("cache", "get", "text") == repr("a\nb\nc\n" * 10)


def test_pickled_caches_are_made_by_either(ours: Driver, tmp_path: Path) -> None:
    """The state of a pickled cache begins with that of python-diskcache's."""
    from flexcache_rs.disk import Cache, Disk

    cache = Cache(tmp_path, timeout=5)
    assert cache.__getstate__() == (str(tmp_path), 5, Disk)
    assert pickle.loads(pickle.dumps(cache)).directory == str(tmp_path)
    cache.close()
