"""`on_unavailable="miss"`: replaces a backend that cannot be reached. Reads find nothing, and writes store nothing."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from flexcache_rs.sessions._errors import OutcomeUnknown, Unavailable

if TYPE_CHECKING:
    from flexcache_rs._core import SessionCall
    from flexcache_rs.sessions._protocol import Backend
    from flexcache_rs.sessions._taking import Undo

_OPEN_FOR = 0.05
"""For how many seconds nobody asks a backend that has failed."""


class ForgivingBackend:
    """A backend whose reads answer as if there were nothing, and whose writes store nothing, while it is unavailable.

    After a failure it is not asked for 50 ms, then by one call. Transactions, locks, limiters and calls that have no
    such answer, as `incr`, raise. So does a write that may have been made.
    """

    fast = None

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.codec = backend.codec
        self.name = backend.name
        # The first one to see that the time is over moves it on, and asks.
        self._closed_until = 0.0

    def __getattr__(self, name: str) -> Any:
        # What only some backends have. Batches must come by `run`.
        if name in ("run_many", "arun_many"):
            raise AttributeError(name)
        return getattr(self._backend, name)

    @property
    def page(self) -> int:
        """How many keys or elements are asked for at a time."""
        return self._backend.page

    def _answer(self, call: SessionCall, error: Unavailable | None) -> Any:
        """What is answered to a call that was not made. Raises if there is nothing to answer."""
        nothing = None if isinstance(error, OutcomeUnknown) else getattr(call, "nothing", None)
        answer = None if nothing is None else nothing(self.codec)
        if answer is None:
            raise error or Unavailable(f"{self.name}:// was unavailable less than {_OPEN_FOR:g} seconds ago")
        return answer[0]

    def _may_ask(self) -> bool:
        now = monotonic()
        if now < self._closed_until:
            return False
        if self._closed_until:
            # Until the answer is there, others do not ask.
            self._closed_until = now + _OPEN_FOR
        return True

    def _failed(self, error: Unavailable, call: SessionCall) -> Any:
        self._closed_until = monotonic() + _OPEN_FOR
        return self._answer(call, error)

    def run(self, call: SessionCall) -> Any:
        """Make a call."""
        if not self._may_ask():
            return self._answer(call, None)
        try:
            answer = self._backend.run(call)
        except Unavailable as error:
            return self._failed(error, call)
        self._closed_until = 0.0
        return answer

    async def arun(self, call: SessionCall, undo: Undo | None = None) -> Any:
        """Make a call. `undo` gives back what it took if the task is cancelled."""
        if not self._may_ask():
            return self._answer(call, None)
        try:
            answer = await self._backend.arun(call, undo)
        except Unavailable as error:
            return self._failed(error, call)
        self._closed_until = 0.0
        return answer

    def begin(self) -> Any:
        """Begin a transaction, which raises if the backend is unavailable."""
        return self._backend.begin()

    async def abegin(self) -> Any:
        """Begin a transaction, which raises if the backend is unavailable."""
        return await self._backend.abegin()

    def stats(self) -> dict[str, Any]:
        """Say what is known of the store."""
        return self._backend.stats()

    def close(self) -> None:
        """Close the backend."""
        self._backend.close()

    async def aclose(self) -> None:
        """Close the backend."""
        await self._backend.aclose()
