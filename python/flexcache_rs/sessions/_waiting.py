"""Waiting for other calls: for an element that they store under a key, or for a lease that they release."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from typing_extensions import Self

_SHORTEST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05


class Waiting(Protocol):
    """The waiting of one call, which looks at its key between two rests."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def rest(self, most: float) -> None: ...
    async def arest(self, most: float) -> None: ...


class Pauses:
    """Waits by looking again. Each pause is twice as long as the one before, from 1 ms up to 50 ms by default."""

    def __init__(self, shortest: float = _SHORTEST_PAUSE, longest: float = _LONGEST_PAUSE) -> None:
        self._pause, self._longest = shortest, longest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def next(self) -> float:
        """How long to wait until the next look."""
        pause, self._pause = self._pause, min(self._pause * 2, self._longest)
        return pause

    def rest(self, most: float) -> None:
        """Wait until it is worth another look, and at most so many seconds."""
        time.sleep(min(self.next(), most))

    async def arest(self, most: float) -> None:
        """Wait until it is worth another look, and at most so many seconds."""
        await asyncio.sleep(min(self.next(), most))


def waiting(backend: Any, name: str, is_lease: bool) -> Waiting:
    """The waiting of a call for an element of a key, or for a lease: by what the backend says, if it says anything."""
    made: Waiting = backend.waiting(name, is_lease) if hasattr(backend, "waiting") else Pauses()
    return made
