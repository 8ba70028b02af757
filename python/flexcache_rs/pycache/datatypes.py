"""PyCache's datatypes, each of which checks its value."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from typing import Any

from flexcache_rs.pycache.collections import bitarray, bloomfilters

__all__ = ["BitArray", "BloomFilter", "Datatype", "List", "Map", "Numeric", "Queue", "Set", "Streams", "String"]


def _as(kind: Any, value: Any) -> Any:
    """Return a value unchanged if it has the type, else converted to it."""
    return value if isinstance(value, kind) else kind(value)


class Datatype:
    """A value of one kind.

    Raises:
        TypeError: The value is of another type.
    """

    _allowed_classes: tuple[type, ...] = ()
    _disallowed_classes: tuple[type, ...] = ()
    _kinds: tuple[str, ...] = ("scalar",)

    def __init__(self, value: Any) -> None:
        self._value: Any = value
        self.validate(value)

    @property
    def value(self) -> Any:
        """The value, as Python's own type."""
        return self._value

    def validate(self, value: Any) -> None:
        """Refuse a value of another type."""
        name = type(value).__name__
        if isinstance(value, self._disallowed_classes):
            disallowed = ", ".join(allowed.__name__ for allowed in self._disallowed_classes)
            message = f"Invalid type: {name} is disallowed (Disallowed: {disallowed})"
            raise TypeError(message)
        if self._allowed_classes and not isinstance(value, self._allowed_classes):
            allowed = ", ".join(allowed.__name__ for allowed in self._allowed_classes)
            message = f"Invalid type: expected one of ({allowed}), but got {name}"
            raise TypeError(message)

    @classmethod
    def get_name(cls) -> str:
        """Return the name of the datatype."""
        return cls.__name__.lower()

    @classmethod
    def accepts(cls, kind: str, value: Any) -> bool:
        """Whether a value of a session is of this datatype."""
        return kind in cls._kinds and (not cls._allowed_classes or isinstance(value, cls._allowed_classes))


class String(Datatype):
    """A str. Other values are converted."""

    @property
    def value(self) -> str:
        """The str."""
        return str(self._value)

    @classmethod
    def accepts(cls, kind: str, value: Any) -> bool:  # noqa: D102
        return kind == "scalar" and isinstance(value, str)


class Numeric(Datatype):
    """An int or a float."""

    _allowed_classes = (int, float)
    _disallowed_classes = (bool,)


class List(Datatype):
    """A list, of any iterable."""

    _allowed_classes = (Iterable, list, tuple)
    _kinds = ("list",)

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self._value = _as(list, value)


class Map(Datatype):
    """A dict."""

    _allowed_classes = (dict,)
    _kinds = ("map",)


class Set(Datatype):
    """A set, of any iterable."""

    _allowed_classes = (Iterable, set, list, tuple)
    _kinds = ("set",)

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self._value = _as(set, value)


class Queue(Datatype):
    """A deque, of any iterable."""

    _allowed_classes = (Iterable, list, deque)
    _kinds = ("queue",)

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self._value = _as(deque, value)


class Streams(Datatype):
    """A list of entries."""

    _allowed_classes = (Iterable, list, tuple, dict)
    _kinds = ("list",)

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self._value = _as(list, value.items() if isinstance(value, dict) else value)


class BloomFilter(Datatype):
    """A filter of `flexcache_rs.pycache.collections.bloomfilters`. A copy of it is stored."""

    _allowed_classes = (bloomfilters.BloomFilter,)


class BitArray(Datatype):
    """Bits of `flexcache_rs.pycache.collections.bitarray`. A copy of them is stored."""

    _allowed_classes = (bitarray.BitArray,)


def by_name(name: str) -> type[Datatype] | None:
    """Return the datatype whose `get_name` is this."""
    known = (BitArray, BloomFilter, List, Map, Numeric, Queue, Set, Streams, String)
    return next((datatype for datatype in known if datatype.get_name() == name), None)


# In PyCache each class is in a module of the same name.
for _name in __all__:
    sys.modules[f"{__name__}.{_name}"] = sys.modules[__name__]
