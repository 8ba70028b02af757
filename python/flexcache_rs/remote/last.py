"""The values that this process knew last, for callers that accept old values while the server cannot be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from flexcache_rs import FlexCache
from flexcache_rs._core import _expired_result  # pyright: ignore[reportPrivateUsage]
from flexcache_rs._function_name import HEAD_OF_NONCES

if TYPE_CHECKING:
    from flexcache_rs._core import PushTracker
    from flexcache_rs.remote.nonces import Nonces

    _Entry = tuple[Any, float | None, tuple[str, ...]]

_NONCES = b"{" + HEAD_OF_NONCES.encode()
"""Begins the places of nonces, after their namespace."""


class Last(Protocol):
    """What is kept of keys, by their places."""

    def keep(self, place: bytes, entry: _Entry | None, stamp: int) -> None:
        """Keep what was read or written, or that nothing is known."""

    def find(self, place: bytes) -> _Entry | None:
        """What a caller gets while the server cannot be asked."""

    def clear(self) -> None:
        """Forget everything."""


class LastValues:
    """The last values that were read or written, for `on_error="stale"`.

    Args:
        most: How many are kept.
        seconds: For how long.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._cache: FlexCache[bytes, Any] = FlexCache(max_items=most, default_ttl=seconds, close_values=False)

    def keep(self, place: bytes, entry: _Entry | None, stamp: int) -> None:  # noqa: ARG002
        """Keep the value of an entry."""
        if entry is None:
            self._cache.delete(place)
        else:
            self._cache.put(place, (entry[0], None, ()))

    def find(self, place: bytes) -> _Entry | None:
        """The last value."""
        found: _Entry | None = self._cache.get(place)
        return found

    def clear(self) -> None:
        """Forget all values."""
        self._cache.clear()


class LastResults:
    """The last results of memoized functions, which callers get in place of an error, and what their keys begin with.

    A result is kept as long as the server would keep it, with `stale_if_error` after its `ttl`. It counts while nothing
    was heard of that was written to its key, until the server tells again what is written.

    Args:
        most: How many are kept.
        tracker: Knows what was heard of.
        nonces: Know whether the server tells what is written.
    """

    def __init__(self, most: int, tracker: PushTracker, nonces: Nonces) -> None:
        self._cache: FlexCache[bytes, tuple[Any, int]] = FlexCache(max_items=most, close_values=False)
        self._tracker, self._nonces = tracker, nonces

    def keep(self, place: bytes, entry: _Entry | None, stamp: int) -> None:
        """Keep an entry, if it is a result with a time to live, or the nonce of a function."""
        if entry is not None and entry[1] is not None and entry[1] > 0:
            kept = entry[0] if _NONCES in place else _expired_result(entry[0])
            if kept is not None:
                self._cache.put(place, (kept, stamp), entry[1])
                return
        self._cache.delete(place)

    def find(self, place: bytes) -> _Entry | None:
        """The last nonce, or the last result as one that is no longer good: a call returns it where computing fails."""
        found = self._cache.get(place)
        if found is None or not (self._nonces.is_told and self._tracker.is_last_known(found[1])):
            return None
        return found[0], None, ()

    def clear(self) -> None:
        """Forget all results."""
        self._cache.clear()
