"""Values return unchanged from every backend."""

from __future__ import annotations

import contextlib
import math
import uuid
from collections import deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scale import scaled

from flexcache_rs._core import SessionCodec
from flexcache_rs.disk.serializers import PickleSerializer
from flexcache_rs.sessions import CodecError

if TYPE_CHECKING:
    from session_places import Place

    from flexcache_rs.sessions.sync import Session

VALUES = [
    *(None, True, False, 0, 1, -1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**200, 10**5000),
    *(0.0, -0.0, 1.5, 1e20, 1e-5, 1e16, 5e-324, math.inf, -math.inf),
    *(
        "",
        "text",
        "007",
        "7",
        "-1",
        "1e5",
        "1.5",
        "inf",
        "nan",
        "None",
        "a\0b",
        "é",
        "\ud800",
        "\U0001f600",
        "x" * 100_000,
    ),
    *(b"", b"\xff\x00", bytearray(b"abc"), (), (1, ("a", [2])), [], [1, [2.0, None]], {}, {1: "a", "b": {True: []}}),
    *(set(), {1, "a"}, frozenset({1, 2}), deque([1, 2]), deque([1], maxlen=3)),
    *(datetime(2024, 2, 29, 1, 2, 3, 4), datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
    *(
        date(1, 1, 1),
        time(1, 2, 3),
        timedelta(days=-1, microseconds=3),
        Decimal("1.50"),
        Decimal("NaN"),
        uuid.UUID(int=7),
    ),
]


def same(left: Any, right: Any) -> bool:
    """Return True if two values are equal, have one type, and print alike."""
    return type(left) is type(right) and repr(left) == repr(right)


def name_of(value: object) -> str:
    """Return a name that is the same in every process."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__} of {sorted(map(repr, value))}"
    return "big" if value == 10**5000 else repr(value)[:20]


@pytest.mark.parametrize("value", VALUES, ids=name_of)
def test_a_value_comes_back(session: Session, value: Any) -> None:
    session.set("key", value)
    found = session.get("key")
    if isinstance(value, int) and value > 2**300:
        assert found == value
    elif isinstance(value, (set, frozenset, dict)):
        assert (type(found), found) == (type(value), value)
    elif type(value) is deque:
        # The container of a queue has no bound.
        assert found == value
    else:
        assert same(found, value)
    session.list("list").push(value)
    element = session.list("list").at(0)
    assert (type(element), element) == (type(value), value) or same(element, value) or value != value
    if type(value) is deque:
        assert element.maxlen == value.maxlen


def test_a_stored_value_is_nobody_elses(session: Session) -> None:
    mine = [1, [2]]
    session.set("key", mine)
    mine[1].append(3)  # type: ignore[attr-defined]
    found = session.get("key")
    assert found == [1, [2]]
    found.append(4)
    assert session.get("key") == [1, [2]]


@pytest.mark.parametrize(
    "members",
    [
        (1, 1.0, True, Decimal(1), Decimal("1.00")),
        (0, 0.0, -0.0, False),
        (1.5, Decimal("1.5"), Decimal("1.50")),
        ((1, 2), (1.0, Decimal(2))),
        (2**70, float(2**70)),
        (
            datetime(2024, 1, 1, 12, tzinfo=timezone.utc),
            datetime(2024, 1, 1, 14, tzinfo=timezone(timedelta(hours=2))),
        ),
        (frozenset({1, 2}), frozenset({2.0, True})),
    ],
)
def test_equal_members_are_one(session: Session, members: tuple[Any, ...]) -> None:
    assert session.set_of("set").add(*members) == 1
    assert all(session.set_of("set").has_many(members))
    for field in members:
        session.map("map").set(field, "value")
    assert session.map("map").len() == 1
    assert session.map("map").get_many(members) == {members[0]: "value"}
    session.sorted("sorted").add(dict.fromkeys(members, 1))
    assert session.sorted("sorted").len() == 1


def test_members_that_differ_are_several(session: Session) -> None:
    members = [1, "1", b"1", (1,), None, "None", 1.5, "1.5", Decimal("1E+1000000000"), Decimal("2E+1000000000")]
    assert session.set_of("set").add(*members) == len(members)
    assert session.set_of("set").all() == set(members)


@pytest.mark.parametrize("member", [[1], {1: 2}, {1}, deque()])
def test_what_cannot_be_hashed_is_no_member(session: Session, member: Any) -> None:
    with pytest.raises(CodecError):
        session.set_of("set").add(member)
    assert session.count() == 0


class Own:
    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and other.number == self.number

    def __hash__(self) -> int:
        return self.number


class Subclass(str):
    __slots__ = ()


@pytest.mark.parametrize("value", [Own(1), Subclass("a"), object(), print, [Own(1)], {"a": {1: Own(2)}}])
def test_what_has_no_cell_is_refused(session: Session, value: Any) -> None:
    session.set("key", "before")
    with pytest.raises(CodecError, match=r"type .* cannot be stored as a value; give `serializer=`"):
        session.set("key", value)
    with pytest.raises(CodecError):
        session.set_many({"key": 1, "other": value})
    assert (session.get("key"), session.count()) == ("before", 1)


def test_a_serializer_stores_the_rest(place: Place) -> None:
    own = place.sync(serializer=PickleSerializer(allow=[f"{Own.__module__}.Own"]))
    own.set("key", [Own(1), "plain"])
    assert own.get("key") == [Own(1), "plain"]
    with pytest.raises(CodecError, match="serializer"):
        place.open[0].get("key")
    own.close()


def test_what_contains_itself_is_refused(session: Session) -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(CodecError, match="nested deeper"):
        session.set("key", circle)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_deep_values(session: Session) -> None:
    session.set("key", nested(90))
    assert session.get("key") == nested(90)


CODEC = SessionCodec(None, object())

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


@settings(max_examples=scaled(2000))
@given(PLAIN)
def test_any_plain_value_comes_back(value: Any) -> None:
    found = CODEC.decode(CODEC.encode(value))
    assert same(found, value) or found == value


HASHABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.decimals(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=scaled(3000))
@given(HASHABLE, HASHABLE)
def test_members_have_one_form_if_they_are_equal(left: Any, right: Any) -> None:
    assert (CODEC.encode(left, is_member=True) == CODEC.encode(right, is_member=True)) == (left == right)


@settings(max_examples=scaled(3000))
@given(st.binary() | st.binary().map(lambda payload: b"\xff" + payload))
def test_no_bytes_do_harm(cell: bytes) -> None:
    with contextlib.suppress(CodecError, ValueError, TypeError, ArithmeticError):
        CODEC.decode(cell)
