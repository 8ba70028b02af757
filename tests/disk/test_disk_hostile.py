"""Keys, values, disks and serializers that misbehave. Their exception propagates, and nothing has changed."""

from __future__ import annotations

import copy
import enum
import io
import math
import pickle
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.disk import Cache, Deque, Disk, FanoutCache, Index, JSONDisk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class TroubleError(Exception):
    """The exception that the classes below raise."""


def raise_trouble(*args: Any) -> Any:
    raise TroubleError(*args)


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TroubleError("in __reduce__")


class Unloadable:
    """A value that can be stored, and raises when it is loaded."""

    def __reduce__(self) -> Any:
        return raise_trouble, ("on loading",)


class Reentrant:
    """A value that uses the cache while it is pickled."""

    cache: Cache

    def __getstate__(self) -> dict[str, Any]:
        self.cache["from within"] = "w" * 2000
        self.cache.incr("times")
        with self.cache.transact():
            self.cache["in a transaction"] = 1
        return {"state": 1}

    def __setstate__(self, state: dict[str, Any]) -> None:
        assert state == {"state": 1}
        assert self.cache["from within"] == "w" * 2000
        self.cache.incr("times")


class Text(str):
    """A string that equals nothing and has no hash."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise TroubleError

    __hash__ = None  # type: ignore[assignment]


class Colour(enum.IntEnum):
    RED = 1


class Stream:
    """A stream that raises in the middle, or returns something other than bytes."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = list(pieces)

    def read(self, size: int = -1) -> Any:
        piece = self.pieces.pop(0)
        if isinstance(piece, BaseException):
            raise piece
        return piece


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """A cache whose directory is checked afterwards."""
    cache = Cache(tmp_path, disk_min_file_size=1000)
    cache["there"] = "t" * 2000
    yield cache
    assert cache["there"] == "t" * 2000
    assert cache.check() == []
    cache.close()


BAD_VALUES: list[tuple[Any, type[Exception]]] = [
    (Unpicklable(), TroubleError),
    ([1] * 5000 + [Unpicklable()], TroubleError),
    (lambda: None, Exception),
    (threading.Lock(), TypeError),
    ("\udc80 alone", UnicodeEncodeError),
    ("\udc80" * 2000, UnicodeEncodeError),
]


@pytest.mark.parametrize(("value", "error"), BAD_VALUES, ids=range(len(BAD_VALUES)))
def test_values_that_cannot_be_stored(cache: Cache, value: Any, error: type[Exception]) -> None:
    """The exception of the value propagates. The old value stays, and no file is left."""
    calls: list[Callable[[], object]] = [
        lambda: cache.set("there", value),
        lambda: cache.set("new", value),
        lambda: cache.add("new", value),
        lambda: cache.__setitem__("new", value),
        lambda: cache.push(value),
        lambda: cache.incr("new", default=value),
    ]
    for call in calls:
        with pytest.raises((error, TypeError) if call is calls[-1] else error):
            call()
    with pytest.raises(error), cache.transact():
        cache["first"] = "f" * 2000
        cache["there"] = value
    assert list(cache) == ["there"]


@pytest.mark.parametrize("key", [Unpicklable(), (1, Unpicklable()), lambda: None, "\ud800", ("\ud800",)])
def test_keys_that_cannot_be_stored(cache: Cache, key: Any) -> None:
    """The same holds for keys, in every call. A tuple with such a text is pickled and can be a key."""
    calls: list[Callable[[], object]] = [
        lambda: cache.set(key, 1),
        lambda: cache.add(key, "v" * 2000),
        lambda: cache.get(key),
        lambda: cache.pop(key),
        lambda: cache.delete(key),
        lambda: cache.touch(key),
        lambda: cache.incr(key),
        lambda: cache.read(key),
        lambda: key in cache,
        lambda: cache.set(key, "v" * 2000),
    ]
    if type(key) is tuple and key[0] == "\ud800":
        assert cache.set(key, 1)
        assert cache[key] == 1
        return
    for call in calls:
        with pytest.raises((TroubleError, UnicodeEncodeError, pickle.PicklingError, AttributeError)):
            call()
    assert list(cache) == ["there"]


def test_a_value_that_cannot_be_loaded(cache: Cache) -> None:
    """Each read raises the value's exception. The key can be listed, replaced and deleted."""
    cache["key"] = Unloadable()
    for call in (
        lambda: cache["key"],
        lambda: cache.get("key"),
        lambda: cache.peekitem(),
        lambda: cache.read("key"),
        lambda: cache.incr("key"),
    ):
        with pytest.raises((TroubleError, TypeError)):
            call()
    assert "key" in cache
    assert list(cache) == ["there", "key"]
    assert cache.delete("key")
    cache["key"] = Unloadable()
    cache["key"] = "fine"
    assert cache.pop("key") == "fine"
    cache.push(Unloadable())
    with pytest.raises(TroubleError):
        cache.peek()
    cache.clear()
    cache["there"] = "t" * 2000


def test_a_key_that_cannot_be_loaded(cache: Cache) -> None:
    """The key ends an iteration, and it can be deleted."""
    cache[Unloadable()] = 1
    for go_through in (list, lambda cache: list(cache.iterkeys()), lambda cache: list(reversed(cache))):
        with pytest.raises(TroubleError):
            go_through(cache)
    assert Unloadable() in cache
    del cache[Unloadable()]
    assert list(cache) == ["there"]


def test_values_that_use_the_cache(cache: Cache) -> None:
    """Values use the cache while they are pickled and loaded."""
    Reentrant.cache = cache
    cache["key"] = Reentrant()
    assert isinstance(cache["key"], Reentrant)
    assert cache["times"] == 2
    with cache.transact():
        cache["other"] = Reentrant()
        assert isinstance(cache["other"], Reentrant)
    assert cache["in a transaction"] == 1
    assert cache["times"] == 4
    cache.push(Reentrant())
    assert isinstance(cache.pull()[1], Reentrant)
    cache.add("added", Reentrant())
    assert isinstance(cache.pop("added"), Reentrant)


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (Stream(b"a" * 5000, TroubleError()), TroubleError),
        (Stream(TroubleError()), TroubleError),
        (Stream(b"a", "text"), TypeError),
        (Stream(None), TypeError),
        (io.StringIO("text"), TypeError),
        (object(), AttributeError),
    ],
    ids=range(6),
)
def test_streams_that_fail(cache: Cache, stream: Any, error: type[Exception]) -> None:
    """A stream that fails leaves no file."""
    for key in ("there", "new"):
        with pytest.raises((error, IndexError)):
            cache.set(key, stream, read=True)
    assert list(cache) == ["there"]


NAN = float("nan")
EQUAL = [[1, 1.0], [0, 0.0, -0.0], [2**53, float(2**53)]]
DIFFERENT: list[Any] = [
    *(1, True, "1", b"1", (1,), Colour.RED, Text("1"), bytearray(b"1")),
    *(0, False, None, "", b"", ()),
    *(2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 1e308, math.inf, -math.inf, 5e-324),
    *("a", "A", "a\0", "a\0b", "\xe4", "a\u0308", "\uffff", "\U0001f600"),
]


@pytest.mark.parametrize("equal", EQUAL)
def test_keys_that_are_one(cache: Cache, equal: list[Any]) -> None:
    """Equal numbers are one key, which keeps its first form."""
    for number, key in enumerate(equal):
        cache[key] = number
    assert [cache[key] for key in equal] == [len(equal) - 1] * len(equal)
    (found,) = (key for key in cache if key != "there")
    assert type(found) is type(equal[0])


def test_keys_that_are_not_one(cache: Cache) -> None:
    """Different keys stay different, however alike they look. A key that is read has its own type."""
    for number, key in enumerate(DIFFERENT):
        assert cache.add(key, number), key
    assert [cache[key] for key in DIFFERENT] == list(range(len(DIFFERENT)))
    found = [key for key in cache if type(key) is not str or key != "there"]
    assert [type(key) for key in found] == [type(key) for key in DIFFERENT]


def test_nan(cache: Cache) -> None:
    """NaN is found as a key, and stays NaN as a value."""
    cache["value"] = NAN
    assert math.isnan(cache["value"])
    cache["inside"] = (NAN, -0.0)
    assert math.isnan(cache["inside"][0])
    assert math.copysign(1, cache["inside"][1]) == -1
    cache["zero"] = -0.0
    assert math.copysign(1, cache["zero"]) == -1
    cache[NAN] = 1
    cache[NAN] = 2
    assert cache[NAN] == 2
    assert len(cache) == 5
    assert del_item(cache, NAN) not in cache


def del_item(cache: Cache, key: Any) -> Any:
    del cache[key]
    return key


@pytest.mark.parametrize("tag", [object(), (1,), 2**63, "\ud800", [], {}, lambda: None])
def test_tags_that_cannot_be_stored(cache: Cache, tag: Any) -> None:
    """Such tags are refused, and no file is left."""
    for call in (cache.set, cache.add):
        with pytest.raises((TypeError, OverflowError, UnicodeEncodeError, sqlite3.Error)):
            call("new", "v" * 2000, tag=tag)
    assert "new" not in cache


@pytest.mark.parametrize("expire", ["soon", object(), [1], b"1", 1j])
def test_times_that_are_none(cache: Cache, expire: Any) -> None:
    """Invalid times are refused."""
    for call in (cache.set, cache.add):
        with pytest.raises(TypeError):
            call("new", "v" * 2000, expire=expire)
    with pytest.raises(TypeError):
        cache.touch("there", expire)
    assert "new" not in cache


@pytest.mark.parametrize("expire", [1e308, math.inf, 10**20, -math.inf, 5e-324])
def test_times_beyond_all_bounds(cache: Cache, expire: float) -> None:
    """Very large times are accepted."""
    cache.set("new", 1, expire=expire)
    assert ("new" in cache) == (expire > 0.5 or math.isnan(expire))
    cache.delete("new")
    cache.expire()


class Raising(Disk):
    """A disk each of whose methods may raise."""

    fails: str | None = None

    def hit(self, name: str) -> None:
        if type(self).fails == name:
            raise TroubleError(name)

    def put(self, key: Any, /) -> Any:
        self.hit("put")
        return super().put(key)

    def get(self, key: Any, raw: bool, /) -> Any:
        self.hit("get")
        return super().get(key, raw)

    def store(self, value: Any, read: bool, key: Any = None) -> Any:
        self.hit("store")
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool, /) -> Any:
        self.hit("fetch")
        return super().fetch(mode, filename, value, read)

    def filename(self, key: Any = None, value: Any = None) -> Any:
        self.hit("filename")
        return super().filename(key, value)


@pytest.mark.parametrize("fails", ["put", "get", "store", "fetch"])
def test_disks_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """The exception of the disk propagates, and the cache stays usable."""
    cache = Cache(tmp_path, disk=Raising, disk_min_file_size=100)
    cache["key"] = "v" * 1000
    cache["number"] = 1
    cache.push("p" * 1000)
    monkeypatch.setattr(Raising, "fails", fails)
    calls: dict[str, list[Callable[[], object]]] = {
        "put": [
            lambda: cache["key"],
            lambda: cache.set("key", 1),
            lambda: "key" in cache,
            lambda: cache.incr("number"),
        ],
        "get": [lambda: list(cache), lambda: list(cache.iterkeys()), lambda: cache.peekitem()],
        "store": [lambda: cache.set("key", "w" * 1000), lambda: cache.add("k", 1), lambda: cache.push(1)],
        "fetch": [lambda: cache["key"], lambda: cache.get("key"), lambda: cache.read("key"), lambda: cache.peek()],
    }
    for call in calls[fails]:
        with pytest.raises(TroubleError):
            call()
    with pytest.raises(TroubleError), cache.transact():
        cache.incr("number") if fails != "put" else None
        calls[fails][0]()
    monkeypatch.setattr(Raising, "fails", None)
    assert cache["key"] == "v" * 1000
    assert cache["number"] == 1
    assert cache.pull()[1] == "p" * 1000
    assert cache.check() == []
    cache.close()


class Odd(Disk):
    """A disk that returns objects which no table can store."""

    returns: Any = None

    def put(self, key: Any, /) -> Any:
        return type(self).returns


@pytest.mark.parametrize("returns", [None, 1, (1,), (1, 2, 3), (object(), True), "text", ("a", "b", "c")])
def test_disks_that_return_nonsense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returns: Any) -> None:
    """Such a result causes a TypeError or ValueError."""
    cache = Cache(tmp_path, disk=Odd)
    monkeypatch.setattr(Odd, "returns", returns)
    with pytest.raises((TypeError, ValueError)):
        cache["key"] = 1
    with pytest.raises((TypeError, ValueError)):
        cache.get("key")
    assert len(cache) == 0
    cache.close()


class Rotated(Disk):
    """A disk whose constructor has an argument of its own, which is a setting of the directory."""

    def __init__(self, directory: str, by: int = 1, **kwargs: Any) -> None:
        self.by = by
        kwargs["min_file_size"] = 50
        super().__init__(directory, **kwargs)

    def turned(self, text: Any, by: int) -> Any:
        return "".join(chr(ord(letter) + by) for letter in text)

    def put(self, key: Any, /) -> Any:
        return super().put(self.turned(key, self.by))

    def get(self, key: Any, raw: bool, /) -> Any:
        return self.turned(super().get(key, raw), -self.by)

    def store(self, value: Any, read: bool, key: Any = None) -> Any:
        return super().store(self.turned(value, self.by), read)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool, /) -> Any:
        return self.turned(super().fetch(mode, filename, value, read), -self.by)


@pytest.mark.parametrize("kind", [Cache, FanoutCache])
def test_disks_with_arguments_of_their_own(tmp_path: Path, kind: type[Any]) -> None:
    """The arguments come from the settings of the directory and are stored in them."""
    cache = kind(tmp_path, disk=Rotated, disk_by=3)
    cache["key"], cache["long"] = "value", "long value " * 100
    cache.close()
    again = kind(tmp_path, disk=Rotated)
    assert (again["key"], again["long"]) == ("value", "long value " * 100)
    assert sorted(again) == ["key", "long"]
    assert (again.disk.by, again.disk.min_file_size) == (3, 50)
    assert pickle.loads(pickle.dumps(again))["key"] == "value"
    again.close()
    with pytest.raises(TypeError):
        kind(tmp_path / "other", disk=Rotated, disk_of=3)
    with pytest.raises(TypeError, match="'by'"):
        kind(tmp_path)


class Unmade(Disk):
    def __init__(self, directory: str, **kwargs: Any) -> None:
        pass


def test_disks_that_are_not_made(tmp_path: Path) -> None:
    """A disk whose constructor does not call the base class's raises an exception that says so."""
    with pytest.raises(RuntimeError, match=r"Disk\.__init__ has not been called"):
        Cache(tmp_path, disk=Unmade)


@pytest.mark.parametrize("disk", [None, object, Disk("."), "Disk", int, dict])
def test_disks_that_are_none(tmp_path: Path, disk: Any) -> None:
    """An argument that is no disk is refused."""
    with pytest.raises(ValueError, match="disk must subclass"):
        Cache(tmp_path, disk=disk)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"eviction_policy": "most-loved"}, KeyError),
        ({"size_limit": "large"}, ValueError),
        ({"cull_limit": object()}, TypeError),
        ({"timeout": "long"}, TypeError),
        ({"timeout": NAN}, ValueError),
        ({"disk_unheard_of": 1}, TypeError),
        ({"unheard_of": object()}, TypeError),
        ({"disk_min_file_size": "big"}, TypeError),
        ({"disk_pickle_protocol": "new"}, TypeError),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any], error: type[Exception]) -> None:
    """Invalid options are refused, and the directory can be opened without them."""
    for kind in (Cache, FanoutCache):
        directory = tmp_path / kind.__name__
        kind(directory).close()
        with pytest.raises((error, TypeError)):
            kind(directory, **options)
        cache = kind(directory)
        cache["key"] = 1
        assert cache["key"] == 1
        cache.close()


def test_settings_that_make_no_sense_are_not_written(tmp_path: Path) -> None:
    """The object and the directory keep their old settings."""
    cache = Cache(tmp_path, size_limit=10**6)
    for key, value in [
        ("size_limit", "large"),
        ("cull_limit", "x"),
        ("eviction_policy", "y"),
        ("statistics", []),
        ("disk_min_file_size", "z"),
    ]:
        before = getattr(cache, key)
        with pytest.raises((KeyError, TypeError, ValueError)):
            cache.reset(key, value)
        assert getattr(cache, key) == before
        assert cache.reset(key) == before
    cache["key"] = 1
    cache.close()
    assert Cache(tmp_path)["key"] == 1


def copies(thing: Any) -> list[Any]:
    return [pickle.loads(pickle.dumps(thing)), copy.copy(thing)]


def test_pickled_caches(tmp_path: Path) -> None:
    """An unpickled cache has the same directory and the same options."""
    cache = Cache(tmp_path / "cache", timeout=3, disk=JSONDisk, size_limit=10**6, disk_compress_level=3)
    cache["key"] = [1]
    for other in copies(cache):
        assert other["key"] == [1]
        assert (other.timeout, type(other.disk), other.size_limit) == (3, JSONDisk, 10**6)
        other["new"] = 2
        assert cache.pop("new") == 2
    fanout = FanoutCache(tmp_path / "fanout", shards=3, timeout=5, size_limit=3 * 10**6)
    fanout["key"] = 1
    for other in copies(fanout):
        assert other["key"] == 1
        assert (other.timeout, other.size_limit) == (5, 10**6)
    deque = Deque("abc", tmp_path / "deque", maxlen=3)
    for other in copies(deque):
        assert list(other) == ["a", "b", "c"]
        assert other.maxlen == 3
    index = Index(str(tmp_path / "index"), a=1)
    for other in copies(index):
        assert dict(other) == {"a": 1}
    with pytest.raises(TypeError), cache.transact():
        pickle.dumps(cache.transact())


def test_a_cache_whose_constructor_has_not_run() -> None:
    """Each call raises an exception that says so."""
    raw = Cache.__new__(Cache)
    for call in (
        lambda: raw.get("a"),
        lambda: raw.set("a", 1),
        lambda: len(raw),
        lambda: list(raw),
        lambda: raw.close(),
    ):
        with pytest.raises((RuntimeError, AttributeError)):
            call()


def test_iterators_outlive_everything(cache: Cache) -> None:
    """An iterator survives a cleared cache, a closed cache, and changes during the iteration."""
    for number in range(250):
        cache[number] = number
    keys = iter(cache)
    assert next(keys) == "there"
    for number in range(250):
        del cache[number]
    cache.close()
    assert len(list(keys)) <= 100
    backwards = reversed(cache)
    cache["more"] = 1
    assert list(backwards) == ["there"]
    by_key = cache.iterkeys()
    cache.clear()
    assert list(by_key) == []
    assert next(iter(cache), None) is None
    cache["there"] = "t" * 2000


def test_transactions_left_open(tmp_path: Path) -> None:
    """A thread ends in a transaction, or never leaves it.

    Later writers wait and raise `Timeout`, and closing the cache ends the transaction.
    """
    cache = Cache(tmp_path, timeout=0.05)
    cache["key"] = 1
    manager = cache.transact()
    manager.__enter__()
    cache["key"] = 2
    raised: list[BaseException] = []

    def write() -> None:
        try:
            cache["other"] = 1 if cache.set("other", 1) else 0
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join(30)
    assert [type(error).__name__ for error in raised] == ["Timeout"]
    manager.__exit__(None, None, None)
    assert cache["key"] == 2
    with pytest.raises(RuntimeError):
        manager.__exit__(None, None, None)
    assert cache.set("other", 1)
    cache.close()
