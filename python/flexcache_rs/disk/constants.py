"""The constants `ENOVAL` and `UNKNOWN`, which differ from every value that a user stores."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import Self


_MADE: dict[str, Any] = {}


class Constant(tuple[str]):
    """A value that is like no other, and says its name."""

    __slots__ = ()

    def __new__(cls, name: str | tuple[str]) -> Self:
        """A constant of the given name; the same one each time, also from a pickle, which gives it in a tuple."""
        if isinstance(name, tuple):
            (name,) = name
        constant: Self = _MADE.setdefault(name, super().__new__(cls, (name,)))
        return constant

    def __repr__(self) -> str:
        return self[0]


ENOVAL = Constant("ENOVAL")
"""No value was given or found; None is a value."""

UNKNOWN = Constant("UNKNOWN")
"""The code that chooses the name of a file does not know the key or the value."""
