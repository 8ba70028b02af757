"""The connections to a server that nobody uses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

C = TypeVar("C")


class Idle(Generic[C]):
    """The idle connections of this process. Any thread may take one, and put it back.

    Args:
        is_quiet: Whether a connection has received nothing unexpected, such as its end.
        close: Closes a connection.
    """

    def __init__(self, is_quiet: Callable[[C], bool], close: Callable[[C], object]) -> None:
        self._is_quiet, self._close = is_quiet, close
        # Each with the id of the process that made it, because a forked child must not close its parent's connections.
        self._connections: list[tuple[int, C]] = []
        self._is_closed = False

    def _pop(self) -> C | None:
        while True:
            try:
                process, connection = self._connections.pop()
            except IndexError:
                # Another thread has just taken the last one.
                return None
            if process == os.getpid():
                return connection

    def take(self) -> C | None:
        """Return a usable connection, or None. Closes connections that have ended."""
        while (connection := self._pop()) is not None:
            if self._is_quiet(connection):
                return connection
            self._close(connection)
        return None

    def put(self, connection: C) -> None:
        """Let others use a connection. After `close` it is closed."""
        self._connections.append((os.getpid(), connection))
        if self._is_closed:
            self.close()

    def close(self) -> None:
        """Close all of them, and those that are put back later."""
        # First: one that is put back is either found here, or sees this.
        self._is_closed = True
        while (connection := self._pop()) is not None:
            self._close(connection)
