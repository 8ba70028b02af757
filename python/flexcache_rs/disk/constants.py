"""The constants `ENOVAL` and `UNKNOWN`, which differ from every value that a user stores."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import Self


_MADE: dict[str, Any] = {}


class Constant(tuple[str]):
    """A sentinel, which is equal to itself only and shows its name."""

    __slots__ = ()

    def __new__(cls, name: str | tuple[str]) -> Self:
        """Return the constant of a name, the same object each time. A pickle passes the name in a tuple."""
        if isinstance(name, tuple):
            (name,) = name
        constant: Self = _MADE.setdefault(name, super().__new__(cls, (name,)))
        return constant

    def __repr__(self) -> str:
        return self[0]


ENOVAL = Constant("ENOVAL")
"""No value was given or found. None would not do, because it is a value."""

UNKNOWN = Constant("UNKNOWN")
"""Stands for a key or value which the code that chooses a file name does not know."""
