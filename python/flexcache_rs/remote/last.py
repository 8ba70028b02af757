"""The values that this process knew last, for callers that accept old values while the server cannot be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from flexcache_rs._core import (
    FlexCache,
    _expired_result,  # pyright: ignore[reportPrivateUsage]
)
from flexcache_rs._function_name import HEAD_OF_NONCES

if TYPE_CHECKING:
    from flexcache_rs._core import PushTracker
    from flexcache_rs.remote.nonces import Nonces

Entry: TypeAlias = tuple[Any, float | None, tuple[str, ...]]
"""A value, the seconds that it has left, and its tags."""

_NONCES = b"{" + HEAD_OF_NONCES.encode()
"""The beginning of the places of functions' nonces, after the namespace."""


class Last(Protocol):
    """Entries by their places, for use while the server cannot be reached. This class keeps nothing."""

    def keep(self, place: bytes, entry: Entry | None, stamp: int) -> None:
        """Keep an entry that was read or written, or forget it if it is None."""

    def find(self, place: bytes) -> Entry | None:
        """Return the entry for a caller while the server cannot be reached, or None."""

    def clear(self) -> None:
        """Forget everything."""


class LastValues:
    """The last values that were read or written, for `on_error="stale"`.

    Args:
        most: The largest number of kept values.
        seconds: The number of seconds for which they are kept.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._cache: FlexCache[bytes, Any] = FlexCache(max_items=most, default_ttl=seconds, close_values=False)

    def keep(self, place: bytes, entry: Entry | None, stamp: int) -> None:  # noqa: ARG002
        """Keep the value of an entry."""
        if entry is None:
            self._cache.delete(place)
        else:
            self._cache.put(place, (entry[0], None, ()))

    def find(self, place: bytes) -> Entry | None:
        """Return the last value, or None."""
        found: Entry | None = self._cache.get(place)
        return found

    def clear(self) -> None:
        """Forget all values."""
        self._cache.clear()


class LastResults:
    """The last results of memoized functions, which replace an error, and the nonces of the functions.

    A result is kept as long as the server would keep it: for its `ttl` and then for `stale_if_error`. It is valid
    unless a write to its key was announced, and until the server announces writes again.

    Args:
        most: The largest number of kept results.
        tracker: Knows the announced writes.
        nonces: Know whether the server announces writes.
    """

    def __init__(self, most: int, tracker: PushTracker, nonces: Nonces) -> None:
        self._cache: FlexCache[bytes, tuple[Any, int]] = FlexCache(max_items=most, close_values=False)
        self._tracker, self._nonces = tracker, nonces

    def keep(self, place: bytes, entry: Entry | None, stamp: int) -> None:
        """Keep an entry, if it is a result with a time to live, or the nonce of a function."""
        if entry is not None and entry[1] is not None and entry[1] > 0:
            kept = entry[0] if _NONCES in place else _expired_result(entry[0])
            if kept is not None:
                self._cache.put(place, (kept, stamp), entry[1])
                return
        self._cache.delete(place)

    def find(self, place: bytes) -> Entry | None:
        """Return the last nonce, or the last result marked as stale, which a call returns if computing fails."""
        found = self._cache.get(place)
        if found is None or not (self._nonces.is_told and self._tracker.is_last_known(found[1])):
            return None
        return found[0], None, ()

    def clear(self) -> None:
        """Forget all results."""
        self._cache.clear()
