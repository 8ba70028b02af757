"""Commands to the primary that Sentinel names, which may change at any time."""

from __future__ import annotations

import contextlib
import copy
import threading
from typing import TYPE_CHECKING, Any

from flexcache_rs._threads import AutoResetEvent, start
from flexcache_rs.remote.client import CLOSED_MEANWHILE, Client
from flexcache_rs.remote.errors import RemoteConnectionError
from flexcache_rs.remote.given import shut_down

if TYPE_CHECKING:
    from collections.abc import Generator

    from flexcache_rs.remote.given import Given


class SentinelClient(Client):
    """Sends commands to the primary of a service.

    After a failover the old primary may still reply for a while. A thread therefore asks Sentinel as often as the
    listening connection asks the server, and ends the connections to an old primary.
    """

    def __init__(self, given: Given, timeout: float, name: str) -> None:
        super().__init__(given, timeout, name)
        self._address: tuple[str, int] | None = None
        """The address of the last complete move."""
        self._is_known = False
        module = given.module
        self._sentinel: Any = module.sentinel.Sentinel([], min_other_sentinels=given.sentinel.min_other_sentinels)
        self._sentinel._force_master_ip = getattr(given.sentinel, "_force_master_ip", None)
        client = module.Redis if given.package == "redis" else module.Valkey
        for each in given.sentinel.sentinels:
            pool = each.connection_pool
            class_, arguments = given.synchronous(pool.connection_class, pool.connection_kwargs)
            connections = module.ConnectionPool(
                connection_class=class_, decode_responses=True, **arguments, **given.timed(timeout)
            )
            self._sentinel.sentinels.append(client(connection_pool=connections))

    def _ask(self) -> tuple[str, int]:
        """Ask Sentinel for the address of the primary.

        Raises:
            RemoteConnectionError: No Sentinel names one.
        """
        # Copy the client, because it reorders its list of Sentinels.
        sentinel = copy.copy(self._sentinel)
        sentinel.sentinels = list(self._sentinel.sentinels)
        kinds = self.exceptions
        try:
            host, port = sentinel.discover_master(self._given.service)
        except (kinds.ConnectionError, kinds.TimeoutError, kinds.ResponseError, OSError, *CLOSED_MEANWHILE) as error:
            message = f"Sentinel names no primary of {self._given.service!r}: {error}"
            raise RemoteConnectionError(message) from error
        except BaseException:
            # A signal handler raised. The pools may count connections that nobody can give back. Other threads may use
            # connections, which end when they are collected.
            for client in self._sentinel.sentinels:
                client.connection_pool.reset()
            raise
        finally:
            if self._is_closed:
                self._disconnect_sentinels()
        return host, int(port)

    def _move(self, address: tuple[str, int]) -> None:
        """Use another address from now on. Results of the old server no longer count."""
        target = {"host": address[0], "port": address[1]}
        # Also look at the arguments. Two threads that move to different addresses at once may leave one address in the
        # arguments, and the other one in `_address`.
        if address == self._address and target.items() <= self._arguments.items():
            self._is_known = True
            return
        self._arguments |= target
        old = self._replace_connections()
        self._address = address
        # Set this here, because other threads may use the connections from now on.
        self._is_known = True
        # Also end connections that are in use, so that calls to the old primary fail instead of succeeding there.
        old.shut_down()
        self._shut_down_loops()

    def _get(self) -> Any:
        if not self._is_known:
            self._move(self._ask())
        try:
            return super()._get()
        except Exception:
            # The next call asks Sentinel.
            self._is_known = False
            raise

    def translated(self, error: Exception) -> Exception:
        """Convert an error of the package to one of ours. A server that is no longer the primary counts as lost."""
        if isinstance(error, self.exceptions.ReadOnlyError):
            self._is_known = False
            return RemoteConnectionError(f"the server is no primary any more: {error}")
        if isinstance(error, self.exceptions.ConnectionError):
            self._is_known = False
        return super().translated(error)

    def connect(self, timeout: float) -> Any:
        """Return a new connection to the primary that Sentinel names now."""
        self._move(self._ask())
        return super().connect(timeout)

    @contextlib.contextmanager
    def watched(self, connection: Any, period: float) -> Generator[None]:
        """Watch a listening connection during a `with` block, and end it when Sentinel names another primary."""
        ended = AutoResetEvent()
        address = self._address

        def watch() -> None:
            while not ended.wait(period):
                # If no Sentinel replies, keep the connection.
                with contextlib.suppress(RemoteConnectionError):
                    named = self._ask()
                    if ended.wait(0):
                        return
                    # Also if only the commands lead elsewhere: a thread may have moved them after a late reply.
                    self._move(named)
                    if named != address:
                        sock = connection._sock
                        if sock is not None:
                            shut_down(sock)
                        return

        thread = threading.Thread(target=watch, name="flexcache-sentinel", daemon=True)
        start(thread)
        try:
            yield
        finally:
            ended.set()

    def close(self) -> None:
        """Close all connections."""
        super().close()
        # Not in `drop`, because the packages' pools have locks.
        self._disconnect_sentinels()

    def _disconnect_sentinels(self) -> None:
        for client in self._sentinel.sentinels:
            client.connection_pool.disconnect()
