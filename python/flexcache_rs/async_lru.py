"""async-lru's `alru_cache` on FlexCache.

`from flexcache_rs.async_lru import alru_cache` is the only change to a program. docs/async_lru.md lists the
differences. `flexcache_rs.memoize` has more features.

Types are in the stub: `typing` takes longer to import than all of this.
"""

import asyncio
import functools
import inspect
import random
import warnings

from flexcache_rs import _core
from flexcache_rs._suggest import suggesting
from flexcache_rs._wrap import mark_as_coroutine_function

__all__ = ("AlruCacheLoopResetWarning", "alru_cache")

__version__ = "2.4.0"

_MAXSIZE = 128


class AlruCacheLoopResetWarning(UserWarning):
    """Another event loop uses the function, and its results were forgotten. Issued once for each function."""


class _CacheItem:
    """A call whose result is kept, or is being computed."""

    __slots__ = ("later_call", "task", "waiters")

    def __init__(self, task, later_call=None, waiters=0):
        # `later_call` is always None, because the cache itself expires entries.
        self.task, self.later_call, self.waiters = task, later_call, waiters


class _Calls:
    """The common base of memoized functions and bound methods.

    Instances get the attributes of the wrapped function. Our attributes which async-lru does not have are therefore
    called `_alru_...`.
    """

    def cache_contains(self, /, *args, **kwargs):
        """Return whether there is a result or a computation of a call. Does not count as a hit or a use."""
        owner, first = self._alru_owner()
        return owner._alru_contains(owner._alru_key(first + args, kwargs))

    def cache_invalidate(self, /, *args, **kwargs):
        """Forget the result of a call. Returns True if there was one."""
        owner, first = self._alru_owner()
        return owner._alru_invalidate(owner._alru_key(first + args, kwargs))

    def cache_clear(self):
        """Forget all results and reset the statistics."""
        self._alru_owner()[0]._alru_clear()

    def cache_info(self):
        """Return hits, misses, and the largest and the current number of results."""
        return self._alru_owner()[0]._alru_info()

    def cache_parameters(self):
        """Return the parameters of the cache, the number of running computations, and whether it is closed."""
        return self._alru_owner()[0]._alru_parameters()


class _LRUCacheWrapper(_Calls):
    """A coroutine function that alru_cache() has wrapped."""

    def __init__(self, function, maxsize, typed, ttl, jitter, key=None):
        functools.update_wrapper(self, function)
        self._alru_function, self.__ttl, self.__jitter, self.__key = function, ttl, jitter, key
        self._alru_typed, self._alru_maxsize = typed, maxsize
        # With maxsize=0 nothing is kept. For the cache, 0 would mean no limit.
        self._alru_keeps = maxsize is None or maxsize > 0
        self.__cache = _core._cache_of_results(maxsize if self._alru_keeps else None)
        self.__hits = self.__misses = 0
        self.__closed = self.__warned = False
        self.__loop = None
        mark_as_coroutine_function(self)

    @property
    def __tasks(self):
        return [item.task for item in self.__cache.values() if not item.task.done()]

    def _alru_owner(self):
        return self, ()

    def _alru_key(self, args, kwargs):
        if self.__key is not None:
            return self.__key(*args, **kwargs)
        if not kwargs and not self._alru_typed:
            # A single int or str is the key itself, so that 1 and 1.0 stay apart as in async-lru.
            return args[0] if len(args) == 1 and type(args[0]) in {int, str} else args
        return functools._make_key(args, kwargs, self._alru_typed)

    def _alru_contains(self, key):
        return key in self.__cache

    def _alru_invalidate(self, key):
        return self.__cache.delete(key)

    def _alru_clear(self):
        self.__hits = self.__misses = 0
        self.__cache.clear()

    def _alru_info(self):
        return functools._CacheInfo(self.__hits, self.__misses, self._alru_maxsize, self.__cache.items)

    def _alru_parameters(self):
        tasks = len(self.__tasks)
        return {"maxsize": self._alru_maxsize, "typed": self._alru_typed, "tasks": tasks, "closed": self.__closed}

    def _cache_hit(self, key):
        self.__hits += 1
        # get() marks the entry as the most recently used one.
        self.__cache.get(key)

    def _cache_miss(self, _key):
        self.__misses += 1

    def _alru_use_loop(self, loop):
        if self.__loop is not None:
            if not self.__warned:
                self.__warned = True
                message = "alru_cache: event loop changed, the results of the other event loop are forgotten"
                warnings.warn(message, AlruCacheLoopResetWarning, stacklevel=3)
            self._alru_clear()
        self.__loop = loop

    async def __call__(self, /, *args, **kwargs):
        if self.__closed:
            raise RuntimeError(f"alru_cache is closed for {self}")
        loop = asyncio.get_running_loop()
        if loop is not self.__loop:
            self._alru_use_loop(loop)
        key = self._alru_key(args, kwargs)
        item = self.__cache.get(key)
        if item is not None:
            self.__hits += 1
            task = item.task
            return task.result() if task.done() else await self._alru_wait(key, item)
        task = loop.create_task(self._alru_function(*args, **kwargs))
        task.add_done_callback(functools.partial(self._task_done_callback, key))
        item = _CacheItem(task)
        if self._alru_keeps:
            self.__cache.put(key, item)
        self.__misses += 1
        return await self._alru_wait(key, item)

    def _task_done_callback(self, key, task):
        """Keep the result of a call for its ttl, or forget that it failed."""
        # Not `exception()`: it would mark the exception as retrieved, and asyncio would not log an unseen one.
        if task.cancelled() or task._exception is not None:
            self._alru_forget(key, task)
        elif self.__ttl is not None and self._alru_is_kept(key, task):
            jitter = 0 if self.__jitter is None else random.uniform(0, self.__jitter)
            self.__cache.touch(key, self.__ttl + jitter)

    def _alru_is_kept(self, key, task):
        item = self.__cache.peek(key)
        return item is not None and item.task is task

    def _alru_forget(self, key, task):
        if self._alru_is_kept(key, task):
            self.__cache.delete(key)

    async def _alru_wait(self, key, item):
        item.waiters += 1
        task = item.task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if item.waiters == 1 and not task.done():
                # No other caller waits for the task.
                task.cancel()
                self._alru_forget(key, task)
            raise
        finally:
            item.waiters -= 1

    async def cache_close(self, *, wait=False):
        """Refuse further calls, and cancel the running computations or wait for them."""
        self.__closed = True
        tasks = self.__tasks
        if not wait:
            for task in tasks:
                task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    def __get__(self, instance, owner=None):
        return self if instance is None else _Bound(self, instance)


class _Bound(_Calls):
    """The same as a method of an instance, which is part of every key."""

    def __init__(self, cached, instance):
        functools.update_wrapper(self, cached)
        self.__wrapped__ = cached.__wrapped__
        self._alru_cached, self._alru_instance = cached, instance

    def _alru_owner(self):
        return self._alru_cached, (self._alru_instance,)

    async def __call__(self, /, *args, **kwargs):
        return await self._alru_cached(self._alru_instance, *args, **kwargs)

    async def cache_close(self, *, wait=False, cancel=False, return_exceptions=True):
        """Refuse further calls, and cancel the running computations or wait for them."""
        if cancel or return_exceptions is not True:
            message = "cancel and return_exceptions are deprecated: calls are cancelled, or awaited with wait=True"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
        await self._alru_cached.cache_close(wait=wait)


def _wrap(function, maxsize, typed, ttl, jitter, key):
    inner = function
    while isinstance(inner, (functools.partial, functools.partialmethod)):
        inner = inner.func
    if not inspect.iscoroutinefunction(inner):
        raise RuntimeError(f"Coroutine function is required, got {function!r}")
    if isinstance(function, functools.partialmethod):
        function = function._make_unbound_method()
    return _LRUCacheWrapper(function, maxsize, typed, ttl, jitter, key)


@suggesting
def alru_cache(maxsize=_MAXSIZE, typed=False, *, ttl=None, jitter=None, key=None):
    """Keep the most recent results of a coroutine function.

    Used bare or with arguments. Tasks that miss the same call at once wait for one task which computes it. An
    exception is not kept. The result has cache_contains(), cache_invalidate(), cache_clear(), cache_close(),
    cache_info() and cache_parameters(), and works as a method.

    Args:
        maxsize: The largest number of results. None means no limit.
        typed: Whether equal arguments of different types have different keys.
        ttl: The number of seconds after its computation at which a result is forgotten. None means never.
        jitter: The largest number of seconds that are added to each ttl at random.
        key: A function of the arguments that returns the key.

    Raises:
        RuntimeError: If the function is no coroutine function. From a call, if the cache was closed.
        ValueError: If there is a jitter without ttl or below 0, or `typed` with a key.
        TypeError: If the key cannot be called.

    >>> import asyncio
    >>> from flexcache_rs.async_lru import alru_cache
    >>> @alru_cache(maxsize=32, ttl=60)
    ... async def square(number):
    ...     print("computing")
    ...     return number * number
    >>> async def main():
    ...     return await square(3), await square(3)
    >>> asyncio.run(main())
    computing
    (9, 9)
    """
    if maxsize is not None and not isinstance(maxsize, int):
        if callable(maxsize) or isinstance(maxsize, functools.partialmethod):
            return _wrap(maxsize, _MAXSIZE, typed=False, ttl=None, jitter=None, key=None)
        raise NotImplementedError(f"{maxsize!r} decorating is not supported")
    if jitter is not None and ttl is None:
        raise ValueError("jitter requires ttl to be set")
    if jitter is not None and jitter < 0:
        raise ValueError(f"jitter must be non-negative, not {jitter!r}")
    if key is not None and not callable(key):
        raise TypeError(f"key must be callable, not {type(key).__name__}")
    if key is not None and typed:
        raise ValueError("typed is ignored when a custom key callable is provided")
    return lambda function: _wrap(function, maxsize, typed, ttl, jitter, key)
