"""Recipes on a cache that processes share: locks, limits and averages."""

from __future__ import annotations

import contextvars
import functools
import logging
import math
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from flexcache_rs._arguments import check_callable
from flexcache_rs._core import DiskCache, DiskHold
from flexcache_rs._suggest import suggesting
from flexcache_rs._threads import start
from flexcache_rs.disk.aio import in_thread
from flexcache_rs.disk.checks import duration, expiry, ignored, number, whole
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.disk.memoize import args_to_key, full_name, named, refuse_callable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from flexcache_rs.disk.memoize import Memoizing, P, R_co

__all__ = [
    "Averager",
    "BoundedSemaphore",
    "Lock",
    "RLock",
    "barrier",
    "full_name",
    "memoize_stampede",
    "throttle",
]


_logger = logging.getLogger("flexcache_rs.disk")


class SharedCache(Protocol):
    """The methods of a cache that recipes use."""

    def transact(self, retry: bool) -> AbstractContextManager[None]:
        """Begin a transaction of the calling thread."""
        ...

    def get(self, key: Any, default: Any = ..., *, expire_time: bool = ..., retry: bool = ...) -> Any:
        """Return the value of a key."""
        ...

    def set(
        self, key: Any, value: Any, *, expire: float | timedelta | None = ..., tag: Any = ..., retry: bool = ...
    ) -> bool:
        """Store or replace a value."""
        ...

    def add(
        self, key: Any, value: Any, *, expire: float | timedelta | None = ..., tag: Any = ..., retry: bool = ...
    ) -> bool:
        """Store only if absent."""
        ...

    def pop(self, key: Any, default: Any = ..., *, retry: bool = ...) -> Any:
        """Remove a key and return its value."""
        ...

    def delete(self, key: Any, retry: bool = ...) -> bool:
        """Delete a key."""
        ...

    def __contains__(self, key: Any, /) -> bool: ...


@suggesting
class _Recipe:
    """The common base of recipes: a key of a cache, with expiry and tag."""

    def __init__(self, cache: SharedCache, key: Any, expire: float | timedelta | None = None, tag: Any = None) -> None:
        self._cache = cache
        self._key = key
        self._expire = expiry(expire)
        self._tag = tag

    def _store(self, value: Any) -> None:
        self._cache.set(self._key, value, expire=self._expire, tag=self._tag, retry=True)


@suggesting
class Averager(_Recipe):
    """An average to which processes add numbers.

    Args:
        cache: The cache that stores it.
        key: The key under which it is stored.
        expire: The time to live in seconds after the last `add`. None means for ever.
        tag: A tag for `evict`.

    >>> from flexcache_rs.disk import Averager, Cache
    >>> latency = Averager(Cache(), "latency")
    >>> for seconds in 0.080, 0.120: latency.add(seconds)
    >>> latency.get(), latency.pop(), latency.get()
    (0.1, 0.1, None)
    """

    def add(self, value: float) -> None:
        """Add a number."""
        added = number("value", value)
        with self._cache.transact(retry=True):
            total, count = self._cache.get(self._key, default=(0.0, 0))
            self._store((total + added, count + 1))

    def get(self) -> float | None:
        """Return the average of the added numbers, or None if there are none."""
        total, count = self._cache.get(self._key, default=(0.0, 0), retry=True)
        return total / count if count else None

    def pop(self) -> float | None:
        """Return the average of the added numbers, and start again."""
        total, count = self._cache.pop(self._key, default=(0.0, 0), retry=True)
        return total / count if count else None


@suggesting
class _Hold(DiskHold):
    """The common base of locks and semaphores. Acquiring and releasing are one native call each."""

    _kind = "lock"

    def __init__(
        self, cache: SharedCache, key: Any, expire: float | timedelta | None = None, tag: Any = None, *, value: int = 1
    ) -> None:
        # None means for ever, so infinity is not accepted.
        expire = expiry(expire, above=0)
        shard = getattr(cache, "_flexcache_shard", None)
        shard = cache if shard is None else shard(key)
        if not isinstance(shard, DiskCache):
            raise TypeError(f"cache must be a Cache or a FanoutCache, not {type(cache).__name__}")
        self._cache = cache
        self._key = key
        self._expire = expire
        self._tag = tag
        self._value = value
        self._make(shard, key, expire, tag, self._kind, value)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("_cache", "_key", "_expire", "_tag", "_value")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        value = {"value": state["_value"]} if self._kind == "places" else {}
        rest = {"expire": state["_expire"], "tag": state["_tag"]}
        self.__init__(state["_cache"], state["_key"], **rest, **value)  # type: ignore[misc]


class Lock(_Hold):
    """A lock for threads and processes.

    Args:
        cache: The cache that stores it.
        key: The key under which it is stored.
        expire: The number of seconds after which the lock becomes free, even if its holder still holds it. None means
            never.
        tag: A tag for `evict`.

    Raises:
        TypeError: `expire` is no number, or `cache` is neither a `Cache` nor a `FanoutCache`.
        ValueError: `expire` is not more than 0.

    >>> from flexcache_rs.disk import Cache, Lock
    >>> lock = Lock(Cache(), "report", expire=60)
    >>> with lock:
    ...     lock.locked()
    True
    """

    def acquire(self) -> None:
        """Acquire the lock, and wait until it is free."""
        self._take()

    def release(self) -> None:
        """Release the lock.

        If this object acquired the lock, this frees the lock only while this object still holds it. After `expire`
        seconds, another holder may have acquired it, and keeps it. An object that never acquired the lock frees it,
        whichever holder has it.
        """
        self._give_back()

    def locked(self) -> bool:
        """Return whether the lock is held."""
        return self._key in self._cache


class RLock(_Hold):
    """A lock that the thread that holds it may acquire again. The arguments are those of `Lock`.

    >>> from flexcache_rs.disk import Cache, RLock
    >>> lock = RLock(Cache(), "report")
    >>> with lock, lock:
    ...     pass
    >>> lock.release()
    Traceback (most recent call last):
    AssertionError: cannot release un-acquired lock
    """

    _kind = "reentrant"

    def acquire(self) -> None:
        """Acquire the lock, and wait until it is free. A thread that holds it acquires it once more."""
        self._take()

    def release(self) -> None:
        """Release the lock, once.

        Raises:
            AssertionError: This thread does not hold it.
        """
        self._give_back()


@suggesting
class BoundedSemaphore(_Hold):
    """A semaphore with a limited number of places.

    Args:
        cache: The cache that stores it.
        key: The key under which it is stored.
        value: The number of places.
        expire: The number of seconds after the last change after which all places become free. None means never. A
            later release gives nothing back. This is only detected if python-diskcache does not use the same key.
            With a `tag`, the semaphore also stores an entry `(key, "held since")` while places are taken.
        tag: A tag for `evict`.

    Raises:
        TypeError: `value` or `expire` is no number.
        ValueError: `value` is less than 1, or `expire` is not more than 0.

    >>> from flexcache_rs.disk import BoundedSemaphore, Cache
    >>> places = BoundedSemaphore(Cache(), "places", value=2)
    >>> with places, places:
    ...     pass
    """

    _kind = "places"

    def __init__(
        self,
        cache: SharedCache,
        key: Any,
        value: int = 1,
        expire: float | timedelta | None = None,
        tag: Any = None,
    ) -> None:
        super().__init__(cache, key, expire, tag, value=whole("value", value, least=1, most=2**62))

    def acquire(self) -> None:
        """Take a place, and wait until one is free."""
        self._take()

    def release(self) -> None:
        """Give a place back.

        Raises:
            AssertionError: All places are free, or they have been free since this place was taken.
        """
        self._give_back()


class _Bucket(_Recipe):
    """A token bucket. The cache stores (time of the last look in seconds, tokens at that time)."""

    def fill(self, count: float, rate: float, clock: Callable[[], float]) -> None:
        self._count = count
        self._rate = rate
        self._clock = clock
        self._store((clock(), count))

    def take(self) -> float:
        """Take a token. If there is none, return the seconds until the next one."""
        # Call the user's clock before the transaction, because other writers wait during it.
        now = self._clock()
        with self._cache.transact(retry=True):
            last, tokens = self._cache.get(self._key, default=(now, self._count))
            if now < last:
                # The clock was set back. Keep the tokens, and count from the new time.
                self._store((now, tokens))
                last = now
            tokens = min(tokens + (now - last) * self._rate, self._count)
            if tokens < 1:
                return float((1 - tokens) / self._rate)
            self._store((now, tokens - 1))
            return 0.0


def _refuse_unfinished(decorator: str, function: Callable[..., object]) -> None:
    """Refuse a function whose calls return before its body has run."""
    import inspect  # Not imported before it is used.

    if inspect.iscoroutinefunction(function):
        kind = "coroutine"
    elif inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        kind = "generator"
    else:
        return
    raise TypeError(f"{decorator} must not decorate a {kind} function, whose calls return before its body runs")


@suggesting
def throttle(
    cache: SharedCache,
    count: float,
    seconds: float | timedelta,
    name: str | None = None,
    expire: float | timedelta | None = None,
    tag: Any = None,
    time_func: Callable[[], float] = time.time,
    sleep_func: Callable[[float], object] = time.sleep,
) -> Callable[[Callable[P, R_co]], Callable[P, R_co]]:
    """Return a decorator that limits how often a function runs within a number of seconds, over all processes.

    A coroutine function waits without blocking its event loop.

    Args:
        cache: The cache that stores the count.
        count: The number of calls.
        seconds: The number of seconds for `count` calls.
        name: The key. None means the function's module and qualified name.
        expire: The number of seconds for which the count is kept. None means for ever.
        tag: A tag for `evict`.
        time_func: A function that returns the time in seconds.
        sleep_func: A function that waits for a number of seconds.

    Raises:
        TypeError: `count`, `seconds` or `expire` is no number.
        ValueError: `count` is less than 1, `seconds` is not more than 0, or one of them is NaN.

    >>> from flexcache_rs.disk import Cache, throttle
    >>> @throttle(Cache(), count=2, seconds=1)
    ... def ask():
    ...     return "answer"
    >>> ask(), ask()
    ('answer', 'answer')
    """
    count = number("count", count, least=1)
    seconds = duration("seconds", seconds, above=0)
    expiry(expire)

    def decorate(function: Callable[P, R_co]) -> Callable[P, R_co]:
        bucket = _Bucket(cache, named(name, function), expire, tag)
        bucket.fill(count, count / seconds, time_func)

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R_co:
            while delay := bucket.take():
                sleep_func(delay)
            return function(*args, **kwargs)

        @functools.wraps(function)
        async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
            from asyncio import sleep  # Not imported before it is used.

            while delay := await in_thread(bucket.take):
                if sleep_func is time.sleep:
                    await sleep(delay)
                elif inspect.isawaitable(paused := await in_thread(sleep_func, delay)):
                    await paused
            return await function(*args, **kwargs)  # type: ignore[misc]

        import inspect  # Not imported before it is used.

        return awaited if inspect.iscoroutinefunction(function) else wrapper  # type: ignore[return-value]

    return decorate


@suggesting
def barrier(
    cache: SharedCache,
    lock_factory: Callable[..., Any],
    name: str | None = None,
    expire: float | timedelta | None = None,
    tag: Any = None,
) -> Callable[[Callable[P, R_co]], Callable[P, R_co]]:
    """Return a decorator that allows one call of a function at a time, over all processes.

    Args:
        cache: The cache that stores the lock.
        lock_factory: `Lock`, `RLock` or `BoundedSemaphore`.
        name: The key. None means the function's module and qualified name.
        expire: As for `Lock`.
        tag: A tag for `evict`.

    Raises:
        TypeError: The function is a coroutine function or a generator function, whose calls return before its body
            runs.

    >>> from flexcache_rs.disk import Cache, Lock, barrier
    >>> cache = Cache()
    >>> @cache.memoize()
    ... @barrier(cache, Lock)
    ... def work():
    ...     return "done"
    >>> work()
    'done'
    """
    check_callable("lock_factory", lock_factory)

    def decorate(function: Callable[P, R_co]) -> Callable[P, R_co]:
        _refuse_unfinished("barrier", function)
        lock = lock_factory(cache, named(name, function), expire=expire, tag=tag)

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R_co:
            with lock:
                return function(*args, **kwargs)

        return wrapper

    return decorate


def _keep(store: Callable[..., object], key: Any, value: Any, **how: Any) -> None:
    """Store a result in a cache of another library."""
    store(key, value, **how)


def _start(task: Callable[[], object], name: str) -> None:
    """Run a task in a new thread, if one can be started."""
    try:
        start(threading.Thread(target=task, daemon=True))
    except RuntimeError:
        # The found value is still good, so only log it.
        _logger.warning("no thread could be started to compute %s early", name, exc_info=True)


@suggesting
def memoize_stampede(
    cache: SharedCache,
    expire: float | timedelta,
    name: str | None = None,
    typed: bool = False,
    tag: Any = None,
    beta: float = 1,
    ignore: Collection[int | str] = (),
) -> Memoizing:
    """Return a decorator that memoizes a function and refreshes results in a thread before they expire.

    Not all callers then miss at the same time. The probability of a refresh rises as expiry nears and with the time
    of the computation ("Optimal Probabilistic Cache Stampede Prevention", Vattani, Chierichetti, Lowenstein, 2015).

    Args:
        cache: The cache that stores the results.
        expire: The time to live of the results in seconds.
        name: The name of the function in the keys. None means its module and qualified name.
        typed: Whether 1 and 1.0 are different arguments.
        tag: A tag for `evict`.
        beta: With more than 1 refreshes are earlier, and with less than 1 later.
        ignore: The positions and names of arguments that are not part of the key.

    Raises:
        TypeError: `name` is callable, `expire` or `beta` is no number, `ignore` is a str, or the function is a
            coroutine function or a generator function.
        ValueError: `beta` is less than 0, or a number is NaN.

    >>> from flexcache_rs.disk import Cache, memoize_stampede
    >>> @memoize_stampede(Cache(), expire=60)
    ... def square(number):
    ...     return number**2
    >>> square(4), square(4)
    (16, 16)
    """
    refuse_callable(name)
    expiry(expire)
    beta = number("beta", beta, least=0)
    ignore = ignored(ignore)
    keep: Callable[..., None] = getattr(cache, "_flexcache_keep", _keep)

    def decorate(function: Callable[P, R_co]) -> Any:
        _refuse_unfinished("memoize_stampede", function)
        base = (named(name, function),)

        def compute(key: tuple[Any, ...], *args: P.args, **kwargs: P.kwargs) -> R_co:
            start = time.time()
            result = function(*args, **kwargs)
            keep(cache.set, key, (result, time.time() - start), expire=expire, tag=tag, retry=True)
            return result

        def compute_early(key: tuple[Any, ...], took: float, *args: P.args, **kwargs: P.kwargs) -> None:
            # Only one refresh runs at a time. The marker expires after the time that a computation takes.
            if not getattr(cache, "read_only", False) and cache.add((*key, ENOVAL), None, expire=took, retry=True):
                task = functools.partial(contextvars.copy_context().run, compute, key, *args, **kwargs)
                _start(task, base[0])

        @functools.wraps(function)
        def of_function(*args: P.args, **kwargs: P.kwargs) -> R_co:
            key = wrapper.__cache_key__(*args, **kwargs)
            found, expires = cache.get(key, default=ENOVAL, expire_time=True, retry=True)
            if found is ENOVAL:
                return compute(key, *args, **kwargs)
            result, took = found
            if expires is not None:
                # 1.0 - random() is never 0, whose logarithm is undefined.
                lead = -took * beta * math.log(1.0 - random.random())
                if lead >= expires - time.time():
                    compute_early(key, took, *args, **kwargs)
            return result  # type: ignore[no-any-return]

        wrapper: Any = of_function

        def cache_key(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
            return args_to_key(base, args, kwargs, typed, ignore)

        wrapper.__cache_key__ = cache_key
        return wrapper

    return decorate  # type: ignore[return-value]
