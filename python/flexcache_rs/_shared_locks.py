"""Locks and limiters of a `SharedCache`, for all processes of a machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flexcache_rs._arguments import whole_number
from flexcache_rs._asyncio_calls import at_once, finish_in_thread, sleep
from flexcache_rs._core import SharedHold
from flexcache_rs._lock_block import LockBlock
from flexcache_rs._seconds import seconds_in
from flexcache_rs._suggest import suggesting

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from flexcache_rs._core import SharedSegment

_SLICE = 0.05
"""Seconds after which a waiting thread handles signals and checks its timeout."""

_LONGEST = 36_525 * 86_400
"""The longest period of a limiter in seconds."""


def _end(timeout: float | timedelta | None) -> float:
    return float("inf") if timeout is None else time.monotonic() + seconds_in("timeout", timeout)


@suggesting
class SharedLock(LockBlock):
    """A lock. See `SharedCache.lock`. Only one thread or task may use an object at a time.

    >>> import asyncio
    >>> from flexcache_rs.shared import SharedCache
    >>> async def main():
    ...     async with SharedCache(None, max_bytes=1 << 20) as cache:
    ...         lock = cache.lock("job", ttl=60)
    ...         print(await lock.aacquire(timeout=0), await lock.arenew(), await lock.arelease())
    >>> asyncio.run(main())
    True True True
    """

    def __init__(
        self, cache: SharedSegment, name: object, ttl: float | timedelta, timeout: float | timedelta | None
    ) -> None:
        if not seconds_in("ttl", ttl) > 0:
            raise ValueError(f"ttl must be more than 0 seconds, not {ttl!r}")
        if timeout is not None:
            seconds_in("timeout", timeout)
        self._cache, self._name, self._ttl, self._timeout = cache, name, ttl, timeout
        self._hold = SharedHold()

    def acquire(self, timeout: float | timedelta | None = -1) -> bool:
        """Wait for the lock for `timeout` seconds.

        None means for ever. The default is the timeout of `SharedCache.lock`.

        Returns:
            True if the lock was acquired.

        Raises:
            RuntimeError: This object already holds the lock.
            TimeoutError: Another process did not release the internal lock of the cache in time.
        """
        self._refuse_twice()
        end = _end(self._timeout if timeout == -1 else timeout)
        while True:
            left = end - time.monotonic()
            if self._cache._take_lock(self._hold, self._name, self._ttl, min(max(left, 0.0), _SLICE)):
                return True
            if left <= 0:
                return False

    async def aacquire(self, timeout: float | timedelta | None = -1) -> bool:
        """The same as `acquire`. Other tasks run while it waits."""
        self._refuse_twice()
        end = _end(self._timeout if timeout == -1 else timeout)

        def take() -> bool | None:
            return self._cache._take_lock(self._hold, self._name, self._ttl, 0.0, False)

        while True:
            if await at_once(self._cache, self._name, take):
                return True
            if time.monotonic() >= end:
                return False
            await sleep(_SLICE / 10)

    def _refuse_twice(self) -> None:
        if self._hold.is_held():
            message = "this object already holds the lock"
            raise RuntimeError(message)

    def renew(self) -> bool:
        """Extend the lock to `ttl` seconds from now. Returns False if the lock was lost."""
        return self._cache._renew_lock(self._hold, self._name, self._ttl)

    async def arenew(self) -> bool:
        """The same as `renew`. Other tasks run while it waits."""

        def renew() -> bool | None:
            return self._cache._renew_lock(self._hold, self._name, self._ttl, False)

        return await at_once(self._cache, self._name, renew)

    def release(self) -> bool:
        """Release the lock.

        Returns False if it was lost or not held. A forked child does not hold the lock of its parent.

        Raises:
            TimeoutError: Another process did not release the internal lock of the cache in time. This lock stays held.
        """
        return self._cache._release_lock(self._hold, self._name)

    async def arelease(self) -> bool:
        """The same as `release`. Other tasks run while it waits. A caller that is cancelled releases the lock too."""
        released = self._cache._release_lock(self._hold, self._name, False)
        return await finish_in_thread(self.release) if released is None else released


@suggesting
class SharedLimiter:
    """A limiter. See `SharedCache.limiter`. Any number of threads may use an object.

    >>> import asyncio
    >>> from flexcache_rs.shared import SharedCache
    >>> async def main():
    ...     async with SharedCache(None, max_bytes=1 << 20) as cache:
    ...         limiter = cache.limiter("requests", limit=1, per=60)
    ...         print(await limiter.aacquire(timeout=0), await limiter.aacquire(timeout=0))
    >>> asyncio.run(main())
    True False
    """

    def __init__(self, cache: SharedSegment, name: object, limit: int, per: float | timedelta) -> None:
        whole_number("limit", limit, 1, (1 << 32) - 1)
        if not 0 < seconds_in("per", per) <= _LONGEST:
            message = f"per must be more than 0 seconds and at most {_LONGEST:,} (100 years), not {per!r}"
            raise ValueError(message)
        self._cache, self._name, self._limit, self._per = cache, name, limit, per

    def acquire(self, timeout: float | timedelta | None = None) -> bool:
        """Take one use, and wait for it for `timeout` seconds. None means for ever. Returns True if a use was taken."""
        end = _end(timeout)
        while True:
            wait = self._cache._take_use(self._name, self._limit, self._per)
            if wait == 0.0:
                return True
            if time.monotonic() + wait > end:
                return False
            time.sleep(wait)

    async def aacquire(self, timeout: float | timedelta | None = None) -> bool:
        """The same as `acquire`. Other tasks run while it waits."""
        end = _end(timeout)

        def take() -> float | None:
            return self._cache._take_use(self._name, self._limit, self._per, False)

        while True:
            wait = await at_once(self._cache, self._name, take)
            if wait == 0.0:
                return True
            if time.monotonic() + wait > end:
                return False
            await sleep(wait)

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
