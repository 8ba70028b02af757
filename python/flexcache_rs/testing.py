"""Support for tests of programs that use a cache: move its clock, and check its structure.

>>> from flexcache_rs import FlexCache
>>> from flexcache_rs.testing import advance
>>> cache = FlexCache(default_ttl=60)
>>> cache["a"] = 1
>>> advance(61)
>>> "a" in cache
False
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from flexcache_rs._core import _advance_clock, _check
from flexcache_rs._suggest import suggesting

if TYPE_CHECKING:
    from datetime import timedelta

    from flexcache_rs import FlexCache

__all__ = ["advance", "check", "following"]


@suggesting
def advance(seconds: float | timedelta) -> None:
    """Move the clock of the caches in memory forward, so that a test does not have to sleep.

    Args:
        seconds: A number of seconds or a timedelta, which is not negative.

    Raises:
        TypeError, ValueError, OverflowError: `seconds` is not a valid duration.

    This moves the clock of every `FlexCache` and memoized function of the process, and of sessions in memory and on
    disk. It does not move the clock of a `disk.Cache`, a `SharedCache` or a server. The background thread checks its
    caches at once. O(1).
    """
    _advance_clock(seconds)


class _Followed:
    """A frozen clock that also moves the clock of the caches."""

    def __init__(self, frozen: Any) -> None:
        self._frozen = frozen

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._frozen, name)
        if not callable(found):
            return found

        def moved(*args: Any, **kwargs: Any) -> Any:
            before = time.time()
            try:
                return found(*args, **kwargs)
            finally:
                passed = time.time() - before
                if passed > 0:
                    advance(passed)

        return moved


@suggesting
def following(frozen: Any) -> Any:
    """Move the clock of the caches together with a frozen clock.

    freezegun and time_machine freeze Python's clock. A cache in memory reads the clock of the system, because this
    costs a hit almost nothing. Time then stands still for the program and continues for its caches, unless a test
    moves both. Caches on disk read Python's `time.time()` and need no help.

    Args:
        frozen: The object that `freezegun.freeze_time` or `time_machine.travel` provides. It has methods such as
            `tick`, `move_to` or `shift`.

    Returns:
        An object with the same methods. If one of them moves `time.time()` forward, it also advances the clock of the
        caches by the same time. It never moves the clock back.

    O(1).

    >>> class Frozen:
    ...     def tick(self, seconds):
    ...         return seconds
    >>> following(Frozen()).tick(5)
    5
    """
    return _Followed(frozen)


@suggesting
def check(cache: FlexCache[Any, Any]) -> None:
    """Recount the whole structure of a cache.

    Raises:
        AssertionError: The structure is wrong, which is a bug in this library.

    O(n).
    """
    _check(cache)
