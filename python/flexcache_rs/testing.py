"""For the tests of programs that use a cache: move its clock, check its structure.

>>> from flexcache_rs import FlexCache
>>> from flexcache_rs.testing import advance
>>> cache = FlexCache(default_ttl=60)
>>> cache["a"] = 1
>>> advance(61)
>>> "a" in cache
False
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcache_rs._core import _advance_clock, _check

if TYPE_CHECKING:
    from datetime import timedelta

    from flexcache_rs import FlexCache

__all__ = ["advance", "check"]


def advance(seconds: float | timedelta) -> None:
    """Move the clock of every cache in the process forward, so that no test has to sleep.

    Args:
        seconds: how far, as a number of seconds or a timedelta; not negative.

    Raises:
        TypeError, ValueError, OverflowError: where that is no duration.

    O(1); the background thread looks at its caches at once.
    """
    _advance_clock(seconds)


def check(cache: FlexCache[Any, Any]) -> None:
    """Recount a cache's whole structure.

    Raises:
        AssertionError: where something is wrong, which is a bug in this library.

    O(n).
    """
    _check(cache)
