"""Awaited commands on the direct lane, without a thread.

The reader of the connection puts answers into the inbox of an event loop, and wakes the loop once for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from flexcache_rs._core import RemoteInbox
from flexcache_rs.remote.errors import RemoteTimeoutError

if TYPE_CHECKING:
    from flexcache_rs._core import RemoteLane, RemoteTicket

    _Asked = tuple[float, asyncio.Future[Any], RemoteTicket]


class _Inbox:
    """Where the answers for one loop come. It is used in its loop's thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.native = RemoteInbox()
        self._waiting: deque[_Asked] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._socket = self.native.take_socket()
        weakref.finalize(loop, os.close, self._socket).atexit = False
        loop.add_reader(self._socket, self._drain)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._socket, 4096)
        for future, answer in self.native.drain():
            # Done already: nobody waits any more.
            if not future.done():
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        self._forget_answered()

    def _forget_answered(self) -> None:
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()

    def expect(self, loop: asyncio.AbstractEventLoop, asked: _Asked) -> None:
        """Have a request fail at its deadline."""
        self._waiting.append(asked)
        if self._timer is None:
            self._timer = loop.call_at(asked[0], self._look)

    def _look(self) -> None:
        """Fail what was not answered in time, and look again when the next may be late."""
        self._timer = None
        self._forget_answered()
        if not self._waiting:
            return
        loop = self._waiting[0][1].get_loop()
        later: deque[_Asked] = deque()
        for asked in self._waiting:
            deadline, future, ticket = asked
            if future.done():
                continue
            if deadline > loop.time():
                later.append(asked)
                continue
            ticket.give_up()
            # What ended the connection is told to all, in `_drain`, and means the same.
            future.set_exception(RemoteTimeoutError("the server did not answer in time"))
        self._waiting = later
        if later:
            self._timer = loop.call_at(min(deadline for deadline, _, _ in later), self._look)


_INBOXES: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Inbox] = weakref.WeakKeyDictionary()

if hasattr(os, "register_at_fork"):
    # A child must not read what its parent is woken by.
    os.register_at_fork(after_in_child=_INBOXES.clear)


async def execute(lane: RemoteLane, timeout: float, *parts: Any) -> Any:
    """Send a command and return its reply.

    Args:
        lane: The connection.
        timeout: How many seconds it may take.
        parts: The command.

    Raises:
        RemoteError: It was refused, not answered in time, or the connection was lost.
    """
    loop = asyncio.get_running_loop()
    inbox = _INBOXES.get(loop)
    if inbox is None:
        inbox = _INBOXES[loop] = _Inbox(loop)
    future = loop.create_future()
    ticket = lane.submit(inbox.native, future, *parts)
    inbox.expect(loop, (loop.time() + timeout, future, ticket))
    return await future
