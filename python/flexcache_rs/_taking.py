"""Awaited calls that take a value out of a store. If the task is cancelled, the value is put back."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from flexcache_rs._asyncio_calls import shielded

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable

T = TypeVar("T")


class _Taking(Generic[T]):
    """One call, shared by its thread and its task."""

    def __init__(self, take: Callable[[], T], put_back: Callable[[T], object]) -> None:
        self._take, self._put_back = take, put_back
        self.taken: deque[T] = deque()
        """What was taken, until one of them puts it back."""
        self.is_abandoned = False

    def make(self) -> T:
        """Make the call, in a thread."""
        found = self._take()
        # First append, then read. The task does both in the opposite order, so at least one of them sees the other.
        self.taken.append(found)
        if self.is_abandoned:
            self.put_back()
        return found

    def put_back(self) -> None:
        """Put back the taken value, unless the other side has done so."""
        try:
            found = self.taken.pop()
        except IndexError:
            return
        try:
            self._put_back(found)
        except Exception:
            import logging

            logger = logging.getLogger("flexcache_rs")
            logger.exception("a value that a cancelled task had taken could not be put back")


async def take_in_thread(
    begin: Callable[[Callable[[], T]], Future[T]], take: Callable[[], T], put_back: Callable[[T], object]
) -> T:
    """Take a value in a thread. If the task is cancelled before it has the value, the value is put back first.

    Args:
        begin: Starts a call in a thread.
        take: Takes the value.
        put_back: Puts back the value that `take` has returned.
    """
    from asyncio import wait

    taking = _Taking(take, put_back)
    asked = begin(taking.make)
    try:
        return await shielded(asked)
    except GeneratorExit:
        # The event loop has been closed.
        taking.is_abandoned = True
        taking.put_back()
        raise
    except BaseException:
        taking.is_abandoned = True
        await wait((asked,))
        if taking.taken:
            await wait((begin(taking.put_back),))  # type: ignore[arg-type]
        raise
