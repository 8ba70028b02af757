"""Conversion of durations and times to seconds."""

from __future__ import annotations

import sys

from flexcache_rs._arguments import as_number, described, real

TYPE_CHECKING = False
if TYPE_CHECKING:
    import datetime as dt


def seconds_in(argument: str, time: float | dt.timedelta | dt.datetime) -> float:
    """How many seconds from now on a time to live means."""
    time = as_number(time)
    if isinstance(time, (int, float)) and not isinstance(time, bool):
        if time != time:
            raise ValueError(f"{argument} must not be NaN")
        return real(argument, time)
    # A program that passes an object of datetime has imported it.
    if "datetime" in sys.modules:
        import datetime as dt

        if isinstance(time, dt.timedelta):
            return time.total_seconds()
        if isinstance(time, dt.datetime):
            return (time - dt.datetime.now(time.tzinfo)).total_seconds()
    raise TypeError(f"{argument} must be a number of seconds, a timedelta or a datetime, not {described(time)}")
