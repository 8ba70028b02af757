"""Awaited calls that take an element, a job or a lease. If the task is cancelled, it is given back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Generator

    from typing_extensions import Self

Undo: TypeAlias = Callable[[Any], Any]
"""Of what a call has answered: the call that gives back what it took, or None if it took nothing."""


def unhurried(_: object) -> None:
    """Undo nothing: for a call that gives back. It is made however often its task is cancelled meanwhile."""


class _Unhurried:
    """Waits for a future as awaiting it does, but a task that is cancelled meanwhile is told only when it is done.

    A shield would cost another turn of the event loop.
    """

    def __init__(self, future: asyncio.Future[Any]) -> None:
        # What a task asks of what it waits for.
        self._asyncio_future_blocking = False
        self._future = future
        self.add_done_callback, self.get_loop = future.add_done_callback, future.get_loop

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002
        """Refuse: the task remembers that it was cancelled."""
        return False

    def __await__(self) -> Generator[Self, None, Any]:
        if not self._future.done():
            self._asyncio_future_blocking = True
            yield self
        return self._future.result()


async def _answer(future: asyncio.Future[Any]) -> Any:
    """What a call answers, however often the task is cancelled meanwhile; None if it fails."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait((future,))
    return None if future.cancelled() or future.exception() is not None else future.result()


async def taken(asked: asyncio.Future[Any], undo: Undo | None, ask: Callable[[Any], asyncio.Future[Any]]) -> Any:
    """Return the answer to a call that may take something.

    If the task is cancelled, that goes on once the call is answered, and what it took is given back.

    Args:
        asked: The answer to the call. It must be no task: the end of an event loop cancels these.
        undo: What gives back; None for a call that takes nothing.
        ask: Makes a call.

    Raises:
        CancelledError: The task was cancelled. Nothing is lost, unless the store fails meanwhile.
    """
    if undo is None:
        return await asked
    try:
        return await _Unhurried(asked)
    except asyncio.CancelledError:
        found = await _answer(asked)
        # A session that others close meanwhile takes nothing back.
        with contextlib.suppress(Exception):
            back = undo(found)
            if back is not None:
                await _answer(ask(back))
        raise
