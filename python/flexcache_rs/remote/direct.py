"""Commands to one server over one connection of all threads: the direct lane.

The connection is native (`flexcache_rs._core.RemoteLane`). It is made of what the user's client says of address,
password and database. What else the client may ask for, such as TLS, only its own connections do.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from flexcache_rs._core import RemoteLane
from flexcache_rs.remote.client import Client
from flexcache_rs.remote.errors import RemoteError
from flexcache_rs.remote.replies import check, check_all, entry_data

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flexcache_rs.remote.given import Given

_CARRIED = frozenset(
    (
        *("host", "port", "path", "db", "username", "password"),
        # Options of how the client handles bytes.
        *("encoding", "socket_read_size", "driver_info", "lib_name", "lib_version"),
        *("orig_host_address", "orig_socket_timeout", "orig_socket_connect_timeout"),
    )
)
"""Arguments of connections that the direct lane supports, or that do not matter on it."""

_UNNEEDED = frozenset(("socket_keepalive", "socket_keepalive_options"))
"""Arguments that clients set by default. The direct lane does not need them, because every call has a deadline."""


def why_not(given: Given) -> str | None:
    """Return why the direct lane does not support a client, or None if it does."""
    if given.manager is not None:
        return "it is a client of a cluster"
    if given.sentinel is not None:
        return "it is a client of Sentinel"
    plain = {"Connection", "UnixDomainSocketConnection"}
    class_ = given.connection_class
    if class_.__name__ not in plain or class_.__module__.partition(".")[0] != given.package:
        return f"its connections are of the class {class_.__name__}"
    unknown = [
        name
        for name, value in given.arguments.items()
        if value and name not in _CARRIED | _UNNEEDED and not name.startswith("cache_")
    ]
    if unknown:
        return f"it has the argument {unknown[0]!r}"
    return None


class DirectClient(Client):
    """Sends commands to one server over one connection, which all threads share.

    Other connections, such as the listening one, are made in the same way as on the client lane.
    """

    lane = "direct"

    def __init__(self, given: Given, timeout: float, name: str) -> None:
        super().__init__(given, timeout, name)
        arguments = given.arguments
        path = arguments.get("path")
        address = (arguments.get("host", "localhost"), int(arguments.get("port", 6379))) if path is None else str(path)
        username, password = arguments.get("username"), arguments.get("password")
        if username and password is None:
            password = ""
        self._new_lane = functools.partial(
            RemoteLane,
            address,
            timeout,
            functools.partial(self.failed, self.exceptions),
            name=name,
            username=username or None,
            password=password,
            database=int(arguments.get("db") or 0),
        )
        self._native = self._new_lane()

    def execute(self, *parts: Any) -> Any:
        """Send one command and return its reply. See `Client`."""
        native = self._native
        reply = native.execute(*parts)
        self._checked(native, check, parts, reply)
        return reply

    def entry(self, place: bytes, known: Any) -> Any:
        """Read an entry with what is known. See `RemoteLane.entry`."""
        native = self._native
        found = native.entry(place, known)
        return self._checked(native, entry_data, "GET", found)

    def execute_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send several commands at once. See `Client`."""
        native = self._native
        replies = native.execute_many(commands)
        self._checked(native, check_all, commands, replies)
        return replies

    def _checked(self, native: RemoteLane, check: Callable[[Any, Any], Any], sent: Any, reply: Any) -> Any:
        """Check what a connection has brought, and end the connection if the check raises."""
        try:
            return check(sent, reply)
        except RemoteError:
            self._end(native)
            raise

    def _end(self, native: RemoteLane) -> None:
        """End a connection whose replies belong to other commands. Calls that wait for a reply of it fail."""
        if self._native is native:
            self._native = self._new_lane()
            if self._is_closed:
                # Nobody would close it later.
                self._native.close()
        native.close()
        self.out_of_step()

    def renew(self) -> None:
        """Use a new connection from now on. See `Client`."""
        self._native.renew()
        super().renew()

    def drop(self) -> None:
        """Close all connections. See `Client`."""
        # First, as in `Client`: a connection that replaces another one is either closed here, or sees this.
        super().drop()
        self._native.close()
