"""Lets calls fail at once while the server does not respond, so that they do not each wait for their timeout."""

from __future__ import annotations

from flexcache_rs._core import PushTracker
from flexcache_rs.remote.errors import RemoteConnectionError

_BETWEEN_TRIES = 1_000_000_000
"""Nanoseconds after which one caller may test the server."""

_now = PushTracker.now
"""Returns the time in nanoseconds, even if a test has frozen Python's clocks."""


class Breaker:
    """A circuit breaker. It opens when a command times out or a connection fails, and closes when the server replies.

    It has no lock. A caller that races with a change at worst waits once for its own timeout.
    """

    def __init__(self) -> None:
        self._opened: int | None = None
        self._next_try = 0
        self._why = ""
        self.times_opened = 0

    @property
    def is_open(self) -> bool:
        """Whether calls fail at once."""
        return self._opened is not None

    def check(self) -> None:
        """Check that a caller may use the server.

        Raises:
            RemoteConnectionError: The breaker is open.
        """
        opened = self._opened
        if opened is None:
            return
        now = _now()
        if now >= self._next_try:
            self._next_try = now + _BETWEEN_TRIES
            return
        message = f"the server has not answered for {(now - opened) / 1e9:.1f} seconds: {self._why}"
        raise RemoteConnectionError(message)

    def open(self, error: Exception) -> None:
        """Open the breaker after a caller's timeout or failed connection."""
        now = _now()
        self._next_try = now + _BETWEEN_TRIES
        self._why = str(error)
        if self._opened is None:
            self._opened = now
            self.times_opened += 1

    def close(self, asked: int) -> None:
        """Close the breaker, because the server has replied to a request sent at `asked` by the tracker's clock."""
        opened = self._opened
        if opened is not None and asked > opened:
            self._opened = None
