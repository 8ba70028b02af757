"""Invalid settings and numbers: the error names them, and nothing is created."""

from __future__ import annotations

import pickle
import sqlite3
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import flexcache_rs.disk as diskcache
from flexcache_rs.disk import Cache, Deque, Disk, FanoutCache, FanoutIndex, JSONDisk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAN = float("nan")
KINDS = pytest.mark.parametrize("kind", [Cache, FanoutCache])


def rows(directory: Path, *new: tuple[str, Any]) -> None:
    """Write settings into the database without the library."""
    with closing(sqlite3.connect(directory / "cache.db")) as connection, connection:
        connection.executemany("INSERT OR REPLACE INTO Settings VALUES (?, ?)", new)


@KINDS
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cache_path", "directory"),
        ("max_size", "size_limit"),
        ("maxsize", "size_limit"),
        ("MAX_SIZE", "size_limit"),
        ("max_items", "size_limit"),
        ("size_limt", "size_limit"),
        ("evicton_policy", "eviction_policy"),
        ("timout", "timeout"),
        ("compresion", "compression"),
        ("disk_min_file_sze", "disk_min_file_size"),
        ("sqlite_cache_sze", "sqlite_cache_size"),
        ("sqlite_nonsense", None),
        ("cache_size", "sqlite_cache_size"),
        ("journal_mode", "sqlite_journal_mode"),
        ("threads", None),
        ("sqlite_temp_store_directory", None),
        ("sqlite_hard_heap_limit", None),
        ("foo", None),
        ("MAX_ENTRIES", None),
        ("count", None),
        ("disk_serializer", None),
        ("get", None),
    ],
)
def test_names_that_are_no_setting(tmp_path: Path, kind: type[Any], name: str, meant: str | None) -> None:
    """The error names the unknown setting and suggests a known one. No directory is created."""
    with pytest.raises(TypeError, match=f"'{name}'") as raised:
        kind(tmp_path / "new", **{name: 10})
    assert meant is None or f"did you mean {meant!r}" in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_shards_of_a_cache() -> None:
    """The error says which class has shards."""
    with pytest.raises(TypeError, match=r"FanoutCache\(shards=\)"):
        Cache(shards=3)


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with pytest.raises(NotADirectoryError, match="the cache directory is a file") as raised:
        Cache(tmp_path / "file")
    assert raised.value.filename == str(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_settings_that_a_directory_has(tmp_path: Path) -> None:
    """An unknown setting that is stored in the directory may be given, as in python-diskcache. It is no attribute."""
    Cache(tmp_path).close()
    rows(tmp_path, ("foo", 1), ("get", 1), ("__class__", 1), ("_rules", 1), ("sqlite_wal_autocheckpoint", 500))
    cache = Cache(tmp_path, foo=2)
    assert cache.get("a") is None
    assert cache.reset("foo") == 2
    assert cache.reset("get") == 1
    assert cache.reset("get", 5) == 5
    assert cache.get("a") is None
    assert cache.sqlite_wal_autocheckpoint == 500
    assert not hasattr(cache, "foo")
    with pytest.raises(TypeError, match="no such setting: 'bar'"):
        cache.reset("bar", 1)


@KINDS
@pytest.mark.parametrize("name", ["count", "size", "hits", "misses"])
def test_counters_of_a_directory(tmp_path: Path, kind: type[Any], name: str) -> None:
    """Counters cannot be given as settings, even if the directory contains them."""
    kind(tmp_path).close()
    with pytest.raises(TypeError, match=f"'{name}' is a counter of the directory"):
        kind(tmp_path, **{name: 5})


@KINDS
@pytest.mark.parametrize("name", ["compression", "serializer"])
def test_what_values_are_written_with(tmp_path: Path, kind: type[Any], name: str) -> None:
    """Settings that determine the form of values cannot be changed later. The directory could not be opened again."""
    cache = kind(tmp_path, serializer=diskcache.JSONSerializer(), compression="zstd")
    with pytest.raises(TypeError, match=f"{name} cannot be changed"):
        cache.reset(name, "lz4")
    cache.close()
    kind(tmp_path, serializer=diskcache.JSONSerializer()).close()


class OwnJSON(JSONDisk):
    """A disk of a user."""


def of_django(directory: Path, **options: Any) -> Any:
    pytest.importorskip("django")
    from flexcache_rs.disk.djangocache import DjangoCache

    return DjangoCache(str(directory), {"OPTIONS": options})


@pytest.mark.parametrize("made", [Cache, FanoutCache, of_django])
@pytest.mark.parametrize("disk", [JSONDisk, OwnJSON])
def test_a_serializer_that_the_disk_never_calls(tmp_path: Path, made: Callable[..., Any], disk: type[Disk]) -> None:
    """A disk that stores everything as JSON leaves nothing to a serializer."""
    with pytest.raises(ValueError, match=f"^serializer has no effect with disk={disk.__name__}, "):
        made(tmp_path / "new", disk=disk, serializer=diskcache.JSONSerializer())
    assert not list(tmp_path.iterdir())
    made(tmp_path / "new", disk=disk, serializer=None).close()


def test_a_disk_itself_refuses_a_serializer_that_it_never_calls(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^serializer has no effect with disk=JSONDisk, "):
        JSONDisk(str(tmp_path), serializer=diskcache.JSONSerializer())


def test_a_cache_in_a_fanout_cache_has_its_own_serializer(tmp_path: Path) -> None:
    """The serializer of the directory applies where none is given and the disk calls one."""
    with FanoutCache(tmp_path, shards=1, serializer=diskcache.JSONSerializer()) as fanout:
        fanout.cache("json", disk=JSONDisk)["a"] = (1, 2)
        fanout.cache("pickle", serializer=None)["a"] = (1, 2)
        fanout.cache("same")["a"] = [1, 2]
        assert [fanout.cache(name)["a"] for name in ("json", "pickle", "same")] == [[1, 2], (1, 2), [1, 2]]
        assert [fanout.cache(name).disk.serializer is None for name in ("json", "pickle", "same")] == [
            True,
            True,
            False,
        ]
        with pytest.raises(ValueError, match=r"^serializer has no effect with disk=JSONDisk, "):
            fanout.cache("other", disk=JSONDisk, serializer=diskcache.JSONSerializer())


def test_pragmas_of_the_process(tmp_path: Path) -> None:
    """A directory cannot set pragmas that would apply to all databases of the process."""
    Cache(tmp_path).close()
    rows(tmp_path, ("sqlite_temp_store_directory", "nowhere"), ("sqlite_hard_heap_limit", 1), ("sqlite_nonsense", ""))
    with Cache(tmp_path) as cache:
        cache["a"] = 1
        assert cache["a"] == 1


def test_what_a_disk_is_given_cannot_be_recorded(tmp_path: Path) -> None:
    """A row that names a serializer has no effect."""
    Cache(tmp_path).close()
    rows(tmp_path, ("disk_serializer", "x"), ("disk_directory", "/"), ("disk_whole_files", 1))
    for disk in (diskcache.Disk, JSONDisk):
        cache = Cache(tmp_path, disk=disk)
        cache["a"] = 1
        assert cache["a"] == 1
        assert cache.disk.serializer is None
        cache.clear()
        cache.close()


WRONG: list[tuple[str, Any]] = [
    *(("size_limit", value) for value in (NAN, -1, None, "1GB", True, [], 1j, 10**400, -(10**400))),
    *(("cull_limit", value) for value in (0.1, NAN, -1, None, "10", True, 2**63)),
    *(("statistics", value) for value in ("false", 2, None, [])),
    *(("tag_index", value) for value in ("yes", 2, None)),
    *(("eviction_policy", value) for value in ("lru", None, [], 5)),
    *(("disk_min_file_size", value) for value in (0.5, NAN, -1, None, "1")),
    *(("disk_pickle_protocol", value) for value in (99, 2.5, -1, None, "5")),
    *(("sqlite_cache_size", value) for value in (0.5, NAN, None, "1; DROP TABLE Cache")),
    *(("sqlite_journal_mode", value) for value in ("wall", 1, None)),
    *(("sqlite_synchronous", value) for value in ("fulll", 0.5, None)),
]


@KINDS
@pytest.mark.parametrize(("name", "value"), WRONG, ids=str)
def test_values_of_settings(tmp_path: Path, kind: type[Any], name: str, value: Any) -> None:
    """An invalid value is refused before anything is created, also by `reset`. The error names the setting."""
    with pytest.raises((KeyError, TypeError, ValueError, OverflowError), match=name.replace("_", "[_ ]")):
        kind(tmp_path / "new", **{name: value})
    assert not list(tmp_path.iterdir())
    if kind is Cache:
        cache = Cache(tmp_path / "other")
        before = getattr(cache, name)
        with pytest.raises((KeyError, TypeError, ValueError, OverflowError), match=name.replace("_", "[_ ]")):
            cache.reset(name, value)
        assert getattr(cache, name) == before
        assert cache.reset(name) == before


@pytest.mark.parametrize("name", ["size_limit", "cull_limit", "statistics", "eviction_policy", "disk_pickle_protocol"])
def test_a_directory_with_a_value_that_makes_no_sense(tmp_path: Path, name: str) -> None:
    """The error says where the invalid value is stored. A valid argument replaces it."""
    Cache(tmp_path).close()
    rows(tmp_path, (name, 0.1 if name == "cull_limit" else "nonsense"))
    with pytest.raises((KeyError, TypeError, ValueError), match=f"recorded in .*give {name}="):
        Cache(tmp_path)
    good = diskcache.DEFAULT_SETTINGS[name]
    Cache(tmp_path, **{name: good}).close()
    assert getattr(Cache(tmp_path), name) == good


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("compression", value) for value in (5, 0.5, b"\xff", "brotli")),
        *(("sqlite_cache_size", value) for value in ("", 0.5, None, b"1")),
        ("sqlite_journal_mode", ""),
        ("tag_index", "yes"),
        ("network", "x"),
    ],
    ids=str,
)
def test_a_row_that_makes_no_sense(tmp_path: Path, name: str, value: Any) -> None:
    """The error names the invalid row and its directory."""
    Cache(tmp_path).close()
    rows(tmp_path, (name, value))
    with pytest.raises((TypeError, ValueError), match=f"{name} must .*recorded in"):
        Cache(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        *({"compression": value} for value in (1, b"zstd", [], True, "brotli")),
        *({"timeout": value} for value in (NAN, -1, None, "1", True, [])),
        *({"network": value} for value in ("no", 2, [])),
        *({"directory": value} for value in (b"bytes", 3, True, ["a"])),
        *({"serializer": value} for value in (diskcache.JSONSerializer, "json", 5)),
    ],
    ids=str,
)
@KINDS
def test_arguments_of_caches(kind: type[Any], options: dict[str, Any]) -> None:
    """Arguments of a wrong type are refused."""
    (name,) = options
    with pytest.raises((TypeError, ValueError), match=name):
        kind(**options)


@pytest.mark.parametrize("shards", [0, -1, 2.5, NAN, True, "4", None, 10**6])
def test_numbers_of_shards(tmp_path: Path, shards: Any) -> None:
    """The number of shards must be an integer, and not larger than can be opened."""
    for kind in (FanoutCache, FanoutIndex):
        with pytest.raises((TypeError, ValueError), match="shards"):
            kind(tmp_path / "new", shards=shards)
    assert not list(tmp_path.iterdir())


def test_a_limit_without_end(tmp_path: Path) -> None:
    """Infinity is a valid limit, and so are the floats that directories store."""
    cache = Cache(tmp_path, size_limit=float("inf"), cull_limit=3.0, timeout=Decimal(1))
    cache["a"] = b"x" * 100_000
    assert (cache.size_limit, cache.cull_limit, "a" in cache) == (float("inf"), 3, True)


def no_function() -> None:
    raise AssertionError("must not be called")


EXPIRING: dict[str, Callable[[Cache, Any], object]] = {
    "set": lambda cache, expire: cache.set("a", 1, expire=expire),
    "add": lambda cache, expire: cache.add("new", 1, expire=expire),
    "touch": lambda cache, expire: cache.touch("a", expire),
    "push": lambda cache, expire: cache.push(1, expire=expire),
    "memoize": lambda cache, expire: cache.memoize(expire=expire)(no_function),
    "stampede": lambda cache, expire: diskcache.memoize_stampede(cache, expire)(no_function),
    "lock": lambda cache, expire: cache.lock("lock", expire=expire),
    "rlock": lambda cache, expire: diskcache.RLock(cache, "lock", expire=expire),
    "semaphore": lambda cache, expire: diskcache.BoundedSemaphore(cache, "lock", expire=expire),
    "averager": lambda cache, expire: diskcache.Averager(cache, "average", expire=expire),
    "throttle": lambda cache, expire: diskcache.throttle(cache, 1, 1, expire=expire)(no_function),
    "barrier": lambda cache, expire: diskcache.barrier(cache, diskcache.Lock, expire=expire)(no_function),
}


@pytest.mark.parametrize("expire", [NAN, "5", True, [], 1j, pytest.param(10**400, id="huge")], ids=str)
@pytest.mark.parametrize("call", EXPIRING)
def test_times_to_live(tmp_path: Path, call: str, expire: Any) -> None:
    """An invalid time to live raises an exception that names the argument. Nothing is stored."""
    cache = Cache(tmp_path)
    cache.set("a", 1, expire=60)
    before = cache.get("a", expire_time=True)
    with pytest.raises((TypeError, ValueError, OverflowError), match=r"^expire"):
        EXPIRING[call](cache, expire)
    assert cache.get("a", expire_time=True) == before
    assert list(cache) == ["a"]


@pytest.mark.parametrize("call", ["lock", "rlock", "semaphore", "barrier"])
@pytest.mark.parametrize("expire", [0, -1, float("-inf")])
def test_locks_that_nobody_could_hold(call: str, expire: float) -> None:
    """A semaphore of less than one holder is refused."""
    with pytest.raises(ValueError, match="expire must be more than 0"):
        EXPIRING[call](Cache(), expire)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda cache: cache.set("a", 1, tag=NAN), "tag"),
        (lambda cache: cache.evict(NAN), "tag"),
        (lambda cache: cache.incr("n", NAN), "delta"),
        (lambda cache: cache.decr("n", NAN), "delta"),
        (lambda cache: cache.expire(now=NAN), "now"),
        (lambda cache: cache.expire(now=10**400), "now"),
        (lambda cache: diskcache.throttle(cache, 10**400, 1), "count"),
        (lambda cache: diskcache.throttle(cache, 1, 10**400), "seconds"),
        (lambda cache: diskcache.memoize_stampede(cache, 1, beta=10**400), "beta"),
        (lambda cache: Cache(timeout=10**400), "timeout"),
        (lambda cache: Cache(timeout=-(10**400)), "timeout"),
        (lambda cache: cache.memoize(ignore="self"), "ignore"),
        (lambda cache: diskcache.memoize_stampede(cache, 1, ignore="self"), "ignore"),
        (lambda cache: diskcache.memoize_stampede(cache, 1, beta=NAN), "beta"),
        (lambda cache: diskcache.memoize_stampede(cache, 1, beta=-1), "beta"),
        (lambda cache: diskcache.throttle(cache, 0, 1), "count"),
        (lambda cache: diskcache.throttle(cache, 0.5, 1), "count"),
        (lambda cache: diskcache.throttle(cache, NAN, 1), "count"),
        (lambda cache: diskcache.throttle(cache, 1, 0), "seconds"),
        (lambda cache: diskcache.throttle(cache, 1, -1), "seconds"),
        (lambda cache: diskcache.BoundedSemaphore(cache, "s", 0), "value"),
        (lambda cache: diskcache.BoundedSemaphore(cache, "s", 1.5), "value"),
        (lambda cache: diskcache.BoundedSemaphore(cache, "s", "3"), "value"),
        (lambda cache: Deque(maxlen=-1), "maxlen"),
        (lambda cache: Deque(maxlen=1.5), "maxlen"),
        (lambda cache: Deque(maxlen=NAN), "maxlen"),
        (lambda cache: Deque(maxlen="3"), "maxlen"),  # type: ignore[arg-type]
        (lambda cache: Deque.fromcache(cache, maxlen=-1), "maxlen"),
        (lambda cache: diskcache.Lock({}, "l"), "cache"),  # type: ignore[arg-type]
    ],
)
def test_other_numbers(call: Callable[[Cache], object], name: str) -> None:
    """The error names the argument, and nothing changes."""
    cache = Cache()
    cache["n"] = 1
    with pytest.raises((TypeError, ValueError, OverflowError), match=f"^{name}"):
        call(cache)
    assert dict(zip(cache, map(cache.get, cache), strict=True)) == {"n": 1}


def test_options_of_django(tmp_path: Path) -> None:
    """Django's own options are passed on. Misspelt options and invalid timeouts are refused."""
    pytest.importorskip("django")
    from flexcache_rs.disk.djangocache import DjangoCache

    with pytest.raises(TypeError, match="did you mean 'size_limit'"):
        DjangoCache(str(tmp_path), {"OPTIONS": {"size_limt": 1}})
    with pytest.raises(TypeError, match="shards"):
        DjangoCache(str(tmp_path), {"SHARDS": "8"})
    for name, meant in {
        "SHARD": "SHARDS",
        "DATABSE_TIMEOUT": "DATABASE_TIMEOUT",
        "SIZE_LIMIT": "size_limit' in OPTIONS",
        "serializer": "serializer' in OPTIONS",
        "MAX_ENTRIES": "MAX_ENTRIES' in OPTIONS",
    }.items():
        with pytest.raises(TypeError, match=f"'{name}'; did you mean '{meant}"):
            DjangoCache(str(tmp_path), {name: 5})
    cache = DjangoCache(
        str(tmp_path),
        {
            "SHARDS": 2,
            "KEY_PREFIX": "x",
            "timeout": 5,
            "colour": "red",
            "OPTIONS": {"MAX_ENTRIES": 10, "CULL_FREQUENCY": 3},
        },
    )
    for timeout in (NAN, "60", True):
        with pytest.raises((TypeError, ValueError), match="timeout"):
            cache.set("a", 1, timeout=timeout)
        with pytest.raises((TypeError, ValueError), match="timeout"):
            cache.memoize(timeout=timeout)
    assert cache.get("a") is None
    cache.close()


@KINDS
@pytest.mark.parametrize("true", [1, "yes", [0]], ids=repr)
@pytest.mark.parametrize("false", [0, None, ""], ids=repr)
def test_flags_take_any_truth_value(tmp_path: Path, kind: type[Any], true: Any, false: Any) -> None:
    """Flags take any truth value, as in python-diskcache."""
    cache = kind(tmp_path)
    assert cache.set("a", 1, tag="t", retry=true)
    assert cache.add("a", 1, retry=false) is False
    assert cache.get("a", retry=true, expire_time=true, tag=true) == (1, None, "t")
    assert cache.get("a", retry=false, expire_time=false, tag=false) == 1
    assert cache.incr("a", retry=true) == 2
    assert cache.touch("a", retry=true)
    assert list(cache.iterkeys(reverse=true) if kind is Cache else cache) == ["a"]
    if kind is Cache:
        assert cache.peekitem(last=true, tag=true) == (("a", 2), "t")
        assert cache.push(1, "q", retry=true) == cache.pull("q", retry=true)[0]
        with cache.transact(retry=true):
            cache["b"] = 2
    assert cache.evict("t", retry=true) == 1
    assert cache.expire(retry=false) == 0
    assert cache.cull(retry=true) == 0
    assert cache.stats(enable=1, reset=1) == (0, 0)
    cache.clear(retry=true)
    assert len(cache) == 0
    cache.close()


@KINDS
def test_what_cannot_be_counted_with(tmp_path: Path, kind: type[Any]) -> None:
    cache = kind(tmp_path)
    for name in ("incr", "decr"):
        for wrong, told in (("x", r"str \('x'\)"), ([], "list")):
            with pytest.raises(TypeError, match=f"^default must be an int, a float or None, not {told}"):
                getattr(cache, name)("a", default=wrong)
            with pytest.raises(TypeError, match=f"^delta must be an int or a float, not {told}"):
                getattr(cache, name)("a", wrong)
    assert (cache.incr("a", True, default=True), cache.incr("b", 2**64, default=0.5)) == (2, 2.0**64)
    cache.close()


@pytest.mark.parametrize(("given", "meant"), [("lru", "least-recently-used"), ("LFU", "least-frequently-used")])
def test_policies_that_were_meant(tmp_path: Path, given: str, meant: str) -> None:
    with pytest.raises(KeyError, match=f"no such eviction policy: '{given}'; did you mean '{meant}'"):
        Cache(tmp_path, eviction_policy=given)


def test_a_disk_of_the_users_says_itself_what_it_cannot_write(tmp_path: Path) -> None:
    """A disk of the user's raises its own errors when a value is stored, as in python-diskcache. DVC relies on this."""

    class Own(Disk):
        pass

    cache = Cache(tmp_path, disk=Own, disk_pickle_protocol=pickle.HIGHEST_PROTOCOL + 1)
    with pytest.raises(ValueError, match="pickle protocol"):
        cache["key"] = ("a", "b")
    cache.close()
    with Cache(tmp_path, disk=Own) as again:
        assert len(again) == 0


def test_the_protocol_of_pickles_is_the_highest(tmp_path: Path) -> None:
    """Without the setting, keys and values are pickled with the highest protocol."""
    header = bytes([0x80, pickle.HIGHEST_PROTOCOL])
    with Cache(tmp_path) as cache:
        cache[("key",)] = {"a": "value"}
        assert cache.disk_pickle_protocol == pickle.HIGHEST_PROTOCOL
    with closing(sqlite3.connect(tmp_path / "cache.db")) as connection:
        ((key, value),) = connection.execute("SELECT key, value FROM Cache").fetchall()
    assert (key[:2], value[:2]) == (header, header)


def test_an_expiry_in_the_endless_past(tmp_path: Path) -> None:
    """`float("-inf")` is a time that has passed, as with python-diskcache."""
    with Cache(tmp_path) as cache:
        cache["key"] = 1
        assert cache.set("key", 2, expire=float("-inf"))
        assert "key" not in cache
        assert cache.memoize(expire=float("-inf"))(abs)(-1) == 1


@pytest.mark.parametrize("ignore", [5, None, "name", b"name"])
def test_what_is_ignored_is_a_collection(tmp_path: Path, ignore: Any) -> None:
    """The decorator raises an error, and not the first call."""
    with Cache(tmp_path) as cache:
        for memoize in (cache.memoize, lambda ignore: diskcache.memoize_stampede(cache, 60, ignore=ignore)):
            with pytest.raises(TypeError, match="ignore must be a collection"):
                memoize(ignore=ignore)


def test_an_argument_is_not_meant_where_there_is_none(tmp_path: Path) -> None:
    """`reset` changes settings. The directory is an argument of the constructor."""
    with Cache(tmp_path) as cache, pytest.raises(TypeError) as raised:
        cache.reset("cache_path", 1)
    assert "directory" not in str(raised.value)


def test_forms_of_pragmas(tmp_path: Path) -> None:
    with Cache(tmp_path, sqlite_journal_mode="DELETE", sqlite_auto_vacuum=True, sqlite_synchronous="Full") as cache:
        values = (cache.sqlite_journal_mode, cache.sqlite_auto_vacuum, cache.sqlite_synchronous)
    assert [str(value).lower() for value in values] == ["delete", "1", "full"]


def test_the_type_of_a_compression(tmp_path: Path) -> None:
    given: Any = 5
    with pytest.raises(TypeError, match="compression must be"):
        Cache(tmp_path / "new", compression=given)
    assert not (tmp_path / "new").exists()
