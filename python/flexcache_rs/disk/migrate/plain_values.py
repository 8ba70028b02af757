"""Unpickles values of a source, if this needs no class and runs no code."""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

from flexcache_rs._core import scan_pickle

PROTOCOL = 5
"""The protocol of pickled keys, which python-diskcache records in new directories."""

Value = tuple[bool, Any]
"""Either (True, a str, bytes, int or float) or (False, a pickle)."""


class UnreadableError(Exception):
    """An entry cannot be read."""


class ClassNeededError(Exception):
    """A pickle needs a class to be loaded."""


class _Plain(pickle.Unpickler):
    """An unpickler that refuses all classes and functions, and so runs no code."""

    def find_class(self, module: str, name: str) -> Any:
        raise ClassNeededError(f"{module}.{name}")

    def persistent_load(self, _pid: Any) -> Any:
        raise UnreadableError("a pickle that refers to something outside")


def plain(data: bytes) -> Any:
    """Load a pickle that needs no class.

    Raises:
        ClassNeededError: It needs a class.
        UnreadableError: It is damaged.
    """
    try:
        scan_pickle(data)
        return _Plain(io.BytesIO(data)).load()
    except (ClassNeededError, UnreadableError):
        raise
    except Exception as error:
        raise UnreadableError("damaged pickle") from error


def is_simple(value: Any) -> bool:
    """Whether a directory stores the value without pickling it."""
    if type(value) is str:
        return not any("\ud800" <= char <= "\udfff" for char in value) if not value.isascii() else True
    if type(value) is int:
        return -(2**63) <= value < 2**63
    if type(value) is float:
        return not math.isnan(value)
    return type(value) is bytes


def unpickled(data: bytes) -> Value:
    """Load a pickle if possible. A pickle that needs a class, or is not a simple value, stays a pickle."""
    try:
        value = plain(data)
    except ClassNeededError:
        return False, data
    return (True, value) if is_simple(value) else (False, data)


def repickled(value: Any) -> Value:
    """Return a value in the form in which a directory stores it."""
    if is_simple(value):
        return True, value
    try:
        return False, pickle.dumps(value, PROTOCOL)
    except Exception as error:
        raise UnreadableError("a value that cannot be pickled") from error
