"""Checks of the options of `memoize`."""

from __future__ import annotations

from flexcache_rs import _core
from flexcache_rs._arguments import real, shown
from flexcache_rs._seconds import seconds_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INFINITY = float("inf")


class Plan:
    """The checked options of memoize(), except those about keys and the cache."""

    __slots__ = (
        "condition",
        "copy",
        "early_refresh",
        "error_ttl",
        "exceptions",
        "jitter",
        "keeps_results",
        "soft_ttl",
        "stale_if_error",
        "tags",
        "ttl",
        "wraps",
    )

    def __init__(
        self,
        *,
        ttl: Any,
        default_ttl: Any,
        soft_ttl: Any,
        early_refresh: Any,
        stale_if_error: Any,
        jitter: Any,
        cache_exceptions: Any,
        exception_ttl: Any,
        condition: Any,
        tags: Any,
        copy: Any,
    ) -> None:
        if not (callable(ttl) or ttl is None):
            seconds_in("ttl", ttl)
        self.ttl = ttl
        self.soft_ttl = INFINITY if soft_ttl is None else _positive("soft_ttl", soft_ttl)
        if self.soft_ttl != INFINITY:
            _check_is_shorter(soft_ttl, self.soft_ttl, ttl, default_ttl)
        self.stale_if_error = 0.0 if stale_if_error is None else _positive("stale_if_error", stale_if_error)
        expires = ttl is not None or default_ttl is not None
        if stale_if_error is not None and not expires:
            raise ValueError("stale_if_error needs a ttl: without one nothing gets stale")
        self.early_refresh = _number("early_refresh", early_refresh, INFINITY)
        if early_refresh and not expires:
            raise ValueError("early_refresh needs a ttl: without one nothing expires")
        self.jitter = _number("jitter", jitter, 1.0)
        if jitter and not expires and exception_ttl is None:
            raise ValueError("jitter needs a ttl: without one nothing expires")
        self.exceptions = _exceptions(cache_exceptions)
        self.error_ttl = ttl if exception_ttl is None else exception_ttl
        if exception_ttl is not None:
            if not self.exceptions:
                raise ValueError("exception_ttl needs cache_exceptions: without them none is kept")
            seconds_in("exception_ttl", exception_ttl)
        self.condition = function_or_none("condition", condition)
        self.tags = tags if tags is None or callable(tags) else tags_of(tags)
        self.copy = _copier(copy)
        # Whether times must be stored together with each result.
        self.wraps = bool(soft_ttl is not None or stale_if_error is not None or self.early_refresh)
        # Whether every result is stored as it is, with no tags, condition or computed ttl, and no exception is stored.
        decides = self.wraps or self.jitter or self.exceptions or condition is not None or callable(ttl)
        self.keeps_results = tags is None and not decides


def tags_of(tags: Any) -> tuple[str, ...]:
    """Return tags as a tuple. A str is one tag."""
    return (tags,) if isinstance(tags, str) else _core._tags(tags)


def function_or_none(argument: str, value: Any) -> Any:
    """Check that an argument can be called or is None."""
    if value is not None and not callable(value):
        raise TypeError(f"{argument} must be callable or None, not {type(value).__name__}")
    return value


def flag(argument: str, value: Any) -> None:
    """Check that an argument is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False, not {shown(value)}")


def normalizer(function: Any) -> Any:
    """Return a function that gives the arguments of equal calls one form: by position where possible, with defaults.

    Raises TypeError for a function without a signature.
    """
    from inspect import signature  # Not imported before it is used.

    try:
        parameters = signature(function)
    except ValueError as error:
        raise TypeError(f"normalize needs a function that tells its parameters: {error}") from None

    def normalized(args: Any, kwargs: Any) -> Any:
        try:
            bound = parameters.bind(*args, **kwargs)
        except TypeError:
            # The arguments do not fit. Calling the function will raise the error.
            return args, kwargs
        bound.apply_defaults()
        named = bound.kwargs
        return bound.args, {name: named[name] for name in sorted(named)}

    return normalized


def _copier(copy: Any) -> Any:
    """Return the function that copies a result, or None."""
    if copy is True:
        from copy import deepcopy  # Not imported before it is used.

        return deepcopy
    if copy is False or copy is None:
        return None
    if not callable(copy):
        raise TypeError(f"copy must be True, False or callable, not {type(copy).__name__}")
    return copy


def _positive(argument: str, time: Any) -> float:
    seconds = seconds_in(argument, time)
    if seconds <= 0:
        raise ValueError(f"{argument} must be after now, not {shown(time)}")
    return seconds


def _check_is_shorter(given: Any, soft_ttl: float, ttl: Any, default_ttl: Any) -> None:
    """Check that a soft_ttl is over before the time to live of a result is.

    A function of the result, and a datetime, which comes nearer, may also give longer times.
    """
    name, limit = ("default_ttl", default_ttl) if ttl is None else ("ttl", ttl)
    if limit is None or callable(limit) or hasattr(limit, "tzinfo"):
        return
    if soft_ttl >= seconds_in(name, limit):
        raise ValueError(
            f"soft_ttl={shown(given)} has no effect with {name}={shown(limit)}: a result expires before it is "
            f"refreshed; soft_ttl must be less than {name}"
        )


def _number(argument: str, value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{argument} must be a number, not {type(value).__name__}")
    if not 0 <= value <= most or value == INFINITY:
        limit = "0 or more" if most == INFINITY else f"between 0 and {most:g}"
        raise ValueError(f"{argument} must be {limit}, not {shown(value)}")
    return real(argument, value)


def _exceptions(classes: Any) -> tuple[type[Exception], ...]:
    if isinstance(classes, bool):
        return (Exception,) if classes else ()
    if not isinstance(classes, (tuple, list, set, frozenset)):
        classes = (classes,)
    found: list[type[Exception]] = []
    for one in classes:  # pyright: ignore[reportUnknownVariableType]
        if not (isinstance(one, type) and issubclass(one, Exception)):
            raise TypeError(f"cache_exceptions must be a bool or classes of exceptions, not {shown(one)}")
        found.append(one)
    return tuple(found)
