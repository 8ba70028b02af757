"""The parts of the plans for MySQL and MariaDB: statements, their results, and the head of a key."""

# pyright: basic

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

CHUNK = 500
"""The largest number of rows or names in a statement."""

Statement: TypeAlias = "tuple[str, tuple[Any, ...]]"


class Result(NamedTuple):
    """The result of a statement."""

    rows: Sequence[Any]
    changed: int
    last_id: int


class Alone(list[Statement]):
    """Statements that are sent without a transaction, unless one is open already. Each commits itself."""


class Last(NamedTuple):
    """The last statements of a call, and a function that makes the call's result from their results."""

    statements: list[Statement]
    answer: Callable[[list[Result]], Any]


Plan: TypeAlias = "Generator[list[Statement], list[Result], Any]"


@dataclass
class Head:
    """The row of a key: all of its content except the elements."""

    id: int
    key: bytes
    kind: int
    value: bytes | None = None
    n: int = 0
    lo: int = 0
    hi: int = 0
    seq: int = 0
    expire: int | None = None


def marks(values: Sequence[Any]) -> str:
    """Return the placeholders of values in a statement."""
    return ", ".join(["%s"] * len(values))


def inserted(into: str, rows: Sequence[tuple[Any, ...]], end: str = "") -> list[Statement]:
    """Return statements that insert rows, up to `CHUNK` each."""
    statements: list[Statement] = []
    for start in range(0, len(rows), CHUNK):
        some = rows[start : start + CHUNK]
        row = f"({marks(some[0])})"
        values = tuple(value for one in some for value in one)
        statements.append((f"{into} VALUES {', '.join([row] * len(some))}{end}", values))
    return statements
