"""Unpickles values of a source, if this needs no class and runs no code."""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

from flexcache_rs._core import scan_pickle

PROTOCOL = 5
"""Of pickled keys; what python-diskcache records in new directories."""

Value = tuple[bool, Any]
"""Either (True, a str, bytes, int or float) or (False, a pickle)."""


class UnreadableError(Exception):
    """An entry that cannot be read, for whatever reason."""


class ClassNeededError(Exception):
    """A pickle that cannot be loaded without a class."""


class _Plain(pickle.Unpickler):
    """Loads what needs no class; runs no code."""

    def find_class(self, module: str, name: str) -> Any:
        raise ClassNeededError(f"{module}.{name}")

    def persistent_load(self, _pid: Any) -> Any:
        raise UnreadableError("a pickle that refers to something outside")


def plain(data: bytes) -> Any:
    """The object of a pickle that needs no class.

    Raises:
        ClassNeededError: It needs one.
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
    """Whether a directory holds it as it is."""
    if type(value) is str:
        return not any("\ud800" <= char <= "\udfff" for char in value) if not value.isascii() else True
    if type(value) is int:
        return -(2**63) <= value < 2**63
    if type(value) is float:
        return not math.isnan(value)
    return type(value) is bytes


def unpickled(data: bytes) -> Value:
    """A value from its pickle, which stays one where it has to."""
    try:
        value = plain(data)
    except ClassNeededError:
        return False, data
    return (True, value) if is_simple(value) else (False, data)


def repickled(value: Any) -> Value:
    """A value as a directory holds it."""
    if is_simple(value):
        return True, value
    try:
        return False, pickle.dumps(value, PROTOCOL)
    except Exception as error:
        raise UnreadableError("a value that cannot be pickled") from error
