"""PyCache's decorators with arguments of any kind, and its SQL builder with values that try to leave their quotes."""

from __future__ import annotations

import array
import asyncio
import contextlib
import dataclasses
import datetime
import enum
import functools
import gc
import inspect
import itertools
import json
import os
import sqlite3
import threading
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
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

    with pytest.raises(TypeError, match=r"^argument 2 of .*number\(\) .*Slots can be neither pickled nor referred"):
        counted()(1, Slots())


@dataclasses.dataclass
class Point:
    x: Any


class Plain:
    def __init__(self, x: Any) -> None:
        self.x = x


class Named(NamedTuple):
    items: list[int]


class Halves(list[int]):
    """Its pickle is that of a list."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (list, ([1],))


class Ones(Halves):
    pass


class First:
    """Its pickle is that of a text."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (str, ("x",))


class Second(First):
    pass


def chain(length: int) -> Plain:
    """Return objects in one another, more than a pickle can have."""
    last = Plain(None)
    for _ in range(length):
        last = Plain(last)
    return last


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "dataclass": (lambda: Point(1), lambda value: setattr(value, "x", 2)),
    "dataclass in a list": (lambda: [Point(1)], lambda value: setattr(value[0], "x", 2)),
    "object": (lambda: Plain([1]), lambda value: value.x.append(2)),
    "Counter": (lambda: Counter("ab"), lambda value: value.update("a")),
    "OrderedDict": (lambda: OrderedDict(a=[1]), lambda value: value["a"].append(2)),
    "defaultdict": (lambda: defaultdict(list, a=[1]), lambda value: value["b"]),
    "namedtuple": (lambda: Named([1]), lambda value: value.items.append(2)),
    "array": (lambda: array.array("i", [1]), lambda value: value.append(2)),
    "bytearray": (lambda: bytearray(b"a"), lambda value: value.append(2)),
    "memoryview": (lambda: memoryview(bytearray(b"a")), lambda value: value.__setitem__(0, 2)),
    "read-only memoryview": (
        lambda: memoryview(array.array("i", [1])).toreadonly(),
        lambda value: value.obj.__setitem__(0, 2),
    ),
    "numpy": (lambda: pytest.importorskip("numpy").zeros(3), lambda value: value.__setitem__(0, 2)),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_objects_that_have_changed(kind: str) -> None:
    """A call with one is another call then. A new object with equal content is not."""
    make, change = CHANGES[kind]
    number, value = counted(), make()
    assert number(value) == number(value) == number(make()) == 1
    change(value)
    assert number(value) == number(value) == 2
    assert number(make()) == 1
    assert number(named=value) == 3


def test_arguments_that_cannot_be_part_of_a_key() -> None:
    """They raise one exception, which names the argument."""
    endless: list[Any] = []
    endless.append(endless)
    by_name: dict[str, Any] = {}
    by_name["again"] = by_name
    released = memoryview(b"a")
    released.release()

    @dataclasses.dataclass
    class Local:
        lock: Any

    deep: tuple[Any, ...] = ()
    for _ in range(300):
        deep = (deep,)
    for value, reason in (
        (endless, "contains itself"),
        (by_name, "contains itself"),
        (deep, "nested more than"),
        (chain(100_000), "nested too deeply"),
        (released, "released memoryview"),
        (Local([threading.Lock()]), "neither pickled nor hashed"),
        (defaultdict(lambda: 0), "neither pickled nor hashed"),
    ):
        with pytest.raises(TypeError, match=rf"^argument 1 of .* cannot be part of a key: .*{reason}"):
            counted()(value)
        with pytest.raises(TypeError, match=rf"^argument 'named' of .* cannot be part of a key: .*{reason}"):
            counted()(1, named=value)


def test_different_arguments_are_different_calls() -> None:
    def made() -> Any:
        return type("Made", (), {"__module__": __name__})

    number = counted()
    one, other = made(), made()
    nan, another = float("nan"), float("nan")
    apart: list[Any] = [
        *([1], [1.0], [True], ["1"], [b"1"]),
        *({1}, {1.0}, {True}, {(1, 2)}, {(1, True)}),
        *({nan}, {nan, another}),
        *({1: [1]}, {True: [1]}, {1: [True]}),
        *(Point(1), Point(1.0), Point(True), Point([1])),
        *(Halves(), Ones(), First(), Second(), "x"),
        *(one, other, [one], [other]),
        *(bytearray(b"a"), memoryview(b"a"), memoryview(b"a").cast("b"), b"a"),
    ]
    assert [number(value) for value in apart] == list(range(1, len(apart) + 1))
    assert [number(value) for value in apart] == list(range(1, len(apart) + 1))


class Adder:
    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, other: int) -> int:
        return self.number + other

    def plus(self, other: int) -> int:
        return self.number + other


def adding(number: int) -> Callable[[int], int]:
    return lambda other: number + other


def adding_by_default(number: int) -> Callable[[int], int]:
    def add(other: int, number: int = number) -> int:
        return number + other

    return add


def plain(other: int) -> int:
    return other


@cache(adapter=SQLite("unused.db"))
@functools.lru_cache
def decorated_twice(other: int) -> int:
    return other


def adding_under_a_name(number: int) -> Callable[[int], int]:
    @functools.wraps(plain)
    def add(other: int) -> int:
        return number + other

    return add


class AdderWithLock:
    """It can be neither pickled nor referred to weakly."""

    __slots__ = ("lock", "number")

    def __init__(self, number: int) -> None:
        self.number, self.lock = number, threading.Lock()

    def __call__(self, other: int) -> int:
        return self.number + other

    def plus(self, other: int) -> int:
        return self.number + other


@pytest.mark.parametrize(
    "make",
    [
        lambda number: functools.partial(int.__add__, number),
        lambda number: functools.update_wrapper(functools.partial(int.__add__, number), plain),
        lambda number: number.__add__,
        Adder,
        AdderWithLock,
        lambda number: Adder(number).plus,
        lambda number: AdderWithLock(number).plus,
        adding,
        adding_by_default,
        adding_under_a_name,
        lambda number: (lambda other: other + 2) if number == 2 else (lambda other: other + 5),
    ],
)
def test_callables_of_one_name_in_a_shared_adapter(make: Callable[[int], Callable[[int], int]], tmp_path: Path) -> None:
    place = SQLite(tmp_path / "cache.db")
    both = [cache(adapter=place)(make(number)) for number in (2, 5)]
    assert [add(1) for add in both] == [3, 6]
    assert [add(1) for add in both] == [3, 6]
    assert [add(([1], 2)[1]) for add in both] == [4, 7]


def test_a_callable_that_has_changed(tmp_path: Path) -> None:
    for place in (InMemory(), SQLite(tmp_path / "cache.db")):
        adder = Adder(2)
        add = cache(adapter=place)(adder)
        assert add(1) == 3
        adder.number = 5
        assert add(1) == 6


def test_keys_that_other_processes_have_too(tmp_path: Path) -> None:
    """Named functions, content that can be pickled, and the code of functions without variables of others."""
    place = SQLite(tmp_path / "cache.db")

    def local() -> Callable[..., Any]:
        def number(*_: Any, step: int = 1) -> int:
            return step

        return number

    def keys() -> list[str]:
        functions: list[Any] = [plain, functools.partial(pow, 2), Adder(2), Adder(2).plus, local(), Adder.plus]
        functions.append(inspect.unwrap(decorated_twice, stop=lambda each: not inspect.isfunction(each)))
        made = [_call_keys.keys_of("cache_result", each, place) for each in functions]
        return [key(value) for key in made for value in (1, [1], Point(1))]

    assert keys() == keys()
    assert len(set(keys())) == len(keys())


def test_counted_calls_of_callables(tmp_path: Path) -> None:
    """They are counted while the callable changes, and all functions of a name are counted together."""
    place = SQLite(tmp_path / "cache.db")
    adder = Adder(2)
    limited = rate_limit(limit=1, adapter=place)(adder)
    assert limited(1) == 3
    adder.number = 5
    with pytest.raises(Exception, match="Rate limit exceeded"):
        limited(1)
    assert rate_limit(limit=1, adapter=place)(Adder(7))(1) == 8
    for make in (adding, adding_under_a_name, lambda number: functools.lru_cache(adding_by_default(number))):
        assert rate_limit(limit=1, adapter=place)(make(2))(1) == 3
        with pytest.raises(Exception, match="Rate limit exceeded"):
            rate_limit(limit=1, adapter=place)(make(5))(1)


def test_a_text_is_not_taken_for_another_argument() -> None:
    """It is the text that stands for a list in keys."""

    @cache()
    def kind(value: Any) -> str:
        return type(value).__name__

    assert (kind([1]), kind(_call_keys._text([1]))) == ("list", "str")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_objects_in_a_child() -> None:
    """They are others than those of the parent, also for a key in an adapter of both."""
    service = Service()
    keys = [
        _call_keys.keys_of("cache_result", function, SQLite("unused.db"))
        for function in (plain, Adder(1), adding(2), AdderWithLock(1).plus)
    ]

    def made() -> list[str]:
        return [key(service) for key in keys]

    mine = made()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, json.dumps([made(), made()]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        theirs, again = json.load(pipe)
    assert os.waitpid(child, 0)[1] == 0
    assert theirs == again
    assert not set(theirs) & set(mine)
    assert made() == mine


def test_threads_that_first_use_an_object() -> None:
    """They all have the same key."""
    services = [Service() for _ in range(300)]
    start = threading.Barrier(4)
    found: list[list[str]] = []

    def use() -> None:
        start.wait()
        found.append([_call_keys._token(service) for service in services])

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [found[0]] * 4
    assert len(set(found[0])) == len(services)


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


@pytest.mark.parametrize("decorator", [cache, rate_limit])
def test_a_decorator_without_parentheses(decorator: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{decorator.__name__} needs parentheses"):
        decorator(lambda: 1)


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
    numpy = pytest.importorskip("numpy")
    for value, text in ((Decimal("1.50"), "1.50"), (1e300, "1e+300"), (2**70, str(2**70)), ([1, 2.5], "[1, 2.5]")):
        assert Literal(value).to_string() == text
    endless: list[Any] = [1, "a"]
    endless.append(endless)
    assert Literal(endless).to_string() == "'[1, ''a'', [...]]'"
    assert Literal(Decimal("1e999")).to_string() == "1E+999"
    nan, infinite = float("nan"), float("inf")
    for value in (
        *(nan, infinite, -infinite, Decimal("NaN"), Decimal("sNaN"), complex(1, nan)),
        *([nan], [1, 2.5, -infinite], [[nan]], ["a", nan], (1, nan), {nan}, {"a": [nan]}, {nan: 1}, [Decimal("NaN")]),
        *(deque([nan]), [*endless, nan]),
        *(kind(nan) for kind in (numpy.float32, numpy.float64)),
        [numpy.float64(nan)],
    ):
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
