"""Calls to a Valkey or Redis server over one native connection, which all threads and tasks share.

An awaited call needs no thread: the reader of the connection wakes the event loop.
"""

# pyright: basic

from __future__ import annotations

import asyncio
import functools
import os
from typing import TYPE_CHECKING, Any

from flexcache_rs.remote.client import Client
from flexcache_rs.remote.direct import DirectClient, why_not
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError
from flexcache_rs.remote.given import Given
from flexcache_rs.sessions._errors import TimedOut, Unavailable
from flexcache_rs.sessions._redis_scripts import with_text
from flexcache_rs.sessions._taking import taken

if os.name == "posix":
    from flexcache_rs.remote import awaiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from flexcache_rs.sessions._cells import Call
    from flexcache_rs.sessions._redis import Command, Plan, Plans
    from flexcache_rs.sessions._taking import Undo


class _LaneClient(DirectClient):
    """A client whose connection tells what was not sent."""

    def asker(self, place: bytes) -> Callable[..., asyncio.Future[Any]] | None:  # noqa: ARG002
        """What sends a command from the running event loop, over the connection of all threads."""
        return functools.partial(awaiting.execute, self._native, self._timeout) if os.name == "posix" else None

    @staticmethod
    def failed(kinds: Any, kind: str, text: str) -> Exception:
        """The exception for a command that has no reply. Nothing can have happened if it was not sent."""
        if kind == "unsent_timeout":
            return TimedOut(text)
        return Unavailable(text) if kind == "unsent" else DirectClient.failed(kinds, kind, text)


def client_of(url: str, timeout: float, name: str) -> Client:
    """The client for a URL. It has a lane if all that the URL says can be said on it, which TLS is not."""
    given = Given(url)
    return (Client if why_not(given) else _LaneClient)(given, timeout, name)


def has_lane(client: Client) -> bool:
    """Whether all calls share one connection, and can be awaited."""
    return os.name == "posix" and client.lane == "direct"


def is_script_missing(reply: Any) -> bool:
    """Whether a command was refused because the server does not have its script."""
    return isinstance(reply, Exception) and type(reply.__cause__).__name__ == "NoScriptError"


def _as_it_is(future: asyncio.Future[Any]) -> asyncio.Future[Any]:
    return future


class AwaitedLane:
    """Awaited calls, for any number of event loops.

    Args:
        client: Its commands can be awaited.
        plans: The plans of calls.
        failed: The error of a session for one of the client's; whether what was sent may have stored something.
    """

    def __init__(self, client: Client, plans: Plans, failed: Callable[[Exception, bool], Exception]) -> None:
        self._asker: Any = client.asker(b"") if has_lane(client) else None
        self._plans, self._failed = plans, failed
        self._asked: set[asyncio.Future[Any]] = set()

    def _ask(self, command: Command) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._asker(None, command)
        self._asked.add(future)
        future.add_done_callback(self._asked.discard)
        return future

    async def run(self, call: Call, undo: Undo | None, ask: Callable[[Any], asyncio.Future[Any]]) -> Any:
        """Make a call. One that only reads is made again if the connection broke.

        Args:
            call: The call.
            undo: Gives back what it took if the task is cancelled; None for a call that takes nothing.
            ask: Makes the call that gives back.
        """
        for may_go_again in (not call.writes, False):
            reply, error = await self._tried(call, undo, ask)
            if error is None:
                return reply
            is_broken = isinstance(error, (RemoteConnectionError, Unavailable)) and not isinstance(error, TimedOut)
            if not (may_go_again and is_broken):
                raise self._failed(error, call.writes) from error
        raise AssertionError("unreachable")

    async def _tried(
        self, call: Call, undo: Undo | None, ask: Callable[[Any], asyncio.Future[Any]]
    ) -> tuple[Any, Exception | None]:
        """What a call answers, or how the connection or the server refused it."""
        try:
            return await self._follow(self._plans.plan(call), undo, ask), None
        except (RemoteError, Unavailable) as error:
            return None, error

    async def _follow(self, plan: Plan, undo: Undo | None, ask: Callable[[Any], asyncio.Future[Any]]) -> Any:
        try:
            commands = next(plan)
            while True:
                if undo is not None:
                    replies = [await self._take(plan, commands[0], undo, ask)]
                elif len(commands) == 1:
                    replies = [await self._reply(commands[0])]
                else:
                    replies = await asyncio.gather(*map(self._reply, commands))
                commands = plan.send(replies)
        except StopIteration as stop:
            return stop.value

    async def _reply(self, command: Command, wait: Callable[[asyncio.Future[Any]], Awaitable[Any]] = _as_it_is) -> Any:
        """The reply to a command, which is sent again with its script if the server does not have that."""
        try:
            return await wait(self._ask(command))
        except RemoteError as error:
            if not is_script_missing(error):
                raise
        return await wait(self._ask(with_text(command)))

    async def _take(self, plan: Plan, command: Command, undo: Undo, ask: Callable[[Any], asyncio.Future[Any]]) -> Any:
        """The reply to the one command of a call that takes something."""

        def undo_reply(reply: Any) -> Any:
            try:
                plan.send([reply])
            except StopIteration as stop:
                return undo(stop.value)
            return None

        return await self._reply(command, lambda future: taken(future, undo_reply, ask))

    async def finish(self) -> None:
        """Wait until the calls of this event loop are answered."""
        loop = asyncio.get_running_loop()
        asked: Sequence[asyncio.Future[Any]] = [one for one in tuple(self._asked) if one.get_loop() is loop]
        if asked:
            await asyncio.wait(asked)
