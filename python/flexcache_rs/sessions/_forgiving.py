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
"""The seconds for which no call is made to a backend that has failed."""


class ForgivingBackend:
    """A wrapper of a backend. While the backend is unavailable, reads find nothing and writes store nothing.

    After a failure no call is made for 50 ms, and then a single one as a test. Transactions, locks, limiters and calls
    without a neutral result, such as `incr`, raise. So does a write that may have taken place.
    """

    fast = None

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.codec = backend.codec
        self.name = backend.name
        # The first call after this time moves it on, and tests the backend.
        self._closed_until = 0.0

    def __getattr__(self, name: str) -> Any:
        # Pass optional attributes of backends on, except batches: each of their calls must go through `run`.
        if name in ("run_many", "arun_many"):
            raise AttributeError(name)
        return getattr(self._backend, name)

    @property
    def page(self) -> int:
        """The number of keys or elements per page."""
        return self._backend.page

    def _answer(self, call: SessionCall, error: Unavailable | None) -> Any:
        """Return the neutral result of a call that was not made. Raises the error if there is none."""
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
            # Other calls are not made until this one has its reply.
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
        """Make a call. If the task is cancelled, `undo` gives back what the call took."""
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
        """Return information about the store."""
        return self._backend.stats()

    def close(self) -> None:
        """Close the backend."""
        self._backend.close()

    async def aclose(self) -> None:
        """Close the backend."""
        await self._backend.aclose()
