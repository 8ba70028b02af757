"""The connections to one server that threads use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

from flexcache_rs._idle import Idle
from flexcache_rs.remote.errors import RemoteConnectionError
from flexcache_rs.remote.resp import native_socket

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexcache_rs._core import RemoteSocket


class Borrowed(NamedTuple):
    """A connection that one call uses."""

    owner: Connections
    connection: Any
    socket: RemoteSocket | None
    """Its socket, if native code can use it."""
    is_new: bool = True

    def give_back(self) -> None:
        """Let others use the connection, unless it has ended."""
        if self.connection._sock is not None:
            self.owner.idle.put(self._replace(is_new=False) if self.is_new else self)


def is_quiet(connection: Any) -> bool:
    """Whether an idle connection has nothing to read. Unexpected data is the end of the connection."""
    try:
        return not connection.can_read(0)
    except Exception:  # noqa: BLE001 - whatever the package raises: it cannot be used.
        return False


class Connections:
    """The connections to one server. Any thread may take one, and give it back.

    The packages' own pools would count, and never close, a connection that a signal handler interrupted while it was
    handed out. Here such a connection is lost, and the garbage collector closes it.

    Args:
        most: The largest number of connections at a time, or None for any number.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        # Native code notices the end of a connection by itself.
        self.idle: Idle[Borrowed] = Idle(
            lambda borrowed: borrowed.socket is not None or is_quiet(borrowed.connection),
            lambda borrowed: borrowed.connection.disconnect(),
        )
        self._made: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._connecting: WeakValueDictionary[int, Any] = WeakValueDictionary()

    def take(
        self, connect: Callable[[Callable[[Any], object]], Any], failed: Callable[[str, str], Exception]
    ) -> Borrowed:
        """Return a connection, idle or new.

        Args:
            connect: Makes a connection. Before it connects, it passes it to the function that it is given.
            failed: Makes an exception from its kind and text, for native code.

        Raises:
            RemoteConnectionError: The client allows no more connections at a time.
        """
        found = self.idle.take()
        if found is not None:
            return found
        noted: list[int] = []

        def note(connection: Any) -> None:
            while noted:
                # An earlier attempt to connect has failed.
                self._connecting.pop(noted.pop(), None)
            place = id(connection)
            noted.append(place)
            # Note it first, then count. Of several threads that do so at once, none overlooks another one.
            self._made[place] = self._connecting[place] = connection
            if self._most is not None and len(self._counted()) > self._most:
                message = f"no connection to the server: all {self._most} that the client allows are in use"
                raise RemoteConnectionError(message)

        try:
            connection = connect(note)
        finally:
            for place in noted:
                self._connecting.pop(place, None)
        return Borrowed(self, connection, native_socket(connection._sock, failed))

    def _of_process(self) -> list[Any]:
        made = [reference() for reference in self._made.valuerefs()]
        process = os.getpid()
        return [each for each in made if each is not None and each.pid == process]

    def _counted(self) -> list[Any]:
        """Return the connections that are open, or that threads are opening."""
        return [each for each in self._of_process() if each._sock is not None or id(each) in self._connecting]

    def open(self) -> list[Any]:
        """Return the open connections of this process, idle or in use."""
        return [each for each in self._of_process() if each._sock is not None]

    def close(self) -> None:
        """Close the idle connections now, and those in use when they are given back."""
        self.idle.close()

    def shut_down(self) -> None:
        """Close all connections. Calls that use one fail."""
        self.close()
        for connection in self.open():
            connection.disconnect()
