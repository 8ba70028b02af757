"""The parts of the plans for MySQL and MariaDB: statements, their results, and the head of a key."""

# pyright: basic

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

CHUNK = 500
"""How many rows, or names, a statement has at most."""

Statement: TypeAlias = "tuple[str, tuple[Any, ...]]"


class Result(NamedTuple):
    """What a statement answered."""

    rows: Sequence[Any]
    changed: int
    last_id: int


class Alone(list[Statement]):
    """A statement that is a transaction of its own, outside of one that is open."""


class Last(NamedTuple):
    """The last statements of a call, and what its result is, by their results."""

    statements: list[Statement]
    answer: Callable[[list[Result]], Any]


Plan: TypeAlias = "Generator[list[Statement], list[Result], Any]"


@dataclass
class Head:
    """What a key holds, but for its elements."""

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
    """The places of values in a statement."""
    return ", ".join(["%s"] * len(values))


def inserted(into: str, rows: Sequence[tuple[Any, ...]], end: str = "") -> list[Statement]:
    """Statements that insert rows, some hundred with each."""
    statements: list[Statement] = []
    for start in range(0, len(rows), CHUNK):
        some = rows[start : start + CHUNK]
        row = f"({marks(some[0])})"
        values = tuple(value for one in some for value in one)
        statements.append((f"{into} VALUES {', '.join([row] * len(some))}{end}", values))
    return statements
