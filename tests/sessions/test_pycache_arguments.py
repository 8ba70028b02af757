"""PyCache's decorators with arguments of any kind, and its SQL builder with values that try to leave their quotes."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import enum
import functools
import gc
import itertools
import sqlite3
import threading
import uuid
from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from session_places import SERVERS, URLS

from flexcache_rs.pycache import _call_keys
from flexcache_rs.pycache.adapters import InMemory, SQLite
from flexcache_rs.pycache.decorators import cache, rate_limit
from flexcache_rs.pycache.sql import SQL, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flexcache_rs.pycache.adapters import Adapter


class Service:
    """An object with a lock, which cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls = 0

    @cache()
    def twice(self, number: int) -> int:
        self.calls += 1
        return 2 * number

    @cache()
    async def thrice(self, number: int) -> int:
        self.calls += 1
        return 3 * number


def counted(place: Adapter | None = None) -> Callable[..., int]:
    """Return a decorated function that numbers its computations."""
    numbers = itertools.count(1)

    @cache(adapter=place)
    def number(*_: Any, **__: Any) -> int:
        return next(numbers)

    return number


def selected(literal: str) -> tuple[Any, ...]:
    """Return what SQLite understands by a literal, and a text behind it."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        row: tuple[Any, ...] = connection.execute(f"SELECT {literal}, 'end'").fetchone()
        return row


@pytest.mark.parametrize("adapter", [InMemory, SQLite])
def test_containers_as_arguments(adapter: Any, tmp_path: Path) -> None:
    """PyCache takes them too: equal ones are one call, and others are not."""
    number = counted(SQLite(tmp_path / "cache.db") if adapter is SQLite else None)
    apart: list[list[Any]] = [
        [[1, 2], [1, 2]],
        [(1, 2)],
        [deque([1, 2])],
        [("list", 1, 2)],
        [("list", ("value", 1), ("value", 2))],
        [[1]],
        [[[1]]],
        [[(1,)]],
        [{"a": [1], "b": 2}, {"b": 2, "a": [1]}],
        [{"a": [2], "b": 2}],
        [{"a": {"b": 2}}],
        [{1, "2"}, {"2", 1}],
        [[1, "2"]],
        [["1", "2"]],
        [[]],
        [{}],
        [set()],
    ]
    found = [{number(each) for each in alike} for alike in apart]
    assert found == [{position + 1} for position in range(len(apart))]
    assert number(named=[1]) == number(named=[1]) != number([1])


def test_objects_that_cannot_be_pickled() -> None:
    """Each counts as itself, as long as it lives. A later one at the same address is another."""
    known = set(_call_keys._tokens)
    first, second = Service(), Service()
    assert [each.twice(number) for each in (first, second) for number in (1, 1, 2)] == [2, 2, 4] * 2
    assert (first.calls, second.calls) == (2, 2)

    async def main(service: Service) -> None:
        assert await asyncio.gather(*(service.thrice(5) for _ in range(10))) == [15] * 10

    asyncio.run(main(first))
    assert first.calls == 3
    number = counted()
    assert number([first]) == number([first]) != number([second])
    del first, second
    for expected in range(3, 8):
        service = Service()
        assert number(service) == number(service) == expected
        del service
    gc.collect()
    assert set(_call_keys._tokens) <= known


def test_an_object_that_nothing_tells_apart() -> None:
    class Slots:
        __slots__ = ("value",)

        def __init__(self) -> None:
            self.value = threading.Lock()

    with pytest.raises(TypeError, match=r"type .*Slots cannot be part of a key, since it can be neither pickled nor"):
        counted()(Slots())


def test_functions_without_a_name() -> None:
    class Called:
        def __call__(self, number: int) -> int:
            return number + 1

    assert cache()(functools.partial(lambda a, b: a + b, 1))(2) == 3
    assert cache()(Called())(1) == 2
    limited = rate_limit(limit=1)(Called())
    assert limited(1) == 2
    with pytest.raises(Exception, match="Rate limit exceeded"):
        limited(1)


def test_limits_of_calls_with_any_arguments() -> None:
    @rate_limit(limit=1)
    def handle(request: Any) -> bool:
        return True

    requests = [{"path": "/"}, ["a"], Service()]
    assert [handle(request) for request in requests] == [True] * 3
    for request in requests:
        with pytest.raises(Exception, match="Rate limit exceeded"):
            handle(request)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": "1"}, "limit must be an int or a float, not str"),
        ({"limit": None}, "limit must be an int or a float"),
        ({"limit": float("nan")}, "limit must be a number of calls, not NaN"),
        ({"get_key": "key"}, "get_key must be callable, not str"),
        ({"exception": "slowly"}, "exception must be an exception or a class of exceptions, not str"),
        ({"exception": int}, "exception must be an exception or a class of exceptions"),
        ({"ttl": None}, "ttl must be a number"),
        ({"ttl": True}, "ttl must be a number"),
        ({"ttl": float("nan")}, "ttl must be more than 0 seconds"),
        ({"ttl": 1e300}, "ttl must be at most 292 years"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    """And not by the first call, or never."""
    with pytest.raises((TypeError, ValueError), match=message):
        rate_limit(**arguments)
    if "ttl" in arguments:
        with pytest.raises((TypeError, ValueError), match=message):
            cache(**arguments)


def test_windows_of_a_timedelta() -> None:
    @rate_limit(limit=1, ttl=datetime.timedelta(hours=1))
    def limited() -> bool:
        return True

    assert limited()
    with pytest.raises(Exception, match="Rate limit exceeded") as refused:
        limited()
    assert 0 < refused.value.retry_after <= 3600  # type: ignore[attr-defined]


class Letter(str, enum.Enum):
    A = "it's"


class Small(enum.IntEnum):
    TWO = 2


VALUES: list[tuple[Any, Any]] = [
    ("", ""),
    ("it's", "it's"),
    ("'; DROP TABLE users; --", "'; DROP TABLE users; --"),
    ("\\' OR 1 = 1 -- ", "\\' OR 1 = 1 -- "),
    ("\\", "\\"),
    ("\\\\'", "\\\\'"),
    ("line\nbreak\ttab", "line\nbreak\ttab"),
    ("é☃\\😀", "é☃\\😀"),
    (b"\x00'\\\xff", b"\x00'\\\xff"),
    (bytearray(b"'"), b"'"),
    (Letter.A, "it's"),
    (Small.TWO, 2),
    (2**40, 2**40),
    (-1.5e-7, -1.5e-7),
    (True, 1),
    (None, None),
    (datetime.date(2020, 1, 31), "2020-01-31"),
    (uuid.UUID(int=5), str(uuid.UUID(int=5))),
    (["'", "]"], "[\"'\", ']']"),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=repr)
def test_literals_stay_in_their_quotes(value: Any, expected: Any) -> None:
    assert selected(Literal(value).to_string()) == (expected, "end")


@pytest.mark.skipif("mysql" not in SERVERS, reason="needs MariaDB")
def test_literals_stay_in_their_quotes_on_mysql(tmp_path: Path) -> None:
    """There a backslash begins an escape."""
    import pymysql

    socket = parse_qs(urlsplit(URLS["mysql"](tmp_path)).query)["unix_socket"][0]
    with pymysql.connect(unix_socket=socket, user="root", charset="utf8mb4") as connection, connection.cursor() as run:
        for value, expected in VALUES:
            run.execute(SQL("SELECT {value}, 'end'").format(value=Literal(value)).to_string())
            assert run.fetchone() == (expected, "end")


def test_numbers_as_literals() -> None:
    for value, text in ((Decimal("1.50"), "1.50"), (1e300, "1e+300"), (2**70, str(2**70)), ([1, 2.5], "[1, 2.5]")):
        assert Literal(value).to_string() == text
    for value in (float("nan"), float("inf"), Decimal("NaN"), -float("inf")):
        with pytest.raises(ValueError, match="SQL has no literal for"):
            Literal(value).to_string()
    with pytest.raises(ValueError, match="surrogates"):
        Literal("\\\ud800").to_string()
    assert selected(Literal("\0a").to_string()) == ("\0a", "end")


def test_parts_without_a_name() -> None:
    """They do not disappear from a statement."""
    for call in (
        lambda: SQL("a {} b").format(Literal(1)),
        lambda: SQL("a {} b").format(),
        lambda: SQL("a {b}").format(Literal(1), b=Literal(2)),
    ):
        with pytest.raises(TypeError):
            call()
    assert SQL("{{}} {b}").format(b=Literal(2)).to_string() == "{} 2"
