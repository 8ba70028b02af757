"""PyCache's SQL builder. It joins the parts of a statement, and quotes each part according to its kind.

>>> query = SQL("SELECT * FROM {table} WHERE {column} = {value}")
>>> query.format(table=Identifier("users"), column=Identifier("name"), value=Literal("it's")).to_string()
"SELECT * FROM `users` WHERE `name` = 'it''s'"
"""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import cmath
import numbers
from collections import deque
from decimal import Decimal
from string import Formatter
from typing import Any

from flexcache_rs._suggest import suggesting

__all__ = ["SQL", "Composable", "Composed", "Identifier", "Literal", "Placeholder"]


class Composable:
    """A part of a statement."""

    def to_string(self) -> str:
        """Return it as text."""
        raise NotImplementedError

    def __add__(self, other: Composable) -> Composed:
        if not isinstance(other, Composable):
            raise NotImplementedError
        return Composed([self, other])


@suggesting
class Composed(Composable):
    """Parts, one after the other."""

    def __init__(self, fragments: list[Any]) -> None:
        for fragment in fragments:
            if not isinstance(fragment, Composable):
                message = f"{fragment!r} Not a type of 'Composable'"
                raise TypeError(message)
        self._fragments: list[Composable] = list(fragments)

    def to_string(self) -> str:
        """Return them as text."""
        return "".join(fragment.to_string() for fragment in self._fragments)


@suggesting
class _Text(Composable):
    _message = ""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(self._message)
        self._text = text

    def to_string(self) -> str:
        return self._text


class SQL(_Text):
    """Text that is not quoted, with named places such as `{table}`."""

    _message = "SQL statement must be a string"

    def format(self, *by_place: Composable, **parts: Composable) -> Composed:
        """Put each part in the place with its name.

        Raises:
            TypeError: A place has no name, a number, a format or a conversion, or a part has no name.
            KeyError: A part is missing.
        """
        composed: list[Composable] = []
        for before, name, spec, conversion in Formatter().parse(self._text):
            if spec or conversion:
                message = "Non sql standard"
                raise TypeError(message)
            if before:
                composed.append(SQL(before))
            if name is None:
                continue
            if not name or name.isdigit():
                message = "Format placeholder can't be string"
                raise TypeError(message)
            composed.append(parts[name])
        if by_place:
            message = "each part needs the name of its place"
            raise TypeError(message)
        return Composed(composed)


class Identifier(_Text):
    """The name of a table or column."""

    _message = "Identifer must be a string"

    def to_string(self) -> str:
        """Return it in backticks."""
        return "`" + self._text.replace("`", "``") + "`"


@suggesting
class Literal(Composable):
    """A value."""

    def __init__(self, value: Any) -> None:
        self._value: Any = value

    def to_string(self) -> str:
        """Return it quoted: numbers and lists of numbers as they are, bytes in hexadecimal, and all else as text.

        Raises:
            ValueError: The value, or one in a list, tuple, set or dict, is infinite or NaN.
        """
        _check_finite(self._value)
        if self._value is None:
            return "NULL"
        if isinstance(self._value, bool):
            return "1" if self._value else "0"
        plain = _bytes(self._value) or _number(self._value) or _numbers(self._value)
        return plain or _quoted(self._value if isinstance(self._value, str) else str(self._value))


def _bytes(value: Any) -> str | None:
    """Return bytes in hexadecimal, and None for other values."""
    return f"X'{bytes(value).hex()}'" if isinstance(value, (bytes, bytearray, memoryview)) else None  # pyright: ignore[reportUnknownArgumentType]


def _numbers(value: Any) -> str | None:
    """Return a list of numbers as Python writes it, and None for other values."""
    items: Any = value if type(value) is list else [None]  # pyright: ignore[reportUnknownVariableType]
    return str(items) if all(type(item) in (int, float) for item in items) else None


def _number(value: Any) -> str | None:
    """Return a number as SQL writes it, and None for other values."""
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    return str(value) if isinstance(value, Decimal) else None


def _check_finite(value: Any) -> None:
    """Check a value and, if it is a container, the values in it.

    Raises:
        ValueError: One is infinite or NaN.
    """
    left: list[Any] = [value]
    seen: dict[int, Any] = {}
    while left:
        each = left.pop()
        if not _is_finite(each):
            message = f"SQL has no literal for {each!r}"
            raise ValueError(message)
        if isinstance(each, (list, tuple, set, frozenset, deque, dict)) and id(each) not in seen:  # pyright: ignore[reportUnknownArgumentType]
            seen[id(each)] = each  # pyright: ignore[reportUnknownArgumentType]
            left += each  # pyright: ignore[reportUnknownArgumentType]
            left += each.values() if isinstance(each, dict) else ()  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]


def _is_finite(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite()
    if isinstance(value, numbers.Complex) and not isinstance(value, numbers.Rational):
        # Also numbers of NumPy that are no floats.
        return cmath.isfinite(complex(value))
    return True


def _quoted(text: str) -> str:
    if "\\" in text or "\0" in text:
        # MySQL takes a backslash for the beginning of an escape, and SQLite ends a statement at a NUL.
        return f"CAST(X'{text.encode().hex()}' AS CHAR)"
    return "'" + text.replace("'", "''") + "'"


@suggesting
class Placeholder(_Text):
    """A place for a parameter."""

    _message = "Placeholder format must be a string"

    def __init__(self, format: str = "%s") -> None:  # noqa: A002
        super().__init__(format)
