"""PyCache's SQL builder: statements put together of parts, each quoted as what it is.

>>> query = SQL("SELECT * FROM {table} WHERE {column} = {value}")
>>> query.format(table=Identifier("users"), column=Identifier("name"), value=Literal("it's")).to_string()
"SELECT * FROM `users` WHERE `name` = 'it''s'"
"""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

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
    """Text that stands as it is, with named places such as `{table}`."""

    _message = "SQL statement must be a string"

    def format(self, *_: Composable, **parts: Composable) -> Composed:
        """Put parts in the places of their names.

        Raises:
            TypeError: A place has a number, a format or a conversion.
            KeyError: A part is missing.
        """
        composed: list[Composable] = []
        for before, name, spec, conversion in Formatter().parse(self._text):
            if spec or conversion:
                message = "Non sql standard"
                raise TypeError(message)
            if before:
                composed.append(SQL(before))
            if not name:
                continue
            if name.isdigit():
                message = "Format placeholder can't be string"
                raise TypeError(message)
            composed.append(parts[name])
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
        self._value = value

    def to_string(self) -> str:
        """Return it quoted."""
        if self._value is None:
            return "NULL"
        if isinstance(self._value, bool):
            return "1" if self._value else "0"
        if isinstance(self._value, str):
            return "'" + self._value.replace("'", "''") + "'"
        return str(self._value)


@suggesting
class Placeholder(_Text):
    """A place for a parameter."""

    _message = "Placeholder format must be a string"

    def __init__(self, format: str = "%s") -> None:  # noqa: A002
        super().__init__(format)
