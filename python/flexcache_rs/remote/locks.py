"""Locks and limiters of a `RemoteCache`, for all machines."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from flexcache_rs._arguments import plain_number, whole_number
from flexcache_rs._asyncio_calls import begin_in_thread, begin_without_loop, finish_in_thread, sleep, to_thread, wait
from flexcache_rs._core import NearCache
from flexcache_rs._lock_block import LockBlock
from flexcache_rs._seconds import seconds_in
from flexcache_rs._suggest import suggesting
from flexcache_rs.remote import scripts
from flexcache_rs.remote.errors import RemoteError, RemoteValueError
from flexcache_rs.remote.options import positive

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from flexcache_rs.remote.store import RemoteStore

_SHORTEST, _LONGEST = 0.002, 0.1
"""The shortest and the longest time in seconds between two attempts to acquire a lock."""


_ALGORITHMS = ("gcra", "sliding_window")

_MOST_IN_WINDOW = 100_000
"""The largest limit of a sliding window. The server stores the time of each use, and removes old ones in one step."""


def _end(timeout: float | timedelta | None) -> float:
    """Return the time at which a caller stops waiting.

    Raises:
        TypeError, ValueError: `timeout` is not a valid duration.
    """
    return float("inf") if timeout is None else time.monotonic() + seconds_in("timeout", timeout)


class _Attempt:
    """One attempt to acquire a lock, shared by its thread and its caller."""

    def __init__(self) -> None:
        self.token = os.urandom(16)
        self.fence = 0
        """The number of the holder, after the server has granted the lock. Otherwise 0."""
        self.is_abandoned = False
        """Whether the caller was cancelled, so that the thread must give the lock back."""


@suggesting
class RemoteLock(LockBlock):
    """A lock. See `RemoteCache.lock`. Only one thread or task may use an object at a time.

    >>> import asyncio
    >>> async def main():
    ...     async with RemoteCache("valkey://localhost:6379/0", "RemoteLock") as cache:
    ...         lock = cache.lock("job", ttl=60)
    ...         print(await lock.aacquire(timeout=0), await lock.arenew(), await lock.arelease())
    >>> asyncio.run(main())
    True True True
    """

    fence: int | None = None
    """A number that is larger for each later holder. None while the lock is not held."""

    def __init__(self, store: RemoteStore, name: Any, ttl: float, timeout: float | timedelta | None) -> None:
        _end(timeout)  # Refuse an invalid timeout at once.
        self._store, self._name, self._timeout = store, name, timeout
        self._places = store.keys.lock(name)
        self._milliseconds = max(int(ttl * 1000), 1)
        self._token: bytes | None = None
        self._process = os.getpid()

    def _ask(self, attempt: _Attempt) -> None:
        """Request the lock."""
        # First set `fence`, then read `is_abandoned`. `_atry` accesses them in the opposite order.
        (attempt.fence,) = self._store.run(scripts.LOCK, *self._places, attempt.token, self._milliseconds)
        if attempt.is_abandoned:
            self._give_back(attempt)

    def _give_back(self, attempt: _Attempt) -> None:
        """Release the lock if an attempt may have acquired it. If that fails, the lock becomes free after `ttl`."""
        with contextlib.suppress(RemoteError, RemoteValueError):
            self._store.run(scripts.UNLOCK, self._places[0], attempt.token)

    def _try(self) -> bool:
        """Request the lock. Returns whether this object acquired it."""
        attempt = _Attempt()
        try:
            self._ask(attempt)
            if attempt.fence:
                self._token, self.fence = attempt.token, attempt.fence
        except BaseException:
            # A signal handler may raise after the server has granted the lock.
            self._give_back(attempt)
            raise
        return attempt.fence != 0

    async def _atry(self) -> bool:
        """The same as `_try`. A caller that is cancelled leaves no lock behind."""
        attempt = _Attempt()
        try:
            await to_thread(self._ask, attempt)
            if attempt.fence:
                self._token, self.fence = attempt.token, attempt.fence
        except BaseException as error:
            attempt.is_abandoned = True
            if attempt.fence:
                if isinstance(error, GeneratorExit):
                    # The event loop has been closed.
                    begin_without_loop(self._give_back, attempt)
                else:
                    # Wait, so that the lock is free for others when this caller ends.
                    await wait((begin_in_thread(self._give_back, attempt),))
            raise
        return attempt.fence != 0

    def _refuse_twice(self) -> None:
        self._forget_after_fork()
        if self._token is not None:
            message = "the lock is held already by this object"
            raise RuntimeError(message)

    def _forget_after_fork(self) -> None:
        if self._process != os.getpid():
            self._token, self.fence, self._process = None, None, os.getpid()

    def acquire(self, timeout: float | timedelta | None = -1) -> bool:
        """Wait for the lock for `timeout` seconds.

        None means for ever. The default is the timeout of `RemoteCache.lock`.

        Returns:
            True if the lock was acquired.

        Raises:
            RuntimeError: This object already holds the lock.
            RemoteError: The server cannot be reached. If the command was sent, the lock may be held until `ttl` is
                over.
            RemoteValueError: Another program has replaced the number of the lock.
        """
        self._refuse_twice()
        end, pause = _end(self._timeout if timeout == -1 else timeout), _SHORTEST
        while not self._try():
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, pause))
            pause = min(pause * 2, _LONGEST)
        return True

    async def aacquire(self, timeout: float | timedelta | None = -1) -> bool:
        """The same as `acquire`. Other tasks run while it waits."""
        self._refuse_twice()
        end, pause = _end(self._timeout if timeout == -1 else timeout), _SHORTEST
        while not await self._atry():
            left = end - time.monotonic()
            if left <= 0:
                return False
            await sleep(min(left, pause))
            pause = min(pause * 2, _LONGEST)
        return True

    def renew(self) -> bool:
        """Extend the lock to `ttl` seconds from now. Returns False if the lock was lost.

        Raises:
            RemoteError: The server cannot be reached.
            RemoteValueError: Another program has replaced the lock.
        """
        self._forget_after_fork()
        if self._token is None:
            return False
        return bool(self._store.run(scripts.RENEW, self._places[0], self._token, self._milliseconds))

    async def arenew(self) -> bool:
        """The same as `renew`. Other tasks run while it waits."""
        return await to_thread(self.renew)

    def release(self) -> bool:
        """Release the lock.

        Returns False if it was lost or not held. A forked child does not hold the lock of its parent.

        Raises:
            RemoteError: The server cannot be reached. The lock becomes free when `ttl` is over.
            RemoteValueError: Another program has replaced the lock.
        """
        self._forget_after_fork()
        token = self._token
        if token is None:
            return False
        try:
            was_held = bool(self._store.run(scripts.UNLOCK, self._places[0], token))
        except (RemoteError, RemoteValueError):
            self._token = self.fence = None
            raise
        # Only after the reply of the server: if a signal handler raises before, release() can be called again.
        self._token = self.fence = None
        return was_held

    async def arelease(self) -> bool:
        """The same as `release`. Other tasks run while it waits. A caller that is cancelled releases the lock too."""
        return await finish_in_thread(self.release)


class Hit(NamedTuple):
    """The result of a limiter. It is true if the uses were taken."""

    allowed: bool
    """Whether the uses were taken."""
    remaining: int
    """The number of uses that are available now."""
    retry_after: float
    """The number of seconds after which the uses can be taken; 0 if they were taken."""

    def __bool__(self) -> bool:
        """Return whether the uses were taken, so that `if limiter.hit()` works."""
        return self.allowed


@suggesting
class RemoteLimiter:
    """A limiter. See `RemoteCache.limiter`. Any number of threads and tasks may use an object.

    >>> import asyncio
    >>> async def main():
    ...     async with RemoteCache("valkey://localhost:6379/0", "RemoteLimiter") as cache:
    ...         limiter = cache.limiter("requests", limit=1, per=60)
    ...         print(await limiter.aacquire(timeout=0), await limiter.aacquire(timeout=0))
    ...         print((await limiter.ahit()).retry_after > 0)
    >>> asyncio.run(main())
    True False
    True
    """

    def __init__(self, store: RemoteStore, name: Any, limit: int, per: float, algorithm: str) -> None:
        limit = whole_number("limit", limit)
        self._micros = int(per * 1e6)
        if algorithm == "sliding_window" and limit > _MOST_IN_WINDOW:
            message = f"limit must be at most {_MOST_IN_WINDOW:,} with 'sliding_window', not {limit}"
            raise ValueError(message)
        if not 1 <= limit <= self._micros:
            message = f"limit must be from 1 to {self._micros}, one use in a microsecond, not {limit}"
            raise ValueError(message)
        if algorithm not in _ALGORITHMS:
            message = f"algorithm must be one of {', '.join(map(repr, _ALGORITHMS))}, not {algorithm!r}"
            raise (ValueError if isinstance(algorithm, str) else TypeError)(message)  # pyright: ignore[reportUnnecessaryIsInstance]
        self._store, self._name, self._limit = store, name, limit
        self._is_window = algorithm == "sliding_window"
        self._place = store.keys.window(name) if self._is_window else store.keys.limiter(name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"

    def __reduce__(self) -> Any:
        message = (
            "a RemoteLimiter has connections and cannot be copied or pickled: make one in each process, by its cache"
        )
        raise TypeError(message)

    def hit(self, uses: int = 1) -> Hit:
        """Take uses if enough are available.

        Raises:
            TypeError: `uses` is not an int.
            ValueError: `uses` is larger than the limit.
            RemoteError: The server cannot be reached. If the command was sent, the uses may have been counted.
            RemoteValueError: Another program has replaced the state of the limiter.
        """
        if isinstance(uses, bool) or not isinstance(uses, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            message = f"uses must be an int, not {uses!r}; what is limited is the name that limiter() takes"
            raise TypeError(message)
        uses = plain_number(uses)
        if not 1 <= uses <= self._limit:
            message = f"uses must be from 1 to the limit, {self._limit}, not {uses}"
            raise ValueError(message)
        arguments: tuple[Any, ...] = self._place, self._limit, self._micros, uses
        if self._is_window:
            taken, left, wait = self._store.run(scripts.LIMIT_WINDOW, *arguments, os.urandom(8))
        else:
            taken, left, wait = self._store.run(scripts.LIMIT, *arguments)
        return Hit(bool(taken), max(int(left), 0), int(wait) / 1e6)

    async def ahit(self, uses: int = 1) -> Hit:
        """The same as `hit`, awaited."""
        return await to_thread(self.hit, uses)

    def acquire(self, timeout: float | timedelta | None = None) -> bool:
        """Take one use, and wait for it for `timeout` seconds. None means for ever. Returns True if a use was taken."""
        end = _end(timeout)
        while not (hit := self.hit()).allowed:
            if time.monotonic() + hit.retry_after > end:
                return False
            time.sleep(hit.retry_after)
        return True

    async def aacquire(self, timeout: float | timedelta | None = None) -> bool:
        """The same as `acquire`. Other tasks run while it waits."""
        end = _end(timeout)
        while not (hit := await self.ahit()).allowed:
            if time.monotonic() + hit.retry_after > end:
                return False
            await sleep(hit.retry_after)
        return True

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def __aenter__(self) -> Self:
        await self.aacquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


@suggesting
class LockCalls(NearCache):
    """The calls of a `RemoteCache` that return locks and limiters."""

    __slots__ = ()

    _store: RemoteStore

    def lock(self, name: Any, ttl: float | timedelta = 30.0, timeout: float | timedelta | None = None) -> RemoteLock:
        """Return a lock that excludes other threads, processes and machines.

        It becomes free when `ttl` is over, or when the server loses it. Its holder does not notice this. Each later
        holder has a larger `fence`. The resource that the lock protects can refuse a holder with a smaller `fence`.

        Args:
            name: The name of the lock, which is a key. The lock is independent of the entry of that key.
            ttl: The largest number of seconds for which it is held, unless `renew()` is called.
            timeout: The number of seconds for which `with` and `acquire()` wait. None means for ever.

        Raises:
            TypeError, ValueError: An argument is invalid.

        >>> with RemoteCache("valkey://localhost:6379/0", "lock") as cache:
        ...     with cache.lock("job", ttl=60) as lock:
        ...         print(lock.renew())
        True
        """
        return RemoteLock(self._store, name, positive("ttl", ttl), timeout)

    def limiter(
        self,
        name: Any,
        limit: int,
        per: float | timedelta = 1.0,
        *,
        algorithm: Literal["gcra", "sliding_window"] = "gcra",
    ) -> RemoteLimiter:
        """Return a rate limiter for all processes and machines together.

        Args:
            name: The name of the limiter, which is a key. The limiter is independent of the entry of that key.
            limit: The number of uses in each `per` seconds.
            per: A number of seconds.
            algorithm: With "gcra", uses return at an even rate, and after a pause a caller may take all of them at
                once. Within `per` seconds, there may be nearly twice as many uses as `limit`. With "sliding_window",
                there are never more than `limit` uses within any `per` seconds. The server keeps the time of each
                use, which takes about 100 bytes.

        Raises:
            TypeError, ValueError: An argument is invalid.

        >>> with RemoteCache("valkey://localhost:6379/0", "limiter") as cache:
        ...     requests = cache.limiter("requests", limit=1, per=60)
        ...     print(requests.acquire(timeout=0), requests.acquire(timeout=0))
        True False
        """
        return RemoteLimiter(self._store, name, limit, positive("per", per), algorithm)
