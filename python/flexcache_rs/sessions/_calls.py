"""The calls on keys. scripts/make_sync.py generates `_sync_calls.py` from this file."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from flexcache_rs._suggest import called_by_position, suggesting
from flexcache_rs.sessions import _arguments as arguments
from flexcache_rs.sessions._arguments import MISSING
from flexcache_rs.sessions._bits import Bits, Bloom
from flexcache_rs.sessions._containers import List, Map, Queue, SetOf, Sorted
from flexcache_rs.sessions._streams import Stream
from flexcache_rs.sessions._waiting import Pauses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from flexcache_rs._core import SessionCall, SessionCodec
    from flexcache_rs.sessions._arguments import KeepType, Ttl
    from flexcache_rs.sessions._taking import Undo
    from flexcache_rs.sessions._waiting import Waiting


@suggesting
class Calls:
    """Calls on keys. Each call is atomic.

    A key is a str. Values are None, bool, int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset and
    deque, and of the standard library datetime, date, time, timedelta, Decimal and UUID. Other objects need
    `serializer=`. A list, dict, set or deque becomes a container. The handles of `list`, `map`, `set_of` and `queue`
    change its elements in place.
    """

    _codec: SessionCodec

    async def _run(self, call: SessionCall) -> Any:
        raise NotImplementedError

    async def _take(self, call: SessionCall, undo: Undo) -> Any:  # noqa: ARG002
        """Make a call that takes something. If the task is cancelled before it has it, `undo` gives it back."""
        return await self._run(call)

    @property
    def _page(self) -> int:
        raise NotImplementedError

    def _waiting(self, key: str) -> Waiting:  # noqa: ARG002
        """Return the object with which a call waits for an element of a key."""
        return Pauses()

    @called_by_position
    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or `default`. A container is returned as a new list, dict, set or deque."""
        found = (await self._run(self._codec.call("get", (key,))))[0]
        return default if found is MISSING else found

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return a dict with the values of the present keys."""
        names = arguments.several("keys", keys)
        found = await self._run(self._codec.call("get", names))
        return {name: value for name, value in zip(names, found, strict=True) if value is not MISSING}

    async def set(
        self,
        key: str,
        value: Any,
        ttl: Ttl | KeepType = None,
        *,
        if_absent: bool = False,
        if_present: bool = False,
    ) -> bool:
        """Store or replace a value. The old value may be of any kind.

        Args:
            key: The key.
            value: The value.
            ttl: The time to live: seconds, a timedelta, a datetime, or text such as "1h30m". None means for ever, and
                `KEEP` keeps the deadline.
            if_absent: Store only if the key is absent.
            if_present: Store only if the key is present.

        Returns:
            True if it was stored.

        Raises:
            CodecError: The value, or a part of it, cannot be stored.
            ValueError: `ttl` is not positive, or both conditions are given.
        """
        if if_absent and if_present:
            raise ValueError("if_absent and if_present exclude each other")
        mode = "absent" if if_absent else "present" if if_present else "always"
        touch = arguments.touch_of_set(ttl)
        stored: int = await self._run(self._codec.call("set", {key: value}, touch, mode))
        return stored == 1

    async def set_many(self, entries: Mapping[str, Any], ttl: Ttl | KeepType = None) -> int:
        """Store the values of several keys, all of them or none. Returns how many."""
        stored: int = await self._run(
            self._codec.call("set", arguments.mapping("entries", entries), arguments.touch_of_set(ttl), "always")
        )
        return stored

    async def delete(self, *keys: str) -> int:
        """Remove keys. Returns how many were present."""
        removed: int = await self._run(self._codec.call("delete", keys))
        return removed

    async def pop(self, key: str, default: Any = MISSING) -> Any:
        """Remove a key and return its value. If several callers do this, exactly one gets the value.

        If the task is cancelled during the call, the key may have been removed.

        Raises:
            KeyError: The key is absent, and no default was given.
        """
        found = (await self._run(self._codec.call("pop", key)))[0]
        if found is not MISSING:
            return found
        if default is MISSING:
            raise KeyError(key)
        return default

    async def rename(self, key: str, to: str) -> bool:
        """Give a key another name, and replace a key of that name. Returns False if the key is absent."""
        renamed: bool = await self._run(self._codec.call("rename", key, to))
        return renamed

    async def exists(self, key: str) -> bool:
        """Return whether a key is present."""
        return await self.kind(key) is not None

    async def kind(self, key: str) -> str | None:
        """Return the kind of a key, or None if it is absent.

        The kinds are "scalar", "list", "queue", "map", "set", "sorted", "stream", "bloom" and "bits".
        """
        found: str | None = await self._run(self._codec.call("kind", key))
        return found

    async def expire(self, key: str, ttl: Ttl) -> bool:
        """Set the time to live of a key. None means that it never expires. Returns False if the key is absent."""
        changed: bool = await self._run(self._codec.call("expire", key, arguments.touch_of_set(ttl)))
        return changed

    async def persist(self, key: str) -> bool:
        """Remove the deadline of a key. Returns True if there was one."""
        changed: bool = await self._run(self._codec.call("persist", key))
        return changed

    async def ttl(self, key: str) -> float | None:
        """Return the seconds that a key has left, or None if it never expires.

        Raises:
            KeyError: The key is absent.
        """
        left: Any = await self._run(self._codec.call("ttl", key))
        if left is MISSING:
            raise KeyError(key)
        seconds: float | None = left
        return seconds

    async def incr(
        self, key: str, by: float = 1, *, initial: float = 0, ttl_if_new: Ttl = None, ttl: Ttl = None
    ) -> Any:
        """Add to the number of a key. An absent key starts as `initial`. Returns the sum.

        The call keeps the deadline. `ttl` sets it, and `ttl_if_new` sets it only if the call creates the key.

        Raises:
            TypeError: The value is not a number of 64 bits.
            OverflowError: The sum does not fit 64 bits.
        """
        touch = arguments.touch_of_write(ttl, ttl_if_new)
        first = arguments.summand("initial", initial)
        return await self._run(self._codec.call("incr", key, by, first, touch))

    def list(self, key: str) -> List:
        """Return a handle to the list of a key. This makes no call yet."""
        return List(self, key)

    def queue(self, key: str) -> Queue:
        """Return a handle to the queue of a key. This makes no call yet."""
        return Queue(self, key)

    def map(self, key: str) -> Map:
        """Return a handle to the map of a key. This makes no call yet."""
        return Map(self, key)

    def set_of(self, key: str) -> SetOf:
        """Return a handle to the set of a key. This makes no call yet."""
        return SetOf(self, key)

    def sorted(self, key: str) -> Sorted:
        """Return a handle to the sorted set of a key. This makes no call yet."""
        return Sorted(self, key)

    def stream(self, key: str) -> Stream:
        """Return a handle to the stream of a key. This makes no call yet."""
        return Stream(self, key)

    def bits(self, key: str) -> Bits:
        """Return a handle to the bits of a key. This makes no call yet."""
        return Bits(self, key)

    def bloom(self, key: str, capacity: int = 10_000, error_rate: float = 0.01) -> Bloom:
        """Return a handle to the Bloom filter of a key. This makes no call yet.

        Args:
            key: The key.
            capacity: The number of items for which the error rate holds.
            error_rate: The share of items that were never added for which `has` may return True.
        """
        return Bloom(self, key, capacity, error_rate)


@suggesting
class KeyspaceCalls(Calls):
    """The calls on all keys, which only sessions have."""

    async def scan(self, match: str | None = None, count: int = 1000) -> AsyncIterator[list[str]]:
        """Iterate over pages of keys, in the order of their bytes.

        A key that is present all the time is returned exactly once, whatever is stored or removed in the meantime.
        `match` is a pattern with `*`, `?` and `[...]`.
        """
        if match is not None and not isinstance(match, str):
            raise TypeError(f"match must be a str, not {type(match).__name__}")
        most = min(arguments.whole_number("count", count, 1), self._page)
        page: list[str] = await self._run(self._codec.call("keys", None, max(most, self._page)))
        size = max(most, self._page)
        while page:
            last = page[-1]
            found = page if match is None else [key for key in page if fnmatchcase(key, match)]
            for start in range(0, len(found), most):
                yield found[start : start + most]
            if len(page) < size:
                return
            page = await self._run(self._codec.call("keys", last, size))

    async def keys(self, match: str | None = None) -> AsyncIterator[str]:
        """Iterate over the keys, as `scan` does."""
        async for page in self.scan(match):
            for key in page:
                yield key

    async def count(self) -> int:
        """Return the number of keys."""
        count: int = await self._run(self._codec.call("count"))
        return count

    async def count_expired(self) -> int:
        """Return the number of keys that have expired and were not removed yet."""
        count: int = await self._run(self._codec.call("count_expired"))
        return count

    async def expiring(self) -> dict[str, float]:
        """Return the keys with a deadline, and the seconds that each has left.

        The number is negative for an expired key that was not removed yet.
        """
        found: list[tuple[str, float]] = await self._run(self._codec.call("expiring"))
        return dict(found)

    async def clear(self) -> int:
        """Remove all keys of the namespace. Returns how many."""
        count: int = await self._run(self._codec.call("clear"))
        return count

    async def purge(self, limit: int = 1000) -> int:
        """Remove the data of expired keys, at most `limit`. Returns how many.

        No call returns an expired key in any case. This only frees its space.
        """
        count: int = await self._run(self._codec.call("purge", arguments.whole_number("limit", limit)))
        return count
