"""Awaited commands on the direct lane, without a thread.

The reader of the connection puts answers into the inbox of an event loop, and wakes the loop once for all of them. What
is asked in one turn of the loop goes out in two parts: the first command at once, all others together.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import TYPE_CHECKING, Any

from flexcache_rs._core import RemoteInbox
from flexcache_rs.remote.errors import RemoteTimeoutError

if TYPE_CHECKING:
    from flexcache_rs._core import RemoteLane


class _Inbox:
    """Where the answers for one loop come. It is used in its loop's thread only.

    It must not refer to its loop while nothing is asked, or neither of them would ever go.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.native = RemoteInbox()
        self._is_timed = self._is_held = False
        loop.add_reader(self.native.fileno(), self.native.drain)

    def submit(
        self, loop: asyncio.AbstractEventLoop, lane: RemoteLane, timeout: float, known: Any, *parts: Any
    ) -> asyncio.Future[Any]:
        """Send a command, or put it in line until the end of this turn of the loop. The future of its reply."""
        future: asyncio.Future[Any] = loop.create_future()
        self.native.submit(lane, future, self._is_held, known, *parts)
        if not self._is_held:
            loop.call_soon(self._flush)
            self._is_held = True
        if not self._is_timed:
            loop.call_later(timeout, self._look, loop)
            self._is_timed = True
        return future

    def _flush(self) -> None:
        self._is_held = False
        self.native.flush()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Fail what was not answered in time, and look again when the next may be late."""
        self._is_timed = False
        late, seconds = self.native.expire()
        for future in late:
            if not future.done():
                future.set_exception(RemoteTimeoutError("the server did not answer in time"))
        if seconds is not None:
            loop.call_later(seconds, self._look, loop)
            self._is_timed = True


_INBOXES: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Inbox] = weakref.WeakKeyDictionary()

if hasattr(os, "register_at_fork"):
    # A child must not read what its parent is woken by.
    os.register_at_fork(after_in_child=_INBOXES.clear)


def _inbox_of(loop: asyncio.AbstractEventLoop) -> _Inbox:
    """The inbox of a loop. The first one of a loop takes away those of loops that were closed."""
    found = _INBOXES.get(loop)
    if found is not None:
        return found
    for reference in _INBOXES.keyrefs():
        other = reference()
        if other is not None and other.is_closed():
            gone = _INBOXES.pop(other, None)
            if gone is not None:
                # What was not answered refers to the loop.
                gone.native.forget()
    made = _INBOXES[loop] = _Inbox(loop)
    return made


def execute(lane: RemoteLane, timeout: float, known: Any, parts: tuple[Any, ...]) -> asyncio.Future[Any]:
    """Send a command from the running loop. The future of its reply.

    Args:
        lane: The connection.
        timeout: How many seconds it may take.
        known: What is known for reading an entry, where the reply is one; otherwise None. See `RemoteLane.entry`.
        parts: The command.

    The future raises a `RemoteError`: it was refused, not answered in time, or the connection was lost.
    """
    loop = asyncio.get_running_loop()
    inbox = _INBOXES.get(loop) or _inbox_of(loop)
    return inbox.submit(loop, lane, timeout, known, *parts)
