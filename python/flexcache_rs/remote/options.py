"""Checks of the arguments of a `RemoteCache`, before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcache_rs._arguments import described
from flexcache_rs._seconds import seconds_in

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_IN_MEMORY = 100_000
"""The default limit of entries in memory."""

L1_TTL = 60.0
"""The default time in seconds for which memory keeps a copy."""

MAX_STALE = 60.0
"""The default age in seconds up to which values are returned while the server cannot be reached."""

_ON_ERROR = ("raise", "miss", "stale")

_NOT_OF_NEAR = frozenset(("store", "coherence", "negative_ttl", "default_ttl", "lease", "lease_wait", "name"))
"""Options of a FlexCache that a RemoteCache sets itself."""


def positive(argument: str, value: Any, *, zero: bool = False) -> float:
    """Convert a positive duration to seconds.

    Raises:
        TypeError: The value is not a duration.
        ValueError: The value is out of range.
    """
    seconds = seconds_in(argument, value)
    if not (seconds >= 0 if zero else seconds > 0) or seconds > 1e9:
        message = (
            f"{argument} must be {'not negative' if zero else 'positive'} and at most 10**9 seconds, not {value!r}"
        )
        raise ValueError(message)
    return seconds


def check_on_error(on_error: Any) -> None:
    """Check the argument `on_error`."""
    if on_error not in _ON_ERROR:
        message = f"on_error must be one of {', '.join(map(repr, _ON_ERROR))}, not {on_error!r}"
        raise ValueError(message)


def max_stale(value: Any, on_error: str) -> float:
    """Check the argument `max_stale`, which means something only with one value of `on_error`.

    Raises:
        TypeError: The value is not a duration.
        ValueError: The value is out of range, or has no effect.
    """
    seconds = positive("max_stale", value)
    if on_error != "stale" and seconds != MAX_STALE:
        message = (
            f"max_stale={value!r} has no effect without on_error='stale': pass it as well, or leave max_stale= out"
        )
        raise ValueError(message)
    return seconds


def near_options(near: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options of the cache in memory.

    Raises:
        TypeError: They are no mapping.
        ValueError: One of them is an option that the user cannot set.
    """
    if near is not None and not hasattr(near, "keys"):
        raise TypeError(f"near must be a mapping of options of FlexCache or None, not {described(near)}")
    options = dict(near or {"max_items": 1})
    if wrong := sorted(_NOT_OF_NEAR & options.keys()):
        message = f"near must not have {wrong[0]!r}, which is an argument of RemoteCache or has no meaning here"
        raise ValueError(message)
    return options


def check_compression(compression: Any) -> str | None:
    """Check the argument `compression`, which is the same as for `disk.Cache`."""
    if compression is not None:
        from flexcache_rs.disk.checks import check_compression as check

        check(compression)
    checked: str | None = compression
    return checked


def jitter(value: Any) -> float:
    """Check the argument `ttl_jitter`.

    Raises:
        TypeError: It is not a number.
        ValueError: It is not from 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        message = f"ttl_jitter must be a number from 0 to 1, not {value!r}"
        raise TypeError(message)
    if not 0 <= value <= 1:
        message = f"ttl_jitter must be from 0 to 1, not {value!r}"
        raise ValueError(message)
    return float(value)
