"""Lets calls fail at once while the server does not respond, so that they do not each wait for their timeout."""

from __future__ import annotations

from flexcache_rs._core import PushTracker
from flexcache_rs.remote.errors import RemoteConnectionError

_BETWEEN_TRIES = 1_000_000_000
"""Nanoseconds after which one caller tries, where nobody else does."""

_now = PushTracker.now
"""The time in nanoseconds, also where a test has stopped Python's clocks."""


class Breaker:
    """Opens when a command was not answered in time or nobody could connect, and closes when the server answers.

    No lock: a caller that meets a change at worst waits once for its own timeout.
    """

    def __init__(self) -> None:
        self._opened: int | None = None
        self._next_try = 0
        self._why = ""
        self.times_opened = 0

    @property
    def is_open(self) -> bool:
        """Whether callers are refused at once."""
        return self._opened is not None

    def check(self) -> None:
        """Let a caller try.

        Raises:
            RemoteConnectionError: It would wait in vain.
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
        """A caller has waited in vain."""
        now = _now()
        self._next_try = now + _BETWEEN_TRIES
        self._why = str(error)
        if self._opened is None:
            self._opened = now
            self.times_opened += 1

    def close(self, asked: int) -> None:
        """The server has answered what was asked at a moment of the tracker's clock."""
        opened = self._opened
        if opened is not None and asked > opened:
            self._opened = None
