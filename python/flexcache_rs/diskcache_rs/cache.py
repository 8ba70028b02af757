"""`Cache`, `Deque` and `Index` with diskcache_rs's names."""

from __future__ import annotations

import functools
import hashlib
import io
import logging
import pickle
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from flexcache_rs import disk
from flexcache_rs._suggest import suggesting
from flexcache_rs._threads import ForkSafeRLock
from flexcache_rs.disk.checks import expiry, ignored, whole
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.disk.memoize import args_to_key, full_name, memoizing
from flexcache_rs.disk.mixins import CacheMixin

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Mapping
    from datetime import timedelta

    from typing_extensions import Self

    from flexcache_rs.disk.memoize import Memoizing

_logger = logging.getLogger("flexcache_rs.disk")

_FIRST = 500_000_000_000_000
"""The key of the first value pushed into an empty queue. diskcache_rs counts from 0."""


class Statistics(dict[str, int]):
    """Numbers of a cache: a dict, whose keys are attributes as well.

    >>> Statistics(hits=1).hits
    1
    """

    def __getattr__(self, name: str) -> int:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no number {name!r}; there are {', '.join(self)}") from None


def lifetime(expire: float | timedelta | None) -> float | None:
    """Return the seconds to live. As in diskcache_rs, a number that is later than now in Unix time is a deadline."""
    seconds = expiry(expire)
    now = time.time()
    return seconds - now if seconds is not None and seconds > now else seconds


def directory_or_default(directory: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    """Return the directory, by default `cache` in the current one."""
    return Path.cwd() / "cache" if directory is None else directory


def settings_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Convert diskcache_rs's arguments to settings of `flexcache_rs.disk`."""
    given = dict(settings)
    for name, meant in (("max_size", "size_limit"), ("disk_write_threshold", "disk_min_file_size")):
        if name in given:
            value = given.pop(name)
            given.setdefault(meant, value)
    if given.pop("use_file_locking", False):
        given["network"] = True
    cull = given.get("cull_limit")
    # diskcache_rs's documentation shows a fraction of the cache here, which has no effect there.
    if isinstance(cull, float) and 0 < cull < 1:
        del given["cull_limit"]
    return given


class Numbers:
    """The counters of an object's calls."""

    def __init__(self) -> None:
        self._guard = ForkSafeRLock()
        self._numbers: dict[str, int] = {"hits": 0, "misses": 0, "sets": 0, "deletes": 0}

    def count(self, name: str) -> None:
        """Increment a counter."""
        with self._guard:
            self._numbers[name] += 1

    def read(self, *, reset: bool) -> dict[str, int]:
        """Return the counters, and then reset them if wanted."""
        with self._guard:
            numbers = dict(self._numbers)
            if reset:
                self._numbers = dict.fromkeys(numbers, 0)
            return numbers


def key_of_call(typed: bool, ignore: Collection[int | str], name: str | None) -> Callable[..., str]:
    """Return a function that makes the key of a call, a str that begins with "memoize"."""

    def key(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        base = full_name(function) if name is None else name
        told = args_to_key((base,), args, kwargs, typed, ignore)
        return f"memoize:{base}:{hashlib.sha256(pickle.dumps(told, 5)).hexdigest()}"

    return key


@suggesting
class Calls:
    """The methods of `Cache` and `FanoutCache` that `flexcache_rs.disk` does not have."""

    _flexcache_counted: Numbers
    _flexcache_plain: ClassVar[Any]
    """The class of `flexcache_rs.disk` whose methods are called."""

    def _flexcache_note_stored(self, stored: bool) -> None:
        """Count a write if it stored something."""
        if stored:
            self._flexcache_counted.count("sets")

    def set(
        self: Any,
        key: Any,
        value: Any,
        expire: float | timedelta | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Store or replace a value.

        Args:
            key: The key.
            value: Any value that can be pickled, or a file with `read`.
            expire: Seconds to live, or a timedelta, or the deadline in seconds since 1970. None means for ever.
            read: Whether `value` is a file, whose content is stored.
            tag: The tag for `evict`.
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            True; of a `FanoutCache` False, as from its other calls, where others were writing all the time.
        """
        stored: bool = self._flexcache_plain.set(self, key, value, lifetime(expire), read, tag, retry)
        self._flexcache_note_stored(stored)
        return stored

    def add(
        self: Any,
        key: Any,
        value: Any,
        expire: float | timedelta | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool:
        """Store a value only if the key has none. The arguments are those of `set`. Returns True if it was stored."""
        stored: bool = self._flexcache_plain.add(self, key, value, lifetime(expire), read, tag, retry)
        self._flexcache_note_stored(stored)
        return stored

    def touch(self: Any, key: Any, expire: float | timedelta | None = None, retry: bool = False) -> bool:
        """Give a live entry another time to live, as for `set`. Returns True if it was present."""
        found: bool = self._flexcache_plain.touch(self, key, lifetime(expire), retry)
        return found

    def get(
        self: Any,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return the value of a key, or the default.

        Args:
            key: The key.
            default: The result if there is no value.
            read: Whether to return the value as a file in memory.
            expire_time: Whether to also return the time of expiry in seconds since 1970.
            tag: Whether to also return the tag.
            retry: Whether to wait for other writers for longer than `timeout`.
        """
        if not (read or expire_time or tag):
            # The fast path of most calls. It makes no tuple, and reads neither deadline nor tag.
            value = self._flexcache_plain.get(self, key, ENOVAL, False, False, False, retry)
            if value is ENOVAL:
                self._flexcache_counted.count("misses")
                return default
            self._flexcache_counted.count("hits")
            return value
        found = self._flexcache_plain.get(self, key, ENOVAL, read, True, True, retry)
        return self._flexcache_counted_and_shaped(found, default, read, expire_time, tag)

    def delete(self: Any, key: Any, retry: bool = False) -> bool:
        """Remove a key. Returns True if it was present."""
        removed: bool = self._flexcache_plain.delete(self, key, retry)
        if removed:
            self._flexcache_counted.count("deletes")
        return removed

    def push(
        self: Any,
        value: Any,
        prefix: str | None = None,
        side: Literal["front", "back"] = "back",
        expire: float | timedelta | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> Any:
        """Add a value at an end of a queue.

        Returns its number: 0 for the first value, -1 for a value in front of it.
        """
        key = self._flexcache_plain.push(self, value, prefix, checked_side(side), lifetime(expire), read, tag, retry)
        return None if key is None else number_of(key)

    def pull(
        self: Any,
        prefix: str | None = None,
        default: Any = (None, None),
        side: Literal["front", "back"] = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Remove the value at an end of a queue. Returns its number and the value."""
        return numbered_or(
            self._flexcache_plain.pull(self, prefix, ENOVAL, checked_side(side), expire_time, tag, retry), default
        )

    def peek(
        self: Any,
        prefix: str | None = None,
        default: Any = (None, None),
        side: Literal["front", "back"] = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return the number and the value at an end of a queue, without removing it."""
        return numbered_or(
            self._flexcache_plain.peek(self, prefix, ENOVAL, checked_side(side), expire_time, tag, retry), default
        )

    def __setitem__(self: Any, key: Any, value: Any) -> None:
        self.set(key, value, retry=True)

    def __getitem__(self: Any, key: Any) -> Any:
        value = self.get(key, ENOVAL, retry=True)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def _flexcache_counted_and_shaped(self, found: Any, default: Any, read: bool, expire_time: bool, tag: bool) -> Any:
        """Return the result of `get` for a value with its deadline and tag. Counts a hit or a miss."""
        value, *beside = found
        self._flexcache_counted.count("misses" if value is ENOVAL else "hits")
        if value is ENOVAL:
            value = default
        elif read:
            value = in_memory(value)
        asked = [told for wanted, told in zip((expire_time, tag), beside, strict=True) if wanted]
        return (value, *asked) if asked else value

    def stats(self: Any, enable: bool = True, reset: bool = False) -> Statistics:
        """Return the statistics of this object's calls, and the entries and bytes of the directory.

        Args:
            enable: Accepted without effect.
            reset: Whether to reset the numbers to 0.
        """
        del enable
        numbers = self._flexcache_counted.read(reset=reset)
        return Statistics(**numbers, evictions=0, size=self.volume(), count=len(self))

    def exists(self: Any, key: Any) -> bool:
        """Return whether a key has a live value."""
        return key in self

    def keys(self: Any) -> list[Any]:
        """Return a list of the keys of live entries."""
        return [key for key in self.iterkeys() if key in self]

    def items(self: Any) -> list[tuple[Any, Any]]:
        """Return a list of the live entries as pairs."""
        found = ((key, disk.Cache.get(self._flexcache_cache_of(key), key, ENOVAL)) for key in self.iterkeys())
        return [(key, value) for key, value in found if value is not ENOVAL]

    def values(self: Any) -> list[Any]:
        """Return a list of the values of live entries."""
        return [value for _, value in self.items()]

    def vacuum(self) -> None:
        """Do nothing. The directory has the data of each call when the call returns."""

    def read(self: Any, key: Any, retry: bool = False) -> io.BytesIO:
        """Return the value of a key as a file in memory.

        Raises:
            KeyError: There is none.
        """
        found: io.BytesIO | object = self.get(key, ENOVAL, read=True, retry=retry)
        if not isinstance(found, io.BytesIO):
            raise KeyError(key)
        return found

    def set_many(
        self: Any,
        items: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
        expire: float | timedelta | None = None,
        tag: Any = None,
        retry: bool = False,
    ) -> int:
        """Store many values, all of them or none.

        Args:
            items: A mapping, or pairs of key and value.
            expire: As for `set`.
            tag: As for `set`.
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            The number of stored values. It is 0 if a value cannot be pickled, which is logged.
        """
        try:
            return CacheMixin.set_many(self, items, lifetime(expire), tag, retry)
        except (pickle.PicklingError, AttributeError) as error:
            _logger.warning("set_many stored nothing: %s", error)
            return 0

    def memoize(
        self: Any,
        name: str | None = None,
        typed: bool = False,
        expire: float | timedelta | None = None,
        tag: Any = None,
        ignore: Collection[int | str] = (),
    ) -> Memoizing:
        """Return a decorator that stores the results of a function. See `flexcache_rs.disk.Cache.memoize`.

        The keys are texts.
        """
        seconds = lifetime(expire)
        get = functools.partial(self.get, default=ENOVAL, retry=True)
        store = functools.partial(self.set, expire=seconds, tag=tag, retry=True)
        kept = seconds is None or seconds > 0
        return memoizing(
            name, typed, ignored(ignore), get, store if kept else None, key_of_call(typed, ignored(ignore), name)
        )


def in_memory(value: Any) -> io.BytesIO:
    """Return a value in the form in which `read` returns it."""
    if isinstance(value, io.IOBase):
        with value:
            return io.BytesIO(value.read())
    return io.BytesIO(value if isinstance(value, bytes) else pickle.dumps(value, 5))


@suggesting
class Cache(Calls, disk.Cache):  # type: ignore[misc]  # `set_many` has their name of its argument.
    """A cache in a directory. As `flexcache_rs.disk.Cache`, with diskcache_rs's arguments and calls.

    Args:
        directory: The directory, which is created if it does not exist. None means `cache` in the current directory.
        timeout: The number of seconds to wait for other writers before `Timeout` is raised.
        disk_min_file_size: The number of bytes from which a value has its own file.
        **settings: `max_size` or `size_limit`: bytes on disk. `max_entries` or `count_limit`: the most entries, none
            by default. `disk_write_threshold`: another name for `disk_min_file_size`. `use_file_locking`: whether the
            directory lies on a network filesystem. The rest is as for `flexcache_rs.disk.Cache`.

    >>> import tempfile
    >>> cache = Cache(tempfile.mkdtemp(), max_entries=2)
    >>> cache.set_many({"a": 1, "b": 2, "c": 3})
    3
    >>> cache.items(), cache.exists("a")
    ([('b', 2), ('c', 3)], False)
    """

    _flexcache_plain = disk.Cache

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        timeout: float | timedelta = 60.0,
        disk_min_file_size: int | None = None,
        **settings: Any,
    ) -> None:
        given = settings_of(settings)
        most = given.pop("max_entries", None)
        most = given.pop("count_limit", most)
        self._flexcache_most = None if most is None else whole("max_entries", most, least=1)
        self._flexcache_counted = Numbers()
        if disk_min_file_size is not None:
            given.setdefault("disk_min_file_size", disk_min_file_size)
        super().__init__(directory_or_default(directory), timeout, **given)

    @property
    def directory(self) -> Path:  # type: ignore[override]
        """The directory."""
        return Path(super().directory)

    def _flexcache_cache_of(self, key: Any) -> Self:
        del key
        return self

    def _flexcache_note_stored(self, stored: bool) -> None:
        super()._flexcache_note_stored(stored)
        if stored and self._flexcache_most is not None and len(self) > self._flexcache_most:
            self.remove_oldest(self._flexcache_most)

    def remove_oldest(self, most: int) -> None:
        """Remove the oldest entries until no more than `most` are left."""
        with self.transact(retry=True):
            while len(self) > most:
                (key, _) = disk.Cache.peekitem(self, last=False, retry=True)
                self.delete(key, retry=True)

    def peekitem(
        self, last: bool = True, expire_time: bool = False, tag: bool = False, retry: bool = False
    ) -> tuple[Any, ...]:
        """Return the key and the value that were stored last, or first, and the other requested data, in one tuple.

        Raises:
            KeyError: The cache is empty.
        """
        found = super().peekitem(last, expire_time, tag, retry)
        return (*found[0], *found[1:]) if expire_time or tag else tuple(found)

    def reset(self, key: str, value: Any = None, update: bool = True) -> Any:
        """Read a setting again, or change it. None for one that there is not."""
        if value is not None:
            return super().reset(key, value, update)
        try:
            return super().reset(key)
        except ValueError:
            return None

    def __getstate__(self) -> tuple[Any, ...]:
        return str(self.directory), self.timeout, self._flexcache_most

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        directory, timeout, most = state
        self.__init__(directory, timeout, max_entries=most)  # type: ignore[misc]


def checked_side(side: Any) -> Any:
    """Check the end of a queue. Raises ValueError for a wrong one, as diskcache_rs does."""
    if side not in ("front", "back"):
        raise ValueError(f"side must be 'front' or 'back', not {side!r:.100}")
    return side


def number_of(key: Any) -> Any:
    """Return the number of a pushed value from its key. A key with a prefix ends with the number."""
    return (int(key.rpartition("-")[2]) if isinstance(key, str) else key) - _FIRST


def numbered_or(found: Any, default: Any) -> Any:
    """Return the item at an end of a queue, with its number in place of its key. The default if there is none."""
    if found is ENOVAL or found[0] is ENOVAL:
        return default
    pair, *beside = found if isinstance(found[0], tuple) else (found,)
    numbered = (number_of(pair[0]), *pair[1:])
    return (numbered, *beside) if beside else numbered


class Deque(disk.Deque):
    """A sequence with two ends, in a directory. The same as `flexcache_rs.disk.Deque`, but `directory` is a Path.

    >>> import tempfile
    >>> list(Deque("abc", directory=tempfile.mkdtemp(), maxlen=2))
    ['b', 'c']
    """

    @property
    def directory(self) -> Path:  # type: ignore[override]
        """The directory."""
        return Path(super().directory)


@suggesting
class Index(disk.Index):
    """A mapping in a directory. As `flexcache_rs.disk.Index`, with `directory` as a keyword.

    Args:
        *args: What `dict` takes.
        directory: The directory, which is created if it does not exist. None means a new temporary one, which is not
            removed.
        **kwargs: Items.

    >>> import tempfile
    >>> index = Index({"a": 1}, directory=tempfile.mkdtemp())
    >>> index.pop("a"), index.pop("a")
    (1, None)
    """

    def __init__(self, *args: Any, directory: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        if args and (args[0] is None or isinstance(args[0], str | bytes)):
            first, *rest = args
            directory, args = (first.decode() if isinstance(first, bytes) else first), tuple(rest)
        place = tempfile.mkdtemp(prefix="diskcache-") if directory is None else directory
        self._cache = Cache(place, eviction_policy="none")
        self._flexcache_update(*args, **kwargs)

    @property
    def directory(self) -> Path:  # type: ignore[override]
        """The directory."""
        return Path(super().directory)

    def pop(self, key: Any, default: Any = None) -> Any:
        """Remove a key and return its value, or the default if there is none."""
        return super().pop(key, default)

    def __getstate__(self) -> str:
        return str(self.directory)

    def __setstate__(self, state: str) -> None:
        self.__init__(directory=state)  # type: ignore[misc]
