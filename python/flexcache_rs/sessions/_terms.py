"""The options of a session."""

from __future__ import annotations

from typing import Any, NamedTuple


class Terms(NamedTuple):
    """The arguments of `connect` that every backend has."""

    namespace: str
    serializer: Any
    timeout: float
