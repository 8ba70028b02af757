"""The steps before each command to the server, and the handling of commands that fail."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError
from flexcache_rs.remote.failures import foreign, is_of_another_type, shown
from flexcache_rs.remote.nonces import Nonces

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from flexcache_rs._core import PushTracker
    from flexcache_rs.remote.breaker import Breaker
    from flexcache_rs.remote.client import Client
    from flexcache_rs.remote.keys import Keys
    from flexcache_rs.remote.listeners import Listening
    from flexcache_rs.remote.scripts import Script
    from flexcache_rs.remote.values import Values


class Life:
    """An object that lives as long as anything uses a store. When it dies, the listener stops."""

    is_closed = False


class Counts:
    """The counters of the statistics."""

    def __init__(self) -> None:
        self.loads = self.hits = self.stale = self.errors = self.unreadable = self.bypassed = 0
        self.failed_writes = self.leases = self.lease_waits = 0


class Commands:
    """Sends the commands of a namespace to the server.

    Args:
        client: Sends commands.
        keys: The names of server keys.
        values: Encodes and decodes values.
        tracker: Decides which copies in memory are valid.
        breaker: Makes calls fail at once while the server does not respond.
    """

    def __init__(self, client: Client, keys: Keys, values: Values, tracker: PushTracker, breaker: Breaker) -> None:
        self.client, self.keys, self.values, self.tracker, self.breaker = client, keys, values, tracker, breaker
        self.nonces = Nonces(client, keys, tracker)
        client.when_out_of_step(self.nonces.forget)
        self.counts = Counts()
        self.listener: Listening | None = None
        self.life = Life()
        self._offset: list[float] = []

    def begin(self) -> None:
        """Make the checks before a command.

        Raises:
            ValueError: The cache is closed, or the values of the namespace have another format.
            RemoteConnectionError: The server does not respond.
        """
        if self.nonces.checked == [os.getpid()] and not self.breaker.is_open and not self.life.is_closed:
            # It has listened since before that was noted.
            return
        if self.life.is_closed:
            message = "the cache is closed"
            raise ValueError(message)
        if self.listener is not None:
            self.listener.ensure()
        self.breaker.check()
        if self.nonces.checked != [os.getpid()]:
            self._check_format()

    def _check_format(self) -> None:
        wanted = self.values.format
        commands = [("SET", self.keys.format, wanted, "NX"), ("GET", self.keys.format), ("TIME",)]
        written, there, time = self.send(lambda: self.client.execute_many(commands))
        for reply in (written if there is None else there, time):
            if isinstance(reply, Exception):
                raise foreign([self.keys.format], reply) if is_of_another_type(reply) else reply
        if there != wanted:
            message = (
                f"the values of the namespace are written as {shown(there)} says, and this cache would write them as "
                f"{wanted!r}: give all caches of a namespace one serializer"
            )
            raise ValueError(message)
        seconds, micros = time
        self._offset[:] = [int(seconds) * 1000 + int(micros) / 1000 - self.tracker.now() / 1e6]
        self.nonces.checked[:] = [os.getpid()]

    def send(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Send commands after `begin`. A timeout or a lost connection opens the breaker."""
        try:
            return call(*arguments)
        except (RemoteTimeoutError, RemoteConnectionError) as error:
            self.counts.errors += 1
            self.breaker.open(error)
            raise

    def execute(self, *command: Any) -> Any:
        """Send a command.

        Raises:
            RemoteError: It has failed.
        """
        self.begin()
        return self.send(self.client.execute, *command)

    def run(self, script: Script, *arguments: Any) -> Any:
        """Run a script with its keys and arguments.

        Raises:
            RemoteError: It has failed.
            RemoteValueError: One of its keys holds something else.
        """
        self.begin()
        try:
            return self.send(script.run, self.client, *arguments)
        except RemoteError as error:
            if is_of_another_type(error):
                raise foreign(script.places(arguments), error) from error
            raise

    def read(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Send commands that only read. If the connection is lost, send them again, once."""
        self.begin()
        try:
            return call(*arguments)
        except RemoteConnectionError:
            return self.send(call, *arguments)
        except RemoteTimeoutError as error:
            self.counts.errors += 1
            self.breaker.open(error)
            raise

    @contextlib.contextmanager
    def writing(self, *places: bytes) -> Generator[None]:
        """Invalidate copies of keys around a write in a `with` block, even if the outcome of the write is unknown."""
        self.begin()
        with self.tracker.write(list(places)):
            try:
                yield
            except (RemoteTimeoutError, RemoteConnectionError) as error:
                self.counts.errors += 1
                self.breaker.open(error)
                raise

    def offset(self) -> float:
        """The difference in milliseconds between the server's clock, since 1970, and the tracker's clock."""
        offset = self.listener.offset if self.listener is not None else None
        if offset is None:
            offset = self._offset[0] if self._offset else 0.0
        return offset

    def server_ms(self) -> float:
        """Return the time of the server's clock, in milliseconds since 1970."""
        return self.tracker.now() / 1e6 + self.offset()

    def deadline(self, seconds: float | None) -> int:
        """Return the deadline for a time to live in seconds, in the form in which values store it.

        If the time is over already, the deadline is the earliest one, which is over by every client's estimate.
        """
        if seconds is None:
            return 0
        return max(int(self.server_ms() + seconds * 1000), 1) if seconds > 0 else 1
