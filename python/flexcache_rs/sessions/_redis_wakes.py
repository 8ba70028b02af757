"""Waiting on Valkey and Redis. The server notifies the session when a list or a queue gets its first element.

The scripts that put one there publish the name of its value on the channel of the namespace. One connection and one
thread of a session listen for all of its calls that wait. Where the server refuses that, calls look again by pauses.
"""

# pyright: basic

from __future__ import annotations

import asyncio
import contextlib
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from flexcache_rs._threads import AutoResetEvent, ForkSafeRLock, SingleThread
from flexcache_rs.sessions._waiting import Pauses

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

_LONGEST_REST = 1.0
"""Seconds after which a call looks again without a notification, and the thread whether it still has a session.

Jobs whose time is over return without a write.
"""

_RETRIED_AFTER = 1.0


class Wakes:
    """Receives the server's notifications for the keys of one namespace.

    Args:
        connect: Makes a separate connection.
        channel: The channel on which the names of values that got an element are published.
        life: Returns the object that lives as long as the session, and None after its end.
    """

    def __init__(self, connect: Callable[[], Any], channel: bytes, life: Callable[[], object]) -> None:
        self._connect, self._channel, self._life = connect, channel, life
        # A handler of a signal may wait for something while its thread has it.
        self._lock = ForkSafeRLock()
        self._waiting: dict[bytes, list[Callable[[], None]]] = {}
        self._thread = SingleThread("flexcache wakes", self._receive, self._is_wanted)
        self._connection: Any = None
        self._failed_at = -_RETRIED_AFTER
        self._is_closed = False
        self.is_live = False

    def add(self, name: bytes, wake: Callable[[], None]) -> None:
        """Call `wake` when the value of a name gets an element, and when listening begins or ends."""
        with self._lock:
            self._waiting.setdefault(name, []).append(wake)
        self.listen()

    def remove(self, name: bytes, wake: Callable[[], None]) -> None:
        """Stop calling `wake`."""
        with self._lock:
            wakes = self._waiting.get(name, [])
            if wake in wakes:
                wakes.remove(wake)
            if not wakes:
                self._waiting.pop(name, None)

    def listen(self) -> None:
        """Start listening, unless it has started or has just failed."""
        if not self.is_live and self._is_wanted():
            self._thread.ensure()

    def _has_session(self) -> bool:
        # Nobody may have closed it. A signal handler could skip what is called when it is collected.
        return not self._is_closed and self._life() is not None

    def _is_wanted(self) -> bool:
        return self._has_session() and monotonic() >= self._failed_at + _RETRIED_AFTER

    def _wake(self, name: bytes | None = None) -> None:
        with self._lock:
            names = list(self._waiting) if name is None else [name]
            wakes = [wake for one in names for wake in self._waiting.get(one, ())]
        for wake in wakes:
            wake()

    def _receive(self) -> None:
        connection = None
        try:
            connection = self._connect()
            connection.send_command("SUBSCRIBE", self._channel)
            connection.read_response()
            connection._sock.settimeout(None)
            with self._lock:
                self._connection, self.is_live = connection, True
            # Elements may have arrived before listening began, so let all calls look again.
            self._wake()
            while self._has_session():
                if connection.can_read(_LONGEST_REST):
                    kind, _, name = connection.read_response()
                    if kind == b"message":
                        self._wake(name)
        except Exception:  # noqa: BLE001 - whatever it is, calls look by pauses until this is tried again
            self._failed_at = monotonic()
        finally:
            with self._lock:
                self._connection, self.is_live = None, False
            if connection is not None:
                with contextlib.suppress(Exception):
                    connection.disconnect()
            self._wake()

    def close(self) -> None:
        """End the thread. Calls that wait look again."""
        with self._lock:
            self._is_closed = True
            connection, thread = self._connection, self._thread.current
        if connection is not None:
            with contextlib.suppress(Exception):
                connection._sock.shutdown(socket.SHUT_RDWR)
        if thread is not None:
            thread.join(_LONGEST_REST)


class Waker:
    """The waiting of one call."""

    def __init__(self, wakes: Wakes, name: bytes) -> None:
        self._wakes, self._name = wakes, name
        self._pauses = Pauses()
        self._wake: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._wake is not None:
            self._wakes.remove(self._name, self._wake)

    def _add(self, wake: Callable[[], None]) -> bool:
        """Subscribe `wake`. Returns True if the session is listening. The call must then look again before it waits.

        If it is not listening yet, `wake` is called when it is.
        """
        self._wake = wake
        self._wakes.add(self._name, wake)
        return self._wakes.is_live

    def _most(self, most: float) -> float:
        self._wakes.listen()
        return min(most, _LONGEST_REST if self._wakes.is_live else self._pauses.next())

    def rest(self, most: float) -> None:
        """Wait until the call should look again, for at most `most` seconds."""
        if self._wake is None:
            self._woken = AutoResetEvent()
            if self._add(self._woken.set):
                return
        # This also clears it, before the look, so that a later element wakes the call again.
        self._woken.wait(self._most(most))

    async def arest(self, most: float) -> None:
        """Wait until the call should look again, for at most `most` seconds."""
        if self._wake is None:
            loop, event = asyncio.get_running_loop(), asyncio.Event()
            self._awoken = event

            def wake() -> None:
                # The event loop may be closed.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(event.set)

            if self._add(wake):
                return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._awoken.wait(), self._most(most))
        self._awoken.clear()
