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
    """Move the clock of every cache in the process forward, so that no test has to sleep.

    Args:
        seconds: how far, as a number of seconds or a timedelta; not negative.

    Raises:
        TypeError, ValueError, OverflowError: where that is no duration.

    O(1); the background thread looks at its caches at once.
    """
    _advance_clock(seconds)


class _Followed:
    """A frozen clock that takes the caches along."""

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
    """Take the caches of the process along when a frozen clock moves.

    What freezegun and time_machine freeze is Python's; a cache in memory asks the system how late it is, which costs a
    hit next to nothing. So time stands still for the program and goes on for its caches, unless a test moves both.
    Caches on disk ask Python's `time.time()` and need no help.

    Args:
        frozen: What `freezegun.freeze_time` or `time_machine.travel` hands out: something with methods such as `tick`,
            `move_to` or `shift`.

    Returns:
        The same with the same methods. By as much as one of them moves `time.time()` forward, it advances the clock of
        the caches; never back.

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
    """Recount a cache's whole structure.

    Raises:
        AssertionError: where something is wrong, which is a bug in this library.

    O(n).
    """
    _check(cache)
