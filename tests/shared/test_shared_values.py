"""SharedCache: which keys and values it takes, and how values come back."""

from __future__ import annotations

import datetime
import enum
import math
import pickle
import signal
from collections import OrderedDict, namedtuple
from typing import Any

import pytest

import flexcache_rs
from flexcache_rs.disk.serializers import JSONSerializer, PickleSerializer
from flexcache_rs.shared import SharedCache

Point = namedtuple("Point", "x y")  # noqa: PYI024 - an exact type that is no tuple

VALUES = [
    None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**63, -(2**200), 0.0, -0.0, 1.5, math.inf, 1e300,
    "", "text", "ü€𝄞", "\ud800 alone", b"", b"bytes\0\xff", (), (1, (2.5, "x"), None), [], [[1], [b"2", [True]]],
    {}, {"a": {"b": [1, 2**70, ("c",)]}, 3: None, (1, 2): b""}, {"x": "y" * 5000},
    {1, 2}, frozenset({3}), OrderedDict(a=1), Point(1, 2), bytearray(b"x"), 1 + 2j, range(5),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:40])
def test_values_come_back_as_they_were(cache: SharedCache, value: object) -> None:
    """Values return with their exact types, in this process and in another."""
    cache["k"] = value
    back = cache["k"]
    assert (type(back), repr(back)) == (type(value), repr(value))
    if not isinstance(value, range):
        assert back == value


def test_keys_of_dicts_that_differ_in_a_character(cache: SharedCache) -> None:
    """Strs that are keys of many dicts are kept. None is taken for another one, whatever its length."""
    for length in range(1, 41):
        text = "".join(chr(97 + at % 26) for at in range(length))
        near = [text, *(text[:at] + "-" + text[at + 1 :] for at in range(length)), text + "\0", "ü" + text]
        for number, key in enumerate(near):
            cache[number] = {key: number}
        for _ in range(2):
            assert [cache[number] for number in range(len(near))] == [{key: number} for number, key in enumerate(near)]


def test_nan_and_what_refers_to_itself(cache: SharedCache) -> None:
    """NaN, circular references, deep nesting, and one object in several places."""
    cache["nan"] = math.nan
    assert math.isnan(cache["nan"])
    circle: list[Any] = [1]
    circle.append(circle)
    cache["circle"] = circle
    back = cache["circle"]
    assert back[1] is back
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    cache["deep"] = deep
    assert cache["deep"] == deep
    wide: Any = "x" * 100
    for _ in range(40):
        wide = [wide, wide]
    cache["wide"] = wide  # 2**40 texts, if they were written one by one
    back = cache["wide"]
    for _ in range(40):
        assert back[0] is back[1]
        back = back[0]
    assert back == "x" * 100


def test_subclasses_keep_their_class(cache: SharedCache) -> None:
    """Instances of subclasses are pickled."""
    for value in (signal.SIGINT, Point(1, "a"), OrderedDict(b=1)):
        cache["k"] = value
        assert type(cache["k"]) is type(value)
        cache["k"] = [value]
        assert type(cache["k"][0]) is type(value)


def test_keys_are_equal_as_in_a_dict(cache: SharedCache) -> None:
    """1, 1.0 and True are one key, also in tuples. Text and bytes are different keys."""
    for same in ([1, 1.0, True], [0, -0.0, False], [2**70, float(2**70)], [(1, "a"), (1.0, "a"), (True, "a")]):
        for key in same:
            cache[key] = "value"
            assert len(cache) == 1
            assert all(cache[other] == "value" for other in same)
        cache.clear()
    different = ["1", b"1", 1, None, 1.5, (1,), ((1,),), ("1",), (), "", b"", "\ud800", ("a", "bc"), ("ab", "c")]
    for number, key in enumerate(different):
        cache[key] = number
    assert [cache[key] for key in different] == list(range(len(different)))
    assert len(cache.keys()) == len(different)
    assert set(cache.keys()) == set(different)
    text = "".join(["a", "b"])
    cache[(text, text)] = "same"
    assert cache[("ab", "".join(["a", "b"]))] == "same", "not by which parts are one object"
    cache[math.nan] = 1
    assert cache[float("nan")] == 1, "all NaN are one key"


class Color(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "key", [[1], {}, object(), Color.RED, Point(1, 2), (1, [2]), bytearray(b"x")], ids=lambda key: type(key).__name__
)
def test_other_keys_are_refused_by_name(cache: SharedCache, key: object) -> None:
    """Every call refuses such a key, and the error names its type."""
    calls = [
        lambda: cache.get(key),
        lambda: cache.put(key, 1),
        lambda: cache.add(key, 1),
        lambda: cache.delete(key),
        lambda: cache.pop(key, None),
        lambda: cache.touch(key),
        lambda: cache.ttl(key),
        lambda: cache.incr(key),
        lambda: cache.compare_and_set(key, 1, 2),
        lambda: key in cache,
    ]
    for call in calls:
        with pytest.raises(TypeError, match="a key must be a str, bytes, int"):
            call()
    assert len(cache) == 0


def test_a_key_of_too_many_tuples(cache: SharedCache) -> None:
    """A key that is nested too deeply is refused without a crash."""
    key: Any = ()
    for _ in range(10_000):
        key = (key,)
    with pytest.raises(ValueError, match="nested more than"):
        cache.get(key)


def test_too_large(cache: SharedCache) -> None:
    """The exception names both numbers, and the old value stays."""
    cache["k"] = "old"
    with pytest.raises(flexcache_rs.TooLargeError, match=str(cache.stats().largest_item)):
        cache["k"] = b"x" * (1 << 20)
    assert cache["k"] == "old"


def test_serializers(cache: SharedCache) -> None:
    """The serializer decides what is loaded."""
    cache["date"] = datetime.date(2030, 1, 1)
    cache["delta"] = datetime.timedelta(1)
    allowing = PickleSerializer(allow=["datetime.date"])
    with SharedCache(cache.path, serializer=allowing) as careful:
        assert careful["date"] == datetime.date(2030, 1, 1)
        with pytest.raises(pickle.UnpicklingError):
            careful["delta"]
        assert pickle.loads(pickle.dumps(careful))["date"] == careful["date"]
    with SharedCache(cache.path, serializer=JSONSerializer()) as plain:
        plain["list"] = [1, ["a"]]
        assert plain["list"] == [1, ["a"]]
        with pytest.raises(ValueError):
            plain["date"]
        with pytest.raises(TypeError):
            plain["set"] = {1}
    with pytest.raises(TypeError, match="serializer"):
        SharedCache(cache.path, serializer=5)  # type: ignore[arg-type]
