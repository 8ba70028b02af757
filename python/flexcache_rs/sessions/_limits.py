"""Limiters and locks. `_sync_limits.py` is made of this file: see scripts/make_sync.py."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import math
import os
import time
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from flexcache_rs._suggest import suggesting
from flexcache_rs.sessions import _arguments as arguments
from flexcache_rs.sessions import _async_side as side
from flexcache_rs.sessions._errors import RateLimitExceeded, TimedOut, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from flexcache_rs.sessions._arguments import Ttl
    from flexcache_rs.sessions._session import Session

_LONGEST_PAUSE = 0.05
_LONGEST_LOG = 1000


def new_token() -> bytes:
    """Return what names one holder of a lease."""
    return os.urandom(16)


class Hit(NamedTuple):
    """What a limiter says of a call. It is true where the call may go on."""

    allowed: bool
    """Whether the call may go on."""
    remaining: int
    """How many more may go on at once now."""
    retry_after: float
    """After how many seconds the call would be let through; 0 if it is, infinity if it never will."""

    def __bool__(self) -> bool:
        """Whether the call may go on, so that `if limiter.hit(...)` means what it says."""
        return self.allowed


@suggesting
class Limiter:
    """Lets so many calls through in each period, for all who use the store.

    With `algorithm="gcra"` it keeps one number for each key: calls are let through at an even rate, and up to `burst`
    at once after a pause. With `"log"` it keeps the time of each call that counts: in no period, wherever it begins,
    are more than `limit` let through.
    """

    def __init__(
        self, session: Session, name: str, limit: int, period: Ttl, burst: int | None, algorithm: str = "gcra"
    ) -> None:
        self._session = session
        self._name = name
        self._limit = arguments.whole_number("limit", limit)
        self._burst = self._limit if burst is None else arguments.whole_number("burst", burst)
        self._period = arguments.micros("period", period)
        if not self._period:
            raise ValueError("period must end")
        self._interval = max(1, self._period // self._limit) if self._limit else 0
        self._is_log = arguments.one_of("algorithm", algorithm, ("gcra", "log")) == "log"
        if self._is_log and not getattr(session._backend, "has_log", False):
            raise UnsupportedError(f'{session._backend.name}:// has no limiters with algorithm="log"; "gcra" is there')
        if self._is_log and burst is not None:
            raise ValueError('burst is for algorithm="gcra"')
        if self._is_log and self._limit > _LONGEST_LOG:
            raise ValueError(f'limit must be at most {_LONGEST_LOG} with algorithm="log", not {limit}')

    async def hit(self, key: str = "", cost: int = 1) -> Hit:
        """Count a call. Only calls that are let through count.

        Args:
            key: Whose call it is: each key has a limit of its own.
            cost: For how many calls it counts.
        """
        price = arguments.whole_number("cost", cost, 1)
        if price > self._burst or not self._limit:
            return Hit(False, 0, math.inf)
        session = self._session
        name = f"{self._name}:{key}"
        if self._is_log:
            gate = session._codec.call("log", name, self._limit, self._period, price)
        else:
            gate = session._codec.call("gate", name, self._interval, self._interval * self._burst, price)
        allowed, retry_after, remaining = await session._run_outside(gate)
        return Hit(allowed, remaining, retry_after)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Limit the calls of a function.

        Raises:
            RateLimitExceeded: By a call that is not let through. Each has an exception of its own.
        """

        @wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            hit = await self.hit()
            if not hit.allowed:
                raise RateLimitExceeded(
                    f"{self._name} is limited to {self._limit} calls in {self._period / 1e6:g} seconds", hit.retry_after
                )
            return await function(*args, **kwargs)

        return call


@suggesting
class Lock:
    """A lock that all who use the store share. It is advisory, and ends after its time to live."""

    def __init__(self, session: Session, name: str, ttl: Ttl) -> None:
        self._session = session
        self._name = name
        self._micros = arguments.micros("ttl", ttl) or 2**62
        self._token = new_token()

    async def acquire(self, timeout: float | None = None) -> bool:
        """Acquire the lock. Returns False if others had it for `timeout` seconds; 0 for a single try."""
        limit = math.inf if timeout is None else 0.0 if timeout == 0 else arguments.seconds("timeout", timeout)
        deadline, pause = time.monotonic() + limit, 0.001
        session = self._session
        while True:
            lease = session._codec.call("lease", "lock:" + self._name, self._token, self._micros)
            if await session._run_outside(lease) is None:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            await side.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def release(self) -> bool:
        """Release the lock. Returns False if its time was over."""
        session = self._session
        released: bool = await session._run_outside(session._codec.call("release", "lock:" + self._name, self._token))
        return released

    async def __aenter__(self) -> Self:
        if not await self.acquire():
            raise TimedOut(f"the lock {self._name!r} was not acquired")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.release()
