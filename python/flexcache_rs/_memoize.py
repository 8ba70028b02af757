"""`memoize`: remembers the results of functions, methods and coroutine functions.

Types are in the stub: `typing` takes longer to import than all of this package.
"""

import functools
import gc
import os
import sys
from _weakref import ref
from time import monotonic

from flexcache_rs import _core, _function_name
from flexcache_rs._loading import NOTHING
from flexcache_rs._memoize_options import INFINITY, Plan, function_or_none, tags_of
from flexcache_rs._seconds import seconds_in

_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200

# An early refresh is out of the question where it is less likely than e to the minus this.
_UNLIKELY = 30.0

# Separates positional from keyword arguments in the keys of a store, where nothing is of a class of ours.
_STORED_KEYWORDS = ("flexcache_rs keywords",)

# The attribute in which an instance holds the results of its methods that may refer to it.
_RESULTS = "_flexcache_rs_results"


class _InstanceRef(ref):
    """Stands for an instance in the keys of its method: equal to itself alone, and weak."""

    __slots__ = ("address", "tag")

    def __eq__(self, other):
        return self is other

    def __ne__(self, other):
        return self is not other

    def __hash__(self):
        return object.__hash__(self)


def _results_of(instance):
    """Where an instance holds results of its methods; None where it has no room for attributes."""
    attributes = getattr(instance, "__dict__", None)
    if type(attributes) is not dict:
        return None
    results = attributes.setdefault(_RESULTS, _core._InstanceResults())
    if not isinstance(results, _core._InstanceResults):
        # That of an instance that was pickled or copied.
        results = attributes[_RESULTS] = _core._InstanceResults()
    return results


def _is_in_class_body(function):
    """Whether a function is written in the body of a class, as far as its name tells."""
    outer = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(outer) and not outer.endswith("<locals>")


class _Names:
    """What the keys of one function begin with in a cache that others use as well."""

    __slots__ = ("_local", "in_store", "place", "tag")

    def __init__(self, in_store, tag, place):
        self.in_store = in_store
        # What all results have whose keys are of the user's making.
        self.tag = tag
        # The key in the store under which all processes find the nonce.
        self.place = place
        self._local = os.urandom(8).hex()

    def nonce(self, cache):
        """A random part of the keys, another one after each clear(): never a number, which would begin again."""
        if self.place is None:
            return self._local
        for _ in range(100):
            nonce = cache.get(self.place)
            if isinstance(nonce, str):
                return nonce
            nonce = os.urandom(8).hex()
            if cache.add(self.place, nonce):
                return nonce
        # Nothing stays in the store: what is computed is not found again.
        return self._local

    def change_nonce(self, cache):
        self._local = nonce = os.urandom(8).hex()
        if self.place is not None:
            cache.put(self.place, nonce)


class Memo(_core.Memoized):
    """A function that memoize() has wrapped."""

    # Nothing of ours is in __dict__, which update_wrapper() fills with the attributes of the function.
    __slots__ = ("_instances", "_names", "_owners", "_plan", "_prefix")

    def __set_name__(self, owner, name):
        # An alias in a class body, perhaps: its first argument is an instance where it is one of the class.
        if not _is_in_class_body(self._function):
            self._owners.append(ref(owner))
        self._may_be_method(self._instances)

    def _is_method_of(self, instance):
        """Whether the function is a method of an instance that it is called with."""
        classes = type(instance).__mro__
        owners = [owner() for owner in self._owners]
        if any(one is owner for one in classes for owner in owners):
            return True
        function = self._function
        name = getattr(function, "__qualname__", "").rpartition(".")[0]
        module = getattr(function, "__module__", None)
        return any(one.__qualname__ == name and one.__module__ == module for one in classes)

    def _meet(self, instance):
        """What stands for an instance from now on, until it dies; None where it is an argument like any other."""
        if not self._is_method_of(instance):
            return None
        if self._names.in_store:
            raise TypeError(
                f"{self.__qualname__}() is a method: an instance has no name in a store; give memoize() a key"
            )
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
        stands.tag = f"flexcache_rs instance {os.urandom(8).hex()}"
        known = instances.setdefault(stands.address, stands)
        if known is stands or known() is instance:
            return known
        instances[stands.address] = stands
        return stands

    def _stands_for(self, key, args):
        """What stands for the instance in the key of a method."""
        if self._instances and args:
            stands = self._instances.get(id(args[0]))
            if stands is not None and isinstance(key, tuple) and any(part is stands for part in key):
                return stands
        return None

    def _keep(self, load, key, args, kwargs, value, raised, cost):
        """Stores a result, or an exception, if it is to be kept."""
        plan = self._plan
        if raised:
            if self._has_value(key):
                # What is good, or may replace an error, is not replaced by one.
                return
            value = _core._copy_of_exception(value)
        elif plan.condition is not None and not plan.condition(value):
            return
        ttl = plan.error_ttl if raised else plan.ttl
        if callable(ttl):
            ttl = ttl(value)
        if ttl is None:
            ttl = self.cache._default_ttl
        if ttl is not None and plan.jitter:
            ttl = seconds_in("ttl", ttl) * (1 - plan.jitter * _core._random())
        tags = () if plan.tags is None else tags_of(plan.tags(*args, **kwargs)) if callable(plan.tags) else plan.tags
        if self._names.tag is not None:
            tags = (*tags, self._names.tag)
        stands = self._stands_for(key, args)
        results = None
        if stands is not None:
            tags = (*tags, stands.tag)
            # What may refer to the instance is the instance's, or neither would ever be collected.
            results = _results_of(args[0]) if gc.is_tracked(value) else None
        stored = value
        if raised or plan.wraps or results is not None:
            good = INFINITY if ttl is None else seconds_in("ttl", ttl)
            fresh = good if raised else min(good - _UNLIKELY * cost * plan.early_refresh, good, plan.soft_ttl)
            stored = _core.Remembered(value, raised, fresh, good, cost, results)
            if not raised and plan.stale_if_error and ttl is not None:
                ttl = good + plan.stale_if_error
        try:
            if load.store(self.cache, stored, ttl, tags):
                self.cache._loaded(key, stored)
        except _core.TooLargeError:
            # The caller gets it all the same.
            return

    def _has_value(self, key):
        """Whether there is a result, no exception, that is or was good."""
        found = self.cache.peek(key, NOTHING)
        if isinstance(found, _core.Remembered):
            return not (found.raised or found.lost)
        return found is not NOTHING

    @property
    def _place_of_nonce(self):
        """The key under which a store has the nonce."""
        return self._names.place

    def _read_nonce(self):
        """What is now in the keys of this function, which clear() changes."""
        return self._names.nonce(self.cache)

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
        """Forget all results of this function, and nothing else. O(n) in a cache that is shared."""
        names, prefix = self._names, self._prefix
        if prefix is None and names.tag is None:
            self.cache.clear()
            return
        if names.tag is not None:
            self.cache.evict_tag(names.tag)
            return
        if names.in_store:
            # Also those that are in the store alone.
            names.change_nonce(self.cache)
            self._forget_nonce()
        _core._discard_loads_of(self.cache, prefix)
        mine = [key for key in self.cache if isinstance(key, tuple) and key and isinstance(key[0], str) and key[0] == prefix]
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
            raise _core._copy_of_exception(found.value)
        return found.value if found.good_for > 0 and not found.lost else NOTHING

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

    __slots__ = ()

    def _compute(self, load, key, args, kwargs):
        begun = monotonic()
        try:
            value = self._function(*args, **kwargs)
        except self._plan.exceptions as error:
            self._keep(load, key, args, kwargs, error, True, 0.0)
            raise
        if hasattr(type(value), "__await__"):
            # It can be awaited once, or in one loop: it is the caller's alone.
            load.do_not_share()
        else:
            self._keep(load, key, args, kwargs, value, False, monotonic() - begun)
        return value

    def _load(self, key, args, kwargs):
        """Answers a call that found nothing."""

        def compute(load):
            value = self._still(key)
            return self._compute(load, key, args, kwargs) if value is NOTHING else value

        return _core._load(self.cache, key, compute)

    def _reconsider(self, key, remembered, args, kwargs):
        """Answers a call that found what is not simply returned."""
        if remembered.raised:
            raise _core._copy_of_exception(remembered.value)
        if remembered.lost:
            return self._load(key, args, kwargs)
        if remembered.good_for <= 0:
            try:
                return self._load(key, args, kwargs)
            except Exception:
                if self._plan.stale_if_error:
                    self._log_refresh()
                    return remembered.value
                raise
        if self._plan.early_refresh and self._is_due(remembered):
            try:
                return _core._load(self.cache, key, lambda load: self._compute(load, key, args, kwargs))
            except Exception:  # noqa: BLE001  # What there is, is good.
                self._log_refresh()
        elif self._plan.soft_ttl is not INFINITY:
            self._refresh_soon(key, args, kwargs)
        return remembered.value

    def _refresh_soon(self, key, args, kwargs):
        """Computes anew in a thread of its own, once at a time a key."""

        def compute(load):
            try:
                return self._compute(load, key, args, kwargs)
            except Exception:
                self._log_refresh()
                raise

        try:
            _core._refresh_in_thread(self.cache, key, compute)
        except Exception:  # noqa: BLE001  # There is no thread to be had; what there is, is good.
            self._log_refresh()

    def refresh(self, *args, **kwargs):
        """Call the function now, whatever is remembered or being computed, and remember what it returns."""
        key = self.cache_key(*args, **kwargs)
        return _core._load(self.cache, key, lambda load: self._compute(load, key, args, kwargs), refresh=True)


async def _ready(value):
    return value


class AsyncMemo(Memo):
    """A memoized coroutine function."""

    __slots__ = ()

    async def _compute(self, load, key, args, kwargs):
        begun = monotonic()
        try:
            value = await self._function(*args, **kwargs)
        except self._plan.exceptions as error:
            self._keep(load, key, args, kwargs, error, True, 0.0)
            raise
        self._keep(load, key, args, kwargs, value, False, monotonic() - begun)
        return value

    async def _load(self, key, args, kwargs):
        """Answers a call that found nothing."""

        async def compute(load):
            value = self._still(key)
            return await self._compute(load, key, args, kwargs) if value is NOTHING else value

        return await _core._load_in_task(self.cache, key, compute)

    async def _reconsider(self, key, remembered, args, kwargs):
        """Answers a call that found what is not simply returned."""
        if remembered.raised:
            raise _core._copy_of_exception(remembered.value)
        if remembered.lost:
            return await self._load(key, args, kwargs)
        if remembered.good_for <= 0:
            try:
                return await self._load(key, args, kwargs)
            except Exception:
                if self._plan.stale_if_error:
                    self._log_refresh()
                    return remembered.value
                raise
        if self._plan.early_refresh and self._is_due(remembered):
            try:
                return await _core._load_in_task(
                    self.cache, key, lambda load: self._compute(load, key, args, kwargs)
                )
            except Exception:  # noqa: BLE001  # What there is, is good.
                self._log_refresh()
        elif self._plan.soft_ttl is not INFINITY:
            self._refresh_soon(key, args, kwargs)
        return remembered.value

    def _refresh_soon(self, key, args, kwargs):
        """Computes anew in a task of its own, once at a time a key."""

        async def compute(load):
            try:
                return await self._compute(load, key, args, kwargs)
            except Exception:
                self._log_refresh()
                raise

        try:
            _core._refresh_in_task(self.cache, key, compute)
        except Exception:  # noqa: BLE001  # What there is, is good.
            self._log_refresh()

    async def refresh(self, *args, **kwargs):
        """Call the function now, whatever is remembered or being computed, and remember what it returns."""
        key = self.cache_key(*args, **kwargs)
        return await _core._load_in_task(
            self.cache, key, lambda load: self._compute(load, key, args, kwargs), refresh=True
        )


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


def _names_in(cache, shared, function, name, version, key):
    """The prefix of a function's keys, and what else tells them from others'."""
    in_store = cache.store is not None
    if not shared and not in_store:
        return None, _Names(False, None, None)
    stable = name
    if name is None and in_store:
        stable = _function_name.stable_name(function)
        if stable is None:
            _function_name.warn_of_random_name(function)
    prefix = _function_name.random_prefix(function) if stable is None else stable
    if version is not None:
        prefix = f"{prefix} version {version}"
    prefix = sys.intern(prefix)
    if not in_store:
        return prefix, _Names(False, f"flexcache_rs function {prefix}" if key is not None else None, None)
    place = None if stable is None else ("flexcache_rs memoize", prefix)
    return prefix, _Names(True, None, place)


def _dress(memo, function, awaited):
    """Makes a memoized function look like the function."""
    functools.update_wrapper(memo, function)
    # Attributes of the function must not hide the methods of ours.
    own = type(memo)
    for name in [name for name in memo.__dict__ if name not in functools.WRAPPER_ASSIGNMENTS and hasattr(own, name)]:
        del memo.__dict__[name]
    if awaited:
        _mark_as_coroutine_function(memo)
    return memo


def _wrap(function, cache, shared, plan, typed, key, ignore, name, version):
    if isinstance(function, (classmethod, staticmethod)):
        inner = _wrap(function.__func__, cache, shared, plan, typed, key, ignore, name, version)
        return type(function)(inner)
    if not callable(function):
        raise TypeError(f"memoize() takes a function, not {type(function).__name__}")
    label = getattr(function, "__qualname__", None) or type(function).__qualname__
    flags = _flags_of(function)
    if flags & _ASYNC_GENERATOR:
        raise TypeError(f"{label}() is an async generator function: what it yields can be gone through only once")
    if flags & _GENERATOR:
        raise TypeError(f"{label}() is a generator function: what it yields can be gone through only once")
    if isinstance(function, Memo) and function.cache is cache:
        raise ValueError(f"{label}() is memoized in this cache already")
    prefix, names = _names_in(cache, shared, function, name, version, key)
    in_class_body = _is_in_class_body(function)
    if names.in_store and key is None and in_class_body and _first_parameter(function) == "self":
        raise TypeError(f"{label}() is a method: an instance has no name in a store; give memoize() a key")
    bits, ignored = _ignored(function, ignore)
    awaited = bool(flags & _COROUTINE)
    memo = (AsyncMemo if awaited else SyncMemo)(
        function,
        cache,
        typed=typed,
        prefix=prefix,
        ignored_positions=bits,
        ignored_names=ignored,
        key=key,
        ready=_ready if awaited else None,
        loads=True,
        # Functions that share keys of the user's making may find each other's.
        examines=plan.wraps or bool(plan.exceptions) or in_class_body or (shared and key is not None),
        keyword_mark=_STORED_KEYWORDS if names.in_store else None,
        has_nonce=names.in_store,
    )
    memo._plan, memo._prefix, memo._names, memo._instances, memo._owners = plan, prefix, names, {}, []
    if in_class_body:
        memo._may_be_method(memo._instances)
    if names.in_store:
        _function_name.claim(cache.store, prefix, memo, function)
    return _dress(memo, function, awaited)


def _first_parameter(function):
    code = getattr(function, "__code__", None)
    return code.co_varnames[0] if code is not None and code.co_argcount else None


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
    name=None,
    version=None,
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
        tags: what FlexCache.evict_tag() knows the results by, one str or several, or a function that
            says so of the arguments.
        name: what the function is called in a store, and its own cache in caches(); None for its module
            and qualified name. Lambdas, nested functions, partials, bound methods, instances and
            functions of a script have no name that another process knows: give them one, or their
            results are not found again.
        version: another text keeps the results of a function that has changed from the old ones.
        **options: the others of FlexCache: max_items, max_bytes, eviction_policy and so on.

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
    function_or_none("key", key)
    if cache is None and name is not None:
        options["name"] = name
    name, version = _function_name.text("name", name), _function_name.text("version", version)
    plan = Plan(
        ttl=ttl,
        has_default_ttl=(options.get("default_ttl") if cache is None else cache._default_ttl) is not None,
        soft_ttl=soft_ttl,
        early_refresh=early_refresh,
        stale_if_error=stale_if_error,
        jitter=jitter,
        cache_exceptions=cache_exceptions,
        exception_ttl=exception_ttl,
        condition=condition,
        tags=tags,
    )

    def wrap(function):
        kept = _core.FlexCache(**options) if cache is None else cache
        return _wrap(function, kept, cache is not None, plan, typed, key, ignore, name, version)

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
