"""Awaited calls to a Valkey or Redis server, which need no thread: each event loop reads a connection of its own."""

# pyright: basic

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from flexcache_rs.remote.client import Client
from flexcache_rs.remote.direct import DirectClient, why_not
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError
from flexcache_rs.remote.failures import failed
from flexcache_rs.remote.given import Given
from flexcache_rs.remote.replies import is_unexpected
from flexcache_rs.sessions._errors import TimedOut, Unavailable
from flexcache_rs.sessions._redis_scripts import with_text
from flexcache_rs.sessions._taking import taken, unhurried

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexcache_rs.sessions._cells import Call
    from flexcache_rs.sessions._redis import Command, Plan, Plans
    from flexcache_rs.sessions._taking import Undo

    _Ask = Callable[[None, Command], asyncio.Future[Any]]
    """Sends a command, and returns the future of its reply."""

    _Wait = Callable[[asyncio.Future[Any]], Awaitable[Any]]
    _Elsewhere = Callable[[Any], asyncio.Future[Any]]


class _TellsUnsent(Client):
    """A client whose connections report commands that were not sent."""

    @staticmethod
    def failed(kinds: Any, kind: str, text: str) -> Exception:
        """Return the exception for a command without a reply. If the command was not sent, nothing has happened."""
        if kind == "unsent_timeout":
            return TimedOut(text)
        return Unavailable(text) if kind == "unsent" else failed(kinds, kind, text)


class _DirectClient(_TellsUnsent, DirectClient):
    """The same for a client whose threads share one native connection."""


def client_of(url: str, timeout: float, name: str) -> Client:
    """Return the client for a URL. Its threads share one connection unless the URL needs more, such as TLS."""
    given = Given(url)
    return (_TellsUnsent if why_not(given) else _DirectClient)(given, timeout, name)


def is_script_missing(reply: Any) -> bool:
    """Whether a command was refused because the server does not have its script."""
    return isinstance(reply, Exception) and type(reply.__cause__).__name__ == "NoScriptError"


def _is_broken(error: Exception) -> bool:
    """Whether there was no reply because the connection failed."""
    if isinstance(error, TimedOut):
        return False
    return isinstance(error, (RemoteConnectionError, Unavailable)) or is_unexpected(error)


class AwaitedLane:
    """Awaited calls, for any number of event loops.

    Args:
        plans: The plans of calls.
        failed: Converts an error of the client to one of sessions. It is told whether a write may have taken place.
    """

    def __init__(self, plans: Plans, failed: Callable[[Exception, bool], Exception]) -> None:
        self._plans, self._failed = plans, failed

    async def run(self, call: Call, ask: _Ask, undo: Undo | None, elsewhere: _Elsewhere) -> Any:
        """Make a call. If the connection breaks, a call that only reads is made by `elsewhere`.

        Args:
            call: The call.
            ask: The connection of this event loop.
            undo: Gives back what the call took if the task is cancelled. None for a call that may be cancelled itself.
            elsewhere: Makes a call without the connection.
        """
        try:
            plain = self._plans.plain(call) if undo is None else None
            if plain is not None:
                try:
                    return self._plans.answer(call, await self._reply(ask, plain))
                except RemoteError as error:
                    if isinstance(error, (RemoteConnectionError, RemoteTimeoutError)) or is_unexpected(error):
                        raise
            return await self._follow(call, ask, undo, elsewhere)
        except (RemoteError, Unavailable) as error:
            if call.writes or not _is_broken(error):
                raise self._failed(error, call.writes) from error
        return await elsewhere(call)

    async def _follow(self, call: Call, ask: _Ask, undo: Undo | None, elsewhere: _Elsewhere) -> Any:
        plan = self._plans.plan(call)
        try:
            commands = next(plan)
            while True:
                if undo is not None:
                    replies = [await self._take(call, plan, commands[0], ask, undo, elsewhere)]
                elif len(commands) == 1:
                    replies = [await self._scripted(ask, commands[0])]
                else:
                    replies = await asyncio.gather(*(self._scripted(ask, command) for command in commands))
                commands = plan.send(replies)
        except StopIteration as stop:
            return stop.value

    async def _take(
        self, call: Call, plan: Plan, command: Command, ask: _Ask, undo: Undo, elsewhere: _Elsewhere
    ) -> Any:
        """Return the reply to the single command of a call that must not be lost."""

        def wait(future: asyncio.Future[Any]) -> Awaitable[Any]:
            def undo_reply(reply: Any) -> Any:
                if reply is None:
                    # There is none, so it is unknown whether something was taken.
                    was_not_made = not future.cancelled() and is_script_missing(future.exception())
                    return call if was_not_made and undo is unhurried else undo(None)
                try:
                    plan.send([reply])
                except StopIteration as stop:
                    return undo(stop.value)
                return None

            return taken(future, undo_reply, elsewhere)

        return await self._scripted(ask, command, wait)

    async def _scripted(self, ask: _Ask, command: Command, wait: _Wait | None = None) -> Any:
        """Return the reply to a command. If the server lacks its script, send the command again with the script."""
        try:
            return await self._reply(ask, command, wait)
        except RemoteError as error:
            if not is_script_missing(error):
                raise
        return await self._reply(ask, with_text(command), wait)

    async def _reply(self, ask: _Ask, command: Command, wait: _Wait | None = None) -> Any:
        future = ask(None, command)
        return await (future if wait is None else wait(future))
