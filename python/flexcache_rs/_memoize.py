"""`memoize`: remembers the results of functions, methods and coroutine functions.

Types are in the stub: `typing` takes longer to import than all of this package.
"""

import functools
import sys
from _weakref import ref
from itertools import count
from time import monotonic

from flexcache_rs import _core
from flexcache_rs._flights import NOTHING, afly, fly
from flexcache_rs._seconds import seconds_in

_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200

# An early refresh is out of the question where it is less likely than e to the minus this.
_UNLIKELY = 30.0

_INFINITY = float("inf")

_serial = count(1)


class _Plan:
    """What memoize() was asked for, checked."""

    __slots__ = (
        "condition",
        "early_refresh",
        "error_ttl",
        "exceptions",
        "jitter",
        "soft_ttl",
        "stale_if_error",
        "tags",
        "ttl",
        "wraps",
    )

    def __init__(
        self, ttl, soft_ttl, early_refresh, stale_if_error, jitter, exceptions, exception_ttl, condition, tags
    ):
        if not (callable(ttl) or ttl is None):
            seconds_in("ttl", ttl)
        self.ttl = ttl
        self.soft_ttl = _INFINITY if soft_ttl is None else _positive("soft_ttl", soft_ttl)
        self.stale_if_error = 0.0 if stale_if_error is None else _positive("stale_if_error", stale_if_error)
        if ttl is None and stale_if_error is not None:
            raise ValueError("stale_if_error needs a ttl: without one nothing gets stale")
        self.early_refresh = _number("early_refresh", early_refresh, _INFINITY)
        if early_refresh and ttl is None:
            raise ValueError("early_refresh needs a ttl: without one nothing expires")
        self.jitter = _number("jitter", jitter, 1.0)
        self.exceptions = _exceptions(exceptions)
        self.error_ttl = ttl if exception_ttl is None else exception_ttl
        if exception_ttl is not None:
            if not self.exceptions:
                raise ValueError("exception_ttl needs cache_exceptions: without them none is kept")
            seconds_in("exception_ttl", exception_ttl)
        self.condition = _callable("condition", condition)
        self.tags = tags if tags is None or callable(tags) else _core._tags(tags)
        # Whether more has to be kept of a result than the result.
        self.wraps = bool(soft_ttl is not None or stale_if_error is not None or self.early_refresh)


def _positive(argument, time):
    seconds = seconds_in(argument, time)
    if seconds <= 0:
        raise ValueError(f"{argument} must be after now, not {time!r}")
    return seconds


def _number(argument, value, most):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{argument} must be a number, not {type(value).__name__}")
    if not 0 <= value <= most or value == _INFINITY:
        limit = "0 or more" if most == _INFINITY else f"between 0 and {most:g}"
        raise ValueError(f"{argument} must be {limit}, not {value!r}")
    return float(value)


def _callable(argument, value):
    if value is not None and not callable(value):
        raise TypeError(f"{argument} must be callable or None, not {type(value).__name__}")
    return value


def _exceptions(classes):
    if isinstance(classes, bool):
        return (Exception,) if classes else ()
    classes = classes if isinstance(classes, (tuple, list, set, frozenset)) else (classes,)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, Exception)):
            raise TypeError(f"cache_exceptions must be a bool or classes of exceptions, not {one!r}")
    return tuple(classes)


class _InstanceRef(ref):
    """Stands for an instance in the keys of its method: equal to itself alone, and weak."""

    __slots__ = ("address", "tag")

    def __eq__(self, other):
        return self is other

    def __ne__(self, other):
        return self is not other

    def __hash__(self):
        return object.__hash__(self)


class Memo(_core.Memoized):
    """A function that memoize() has wrapped."""

    def __set_name__(self, owner, name):
        # Inside a class the function is a method, and its first argument an instance.
        self._is_method(self._instances)

    def _meet(self, instance):
        """What stands for an instance from now on, until it dies."""
        ours, instances, cache = ref(self), self._instances, ref(self.cache)

        def forget(dead):
            instances.pop(dead.address, None)
            kept = cache()
            if kept is not None and ours() is not None:
                kept.evict_tag(dead.tag)

        try:
            stands = _InstanceRef(instance, forget)
        except TypeError:
            raise TypeError(
                f"{self.__qualname__}() can only be remembered for instances that can be weakly referenced, "
                f"which those of {type(instance).__name__} cannot; give memoize() a key"
            ) from None
        stands.address = id(instance)
        stands.tag = f"flexcache_rs instance {next(_serial)}"
        known = instances.setdefault(stands.address, stands)
        if known is stands or known() is instance:
            return known
        instances[stands.address] = stands
        return stands

    def _tags_of(self, key, args, kwargs):
        """The tags that a result gets."""
        tags = self._plan.tags
        tags = () if tags is None else tuple(tags(*args, **kwargs)) if callable(tags) else tags
        if self._instances and args:
            stands = self._instances.get(id(args[0]))
            if stands is not None and isinstance(key, tuple) and any(part is stands for part in key):
                tags = (*tags, stands.tag)
        return tags

    def _keep(self, key, args, kwargs, value, raised, cost):
        """Stores a result, or an exception, if it is to be kept."""
        plan = self._plan
        if not raised and plan.condition is not None and not plan.condition(value):
            return
        ttl = plan.error_ttl if raised else plan.ttl
        if callable(ttl):
            ttl = ttl(value)
        if ttl is not None and plan.jitter:
            ttl = seconds_in("ttl", ttl) * (1 - plan.jitter * _core._random())
        if raised or plan.wraps:
            good = _INFINITY if ttl is None else seconds_in("ttl", ttl)
            fresh = good if raised else min(good - _UNLIKELY * cost * plan.early_refresh, good, plan.soft_ttl)
            value = _core.Remembered(value, raised, fresh, good, cost)
            if not raised and plan.stale_if_error and ttl is not None:
                ttl = good + plan.stale_if_error
        try:
            self.cache.put(key, value, ttl, tags=self._tags_of(key, args, kwargs))
        except _core.TooLargeError:
            # The caller gets it all the same.
            self.cache.delete(key)
        self.cache._loaded(key, value)

    def invalidate(self, *args, **kwargs):
        """Forget the result of a call with these arguments; whether there was one."""
        return self.cache.delete(self.cache_key(*args, **kwargs))

    def peek(self, *args, **kwargs):
        """The result of a call with these arguments if it is there, else None; no access."""
        found = self.cache.peek(self.cache_key(*args, **kwargs))
        if isinstance(found, _core.Remembered):
            return None if found.raised else found.value
        return found

    def clear(self):
        """Forget all results of this function. O(n) in a cache that is shared."""
        if self._prefix is None:
            self.cache.clear()
            return
        prefix = self._prefix
        mine = [key for key in self.cache if isinstance(key, tuple) and key and key[0] is prefix]
        self.cache.delete_many(mine)

    def stats(self):
        """Statistics of the cache."""
        return self.cache.stats()

    def _still(self, key):
        """What a call gets that finds something in the cache after all, or NOTHING."""
        found = self.cache.peek(key, NOTHING)
        if not isinstance(found, _core.Remembered):
            return found
        if found.raised:
            raise found.value.with_traceback(None)
        return found.value if found.good_for > 0 else NOTHING

    def _is_due(self, remembered):
        """Whether this call is to refresh a result before it expires: likelier the nearer that is."""
        from math import log  # Not imported before it is used.

        eagerness = self._plan.early_refresh * remembered.cost
        return -eagerness * log(1.0 - _core._random()) >= remembered.good_for

    def _log_refresh(self):
        import logging  # Not imported before it is used.

        logging.getLogger("flexcache_rs").exception("refreshing %s() failed", self.__qualname__)


class SyncMemo(Memo):
    """A memoized function."""

    def _compute(self, key, args, kwargs):
        begun = monotonic()
        try:
            value = self.__wrapped__(*args, **kwargs)
        except self._plan.exceptions as error:
            self._keep(key, args, kwargs, error, True, 0.0)
            raise
        self._keep(key, args, kwargs, value, False, monotonic() - begun)
        return value

    def _load(self, key, args, kwargs):
        """Answers a call that found nothing."""

        def compute():
            value = self._still(key)
            return self._compute(key, args, kwargs) if value is NOTHING else value

        return fly(self.cache._flights, key, compute)

    def _reconsider(self, key, remembered, args, kwargs):
        """Answers a call that found what is not simply returned."""
        if remembered.raised:
            raise remembered.value.with_traceback(None)
        if remembered.good_for <= 0:
            try:
                return self._load(key, args, kwargs)
            except Exception:
                if self._plan.stale_if_error:
                    self._log_refresh()
                    return remembered.value
                raise
        if self._plan.early_refresh and self._is_due(remembered):
            return self.refresh(*args, **kwargs)
        if self._plan.soft_ttl is not _INFINITY:
            self._refresh_soon(key, args, kwargs)
        return remembered.value

    def _refresh_soon(self, key, args, kwargs):
        """Computes anew in a thread of its own, once at a time a key."""
        from threading import Thread  # Not imported before it is used.

        if self._refreshing.setdefault(key, mine := object()) is not mine:
            return

        def refresh():
            try:
                fly(self.cache._flights, key, lambda: self._compute(key, args, kwargs))
            except Exception:  # noqa: BLE001
                self._log_refresh()
            finally:
                self._refreshing.pop(key, None)

        try:
            Thread(target=refresh, name="flexcache-refresh", daemon=True).start()
        except BaseException:
            self._refreshing.pop(key, None)
            raise

    def refresh(self, *args, **kwargs):
        """Call the function now, whatever is remembered, and remember what it returns."""
        key = self.cache_key(*args, **kwargs)
        return fly(self.cache._flights, key, lambda: self._compute(key, args, kwargs))


async def _ready(value):
    return value


class AsyncMemo(Memo):
    """A memoized coroutine function."""

    async def _compute(self, key, args, kwargs):
        begun = monotonic()
        try:
            value = await self.__wrapped__(*args, **kwargs)
        except self._plan.exceptions as error:
            self._keep(key, args, kwargs, error, True, 0.0)
            raise
        self._keep(key, args, kwargs, value, False, monotonic() - begun)
        return value

    async def _load(self, key, args, kwargs):
        """Answers a call that found nothing."""

        async def compute():
            value = self._still(key)
            return await self._compute(key, args, kwargs) if value is NOTHING else value

        return await afly(self.cache._flights, key, compute)

    async def _reconsider(self, key, remembered, args, kwargs):
        """Answers a call that found what is not simply returned."""
        if remembered.raised:
            raise remembered.value.with_traceback(None)
        if remembered.good_for <= 0:
            try:
                return await self._load(key, args, kwargs)
            except Exception:
                if self._plan.stale_if_error:
                    self._log_refresh()
                    return remembered.value
                raise
        if self._plan.early_refresh and self._is_due(remembered):
            return await self.refresh(*args, **kwargs)
        if self._plan.soft_ttl is not _INFINITY:
            self._refresh_soon(key, args, kwargs)
        return remembered.value

    def _refresh_soon(self, key, args, kwargs):
        """Computes anew in a task of its own, once at a time a key."""
        from asyncio import get_running_loop  # Not imported before it is used.

        loop = get_running_loop()
        known = self._refreshing.get(key)
        if known is not None and not (known.done() or known.get_loop().is_closed()):
            return

        async def refresh():
            try:
                await afly(self.cache._flights, key, lambda: self._compute(key, args, kwargs))
            except Exception:  # noqa: BLE001
                self._log_refresh()
            finally:
                self._refreshing.pop(key, None)

        # Kept here, since a loop keeps its tasks weakly.
        self._refreshing[key] = loop.create_task(refresh())

    async def refresh(self, *args, **kwargs):
        """Call the function now, whatever is remembered, and remember what it returns."""
        key = self.cache_key(*args, **kwargs)
        return await afly(self.cache._flights, key, lambda: self._compute(key, args, kwargs))


for _class in (Memo, SyncMemo, AsyncMemo):
    _core._call_directly(_class)


def _flags_of(function):
    """What kind of function it is, as the compiler says."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004
    flags = 0 if code is None else code.co_flags
    # A program that marks a function has imported this.
    inspect = sys.modules.get("inspect")
    if inspect is not None and inspect.iscoroutinefunction(function):
        flags |= _COROUTINE
    return flags


def _mark_as_coroutine_function(memo):
    if sys.version_info >= (3, 12):
        from inspect import markcoroutinefunction  # Not imported before it is used.

        markcoroutinefunction(memo)
    else:
        from asyncio import coroutines

        memo._is_coroutine = coroutines._is_coroutine


def _ignored(function, ignore):
    """Positions, as bits, and names of the parameters to ignore."""
    if isinstance(ignore, str):
        raise TypeError(f"ignore must be names in a tuple, such as ({ignore!r},), not a str")
    ignore = tuple(ignore)
    if not ignore:
        return 0, []
    from inspect import Parameter, signature  # Not imported before it is used.

    parameters = list(signature(function).parameters.values())
    names = [one.name for one in parameters]
    by_keyword = any(one.kind is Parameter.VAR_KEYWORD for one in parameters)
    bits = 0
    for name in ignore:
        if not isinstance(name, str):
            raise TypeError(f"ignore must hold names of parameters, not {name!r}")
        if name not in names:
            if by_keyword:
                continue
            raise ValueError(f"ignore names {name!r}, which {function.__name__}() has no parameter of")
        at = names.index(name)
        if parameters[at].kind in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}:
            raise ValueError(f"ignore names {name!r}, which stands for many arguments")
        if parameters[at].kind is not Parameter.KEYWORD_ONLY:
            if at > 63:
                raise ValueError(f"ignore names {name!r}, which is not among the first 64 parameters")
            bits |= 1 << at
    return bits, [sys.intern(name) for name in ignore]


def _wrap(function, cache, shared, plan, typed, key, ignore):
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(_wrap(function.__func__, cache, shared, plan, typed, key, ignore))
    if not callable(function):
        raise TypeError(f"memoize() takes a function, not {type(function).__name__}")
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    flags = _flags_of(function)
    if flags & _ASYNC_GENERATOR:
        raise TypeError(f"{name}() is an async generator function: what it yields can be gone through only once")
    if flags & _GENERATOR:
        raise TypeError(f"{name}() is a generator function: what it yields can be gone through only once")
    prefix = None
    if shared:
        # Functions without a name of their own get a number, so as not to be taken for each other.
        prefix = f"{getattr(function, '__module__', None)}.{name}"
        prefix = sys.intern(prefix if "<" not in prefix else f"{prefix} {next(_serial)}")
    bits, names = _ignored(function, ignore)
    awaited = bool(flags & _COROUTINE)
    memo = (AsyncMemo if awaited else SyncMemo)(
        function,
        cache,
        typed=typed,
        prefix=prefix,
        ignored_positions=bits,
        ignored_names=names,
        key=key,
        ready=_ready if awaited else None,
        loads=True,
        # Functions that share keys of the user's making may find each other's.
        examines=plan.wraps or bool(plan.exceptions) or (shared and key is not None),
    )
    memo._plan, memo._prefix, memo._instances, memo._refreshing = plan, prefix, {}, {}
    functools.update_wrapper(memo, function)
    if awaited:
        _mark_as_coroutine_function(memo)
    return memo


def memoize(
    function=None,
    /,
    *,
    cache=None,
    ttl=None,
    soft_ttl=None,
    early_refresh=0.0,
    stale_if_error=None,
    jitter=0.0,
    typed=False,
    key=None,
    ignore=(),
    condition=None,
    cache_exceptions=False,
    exception_ttl=None,
    tags=None,
    **options,
):
    """Remember a function's results: for functions, methods and coroutine functions.

    Used bare or with arguments. Threads and tasks that miss the same call at once wait for one of
    them to compute it, and share what that returns or raises.

    The function gets cache_key(*args), invalidate(*args), peek(*args), refresh(*args), clear(),
    stats() and the attribute cache. A method's results are kept for each instance, without keeping
    the instance alive.

    Args:
        function: what computes a result; not a generator function.
        cache: a FlexCache to keep results in, which others may use as well; None for one of the
            function's own, made with the options.
        ttl: how long a result lives, as for FlexCache.put(), or a function that says so of a result.
        soft_ttl: after how long a result is still served, but refreshed in the background.
        early_refresh: how eagerly single calls refresh a result shortly before it expires, so that
            not all wait when it does: 1.0 is a good start, 0.0 (the default) is never. It is
            likelier the nearer the end is and the longer the function takes.
        stale_if_error: for how long after its ttl a result still replaces an exception.
        jitter: by up to which part of it a ttl is cut at random, so that what was stored together
            does not expire together: 0.0 (the default) to 1.0.
        typed: whether equal arguments of different types are different.
        key: called with the arguments to get the key, instead of making one of all arguments.
        ignore: names of parameters that make no difference.
        condition: called with a result; it is kept if that returns something true.
        cache_exceptions: classes of exceptions to keep like results, or True for Exception.
        exception_ttl: how long an exception lives; None for the same as a result.
        tags: what FlexCache.evict_tag() knows the results by, or a function that says so of the
            arguments.
        **options: those of FlexCache: max_items, max_bytes, eviction_policy and so on.

    Raises:
        TypeError, ValueError: for a function that cannot be memoized, or an argument that makes no
            sense.
        CircularLoadError: from a call that would have to wait for itself.

    A call that is remembered costs O(1), and a fraction of what it costs with functools.lru_cache.

    >>> from flexcache_rs import memoize
    >>> @memoize(max_items=100, ttl=60)
    ... def square(number):
    ...     print("computing")
    ...     return number * number
    >>> square(3), square(3)
    computing
    (9, 9)
    >>> square.invalidate(3), square.peek(3)
    (True, None)
    """
    if cache is not None and not isinstance(cache, _core.FlexCache):
        raise TypeError(f"cache must be a FlexCache or None, not {type(cache).__name__}")
    if cache is not None and options:
        raise TypeError(f"memoize() takes {', '.join(options)} only without a cache, which has its own")
    if not isinstance(typed, bool):
        raise TypeError(f"typed must be True or False, not {typed!r}")
    _callable("key", key)
    plan = _Plan(ttl, soft_ttl, early_refresh, stale_if_error, jitter, cache_exceptions, exception_ttl, condition, tags)

    def wrap(function):
        kept = _core.FlexCache(**options) if cache is None else cache
        return _wrap(function, kept, cache is not None, plan, typed, key, ignore)

    if function is None:
        # What is wrong with the options is said where they stand; nothing is recorded yet.
        _core.FlexCache(**{name: option for name, option in options.items() if name != "record"})
        return wrap
    return wrap(function)


def memoize_in(self, function=None, /, **arguments):
    """Remember a function's results in this cache: memoize() with cache=self.

    Raises:
        TypeError, ValueError: as memoize().

    >>> from flexcache_rs import FlexCache
    >>> cache = FlexCache(max_items=1000)
    >>> @cache.memoize(ttl=60)
    ... def double(number):
    ...     return 2 * number
    >>> double(4), cache.items
    (8, 1)
    """
    return memoize(function, cache=self, **arguments)


memoize_in.__name__, memoize_in.__qualname__ = "memoize", "FlexCache.memoize"
