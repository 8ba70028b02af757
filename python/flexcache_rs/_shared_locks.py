"""Locks and limiters of a `SharedCache`, for all processes of a machine."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from flexcache_rs._asyncio_calls import sleep
from flexcache_rs._seconds import seconds_in
from flexcache_rs._suggest import suggesting

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from flexcache_rs._core import SharedSegment, SharedToken

_SLICE = 0.05
"""Seconds after which a waiting thread looks at signals and at its own time."""

_LONGEST = 36_525 * 86_400
"""Seconds that a limiter's period has at most."""


def _end(timeout: float | timedelta | None) -> float:
    return float("inf") if timeout is None else time.monotonic() + seconds_in("timeout", timeout)


@suggesting
class SharedLock:
    """A lock. See `SharedCache.lock`. Only one thread or task may use an object at a time."""

    def __init__(
        self, cache: SharedSegment, name: object, ttl: float | timedelta, timeout: float | timedelta | None
    ) -> None:
        if not seconds_in("ttl", ttl) > 0:
            raise ValueError(f"ttl must be more than 0 seconds, not {ttl!r}")
        if timeout is not None:
            seconds_in("timeout", timeout)
        self._cache, self._name, self._ttl, self._timeout = cache, name, ttl, timeout
        self._token: SharedToken | None = None
        self._process = os.getpid()

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
            self._token = self._cache._take_lock(self._name, self._ttl, min(max(left, 0.0), _SLICE))
            if self._token is not None or left <= 0:
                return self._token is not None

    async def aacquire(self, timeout: float | timedelta | None = -1) -> bool:
        """The same as `acquire`. Other tasks run while it waits."""
        self._refuse_twice()
        end = _end(self._timeout if timeout == -1 else timeout)
        while True:
            self._token = self._cache._take_lock(self._name, self._ttl, 0.0)
            if self._token is not None or time.monotonic() >= end:
                return self._token is not None
            await sleep(_SLICE / 10)

    def _refuse_twice(self) -> None:
        self._forget_after_fork()
        if self._token is not None:
            message = "this object already holds the lock"
            raise RuntimeError(message)

    def _forget_after_fork(self) -> None:
        if self._process != os.getpid():
            self._token, self._process = None, os.getpid()

    def renew(self) -> bool:
        """Extend the lock to `ttl` seconds from now. Returns False if the lock was lost."""
        self._forget_after_fork()
        return self._token is not None and self._cache._renew_lock(self._name, self._token, self._ttl)

    def release(self) -> bool:
        """Release the lock.

        Returns False if it was lost or not held. A forked child does not hold the lock of its parent.
        """
        self._forget_after_fork()
        token, self._token = self._token, None
        return token is not None and self._cache._release_lock(self._name, token)

    def __enter__(self) -> Self:
        if not self.acquire():
            message = f"the lock of {self._name!r} was not free within {self._timeout} seconds"
            raise TimeoutError(message)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        if not await self.aacquire():
            message = f"the lock of {self._name!r} was not free within {self._timeout} seconds"
            raise TimeoutError(message)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


@suggesting
class SharedLimiter:
    """A limiter. See `SharedCache.limiter`. Any number of threads may use an object."""

    def __init__(self, cache: SharedSegment, name: object, limit: int, per: float | timedelta) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            message = f"limit must be an int, not {type(limit).__name__}"
            raise TypeError(message)
        if not 1 <= limit < 1 << 32:
            message = f"limit must be from 1 to 2**32 - 1, not {limit}"
            raise ValueError(message)
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
        while True:
            wait = self._cache._take_use(self._name, self._limit, self._per)
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
