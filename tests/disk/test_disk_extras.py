"""Features that python-diskcache lacks: reports of checks, locks by name, serializers, private directories."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import stat
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from flexcache_rs.disk import (
    DEFAULT_SETTINGS,
    Cache,
    EmptyDirWarning,
    FanoutCache,
    JSONSerializer,
    PickleSerializer,
    SignedPickleSerializer,
    UnknownFileWarning,
)
from flexcache_rs.sessions.sync import connect

SECRET, OTHER = b"a secret of the tests", b"another of the tests"

both = pytest.mark.parametrize("kind", [Cache, FanoutCache])


@both
def test_a_report_of_what_is_wrong(tmp_path: Path, kind: type[Any]) -> None:
    """The report has findings by kind, with paths. It is also a list of warnings, whatever the warning filters are."""
    cache = kind(tmp_path, disk_min_file_size=100)
    for number in range(40):
        cache[number] = "v" * 1000
    first, second, *_ = sorted(tmp_path.rglob("*.val"))
    shard = next(tmp_path.rglob("cache.db")).parent
    first.unlink()
    second.write_text("shorter")
    (shard / "empty" / "directory").mkdir(parents=True)
    (shard / "unknown").write_text("?")
    for action in ("error", "ignore"):
        with warnings.catch_warnings():
            warnings.simplefilter(action)
            report = cache.check()
        assert not report.ok
        assert [str(first) in text for text in report.missing_files] == [True]
        assert [str(second) in text for text in report.wrong_sizes] == [True]
        assert any(str(shard / "empty" / "directory") in text for text in report.empty_directories)
        assert [str(shard / "unknown") in text for text in report.unknown_files] == [True]
        assert (report.damaged, report.wrong_counters) == ([], [])
        assert {UnknownFileWarning, EmptyDirWarning, UserWarning} == {found.category for found in report}
        assert {str(found.message) for found in report} == {
            *(*report.missing_files, *report.wrong_sizes, *report.empty_directories, *report.unknown_files),
        }
    cache.check(fix=True)
    report = cache.check()
    assert report == []
    assert report.ok
    assert len(cache) == 39
    cache.close()


@both
def test_the_files_of_others_are_not_unknown(tmp_path: Path, kind: type[Any]) -> None:
    """Another cache below the directory and a database of sessions in it keep all of their files."""
    cache = kind(tmp_path)
    shard = next(tmp_path.rglob("cache.db")).parent
    large = "v" * 100_000
    with Cache(shard / "below" / "it") as other, FanoutCache(shard / "fanout", shards=2) as shards:
        other["key"] = shards["key"] = large
        with connect(f"disk://{shard}") as session:
            session.set("key", "value")
            (shard / "unknown").write_text("?")
            report = cache.check(fix=True)
            assert [str(found.message) for found in report] == [f"unknown file: {shard / 'unknown'}"]
            assert other["key"] == shards["key"] == large
        with connect(f"disk://{shard}") as session:
            assert session.get("key") == "value"
    assert cache.check().ok
    cache.close()


def test_counters_that_are_wrong(tmp_path: Path) -> None:
    """Wrong counters are found and corrected."""
    cache = Cache(tmp_path, disk_min_file_size=100)
    cache["key"] = "v" * 1000
    cache.close()
    change = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute(sys.argv[2])"
    for counter in ("count", "size"):
        sql = f"UPDATE Settings SET value = 77 WHERE key = '{counter}'"
        subprocess.run([sys.executable, "-c", change, str(tmp_path / "cache.db"), sql], check=True)
        report = cache.check(fix=True)
        assert len(report.wrong_counters) == len(report) == 1
        assert "77" in report.wrong_counters[0]
        assert cache.check().ok
        cache.close()
    assert len(cache) == 1
    cache.close()


@both
def test_statistics_begin_anew(tmp_path: Path, kind: type[Any]) -> None:
    """`reset_stats` sets hits and misses to 0, and counting continues."""
    cache = kind(tmp_path)
    cache.stats(enable=True)
    cache["key"] = 1
    for key in ("key", "key", "none"):
        cache.get(key)
    assert cache.stats() == (2, 1)
    cache.reset_stats()
    assert cache.stats() == (0, 0)
    cache.get("key")
    assert cache.stats() == (1, 0)
    cache.close()


@both
def test_entries_go_by_their_tag(tmp_path: Path, kind: type[Any]) -> None:
    """`evict_tag` is the same as `evict`."""
    cache = kind(tmp_path)
    for number in range(250):
        cache.set(number, number, tag=("odd", "even")[number % 2 == 0])
    assert cache.evict_tag("odd") == 125
    assert cache.evict_tag("odd") == 0
    assert cache.evict_tag(None) == 0
    assert sorted(cache) == list(range(0, 250, 2))
    cache.close()


def test_more_than_a_page_expires_at_once(tmp_path: Path) -> None:
    """One call removes all expired entries, including those with the same deadline."""
    cache = Cache(tmp_path, cull_limit=0)
    for number in range(250):
        cache.set(number, number, expire=-1000)
    assert cache.expire() == 250
    assert len(cache) == 0
    cache.close()


def test_locks_by_name(tmp_path: Path) -> None:
    """Only one thread at a time holds the lock."""
    cache = Cache(tmp_path)
    inside, most, total = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, total
        for _ in range(10):
            with Cache(tmp_path).lock("name", expire=60):
                inside += 1
                most = max(most, inside)
                total += 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, total) == (1, 40)
    lock = cache.lock("name")
    with lock:
        assert lock.locked()
        assert cache.lock("name").locked()
        assert not cache.lock("other").locked()
    assert not lock.locked()
    cache.close()


@pytest.mark.skipif(os.name != "posix", reason="permissions are others there")
def test_directories_are_private(tmp_path: Path) -> None:
    """A new directory is accessible only to its owner. An existing directory keeps its permissions."""
    before = os.umask(0o022)
    try:
        Cache(tmp_path / "new" / "below").close()
        FanoutCache(tmp_path / "fanout").close()
        (tmp_path / "there").mkdir()
        Cache(tmp_path / "there").close()
        temporary = Cache()
        temporary.close()
    finally:
        os.umask(before)

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(tmp_path / "new" / "below") == 0o700
    assert mode(tmp_path / "fanout") == 0o700
    assert mode(tmp_path / "there") == 0o755
    assert mode(Path(temporary.directory)) == 0o700


@both
def test_signed_values(tmp_path: Path, kind: type[Any]) -> None:
    """Signed values are loaded with their key, and with a new key that also accepts the old one.

    Without a key or with another one they are refused.
    """
    cache = kind(tmp_path, serializer=SignedPickleSerializer(SECRET), disk_min_file_size=100)
    values = {"small": [1], "file": list(range(1000)), "plain": "text", "number": 1}
    for key, value in values.items():
        cache[key] = value
    cache.close()
    rotated = kind(tmp_path, serializer=SignedPickleSerializer(OTHER, old_keys=[SECRET]))
    assert {key: rotated[key] for key in values} == values
    rotated["new"] = [2]
    rotated.close()
    wrong = kind(tmp_path, serializer=SignedPickleSerializer(SECRET))
    assert wrong["small"] == [1]
    with pytest.raises(pickle.UnpicklingError, match="signature"):
        wrong["new"]
    wrong.close()
    for serializer in (None, JSONSerializer()):
        with pytest.raises(ValueError, match="signed-pickle"):
            kind(tmp_path, serializer=serializer)


class Attack:
    """A value that runs a program when it is loaded."""

    loaded = False

    def __reduce__(self) -> Any:
        return setattr, (Attack, "loaded", True)


@pytest.mark.parametrize("where", ["row", "file"])
def test_forged_values_are_not_loaded(tmp_path: Path, where: str) -> None:
    """Forged values are refused, in the database and in files."""
    signed = SignedPickleSerializer(SECRET)
    cache = Cache(tmp_path, serializer=signed, disk_min_file_size=10_000)
    size = 10 if where == "row" else 20_000
    forged = pickle.dumps((Attack(), b"x" * size))
    cache["key"] = [None] * size
    cache.close()
    if where == "file":
        (path,) = tmp_path.rglob("*.val")
        path.write_bytes(forged + bytes(max(0, path.stat().st_size - len(forged))))
    else:
        program = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "c.execute('UPDATE Cache SET value = ?', (bytes.fromhex(sys.argv[2]),))"
        )
        subprocess.run([sys.executable, "-c", program, str(tmp_path / "cache.db"), forged.hex()], check=True)
    with pytest.raises(pickle.UnpicklingError, match="signature"):
        cache["key"]
    assert not Attack.loaded
    assert cache.delete("key")
    cache.close()


@pytest.mark.parametrize("keys", [(b"short",), (SECRET, [b"short"])])
def test_secrets_are_long_enough(keys: Any) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        SignedPickleSerializer(*keys)


def test_classes_that_are_allowed(tmp_path: Path) -> None:
    """Only allowed classes are loaded, whichever library wrote the values.

    python-diskcache can still use the directory.
    """
    cache = Cache(tmp_path)
    cache["date"], cache["delta"], cache["plain"] = dt.date(2020, 1, 2), dt.timedelta(1), {"a": [None, (1, True)]}
    cache["attack"] = Attack()
    cache.close()
    careful = Cache(tmp_path, serializer=PickleSerializer(allow=["datetime.date"]))
    assert careful["date"] == dt.date(2020, 1, 2)
    assert careful["plain"] == {"a": [None, (1, True)]}
    for key in ("delta", "attack"):
        with pytest.raises(pickle.UnpicklingError, match="not among what may be loaded"):
            careful[key]
    assert not Attack.loaded
    careful[(1, "two")] = 3
    careful.close()
    assert Cache(tmp_path)[(1, "two")] == 3


def test_json_values(tmp_path: Path) -> None:
    """Values that JSON cannot represent are refused. The others return in JSON's form."""
    cache = Cache(tmp_path, serializer=JSONSerializer(), disk_min_file_size=100)
    for value in ({"a": [1, None, 2.5, "\xe4"]}, [True] * 1000, None, 2**100, "text", b"bytes"):
        cache["key"] = value
        assert cache["key"] == value
    cache["key"] = (1, 2)
    assert cache["key"] == [1, 2]
    for value in (object(), {1, 2}, dt.date(2020, 1, 1)):
        with pytest.raises(TypeError):
            cache["key"] = value
    assert cache["key"] == [1, 2]
    cache.close()
    with pytest.raises(ValueError, match="'json'"):
        Cache(tmp_path)
    with pytest.raises(ValueError, match="'json'"):
        Cache(tmp_path, serializer=PickleSerializer())


class Failing:
    """A serializer that raises."""

    name = "failing"
    fails = True

    def dumps(self, value: Any, protocol: int, /) -> bytes:
        if self.fails:
            raise ZeroDivisionError
        return b"data"

    def loads(self, data: bytes, /) -> Any:
        raise ZeroDivisionError


def test_serializers_that_fail(tmp_path: Path) -> None:
    """The exception of a serializer propagates to the caller."""
    serializer = Failing()
    cache = Cache(tmp_path, serializer=serializer)
    with pytest.raises(ZeroDivisionError):
        cache["key"] = [1]
    serializer.fails = False
    cache["key"] = [1]
    for call in (lambda: cache["key"], lambda: cache.get("key"), lambda: cache.pop("key")):
        with pytest.raises(ZeroDivisionError):
            call()
    assert cache.check() == []
    cache.close()


@pytest.mark.parametrize("returned", ["text", None, 1, [b"x"]])
def test_serializers_that_return_nonsense(tmp_path: Path, returned: Any) -> None:
    """A serializer that returns no bytes causes a TypeError."""

    class Odd:
        name = "odd"

        def dumps(self, value: Any, protocol: int, /) -> Any:
            return returned

        def loads(self, data: bytes, /) -> Any:
            return data

    cache = Cache(tmp_path, serializer=Odd())
    with pytest.raises(TypeError):
        cache["key"] = [1]
    assert "key" not in cache
    cache.close()


def test_a_fanout_cache_keeps_its_recorded_limit(tmp_path: Path) -> None:
    """Opened without `size_limit`, a directory keeps the one with which it was created, as a `Cache` does."""
    FanoutCache(tmp_path, shards=2, size_limit=10**11).close()
    with FanoutCache(tmp_path, shards=2) as cache:
        assert cache.size_limit * 2 == 10**11
        assert [shard.reset("size_limit") * 2 for shard in cache.shards] == [10**11] * 2
    with FanoutCache(tmp_path, shards=2, size_limit=10**10) as cache:
        assert cache.size_limit * 2 == 10**10
    with FanoutCache(tmp_path / "new", shards=2) as cache:
        assert cache.size_limit * 2 == DEFAULT_SETTINGS["size_limit"]
