"""Calls of caches with generated arguments."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import http
import io
from typing import Any

from hypothesis import strategies as st


class Files:
    """Stands for streams. An open file can be read once, but each operation is done twice."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __repr__(self) -> str:
        return f"Files({self.data!r})"


class Large:
    """Stands for a value that is too large to print."""

    def __init__(self, piece: Any, times: int) -> None:
        self.piece, self.times = piece, times

    def __repr__(self) -> str:
        return f"Large({self.piece!r}, {self.times})"


def lossless(value: Any) -> bool:
    """Whether python-diskcache stores a value without loss, or raises if it cannot."""
    text = value if isinstance(value, str) else ""
    return not ((len(text) >= 64 and "\r" in text) or any("\ud800" <= letter <= "\udfff" for letter in text))


# Keys of every type that has its own form in the table, and on both sides of every limit.
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
    """Generate calls of a method."""
    return st.tuples(st.just(method), st.tuples(*args), st.fixed_dictionaries(kwargs))


def operations(keys: Any, values: Any, common: bool) -> st.SearchStrategy[Any]:
    """Generate calls of a `Cache`. With `common`, only those that a `FanoutCache` has too."""
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
"""Calls with effects on the object itself, which are made on every object."""


def real(value: Any) -> Any:
    """Return the value for a stand-in."""
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
    """Return a call with new streams for those that it stores."""
    method, args, kwargs = operation
    if any(isinstance(value, Files) for value in args) and method in {"set", "add", "push"}:
        kwargs = {**kwargs, "read": True}
    return method, tuple(map(real, args)), real(kwargs)
