"""Values that are like no others."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Self


class Constant(tuple[str]):
    """A value that is like no other, and says its name."""

    __slots__ = ()

    def __new__(cls, name: str) -> Self:
        """A constant of the given name."""
        return super().__new__(cls, (name,))

    def __repr__(self) -> str:
        return self[0]


ENOVAL = Constant("ENOVAL")
"""No value was given or found; None is a value."""

UNKNOWN = Constant("UNKNOWN")
"""The key or value is not known to whoever chooses a file's name."""
