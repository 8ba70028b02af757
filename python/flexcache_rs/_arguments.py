"""Checks of arguments that must contain several elements, and the error for other arguments."""

from __future__ import annotations

import sys
from _operator import index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


_UNBOUNDED = float("inf")
_LONGEST = 60
"""The number of characters of a text that a message shows."""


def check_callable(name: str, value: Any) -> None:
    """Check that an argument can be called.

    Raises:
        TypeError: It cannot be called.
    """
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {described(value)}")


def shown(value: Any) -> str:
    """How to show a value in a message: itself if it is of a plain type, and else the name of its type.

    The `__repr__` of another object may fail, or be very long.
    """
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if value is not None and kind not in (str, int, float, bool, bytes):
        return value.__name__ if isinstance(value, type) else str(kind.__name__)
    try:
        return f"{value!r:.100}"
    except ValueError:
        return "an int of too many digits"


def described(value: Any) -> str:
    """Describe an object for an error message: by its type, or by its value if it is a number or text."""
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    name: str = kind.__name__
    if kind not in (str, bytes, int, float, bool) or (kind in (str, bytes) and len(value) > _LONGEST):
        return name
    try:
        return f"{name} ({value!r})"
    except ValueError:
        # An int with more digits than Python converts to text.
        return name


def plain_number(value: Any) -> Any:
    """Return an int or a float of a subclass, such as an `IntEnum` or numpy's float64, as a plain one.

    The text of a subclass, which would be sent to a server, may be another.
    """
    if type(value) is int or type(value) is float:
        return value
    return index(value) if isinstance(value, int) else float.__float__(value)


def as_number(value: Any) -> Any:
    """A real number of another class, such as numpy's, `Fraction` or `Decimal`, as an int or a float.

    Anything else is returned as it is. A finite number that no float can hold becomes the largest one.
    """
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, (int, float)):
        return value
    if hasattr(kind, "__index__"):
        try:
            return index(value)
        except TypeError:
            # Such as numpy's bool.
            return value
    if not hasattr(kind, "__float__"):
        return value
    # The value can be of these classes only if the program has imported their modules.
    modules = (sys.modules.get("numbers"), "Real"), (sys.modules.get("decimal"), "Decimal")
    return _as_float(value) if isinstance(value, tuple(getattr(*each) for each in modules if each[0])) else value


def _as_float(value: Any) -> float:
    try:
        is_nan = value != value
    except ArithmeticError:
        # A signaling NaN of `decimal` refuses to be compared.
        is_nan = True
    if is_nan:
        return float("nan")
    try:
        number = float(value)
    except OverflowError:
        number = _UNBOUNDED if value > 0 else -_UNBOUNDED
    if abs(number) == _UNBOUNDED and value != number:
        return sys.float_info.max if value > 0 else -sys.float_info.max
    return number


def real(name: str, number: Any) -> float:
    """Return a number as a float. A negative int too large for a float becomes minus infinity.

    Raises:
        OverflowError: It is a positive int too large for a float.
    """
    try:
        return float(number)
    except OverflowError:
        if number < 0:
            return -float("inf")
    raise OverflowError(f"{name} must be a number that a float can hold, not {described(number)}")


def whole_number(name: str, value: Any, least: float = -_UNBOUNDED, most: float = _UNBOUNDED) -> int:
    """Check that a value is an int, not a bool, and within the bounds, if there are any. Returns a plain int.

    Raises:
        TypeError: It is not an int.
        ValueError: It is out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {described(value)}")
    number = index(value)
    if least <= number <= most:
        return number
    bounds = f"at least {least}" if most == _UNBOUNDED else f"from {_shown_bound(least)} to {_shown_bound(most)}"
    raise ValueError(f"{name} must be {bounds}, not {shown(value)}")


def _shown_bound(number: float) -> str:
    """Format a bound so that it is easy to read."""
    sign, size = ("-", "+") if number < 0 else ("", "-")
    for power in (32, 63):
        if abs(number) == 1 << power:
            return f"{sign}2**{power}"
        if abs(number) == (1 << power) - 1:
            return f"{sign}2**{power} {size} 1"
    return str(number)


def each(name: str, value: Any, allowed: str = "an iterable of keys") -> Iterator[Any]:
    """Return an iterator over an argument. Exceptions of its own `__iter__` propagate.

    Raises:
        TypeError: It is not iterable.
    """
    try:
        return iter(value)
    except TypeError:
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if hasattr(kind, "__iter__") or hasattr(kind, "__getitem__"):
            raise
    raise TypeError(f"{name} must be {allowed}, not {described(value)}")


def pairs(name: str, value: Any) -> list[tuple[Any, Any]]:
    """Return the pairs of key and value of a mapping, or of an iterable of pairs.

    Raises:
        TypeError: It is neither.
        ValueError: An element is not a pair.
    """
    allowed = "a mapping or an iterable of pairs of key and value"
    if isinstance(value, str | bytes):
        raise TypeError(f"{name} must be {allowed}, not {type(value).__name__}")
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is dict:
        # Other threads may change it, and a loop over it would notice.
        return list(value.items())
    if hasattr(value, "keys"):
        return [(key, value[key]) for key in value.keys()]  # noqa: SIM118
    found: list[tuple[Any, Any]] = []
    for pair in each(name, value, allowed):
        parts: tuple[Any, ...] = ()
        if not isinstance(pair, str | bytes) and hasattr(pair, "__iter__"):
            parts = tuple(pair)
        if len(parts) != 2:
            raise ValueError(f"{name} must be {allowed}; {shown(pair)} is no pair")
        found.append((parts[0], parts[1]))
    return found
