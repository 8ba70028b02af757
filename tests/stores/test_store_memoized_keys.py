"""Keys of memoized calls over every store: one canonical text, whatever objects the arguments consist of."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import os
import pathlib
import subprocess
import sys
import threading
import uuid
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_kinds import EQUAL, SAME, Dictionary, Kind

from flexcache_rs import FlexCache, memoize
from flexcache_rs.disk import Cache, JSONDisk


def describe(*args: Any, **kwargs: Any) -> str:
    return repr((args, kwargs))


class Color(enum.Enum):
    RED = 1
    CRIMSON = "RED"


class Size(enum.IntEnum):
    ONE = 1


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass(frozen=True)
class Query:
    text: Any
    connection: Any = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True)
class Peculiar:
    number: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Peculiar) and self.number % 10 == other.number % 10

    def __hash__(self) -> int:
        return self.number % 10


class Plain:
    def __init__(self, state: Any) -> None:
        self.state = state

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and self.state == other.state

    def __hash__(self) -> int:
        return 1


UTC = dt.timezone.utc
EAST = dt.timezone(dt.timedelta(hours=1))
LONE = "a\udc80"

ONE_KEY: list[tuple[Any, Any]] = [
    (0.0, -0.0),
    ((SAME, SAME), (SAME, EQUAL)),
    (frozenset({1, "a", (2,)}), frozenset([(2,), "a", 1])),
    (LONE, "a" + "\udc80"),
    (float("nan"), -float("nan")),
    (Color.RED, Color["RED"]),
    (Point(1, EQUAL), Point(1, SAME)),
    (Query(EQUAL, "one"), Query(SAME, threading.Lock())),
    (dt.datetime(2026, 1, 1, 12, tzinfo=UTC), dt.datetime(2026, 1, 1, 13, tzinfo=EAST)),
    (dt.datetime(2026, 1, 1, 12), dt.datetime(2026, 1, 1, 12, fold=1)),
    (dt.timedelta(hours=24), dt.timedelta(days=1)),
    (decimal.Decimal("1.50"), decimal.Decimal("15e-1")),
    (decimal.Decimal(0), decimal.Decimal("-0e5")),
    (fractions.Fraction(2, 4), fractions.Fraction(1, 2)),
    (pathlib.Path("a") / "b", pathlib.PurePath("a/b")),
    (uuid.UUID(int=7), uuid.UUID(int=7)),
    (1j, complex(0.0, 1)),
    (Plain(1), Plain(1)),
]


@pytest.mark.parametrize(("one", "other"), ONE_KEY)
def test_equal_arguments_share_a_result(kind: Kind, store: Any, one: Any, other: Any) -> None:
    """Also in other caches over the store."""
    memo, second = kind.front(store).memoize(describe), kind.front(store).memoize(describe)
    key = memo.cache_key(one, named=one)
    assert type(key) is str
    assert second.cache_key(other, named=other) == key
    result = memo(one)
    assert (memo(one), memo(other), second(other)) == (result, result, result)
    assert second.invalidate(other)
    assert memo.peek(one) is None


DIFFERENT: list[Any] = [
    *(
        None,
        False,
        True,
        0.0,
        1.0,
        float(2**63),
        0,
        1,
        2**63,
        2**63 - 1,
        -(2**63) - 1,
        0.5,
        float("inf"),
        -float("inf"),
        float("nan"),
    ),
    *("", "1", "n", "i1;", "a", LONE, "a\0", "é", b"", b"a", b"i1;", b"\xff"),
    *(
        (),
        (1,),
        (1.0,),
        (True,),
        ((1,),),
        ("a",),
        (b"a",),
        ("a", "b"),
        ("ab",),
        (None, None),
        (("a",), "b"),
        ("a", ("b",)),
    ),
    *(frozenset(), frozenset({True}), frozenset({1}), frozenset({(1,)}), frozenset({"1"})),
    *(Color.RED, Color.CRIMSON, Size.ONE, Access.READ, Access.WRITE, Access.READ | Access.WRITE),
    *(Point(1, 2), Point(1.0, 2), Point(2, 1), (1, 2), Query("a"), Query("b"), Peculiar(1), Peculiar(2)),
    *(dt.date(2026, 1, 1), dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=UTC), dt.time(1)),
    *(dt.datetime(2026, 1, 1, tzinfo=EAST), dt.datetime.min.replace(tzinfo=EAST), dt.time(1, tzinfo=EAST)),
    *(dt.timedelta(1), dt.timedelta(0, 1), decimal.Decimal("1.5"), decimal.Decimal("-1.5"), decimal.Decimal("NaN")),
    *(decimal.Decimal("1e999999999"), decimal.Decimal("1e-999999999"), fractions.Fraction(1, 3)),
    *(pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), uuid.UUID(int=1), 1j, int, str, Color, Plain),
    *(range(3), Plain(1), Plain(2), len, describe, ..., "date", ("date", "2026-01-01")),
]


def test_different_arguments_have_different_keys() -> None:
    memo: Any = memoize(store=Dictionary(), coherence=None)(describe)
    keys = [memo.cache_key(argument) for argument in DIFFERENT]
    assert len(set(keys)) == len(DIFFERENT)
    calls = [((1, 2), {}), (((1, 2),), {}), ((1,), {"y": 2}), ((), {"x": 1, "y": 2}), ((1, "y", 2), {}), ((), {})]
    assert len({memo.cache_key(*args, **kwargs) for args, kwargs in calls}) == len(calls)
    for key in keys:
        key.encode()


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2) | st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(), max_size=3),
    st.binary(max_size=3),
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3), max_leaves=5
)


def marked(value: Any) -> Any:
    """What is equal where the value is, and all numbers in it are of the same types."""
    if isinstance(value, (tuple, frozenset)):
        return type(value)(marked(part) for part in value)
    return (type(value), value) if isinstance(value, (bool, float)) else value


@given(VALUES, VALUES, st.booleans(), st.booleans())
def test_calls_are_told_apart_as_in_memory(one: Any, other: Any, typed: bool, wrapped: bool) -> None:
    """By equality; in a store also by the types of numbers."""
    if wrapped:
        one, other = (one, 1), (other, True)
    in_memory = FlexCache[Any, Any]().memoize(describe, typed=typed)
    in_store: Any = memoize(store=Dictionary(), coherence=None, typed=typed)(describe)
    for left, right in (((one,), (other,)), ((one, other), (other, one)), ((1, one), (1.0, one))):
        same = in_memory.cache_key(*marked(left)) == in_memory.cache_key(*marked(right))
        assert (in_store.cache_key(*left) == in_store.cache_key(*right)) is same
        same = in_memory.cache_key(x=marked(left)) == in_memory.cache_key(x=marked(right))
        assert (in_store.cache_key(x=left) == in_store.cache_key(x=right)) is same


def test_numbers_over_a_store(kind: Kind, store: Any) -> None:
    """1, 1.0 and True are three calls, also without `typed`, which a cache without a store needs for that."""
    memo: Any = FlexCache[Any, Any]().memoize(describe)
    assert {memo(1), memo(1.0), memo(True)} == {"((1,), {})"}
    for cache, options in ((FlexCache[Any, Any](), {"typed": True}), (kind.front(store), {})):
        memo = cache.memoize(describe, **options)
        assert (memo(1), memo(1.0), memo(True)) == ("((1,), {})", "((1.0,), {})", "((True,), {})")
        typed = cache.memoize(describe, typed=True, name="typed")
        assert (typed(1), typed(1.0), typed(True)) == ("((1,), {})", "((1.0,), {})", "((True,), {})")
        assert (typed(x=1), typed(x=1.0)) == ("((), {'x': 1})", "((), {'x': 1.0})")


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_store_memoized_keys import *
with Cache(sys.argv[2]) as disk:
    memo = memoize(store=disk)(describe)
    print(sum(memo.peek(argument, x=argument) is not None for argument in all_arguments()))
    for argument in all_arguments():
        memo(argument, x=argument)
"""


def all_arguments() -> list[Any]:
    """One of each key; their objects are new, and hashed anew, in each process."""
    return DIFFERENT + [one for one, _ in ONE_KEY]


def test_another_process_has_the_same_keys(tmp_path: Any) -> None:
    """Whatever its hashes of text are."""
    found = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(pathlib.Path(__file__).parent), str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        assert done.returncode == 0, done.stderr
        found.append(int(done.stdout))
    assert found == [0, len(all_arguments())]


def test_the_format_of_keys() -> None:
    """It is that of every store, for ever: another one would lose all results."""
    memo: Any = memoize(store=Dictionary(), coherence=None, name="f")(describe)
    arguments = (None, True, 2**64, 1.5, "é", LONE, b"\x0f", (1, ()), frozenset({2, 1}), dt.date(2026, 1, 1))
    key = memo.cache_key(*arguments, a=1)
    head, nonce, rest = key[:9], key[9:25], key[25:]
    assert head == "(s1:fs16:"
    assert int(nonce, 16) >= 0
    assert rest == (
        "n?1I0x10000000000000000;f3ff8000000000000s2:éS4:61edb280b1:0f(i1;()){i1;i2;}<s4:dates10:2026-01-01>ks1:ai1;)"
    )


@pytest.mark.parametrize("wrap", [lambda part: part, lambda part: (1, (part,))])
def test_what_is_no_key(kind: Kind, store: Any, wrap: Any) -> None:
    """What cannot be hashed, as without a store, and what cannot be pickled."""
    memo = kind.front(store).memoize(describe)
    for unhashable in ([], {}, Query([]), bytearray()):
        with pytest.raises(TypeError, match=r"^unhashable type: .*; give memoize\(\) a key$"):
            memo(wrap(unhashable))
    with pytest.raises(TypeError, match=r"argument of type function cannot be part of a key in a store.* a key$"):
        memo(wrap(lambda: None))
    deep: Any = ()
    for _ in range(100_000):
        deep = (deep,)
    with pytest.raises(RecursionError):
        memo(wrap(deep))
    while deep:
        (deep,) = deep


def test_stores_that_take_only_text(tmp_path: Any) -> None:
    """A disk that writes JSON has neither tuples nor bytes."""
    with Cache(tmp_path, disk=JSONDisk) as disk:
        memo: Any = memoize(store=disk, max_items=1)(describe)
        first = memo((1, b"x"), LONE)
        memo(2)
        assert memo.peek((1, b"x"), LONE) == first
        assert {type(key) for key in disk} == {str}


def test_keys_of_the_users_making(kind: Kind, store: Any) -> None:
    """They are encoded with the function's name."""
    calls: list[Any] = []
    memo = kind.front(store).memoize(describe, key=lambda *args: (calls.append(args), args)[1])
    memo(SAME, SAME)
    assert kind.front(store).memoize(describe, key=lambda *args: args).peek(SAME, EQUAL) is not None
    assert type(memo.cache_key(1)) is str
