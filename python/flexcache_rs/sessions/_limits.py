"""Limiters and locks. scripts/make_sync.py generates `_sync_limits.py` from this file."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import contextlib
import inspect
import math
import os
import time
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from flexcache_rs._suggest import suggesting
from flexcache_rs.sessions import _arguments as arguments
from flexcache_rs.sessions import _async_side as side
from flexcache_rs.sessions._errors import RateLimitExceeded, SessionError
from flexcache_rs.sessions._taking import unhurried
from flexcache_rs.sessions._waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexcache_rs.sessions._arguments import Ttl
    from flexcache_rs.sessions._session import Session

_MOST_IN_WINDOW = 1000
_FOREVER = 2**62
_LONGEST_AHEAD = int(292 * 365.25 * 86400) * 10**6
"""292 years in microseconds. The calls that a limiter allows at once take no longer at its rate, so that each backend
can store the time of the next one."""


def new_token() -> bytes:
    """Return a new name for a holder of a lease."""
    return os.urandom(16)


class Hit(NamedTuple):
    """The result of a limiter. It is true if the call is allowed."""

    allowed: bool
    """Whether the call is allowed."""
    remaining: int
    """The number of further calls that are allowed now."""
    retry_after: float
    """The number of seconds after which the call would be allowed: 0 if it is allowed, infinity if it never is."""

    def __bool__(self) -> bool:
        """Return whether the call is allowed, so that `if limiter.hit(...)` works."""
        return self.allowed


_tuple: Any = tuple
_new_hit: Any = _tuple.__new__


@suggesting
class Limiter:
    """A limiter of the number of calls in each period, for all users of the store.

    With `algorithm="gcra"`, it stores one number for each key. Calls are allowed at an even rate, and up to `burst`
    at once after a pause. With `"sliding_window"`, it stores the time of each call that counts. No period, wherever
    it begins, contains more than `limit` calls.

    >>> import asyncio
    >>> from flexcache_rs.sessions import connect
    >>> async def main():
    ...     async with connect("memory://") as session:
    ...         mails = session.limiter("mails", 2, period="1h")
    ...         print([(await mails.hit("ann")).allowed for _ in range(3)])
    >>> asyncio.run(main())
    [True, True, False]
    """

    def __init__(
        self, session: Session, name: str, limit: int, period: Ttl, burst: int | None, algorithm: str = "gcra"
    ) -> None:
        self._session = session
        self._name = name
        # Escape the name, so that different pairs of name and key never give the same text.
        self._prefix = name.replace("%", "%25").replace(":", "%3A") + ":"
        self._limit = arguments.whole_number("limit", limit)
        self._period = arguments.micros("period", period)
        if not self._period:
            raise ValueError(f"period must be a finite time, not {period!r}")
        self._interval = max(1, self._period // self._limit) if self._limit else 0
        most = _LONGEST_AHEAD // max(1, self._interval)
        # A limit is larger than that only from 10**15 calls on, which no program makes.
        self._burst = min(self._limit, most) if burst is None else arguments.whole_number("burst", burst)
        if self._burst > most:
            raise ValueError(f"burst must be at most {most} with this limit and period, not {burst}")
        self._is_window = arguments.one_of("algorithm", algorithm, ("gcra", "sliding_window")) == "sliding_window"
        if self._is_window and burst is not None:
            raise ValueError(f'burst must be None with algorithm="sliding_window", not {burst}')
        if self._is_window and self._limit > _MOST_IN_WINDOW:
            raise ValueError(f'limit must be at most {_MOST_IN_WINDOW} with algorithm="sliding_window", not {limit}')

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"

    async def hit(self, key: str = "", cost: int = 1) -> Hit:
        """Count a call. Only allowed calls count.

        Args:
            key: The key of the call. Each key has its own limit.
            cost: The number of calls for which it counts.

        Returns:
            A `Hit`, which is true if the call is allowed.
        """
        price = 1 if cost == 1 and type(cost) is int else arguments.whole_number("cost", cost, 1)
        if price > self._burst or not self._limit:
            return Hit(False, 0, math.inf)
        session = self._session
        name = f"{self._prefix}{key}"
        fast = session._fast
        if fast is not None and not self._is_window:
            # The same as `Hit(...)`, but faster.
            hit: Hit = _new_hit(Hit, fast.gate(name, self._interval, self._interval * self._burst, price))
            return hit
        if self._is_window:
            gate = session._codec.call("log", name, self._limit, self._period, price)
        else:
            gate = session._codec.call("gate", name, self._interval, self._interval * self._burst, price)
        allowed, retry_after, remaining = await session._run_outside(gate)
        return Hit(allowed, remaining, retry_after)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Limit the calls of a function.

        Raises:
            RateLimitExceeded: A call that is not allowed raises it. Each call raises a new exception.
        """

        @wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            hit = await self.hit()
            if not hit.allowed:
                raise RateLimitExceeded(
                    f"{self._name} is limited to {self._limit} calls in {self._period / 1e6:g} seconds", hit.retry_after
                )
            value = function(*args, **kwargs)
            if inspect.isawaitable(value):
                value = await value
            return value

        return call


@suggesting
class Lock(side.Block):
    """A lock for all users of the store. It is advisory, and it ends after its time to live.

    Tasks or threads that share one object exclude each other, as with one object each. If the holder acquires the lock
    again, its time begins again, and a single release ends it.

    >>> import asyncio
    >>> from flexcache_rs.sessions import connect
    >>> async def main():
    ...     async with connect("memory://") as session:
    ...         async with session.lock("report", ttl=60):
    ...             print(await session.set("report", "computed once"))
    >>> asyncio.run(main())
    True
    """

    def __init__(self, session: Session, name: str, ttl: Ttl) -> None:
        self._session = session
        self._name = name
        self._micros = _FOREVER if ttl is None else arguments.micros("ttl", ttl) or _FOREVER
        # The token of each holder.
        self._tokens: dict[Any, bytes] = {}
        # The same for holders that are entering a block, and may hold the lock.
        self._uncertain: dict[Any, bytes] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"

    async def acquire(self, timeout: float | None = None) -> bool:
        """Acquire the lock. Returns False if it was not free within `timeout` seconds. 0 means a single attempt."""
        limit = math.inf if timeout is None else 0.0 if timeout == 0 else arguments.seconds("timeout", timeout)
        own = self._tokens.get(side.holder())
        return await self._acquire(own or new_token(), own is None, time.monotonic() + limit)

    async def _acquire(self, token: bytes, is_new: bool, deadline: float) -> bool:
        session, name = self._session, "lock:" + self._name
        lease = session._codec.call("lease", name, token, self._micros)

        def undo(held: object) -> Any:
            return session._codec.call("release", name, token) if held is None and is_new else None

        with waiting(session._backend, name, True) as other:
            while (held := await side.take(session._backend, lease, undo)) is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                await other.arest(min(left, held))
        # The time of a holder that has ended without a release was over.
        for gone in [holder for holder in list(self._tokens) if holder is not None and holder() is None]:
            self._tokens.pop(gone, None)
        self._tokens[side.holder()] = token
        return True

    async def release(self) -> bool:
        """Release the lock. Returns False if its time was over, or if this object had not acquired it.

        A task or thread that has not acquired it releases it for one that has.
        """
        holder = side.holder()
        token = self._tokens.get(holder)
        if token is None:
            try:
                _, token = self._tokens.popitem()
            except KeyError:
                return False
        try:
            released = await self._give_back(token)
        except side.RELEASED:
            # The lock was released although the task was cancelled, or the lease ends with its time to live. Another
            # request would probably fail in the same way.
            self._tokens.pop(holder, None)
            raise
        # Only now: if a signal handler raises before, the holder can call release() again.
        self._tokens.pop(holder, None)
        return released

    async def _give_back(self, token: bytes) -> bool:
        session = self._session
        call = session._codec.call("release", "lock:" + self._name, token)
        released: bool = await side.take(session._backend, call, unhurried)
        return released

    def _before(self) -> bytes | None:
        return self._tokens.get(side.holder())

    async def _aenter(self) -> None:
        holder = side.holder()
        own = self._tokens.get(holder)
        token = self._uncertain[holder] = own or new_token()
        await self._acquire(token, own is None, math.inf)
        self._uncertain.pop(holder, None)

    async def _aleave(self, _: bool) -> None:
        await self.release()

    async def _aend(self, own: bytes | None) -> None:
        """Release the lock of a block that was interrupted while it was entered or left."""
        holder = side.holder()
        token = self._uncertain.get(holder) or self._tokens.get(holder)
        if token is not None and token != own:
            # If that fails, the lease ends with its time to live.
            with contextlib.suppress(SessionError):
                await self._give_back(token)
            self._tokens.pop(holder, None)
        self._uncertain.pop(holder, None)
