"""Beside python-diskcache: the same results, the same rows, and both at once on one directory."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import decimal
import http
import io
import itertools
import os
import pickle
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from drivers import NEEDS_THEIRS, THEIRS, Driver, contents
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typing_extensions import Self

pytestmark = pytest.mark.skipif(not THEIRS, reason=NEEDS_THEIRS)

# To make an example smaller takes a thousand more; the operation that differs is named anyway.
quick = settings(
    max_examples=int(os.environ.get("FLEXCACHE_EXAMPLES", "30")),
    # A number that is asked for looks for what has not been seen yet.
    derandomize="FLEXCACHE_EXAMPLES" not in os.environ,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def ours() -> Iterator[Driver]:
    with Driver("ours") as driver:
        yield driver


@pytest.fixture(scope="module")
def theirs() -> Iterator[Driver]:
    with Driver("theirs") as driver:
        yield driver


@pytest.fixture(autouse=True)
def forgotten(ours: Driver, theirs: Driver) -> Iterator[None]:
    """No test finds what another has opened."""
    yield
    for driver in (ours, theirs):
        driver.do("set_clock", None)
        driver.do("forget")


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Path]:
    """A new directory, each time."""
    numbers = itertools.count()
    return lambda: tmp_path / str(next(numbers))


class Files:
    """Stands for streams: an open file is read once, and the same operation is done twice."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __repr__(self) -> str:
        return f"Files({self.data!r})"


class Large:
    """Stands for a value that is better not written out."""

    def __init__(self, piece: Any, times: int) -> None:
        self.piece, self.times = piece, times

    def __repr__(self) -> str:
        return f"Large({self.piece!r}, {self.times})"


def lossless(value: Any) -> bool:
    """Whether python-diskcache keeps a value, and raises for one that it cannot keep."""
    text = value if isinstance(value, str) else ""
    return not ((len(text) >= 64 and "\r" in text) or any("\ud800" <= letter <= "\udfff" for letter in text))


# Of every kind that is stored in its own way, and on both sides of every border.
KEYS: list[Any] = [
    *("", "a", "key", "\xe4\u20ac\U0001f600", "nul\0nul", "-", "queue-000000000000007", "x" * 100),
    *(b"", b"a", b"\x00\xff", b"key"),
    *(0, 1, -1, 7, 2**31, 2**32 - 1, 2**32, -(2**32), 2**63 - 1, -(2**63), 2**63, 2**64, -(2**63) - 1),
    *(1.0, 0.0, -0.0, 0.5, -1.5, 1e300, 5e-324, float("inf"), float("-inf")),
    *(None, True, False, 2j, ..., (), (1, 2), ("a", "b"), ("aa", "aa"), (None, (1.5, b"x")), frozenset([1])),
    *(http.HTTPStatus.OK, dt.date(2020, 2, 29), decimal.Decimal("1.0"), "surrogate\udc80"),
]
STORABLE = [key for key in KEYS if lossless(key)]
VALUES: list[Any] = [
    *KEYS,
    *([], {}, {"a": [1, 2.5, None]}, [True, [b"", ()]], bytearray(b"array"), collections.OrderedDict(a=1), {1, 2}),
    *("line\nline\r\nline\r", "\ud800 alone"),
    *(
        "t" * 63,
        "t" * 64,
        "\xe4" * 63,
        "\xe4" * 64,
        "line\n" * 40,
        b"b" * 63,
        b"b" * 64,
        b"b" * 5000,
        Large("t", 40_000),
    ),
    *(Large(b"b", 40_000), list(range(40)), Large([1, None], 20_000), "t" * 62 + "\U0001f600", 2**500),
    *(Files(b""), Files(b"stream"), Files(b"s" * 5000)),
]
values = st.sampled_from([value for value in VALUES if lossless(value)]) | st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
expire = st.sampled_from([None, None, None, 0, -1, 0.25, 5, 100.5])
tags = st.sampled_from([None, None, "", "tag", b"tag", 0, 7, 2.5])
ends = st.sampled_from(["front", "back"])
sides = ends | st.just("middle")
prefixes = st.sampled_from([None, None, "queue", "", "a-b"])
deltas = st.sampled_from([1, 1, 2, -3, 0, 0.5, 2**62, -(2**63)])
flags = st.booleans()


def calls(method: str, *args: Any, **kwargs: Any) -> st.SearchStrategy[Any]:
    """A call of a method with generated arguments."""
    return st.tuples(st.just(method), st.tuples(*args), st.fixed_dictionaries(kwargs))


def operations(keys: Any, values: Any, common: bool) -> st.SearchStrategy[Any]:
    """Calls of a `Cache`; only those of a `FanoutCache` too if `common`."""
    both = {"expire_time": flags, "tag": flags}
    options = [
        calls("set", keys, values, expire=expire, tag=tags),
        calls("set", keys, values),
        calls("add", keys, values, expire=expire, tag=tags),
        calls("get", keys, default=st.just("nothing"), read=flags, **both),
        calls("__getitem__", keys),
        calls("__setitem__", keys, values),
        calls("__delitem__", keys),
        calls("__contains__", keys),
        calls("read", keys),
        calls("delete", keys),
        calls("pop", keys, default=st.none(), **both),
        calls("touch", keys, expire=expire),
        calls("incr", keys, delta=deltas, default=st.sampled_from([0, 0, 10, None, 1.5])),
        calls("decr", keys, delta=deltas),
        calls("__len__"),
        calls("__iter__"),
        calls("__reversed__"),
        calls("expire"),
        calls("evict", tags),
        st.just(("tick", 0.25)),
        st.just(("tick", 60.0)),
    ]
    if not common:
        options += [
            calls("push", values, prefix=prefixes, side=ends, expire=expire, tag=tags),
            calls("push", values, prefix=prefixes),
            calls("pull", prefix=prefixes, side=sides, **both),
            calls("peek", prefix=prefixes, side=sides, **both),
            calls("peekitem", last=flags, **both),
            calls("iterkeys", reverse=flags),
            st.just(("enter",)),
            st.just(("leave", True)),
            st.just(("leave", False)),
        ]
    rare = [
        calls("clear"),
        calls("stats", enable=flags, reset=flags),
        calls("create_tag_index"),
        calls("drop_tag_index"),
        calls("cull"),
        calls("reset", st.just("cull_limit"), st.sampled_from([0, 1, 10])),
        calls("reset", st.sampled_from(["count", "size", "tag_index", "disk_min_file_size", "unheard of"])),
    ]
    return st.one_of(*options, st.one_of(*rare))


FOR_EVERY_OBJECT = ("reset", "stats", "create_tag_index", "drop_tag_index")
"""What an object keeps for itself."""


def real(value: Any) -> Any:
    """What a stand-in stands for."""
    match value:
        case Files():
            return io.BytesIO(value.data)
        case Large():
            return value.piece * value.times
        case list():
            return [real(item) for item in value]
        case dict():
            return {key: real(item) for key, item in value.items()}
    return value


def prepared(operation: tuple[Any, ...]) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """A call with a new stream for every one that it stores."""
    method, args, kwargs = operation
    if any(isinstance(value, Files) for value in args) and method in {"set", "add", "push"}:
        kwargs = {**kwargs, "read": True}
    return method, tuple(map(real, args)), real(kwargs)


class Comparison:
    """Two runs of the same operations: one by python-diskcache alone, one by whoever's turn it is."""

    def __init__(self, theirs: Driver, drivers: dict[str, Driver]) -> None:
        self.reference, self.drivers = theirs, drivers
        # python-diskcache loses files, or leaves them behind, where a transaction is undone.
        self.may_undo = True
        # With the policy "none" python-diskcache says 0, whatever it has removed as expired.
        self.counts_culled = True
        self.now = 1_600_000_000.0
        self.inside: list[Driver] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        while self.inside:
            self.leave(True)

    def tick(self, seconds: float) -> None:
        self.now += seconds
        for driver in {self.reference, *self.drivers.values()}:
            driver.do("set_clock", self.now)

    def enter(self, driver: Driver) -> None:
        if not self.inside:
            self.inside.append(driver)
            self.reference.do("enter", "reference")
            driver.do("enter", "cache")

    def leave(self, fails: bool) -> None:
        if self.inside:
            driver = self.inside.pop()
            fails = fails and self.may_undo
            self.reference.do("leave", "reference", fails)
            driver.do("leave", "cache", fails)

    def step(self, who: str, operation: tuple[Any, ...]) -> None:
        self.tick(0.001)
        driver = self.inside[-1] if self.inside else self.drivers[who]
        match operation:
            case ("tick", seconds):
                self.tick(seconds)
            case ("enter",):
                self.enter(driver)
            case ("leave", fails):
                self.leave(fails)
            case _:
                self.compare(driver, operation)

    def compare(self, driver: Driver, operation: tuple[Any, ...]) -> None:
        everyone = operation[0] in FOR_EVERY_OBJECT
        if everyone and self.inside:
            return
        expected = self.reference.ask("call", "reference", *prepared(operation))
        found = driver.ask("call", "cache", *prepared(operation))
        if operation[0] == "cull" and not self.counts_culled:
            return
        assert found[:2] == expected[:2], f"{driver.library}: {operation}\n{found}\n{expected}"
        if everyone:
            for other in self.drivers.values():
                if other is not driver:
                    other.ask("call", "cache", *prepared(operation))


who = st.sampled_from(["ours", "theirs"])
alone = st.just("ours")
openings = st.fixed_dictionaries(
    {
        "disk_min_file_size": st.sampled_from([64, 64, 2**15]),
        "eviction_policy": st.sampled_from(
            ["least-recently-stored", "least-recently-used", "least-frequently-used", "none"]
        ),
    },
    optional={
        "statistics": st.just(1),
        "tag_index": st.just(1),
        "cull_limit": st.sampled_from([0, 2]),
        "size_limit": st.just(0),
        "disk_pickle_protocol": st.sampled_from([2, 4]),
    },
)


def run(
    ours: Driver,
    theirs: Driver,
    fresh: Callable[[], Path],
    kind: str,
    options: dict[str, Any],
    steps: list[tuple[str, tuple[Any, ...]]],
) -> None:
    """Compares results, then rows and files, then lets both look for damage."""
    theirs.do("forget")
    ours.do("forget")
    drivers = {"ours": ours, "theirs": theirs}
    used = {name: drivers[name] for name, _ in steps} or {"ours": ours}
    apart, together = fresh(), fresh()
    with Comparison(theirs, used) as comparison:
        comparison.tick(0)
        theirs.make("reference", kind, str(apart), **options)
        for driver in used.values():
            driver.make("cache", kind, str(together), **options)
        comparison.counts_culled = options.get("eviction_policy") != "none"
        comparison.may_undo = options.get("disk_min_file_size", 0) > 64 and not any(
            isinstance(value, Files | Large) for _, operation in steps if len(operation) == 3 for value in operation[1]
        )
        for name, operation in steps:
            comparison.step(name, operation)
    expected, found = contents(apart), contents(together)
    assert found == expected
    for driver in (ours, theirs):
        driver.make("checked", kind, str(together), **options)
        assert driver.call("checked", "check") == "[]", driver.library


def steps_of(names: st.SearchStrategy[str], operations: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(st.tuples(names, operations), min_size=5, max_size=60)


def on_some(
    names: st.SearchStrategy[str], keys: list[Any], values: st.SearchStrategy[Any], common: bool
) -> st.SearchStrategy[Any]:
    """Operations on a few keys, so that they meet."""
    some = st.lists(st.sampled_from(keys), min_size=2, max_size=5)
    return some.flatmap(lambda few: steps_of(names, operations(st.sampled_from(few), values, common)))


@pytest.mark.parametrize("names", [alone, who], ids=["apart", "together"])
def test_caches_do_the_same(ours: Driver, theirs: Driver, fresh: Any, names: Any) -> None:
    """Each call returns or raises the same and leaves the same row, whoever did the one before."""
    some_steps = on_some(names, STORABLE, values, common=False)

    @quick
    @given(openings, some_steps)
    def test(options: dict[str, Any], steps: Any) -> None:
        run(ours, theirs, fresh, "Cache", options, steps)

    test()


@pytest.mark.parametrize("names", [alone, who], ids=["apart", "together"])
def test_fanout_caches_do_the_same(ours: Driver, theirs: Driver, fresh: Any, names: Any) -> None:
    """Each key lies in the same shard, too."""
    some_steps = on_some(names, STORABLE, values, common=True)
    some = openings.map(lambda options: {"shards": 3, "timeout": 10, **options})

    @settings(quick, max_examples=quick.max_examples // 2)
    @given(some, some_steps)
    def test(options: dict[str, Any], steps: Any) -> None:
        run(ours, theirs, fresh, "FanoutCache", options, steps)

    test()


@pytest.mark.parametrize("names", [alone, who], ids=["apart", "together"])
def test_json_caches_do_the_same(ours: Driver, theirs: Driver, fresh: Any, names: Any) -> None:
    """Keys and values are the same compressed bytes."""
    some = st.sampled_from([{"disk": "@JSONDisk"}, {"disk": "@JSONDisk", "disk_compress_level": 6}])
    some_steps = on_some(names, ["a", "b", 1, 1.0, None, True, [1, 2], "\ud800"], json_values, common=True)

    @settings(quick, max_examples=quick.max_examples // 2)
    @given(some, some_steps)
    def test(options: dict[str, Any], steps: Any) -> None:
        run(ours, theirs, fresh, "Cache", options, steps)

    test()


numbers = st.integers(-3, 5)
simple = st.sampled_from(["a", "b", 1, 2, None, (1, "x"), b"b" * 100, Large("t", 40_000)])
deque_operations = st.one_of(
    calls("append", simple),
    calls("appendleft", simple),
    calls("extend", st.lists(simple, max_size=4)),
    calls("extendleft", st.lists(simple, max_size=4)),
    *(calls(name) for name in ("pop", "popleft", "peek", "peekleft", "reverse", "__iter__", "__reversed__", "__len__")),
    calls("__getitem__", numbers),
    calls("__setitem__", numbers, simple),
    calls("__delitem__", numbers),
    calls("remove", simple),
    calls("count", simple),
    calls("rotate", numbers | st.just("one")),
    calls("__eq__", st.lists(simple, max_size=3)),
    calls("__lt__", st.lists(st.integers(), max_size=3)),
    calls("__contains__", simple),
    calls("index", simple),
    calls("clear"),
)
index_keys = st.sampled_from(["a", "b", "c", 1, 1.0, None, (1, 2), b"a"])
index_operations = st.one_of(
    calls("__setitem__", index_keys, simple),
    calls("__getitem__", index_keys),
    calls("__delitem__", index_keys),
    calls("setdefault", index_keys, simple),
    calls("pop", index_keys),
    calls("pop", index_keys, default=simple),
    calls("popitem", last=flags),
    calls("peekitem", last=flags),
    calls("push", simple, prefix=prefixes, side=ends),
    calls("pull", prefix=prefixes, side=sides),
    calls("update", st.dictionaries(st.sampled_from("abc"), simple)),
    calls("__contains__", index_keys),
    calls("__eq__", st.dictionaries(st.sampled_from("abc"), simple)),
    *(calls(name) for name in ("__iter__", "__reversed__", "__len__", "clear")),
    calls("get", index_keys),
)


@pytest.mark.parametrize(("kind", "operations"), [("Deque", deque_operations), ("Index", index_operations)])
@pytest.mark.parametrize("names", [alone, who], ids=["apart", "together"])
def test_collections_do_the_same(
    ours: Driver, theirs: Driver, fresh: Any, kind: str, operations: Any, names: Any
) -> None:
    """`Deque` and `Index`."""

    @settings(quick, max_examples=quick.max_examples // 2)
    @given(st.sampled_from([None, 3]), steps_of(names, operations))
    def test(maxlen: int | None, steps: Any) -> None:
        drivers = {"ours": ours, "theirs": theirs}
        apart, together = fresh(), fresh()
        for driver in drivers.values():
            driver.do("forget")
        options = {"maxlen": maxlen} if kind == "Deque" else {}
        used = {name: drivers[name] for name, _ in steps} or {"ours": ours}
        with Comparison(theirs, used) as comparison:
            for driver, name, directory in [
                (theirs, "reference", apart),
                *((driver, "cache", together) for driver in used.values()),
            ]:
                comparison.tick(0)
                args = ((), str(directory)) if kind == "Deque" else (str(directory),)
                driver.make(name, kind, *args, **options)
            for name, operation in steps:
                comparison.step(name, operation)
        assert contents(together) == contents(apart)

    test()


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_each_finds_what_the_other_stored(ours: Driver, theirs: Driver, tmp_path: Path, first: str) -> None:
    """Every kind of value under every kind of key."""
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
    """The keys of calls are the same, and so are their results."""
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
    """Lock, RLock and BoundedSemaphore keep the same records."""
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
    """`cache`, `deque` and `index` lie where the other looks for them."""
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
        {"foo": 3, "bar": "text", "MAX_ENTRIES": 10.5, "count": 77},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["Cache", "FanoutCache"])
def test_a_new_directory_is_the_same(
    ours: Driver, theirs: Driver, fresh: Any, kind: str, options: dict[str, Any]
) -> None:
    """Settings, tables, indexes and triggers; also after the other has opened it."""
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
    """What one has set, the other has when it opens the directory, also how pickles are made."""
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
    """Two processes of each library, at the same time on the same keys: no count is lost, nothing is damaged."""
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
    """What one pushes, exactly one pulls."""
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
    """NaN, and ends of lines in long texts."""
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
    """The state of a pickled cache begins with what python-diskcache's has."""
    from flexcache_rs.disk import Cache, Disk

    cache = Cache(tmp_path, timeout=5)
    assert cache.__getstate__() == (str(tmp_path), 5, Disk)
    assert pickle.loads(pickle.dumps(cache)).directory == str(tmp_path)
    cache.close()
