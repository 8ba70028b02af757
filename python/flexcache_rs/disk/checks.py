"""Checks of arguments, and the errors for invalid ones."""

from __future__ import annotations

import math
import operator
import os
import sys

from flexcache_rs._arguments import as_number, real, shown
from flexcache_rs._core import _DISK_PRAGMAS
from flexcache_rs.disk.directory import path_of
from flexcache_rs.disk.format import (
    COMPRESSED,
    DBNAME,
    DEFAULT_SETTINGS,
    EVICTION_POLICY,
    HIGHEST_PICKLE_PROTOCOL,
    METADATA,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any, NoReturn

OWN_SETTINGS = frozenset(("compression", "network", "serializer"))
"""Settings that python-diskcache does not have. Each is an argument of the constructor."""

_KNOWN = frozenset(DEFAULT_SETTINGS) | OWN_SETTINGS

_MEANT = {
    "cache_dir": "directory",
    "dir": "directory",
    "folder": "directory",
    "cache_path": "directory",
    "path": "directory",
    "disk_size_limit": "size_limit",
    "max_bytes": "size_limit",
    "max_disk_size": "size_limit",
    "max_items": "size_limit",
    "max_size": "size_limit",
    "maxsize": "size_limit",
    "capacity": "size_limit",
    "policy": "eviction_policy",
    "shard_count": "shards",
    "num_shards": "shards",
}
"""Our names for arguments of other libraries. `difflib` finds misspelt names."""

_TIMES = frozenset(("ttl", "default_ttl", "expire", "expires", "expiry", "expiration", "max_age", "lifetime"))
"""Names of other libraries for a time to live. In this library each value has its own."""

OF_DISK = frozenset(("disk_min_file_size", "disk_pickle_protocol"))
"""Settings of `Disk` itself. Other disk classes may have more."""


ARGUMENTS_OF_DISK = frozenset(("disk_compression", "disk_directory", "disk_serializer", "disk_whole_files"))
"""Names of the arguments that a cache passes to its disk. No setting may have one of these names."""


def number(name: str, value: Any, *, least: float = -math.inf, above: float = -math.inf) -> float:
    """Check that a value is a real number, neither bool nor NaN, at least `least` and more than `above`.

    Raises:
        TypeError: It is not a number.
        ValueError: It is NaN, or too small.
        OverflowError: It is an int too large for a float.
    """
    if isinstance(value, bool) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError(f"{name} must be a number, not {shown(value)}")
    found = real(name, value)
    if math.isnan(found):
        raise ValueError(f"{name} must be a number, not NaN")
    if found < least:
        raise ValueError(f"{name} must be at least {least:g}, not {shown(value)}")
    if found <= above and above > -math.inf:
        raise ValueError(f"{name} must be more than {above:g}, not {shown(value)}")
    return found


def duration(name: str, value: Any, *, least: float = -math.inf, above: float = -math.inf) -> float:
    """Convert a number of seconds or a timedelta to seconds.

    Raises:
        TypeError: It is neither.
        ValueError: It is NaN, or too small.
    """
    # A program that passes a timedelta has imported its module.
    module = sys.modules.get("datetime")
    if module is not None and isinstance(value, module.timedelta):
        value = value.total_seconds()
    seconds = as_number(value)
    if not isinstance(seconds, int | float):
        raise TypeError(f"{name} must be a number of seconds or a timedelta, not {shown(value)}")
    return number(name, seconds, least=least, above=above)


def whole(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """Check that a value is a whole number: an int, or a float without a fraction, but no bool.

    Raises:
        TypeError: It is not a number.
        ValueError: It has a fraction, or is too small or too large.
    """
    if isinstance(value, float) and value.is_integer():
        integer = int(value)
    elif isinstance(value, float):
        raise ValueError(f"{name} must be a whole number, not {shown(value)}")
    elif isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number, not {shown(value)}")
    else:
        integer = operator.index(value)
    if least is not None and integer < least:
        raise ValueError(f"{name} must be at least {least}, not {shown(value)}")
    if most is not None and integer > most:
        raise ValueError(f"{name} must be at most {most}, not {shown(value)}")
    return integer


def expiry(value: Any, *, name: str = "expire", above: float = -math.inf) -> float | None:
    """Check a time to live in seconds. None means for ever. A value with 0 or less has expired at once.

    Raises:
        TypeError: It is not a number.
        ValueError: It is NaN, or not more than `above`.
    """
    return None if value is None else duration(name, value, above=above)


def unreadable_is_missing(unreadable: Any) -> bool:
    """Return True if unreadable values count as missing.

    Raises:
        ValueError: The argument is neither "raise" nor "missing".
    """
    if unreadable not in ("raise", "missing"):
        raise ValueError(f"unreadable must be 'raise' or 'missing', not {shown(unreadable)}")
    return bool(unreadable == "missing")


def flag(name: str, value: Any) -> bool:
    """Check that a value is a bool, or 0 or 1, which directories record.

    Raises:
        TypeError: It is not a number.
        ValueError: It is another number.
    """
    if isinstance(value, bool):
        return value
    if not isinstance(value, int | float):
        raise TypeError(f"{name} must be True or False, not {shown(value)}")
    if value not in (0, 1):
        raise ValueError(f"{name} must be True or False, not {shown(value)}")
    return bool(value)


def ignored(ignore: Any) -> Collection[int | str]:
    """Return the positions and names of ignored arguments as a set.

    Raises:
        TypeError: It is a str, which would be read letter by letter, or not a collection.
    """
    if isinstance(ignore, str | bytes) or not hasattr(ignore, "__contains__"):
        raise TypeError(f"ignore must be a collection of places and names, not {shown(ignore)}")
    return ignore  # type: ignore[no-any-return]


def refuse_setting(name: str, parameters: Iterable[str] = ()) -> NoReturn:
    """Raise an error for an unknown setting, with the one that may have been meant.

    Raises:
        TypeError: Always.
    """
    if name in METADATA:
        raise TypeError(f"{name!r} is a counter of the directory and cannot be set")
    import difflib

    known = sorted({*_KNOWN, *parameters})
    meant = _MEANT.get(name.lower())
    if name in ("shards", "shard_count", "num_shards") and "shards" not in known:
        meant = "FanoutCache(shards=)"
    elif name in _TIMES:
        meant = "set(expire=)"
    elif meant not in known:
        near = difflib.get_close_matches(name, known, 1, 0.7)
        meant = near[0] if near else None
    hint = f"; did you mean {meant!r}?" if meant else f"; the settings are {', '.join(known)}"
    raise TypeError(f"no such setting: {name!r}{hint}")


def is_known(name: str) -> bool:
    """Whether there is a setting of this name. Known settings are attributes of a cache."""
    kind, _, rest = name.partition("_")
    # SQLite silently ignores unknown pragmas, so they are checked here.
    return name in _KNOWN or kind == "disk" or (kind == "sqlite" and rest in _DISK_PRAGMAS)


def refuse_unknown(
    settings: Iterable[str], recorded: Collection[str], parameters: Iterable[str], *, plain_disk: bool
) -> None:
    """Refuse settings that are unknown to python-diskcache, the disk class and the directory.

    Raises:
        TypeError: There is an unknown setting.
    """
    for name in settings:
        if name in ARGUMENTS_OF_DISK or name in METADATA:
            refuse_setting(name, parameters)
        unknown_to_disk = plain_disk and name.startswith("disk_") and name not in OF_DISK
        if (not is_known(name) or unknown_to_disk) and name not in recorded:
            refuse_setting(name, parameters)


_POLICIES_MEANT = {
    "lru": "least-recently-used",
    "lfu": "least-frequently-used",
    "lrs": "least-recently-stored",
    "fifo": "least-recently-stored",
} | {name.replace("-", between): name for name in EVICTION_POLICY for between in ("_", " ", "")}


def policy_of(name: Any) -> dict[str, str | None]:
    """Return the SQL of an eviction policy.

    Raises:
        KeyError: There is no policy of this name.
    """
    if not isinstance(name, str) or name not in EVICTION_POLICY:
        meant = _POLICIES_MEANT.get(name.lower()) if isinstance(name, str) else None
        hint = f"; did you mean {meant!r}?" if meant else f"; the policies are {', '.join(EVICTION_POLICY)}"
        raise KeyError(f"no such eviction policy: {shown(name)}{hint}")
    return EVICTION_POLICY[name]


def checked_setting(name: str, value: Any, *, plain_disk: bool = True) -> Any:
    """Check a setting, and return its value in the form in which the directory records it.

    The pickle protocol of a user's own disk class is not checked here. The disk checks it when it writes.

    Raises:
        KeyError: There is no such eviction policy.
        TypeError: The value has a wrong type.
        ValueError: The value is out of range.
    """
    if name == "eviction_policy":
        policy_of(value)
    elif name == "size_limit":
        number(name, value, least=0)
    elif name == "cull_limit":
        return whole(name, value, least=0, most=2**63 - 1)
    elif name in ("statistics", "tag_index", "network"):
        flag(name, value)
    elif name == "compression":
        check_compression(value)
    elif name == "disk_min_file_size":
        return whole(name, value, least=0, most=2**63 - 1)
    elif name == "disk_pickle_protocol":
        return whole(name, value, least=0, most=HIGHEST_PICKLE_PROTOCOL if plain_disk else None)
    elif name.startswith("sqlite_"):
        return _checked_pragma(name, value)
    return value


_JOURNAL_MODES = ("delete", "truncate", "persist", "memory", "wal", "off")
_SYNCHRONOUS = ("off", "normal", "full", "extra")


def _checked_pragma(name: str, value: Any) -> Any:
    """Check the value of a pragma. SQLite would silently ignore an invalid one."""
    if name == "sqlite_journal_mode":
        choices: tuple[str, ...] = _JOURNAL_MODES
    elif name == "sqlite_synchronous" and isinstance(value, str):
        choices = _SYNCHRONOUS
    elif isinstance(value, str):
        import re

        if not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
            raise ValueError(f"{name} must be a number or a word, not {shown(value)}")
        return value
    else:
        return int(value) if isinstance(value, bool) else whole(name, value)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(choices)}, not {shown(value)}")
    if value.lower() not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {shown(value)}")
    return value


def checked_settings(
    directory: str | os.PathLike[str] | None, settings: dict[str, Any], parameters: Iterable[str], *, plain_disk: bool
) -> dict[str, Any]:
    """Return the settings in recorded form. Invalid ones raise an error before anything is created."""
    if directory is None or not os.path.exists(os.path.join(path_of(directory), DBNAME)):  # noqa: PTH110, PTH118
        refuse_unknown(settings, (), parameters, plain_disk=plain_disk)
    return {name: checked_setting(name, value, plain_disk=plain_disk) for name, value in settings.items()}


def check_compression(compression: Any) -> None:
    """Check that `compression` is "zstd", "lz4" or None."""
    if compression is not None and not isinstance(compression, str):
        raise TypeError(f"compression must be 'zstd', 'lz4' or None, not {shown(compression)}")
    if compression not in (None, *COMPRESSED.values()):
        raise ValueError(f"compression must be 'zstd', 'lz4' or None, not {shown(compression)}")


def uses_serializer(disk: type) -> bool:
    """Whether a class of disks converts values with the serializer of a cache."""
    return getattr(disk, "_uses_serializer", True)


def check_serializer(serializer: Any, disk: type) -> None:
    """Check that `serializer` is an instance with `name`, `dumps` and `loads`, and has an effect with `disk`.

    Raises:
        TypeError: It is no such instance.
        ValueError: The disk would never call it.
    """
    if serializer is None:
        return
    if not uses_serializer(disk):
        raise ValueError(
            f"serializer has no effect with disk={disk.__name__}, which converts all keys and values itself: "
            "leave one of them out"
        )
    if isinstance(serializer, type):
        raise TypeError(f"serializer must be an instance, not the class: {serializer.__name__}()")
    for name in ("dumps", "loads"):
        if not callable(getattr(serializer, name, None)):
            raise TypeError(f"serializer must have a method {name}, and {type(serializer).__name__} has none")
    if not isinstance(getattr(serializer, "name", None), str):
        raise TypeError(f"serializer must have a name that is a str, and {type(serializer).__name__} has none")


def check_key_of_queue(disk: Any, key: Any) -> None:
    """Refuse a disk that stores the key of a queue in another form, in which the queue would not find it."""
    if disk.put(key) != (key, True):
        raise TypeError(f"queues need a disk that stores ints and text as they are, unlike {type(disk).__name__}")


_CHECKED = (
    frozenset(("statistics", "eviction_policy", "size_limit", "cull_limit", "tag_index", "compression", "network"))
    | OF_DISK
)


def check_recorded(directory: str, recorded: dict[str, Any], settings: Collection[str], *, plain_disk: bool) -> None:
    """Check the recorded settings of a directory that the given `settings` do not replace."""
    pragmas = {f"sqlite_{pragma}" for pragma in _DISK_PRAGMAS}
    for key in sorted((_CHECKED | pragmas) & recorded.keys() - set(settings)):
        try:
            checked_setting(key, recorded[key], plain_disk=plain_disk)
        except (KeyError, TypeError, ValueError) as error:  # noqa: PERF203
            where = f"recorded in {directory}; give {key}= to replace it"
            raise type(error)(f"{error.args[0]} ({where})") from error
