"""Commands of threads to a Valkey or Redis server, and the handling of those that fail."""

# pyright: basic

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flexcache_rs._idle import Idle
from flexcache_rs.remote.connections import is_quiet
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError
from flexcache_rs.remote.replies import is_unexpected
from flexcache_rs.sessions._errors import OutcomeUnknown, SessionError, TimedOut, Unavailable
from flexcache_rs.sessions._redis_lane import is_script_missing
from flexcache_rs.sessions._redis_scripts import with_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexcache_rs.remote.client import Client
    from flexcache_rs.sessions._redis import Command, Plan

LANE: Any = object()
"""Stands for the connection that all threads share."""


class Sender:
    """Sends commands over connections that are reused."""

    def __init__(self, client: Client, timeout: float) -> None:
        self._client, self._timeout = client, timeout
        self._idle: Idle[Any] = Idle(is_quiet, lambda connection: connection.disconnect())

    def failed(self, error: Exception, is_sent_write: bool) -> Exception:
        """Convert an error of the client to an error of sessions."""
        is_broken = isinstance(error, RemoteConnectionError) or is_unexpected(error)
        if is_sent_write and (is_broken or isinstance(error, RemoteTimeoutError)):
            return OutcomeUnknown(f"{error}; the call may have been made")
        if isinstance(error, RemoteTimeoutError):
            return TimedOut(str(error))
        if is_broken:
            return Unavailable(str(error))
        return SessionError(str(error)) if isinstance(error, RemoteError) else error

    def borrow(self) -> Any:
        """Return a connection, idle or new."""
        connection = self._idle.take()
        return self.connect() if connection is None else connection

    def connect(self) -> Any:
        """Return a new connection."""
        try:
            connection = self._client.connect(self._timeout)
        except RemoteError as error:
            raise self.failed(error, False) from error
        connection.has_unread = False
        return connection

    def give_back(self, connection: Any) -> None:
        """Put a connection back for other calls, unless it broke or has unread replies."""
        if connection is not LANE and connection._sock is not None and not connection.has_unread:
            self._idle.put(connection)

    def close(self) -> None:
        """Close the idle connections."""
        self._idle.close()

    def _ask(self, connection: Any, commands: Sequence[Command]) -> list[Any]:
        if connection is LANE:
            return self._client.execute_many(commands)
        return self._client.exchange(connection, commands)

    def exchange(self, connection: Any, commands: Sequence[Command], writes: bool) -> list[Any]:
        """Send commands, and return their replies. Commands whose script the server lacks are sent again with it."""
        try:
            replies = self._ask(connection, commands)
            missing = [number for number, reply in enumerate(replies) if is_script_missing(reply)]
            if missing:
                # Send them in their order, because a later one may depend on an earlier one.
                again = [with_text(commands[number]) for number in missing]
                for number, reply in zip(missing, self._ask(connection, again), strict=True):
                    replies[number] = reply
        except RemoteError as error:
            raise self.failed(error, writes) from error
        return replies

    def run(self, connection: Any, plan: Plan, writes: bool) -> Any:
        """Follow a plan, and return its result."""
        try:
            commands = next(plan)
            while True:
                replies = self.exchange(connection, commands, writes)
                for reply in replies:
                    if isinstance(reply, Exception):
                        raise self.failed(reply, False) from reply
                commands = plan.send(replies)
        except StopIteration as stop:
            return stop.value
