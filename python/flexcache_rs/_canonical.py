"""Descriptions of objects in keys of memoized calls in a store, for `src/py/object/canonical_key.rs`.

Objects of these types have a description that is the same for equal objects in every process. Any other object is
pickled separately, so that the rest of the key does not change its pickle.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PROTOCOL = 5


def _enum(value: Any, kind: type) -> tuple[Any, ...] | None:
    enum = sys.modules.get("enum")
    if enum is None or not isinstance(value, enum.Enum) or not isinstance(value.name, str):
        return None
    return ("enum", *name, value.name) if (name := _name(kind)) else None


def _path(value: Any, kind: type) -> tuple[Any, ...] | None:
    pathlib = sys.modules.get("pathlib")
    if pathlib is None:
        return None
    if kind in {pathlib.PurePosixPath, pathlib.PosixPath}:
        return ("path", "posix", str(value))
    if kind in {pathlib.PureWindowsPath, pathlib.WindowsPath}:
        return ("path", "windows", str(value))
    return None


def _class(value: Any, _kind: type) -> tuple[Any, ...] | None:
    return ("class", *name) if isinstance(value, type) and (name := _name(value)) else None


def _has_other_equality(kind: Any, base: Any) -> bool:
    return kind.__eq__ is not base.__eq__


def _named_tuple(value: Any, kind: type) -> tuple[Any, ...] | None:
    if tuple not in kind.__mro__ or _has_other_equality(kind, tuple) or getattr(value, "__dict__", None):
        return None
    return ("tuple", *name, value[:]) if (name := _name(kind)) and type(value[:]) is tuple else None


def _dataclass(value: Any, kind: type) -> tuple[Any, ...] | None:
    dataclasses = sys.modules.get("dataclasses")
    equal = kind.__dict__.get("__eq__")
    if dataclasses is None or "__dataclass_fields__" not in kind.__dict__:
        return None
    if getattr(getattr(equal, "__code__", None), "co_filename", None) != "<string>" or not (name := _name(kind)):
        # Its __eq__ is not the one that dataclass() generates, which compares the class and the compared fields.
        return None
    fields = (field.name for field in dataclasses.fields(value) if field.compare)
    return ("dataclass", *name, *((field, getattr(value, field)) for field in fields))


def _datetime(value: Any) -> tuple[Any, ...] | None:
    offset = value.utcoffset()
    try:
        moment = value.replace(tzinfo=None, fold=0)
        return ("datetime", moment.isoformat()) if offset is None else ("moment", (moment - offset).isoformat())
    except OverflowError:
        # The time is too near datetime.min or datetime.max to convert to UTC.
        return None


def _decimal(value: Any) -> tuple[Any, ...]:
    sign, digits, exponent = value.as_tuple()
    if isinstance(exponent, str):
        return ("decimal", str(value))
    all_digits = "".join(map(str, digits))
    significant = all_digits.rstrip("0")
    if not significant:
        return ("decimal", "0", 0)
    return ("decimal", ("-" if sign else "") + significant, exponent + len(all_digits) - len(significant))


# By module and name, so that these modules need not be imported here. A program with such an object has imported them.
_EXACTLY: dict[tuple[str, str], Callable[[Any], tuple[Any, ...] | None]] = {
    ("datetime", "date"): lambda value: ("date", value.isoformat()),
    ("datetime", "datetime"): _datetime,
    ("datetime", "time"): lambda value: None if value.tzinfo else ("time", value.replace(fold=0).isoformat()),
    ("datetime", "timedelta"): lambda value: ("timedelta", value.days, value.seconds, value.microseconds),
    ("decimal", "Decimal"): _decimal,
    ("fractions", "Fraction"): lambda value: ("fraction", value.numerator, value.denominator),
    ("uuid", "UUID"): lambda value: ("uuid", value.hex),
    ("builtins", "complex"): lambda value: ("complex", value.real, value.imag),
}

_OTHERS = (_enum, _path, _class, _named_tuple, _dataclass)


def _name(kind: type) -> tuple[str, str] | None:
    """Return module and qualified name of a class, or None if another process would not find the class by them."""
    module: Any = kind.__module__
    name = kind.__qualname__
    if not isinstance(module, str):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    # Classes that a function makes may all have one name.
    return (module, name) if found is kind else None


def _kind_of(value: object) -> type:
    return type(value)


def describe(value: Any) -> tuple[Any, ...]:
    """Return parts that are equal for two objects only if the objects are equal and of one class.

    Raises:
        TypeError: for an object that cannot be hashed, or has no description of its own and cannot be pickled.
    """
    kind = _kind_of(value)
    try:
        hash(value)
    except TypeError as error:
        raise TypeError(
            f"{error}; an argument of this type cannot be part of a key in a store; give memoize() a key"
        ) from error
    exactly = _EXACTLY.get((kind.__module__, kind.__qualname__))
    if exactly is not None and (described := exactly(value)) is not None:
        return described
    for of_kind in _OTHERS:
        if (described := of_kind(value, kind)) is not None:
            return described
    import pickle

    try:
        # The pickle of an object may be that of another type.
        return ("pickle", *(_name(kind) or ()), pickle.dumps(value, _PROTOCOL))
    except MemoryError:
        raise
    except Exception as error:
        raise TypeError(
            f"an argument of type {kind.__qualname__} cannot be part of a key in a store, since it cannot be pickled "
            f"({error}); give memoize() a key"
        ) from error
