"""Arguments of sessions, checked: times, numbers, keys, URLs."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import difflib
import enum
import hashlib
import math
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias
from urllib.parse import unquote

from flexcache_rs import _arguments, _urls

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final


class _Keep(enum.Enum):
    KEEP = "KEEP"

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = _Keep.KEEP
"""Passed as `ttl=`, it keeps the deadline."""

Ttl: TypeAlias = float | timedelta | datetime | str | None
KeepType: TypeAlias = Literal[_Keep.KEEP]
Touch: TypeAlias = tuple[str, int]

MISSING: Any = object()
"""The result of native calls for an absent key or element."""

KEPT: Touch = ("keep", 0)

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_LONGEST = 292 * 365.25 * 86400
_MOST = 2**63 - 1
_LONGEST_NAME, _LONGEST_BEGINNING = 400, 200


def seconds(argument: str, time: object) -> float:
    """Convert a duration to seconds. It is a number, a timedelta, or text such as "1h30m".

    Raises:
        TypeError: It is not a duration.
        ValueError: It is NaN, not positive, or longer than 292 years.
    """
    time = _arguments.as_number(time)
    if isinstance(time, timedelta):
        value = time.total_seconds()
    elif isinstance(time, datetime):
        value = (time - datetime.now(time.tzinfo)).total_seconds()
    elif isinstance(time, (int, float)) and not isinstance(time, bool):
        # An int may be too large for a float.
        value = float(max(-1, min(time, int(2 * _LONGEST)))) if isinstance(time, int) else time
    elif isinstance(time, str):
        parts = _PART.findall(time)
        if not parts or "".join(number + unit for number, unit in parts) != time:
            raise ValueError(f'{argument} must be such as "90s", "1h30m" or "250ms", not {time!r}')
        # Only infinity itself means for ever, and not text with many digits.
        value = min(sum(float(number) * _UNITS[unit] for number, unit in parts), 2 * _LONGEST)
    else:
        allowed = 'a number of seconds, a timedelta, a datetime or text such as "90s"'
        raise TypeError(f"{argument} must be {allowed}, not {type(time).__name__}")
    if math.isnan(value) or value <= 0:
        raise ValueError(f"{argument} must be more than 0 seconds, not {time!r}")
    if value > _LONGEST and not math.isinf(value):
        raise ValueError(f"{argument} must be at most 292 years, not {time!r}")
    return value


def micros(argument: str, time: object) -> int:
    """Convert a duration to microseconds, at least 1. Infinity becomes 0."""
    value = seconds(argument, time)
    return 0 if math.isinf(value) else max(1, math.ceil(value * 1e6))


def touch_of_set(ttl: Ttl | KeepType) -> Touch:
    """Return the change of the deadline when a value is stored. Without `ttl` the deadline is removed."""
    if ttl is None:
        return ("never", 0)
    if ttl is KEEP:
        return KEPT
    duration = micros("ttl", ttl)
    return ("after", duration) if duration else ("never", 0)


def touch_of_write(ttl: Ttl, ttl_if_new: Ttl) -> Touch:
    """Return the change of the deadline for a write to a container. Without either argument the deadline stays."""
    if ttl is not None and ttl_if_new is not None:
        raise ValueError("ttl and ttl_if_new exclude each other")
    if ttl is not None:
        return touch_of_set(ttl)
    if ttl_if_new is not None:
        duration = micros("ttl_if_new", ttl_if_new)
        return ("new", duration) if duration else KEPT
    return KEPT


def refuse_function(decorator: str, argument: Any) -> None:
    """Check that a decorator with arguments did not get the function itself.

    Raises:
        TypeError: It got the function.
    """
    if callable(argument):
        raise TypeError(f"{decorator} needs parentheses before the function: write @{decorator}(), not @{decorator}")


def short(name: str) -> str:
    """Shorten a key made from a call's arguments, so that every backend accepts it. A long key ends with its hash."""
    if len(name) <= _LONGEST_NAME // 4 or len(data := name.encode("utf-8", "surrogatepass")) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(data, digest_size=32).hexdigest()
    return f"{data[:_LONGEST_BEGINNING].decode('utf-8', 'ignore')}#{digest}"


def whole_number(argument: str, value: object, least: int = 0) -> int:
    """Check that a value is an int from `least` to 2**63 - 1.

    Raises:
        TypeError: It is not an int.
        ValueError: It is out of range.
    """
    return _arguments.whole_number(argument, value, least, _MOST)


def number(argument: str, value: object) -> float:
    """Check that a value is an int or a float. Returns a plain one.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{argument} must be an int or a float, not {_arguments.described(value)}")
    plain: float = _arguments.plain_number(value)
    return plain


def summand(argument: str, value: object) -> float:
    """Check that a value is a number that can be added: an int of 64 bits, or a float other than NaN.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range, or NaN.
    """
    added = number(argument, value)
    if added != added:
        raise ValueError(f"{argument} must be an int or a float, not NaN")
    if isinstance(added, int) and not -_MOST - 1 <= added <= _MOST:
        raise ValueError(f"{argument} must be from -2**63 to 2**63 - 1, not {_arguments.shown(added)}")
    return added


def mapping(argument: str, value: Any) -> dict[Any, Any]:
    """Copy a mapping, or an iterable of pairs, to a new dict.

    Raises:
        TypeError: It is neither.
    """
    try:
        return dict(value)
    except (TypeError, ValueError):
        raise TypeError(f"{argument} must be a mapping, not {type(value).__name__}") from None


def several(argument: str, value: Any) -> list[Any]:
    """Return several names as a list.

    Raises:
        TypeError: It is a single str, whose letters would be taken for names.
    """
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{argument} must be several, as a list, not {type(value).__name__}")
    return list(value)


def index(argument: str, value: object) -> int:
    """Check a position in a list. Negative positions count from the end."""
    return whole_number(argument, value, -_MOST - 1)


def one_of(argument: str, value: object, allowed: Iterable[str]) -> str:
    """Check that a value is one of several words.

    Raises:
        ValueError: It is another word. The message suggests the one that was meant.
    """
    words = list(allowed)
    if isinstance(value, str) and value in words:
        return value
    near = difflib.get_close_matches(str(value), words, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{argument} must be one of {', '.join(words)}, not {value!r}{hint}")


class Url(NamedTuple):
    """The parts of a URL that a backend needs."""

    scheme: str
    place: str
    options: dict[str, str]
    text: str = ""
    """The URL without its options."""


_LATER = {
    "postgres": "PostgreSQL",
    "postgresql": "PostgreSQL",
    "shm": "shared memory",
}


def parse_url(url: object, schemes: Iterable[str]) -> Url:
    """Parse a URL.

    Raises:
        TypeError: It is not a str.
        ValueError: Its scheme is unknown, or it cannot be read.
        NotImplementedError: Its backend does not exist yet.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    parts = _urls.split(url)
    known = list(schemes)
    if parts.scheme in _LATER:
        raise NotImplementedError(
            f"sessions over {_LATER[parts.scheme]} do not exist yet; the backends are {', '.join(known)}"
        )
    if parts.scheme not in known:
        near = difflib.get_close_matches(parts.scheme, known, 1)
        hint = f"; did you mean {near[0]}://?" if near else ""
        # Before an @ there may be a password.
        shown = f"{parts.scheme}://" if parts.scheme else "what was given" if "@" in url else repr(url)
        raise ValueError(f"url must begin with one of {', '.join(f'{name}://' for name in known)}, not {shown}{hint}")
    options: dict[str, str] = {}
    for name, value in _urls.options_of(parts.query):
        if name in options:
            raise ValueError(f"url has the option {name} twice")
        options[name] = value
    text = url.partition("#")[0].partition("?")[0]
    return Url(parts.scheme, unquote(parts.netloc) + unquote(parts.path), options, text)


def int_option(name: str, value: object, least: int = 0) -> int:
    """Parse an option that is a number. In a URL it is text."""
    if isinstance(value, str):
        if not re.fullmatch(r"-?\d{1,19}", value):
            raise ValueError(f"{name} must be a whole number, not {value!r}")
        value = int(value)
    return whole_number(name, value, least)


_INSTEAD = {
    "max_items": "only memory:// evicts keys: use ttl= and purge(), or the server's own limit",
    "max_bytes": "only memory:// evicts keys: use ttl= and purge(), or the server's own limit",
    "policy": "only memory:// evicts keys",
    "codec": "values of the types in docs/sessions.md have one form; serializer= stores those of other types",
    "tier": "put FlexCache(store=session.store(), coherence=...) in front of a session",
}
"""Hints for options that users look for in vain."""


def check_options(options: Iterable[str], known: Iterable[str], scheme: str) -> None:
    """Refuse options that a backend does not have.

    Raises:
        ValueError: The message names the option, and the one that was meant.
    """
    words = list(known)
    for name in options:
        if name not in words:
            near = difflib.get_close_matches(name, words, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            hint = f"; {_INSTEAD[name]}" if name in _INSTEAD else hint
            allowed = ", ".join(words) or "none"
            raise ValueError(f"{scheme}:// has no option {name!r} (it has {allowed}){hint}")
