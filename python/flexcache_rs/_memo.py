"""Memoized functions: the objects that memoize() returns.

Types are in the stub: `typing` takes longer to import than all of this package.
"""

import gc
import os
import sys
from _weakref import ref
from functools import _CacheInfo
from time import monotonic

from flexcache_rs import _core
from flexcache_rs._in_thread import before_joining, in_thread, lease
from flexcache_rs._instances import InstanceRef, may_refer_to, results_of
from flexcache_rs._loading import NOTHING
from flexcache_rs._memoize_options import INFINITY, tags_of
from flexcache_rs._seconds import seconds_in

# An early refresh is never considered where its probability is below exp(-_UNLIKELY).
_UNLIKELY = 30.0

# Since Python 3.13 classmethod binds its class for calls only. Attributes such as `invalidate` do not get the class.
_ATTRIBUTES_LACK_CLASS = sys.version_info >= (3, 13)


def is_in_class_body(function):
    """Whether a function is written in a class body, judging by its qualified name, and is not bound yet."""
    if getattr(function, "__self__", None) is not None:
        return False
    outer = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(outer) and not outer.endswith("<locals>")


class _PassesClass:
    """A base to put before `classmethod`. It binds the memoized function to the class, as Python did before 3.13."""

    __slots__ = ()

    def __get__(self, instance, owner=None):
        owner = type(instance) if owner is None else owner
        return self.__func__.__get__(owner, type(owner))


class _ClassMethod(_PassesClass, classmethod):
    """A class method whose function is memoized."""

    __slots__ = ()


_ClassMethod.__name__ = _ClassMethod.__qualname__ = "classmethod"


def class_method(kind, memo):
    """Wrap a memoized function in `kind`, a subclass of classmethod, so that its attributes get the class as well."""
    if _ATTRIBUTES_LACK_CLASS and kind.__get__ is classmethod.__get__:
        kind = _ClassMethod if kind is classmethod else type(kind.__name__, (_PassesClass, kind), {})
    return kind(memo)


class Memo(_core.Memoized):
    """A function that memoize() has wrapped."""

    # Slots, because update_wrapper() fills __dict__ with the attributes of the function.
    __slots__ = (
        *("_attributes_lack_class", "_instances", "_is_alone", "_names", "_owners", "_plan", "_prefix"),
        "_typed",
    )

    # The key of a call. The class or instance must be among the arguments.
    _key_of = _core.Memoized.cache_key

    def _refuse_without_class(self, attribute):
        """Raise TypeError if the interpreter's `classmethod` wraps this function, because it did not pass the class."""
        lacks = self._attributes_lack_class
        if lacks is None:
            lacks = self._is_under_class_method()
            self._attributes_lack_class = lacks
        if lacks:
            raise TypeError(
                f"{self.__qualname__}.{attribute}() does not know of which class the call is: since Python 3.13 "
                "@classmethod over @memoize passes the class to calls alone; write @memoize over @classmethod"
            )

    def _is_under_class_method(self):
        """Whether a class method has wrapped this function. None if that may still happen.

        A function cannot see what wraps it. We look up the class by its qualified name. If this fails, we ask the
        garbage collector, which takes O(objects), at most once per function of a class that can be looked up.
        """
        function = self._function
        if not is_in_class_body(function):
            # A function outside of a class body needs no class.
            return False
        owner = sys.modules.get(getattr(function, "__module__", None))
        *path, name = function.__qualname__.split(".")
        for part in path:
            owner = getattr(owner, "__dict__", {}).get(part)
        held = [owner.__dict__.get(name)] if isinstance(owner, type) else []
        if not any(one is self or getattr(one, "__func__", None) is self for one in held):
            held = gc.get_referrers(self)
        kinds = [type(one) for one in held if getattr(type(one), "__func__", None) and one.__func__ is self]
        if any(issubclass(kind, classmethod) and kind.__get__ is classmethod.__get__ for kind in kinds):
            return True
        is_known = bool(kinds) or any(one is self for one in held)
        return False if is_known or any(type(one) is dict and "__qualname__" in one for one in held) else None

    def __set_name__(self, owner, name):
        # The function was assigned in the body of `owner`, and becomes a method of the instances of `owner`.
        if not is_in_class_body(self._function):
            self._owners.append(ref(owner))
        self._may_be_method(self._instances)

    def _is_method_of(self, instance):
        """Whether the function is a method of `instance`, the first argument of a call."""
        classes = type(instance).__mro__
        owners = [owner() for owner in self._owners]
        if any(one is owner for one in classes for owner in owners):
            return True
        function = self._function
        if not is_in_class_body(function):
            return False
        name, module = function.__qualname__.rpartition(".")[0], getattr(function, "__module__", None)
        return any(one.__qualname__ == name and one.__module__ == module for one in classes)

    def _meet(self, instance):
        """Return the `InstanceRef` that replaces the instance in keys until it dies.

        Returns None if the function is not a method of the instance, which then is an ordinary argument.
        """
        if not self._is_method_of(instance):
            return None
        if self._names.in_store:
            raise TypeError(
                f"{self.__qualname__}() is a method, and its instance has no name in a store: give memoize() a key="
            )
        ours, instances, cache = ref(self), self._instances, ref(self.cache)

        def forget(dead):
            instances.pop(dead.address, None)
            kept = cache()
            if kept is not None and ours() is not None:
                kept.evict_tag(dead.tag)

        try:
            stands = InstanceRef(instance, forget)
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
        """Return the `InstanceRef` in the key of a method call. Returns None if the key has none."""
        if self._instances and args:
            stands = self._instances.get(id(args[0]))
            if stands is not None and isinstance(key, tuple) and any(part is stands for part in key):
                return stands
        return None

    def _keep(self, load, key, args, tags, value, raised, cost):
        """Store a result, or an exception if `raised`, unless an option says not to keep it."""
        plan = self._plan
        if raised:
            if self._has_value(key):
                # An exception never replaces a result that is good, or that stale_if_error may return.
                return
            value = _core._copy_of_exception(value)
        elif plan.condition is not None and not plan.condition(value):
            return
        ttl = self._ttl_of(value, raised)
        stands = self._stands_for(key, args)
        results = None
        if stands is not None:
            tags = (*tags, stands.tag)
            # A result that may refer to the instance is held by the instance. Otherwise neither would be collected.
            results = results_of(args[0]) if gc.is_tracked(value) else None
            if results is None and gc.is_tracked(value) and may_refer_to(value, args[0]):
                self._warn_of_instance(args[0])
                return
        stored = value
        if raised or plan.wraps or results is not None:
            good = INFINITY if ttl is None else seconds_in("ttl", ttl)
            fresh = good if raised else min(good - _UNLIKELY * cost * plan.early_refresh, good, plan.soft_ttl)
            stored = self.cache._remember(value, raised, fresh, good, cost, results)
            if not raised and plan.stale_if_error and ttl is not None:
                ttl = good + plan.stale_if_error
        try:
            if load.store(self.cache, stored, ttl, tags):
                self.cache._loaded(key, stored)
        except _core.TooLargeError:
            # The caller gets the value all the same.
            return

    def _warn_of_instance(self, instance):
        import warnings  # Not imported before it is used.

        name = type(instance).__qualname__
        if isinstance(instance, type):
            why = f"that is the class {instance.__qualname__}, which can hold no results; give memoize() a key"
        else:
            why = f"instances of {name} have no __dict__ to hold it; add '__dict__' to its __slots__"
        warnings.warn(
            f"{self.__qualname__}() returned what refers to its instance, which is not remembered: {why}",
            RuntimeWarning,
            stacklevel=2,
        )

    def _ttl_of(self, value, raised):
        """Return the time to live of a result, or of an exception if `raised`. None means for ever."""
        plan = self._plan
        ttl = plan.error_ttl if raised else plan.ttl
        if callable(ttl):
            ttl = ttl(value)
        if ttl is None:
            ttl = self.cache._default_ttl
        if ttl is not None and plan.jitter:
            ttl = seconds_in("ttl", ttl) * (1 - plan.jitter * _core._random())
        return ttl

    def _declare(self, load, args, kwargs):
        """Return the tags of a result without the tag of its instance. The load gets them before it computes."""
        tags = self._plan.tags
        tags = () if tags is None else tags_of(tags(*args, **kwargs)) if callable(tags) else tags
        if self._names.tag is not None:
            tags = (*tags, self._names.tag)
        if tags:
            load.declare(self.cache, tags)
        return tags

    def _has_value(self, key):
        """Whether the cache has a result under the key, fresh or stale, and no exception."""
        found = self.cache.peek(key, NOTHING)
        if isinstance(found, _core.Remembered):
            return not (found.raised or found.lost)
        return found is not NOTHING

    @property
    def _place_of_nonce(self):
        """The key under which the store keeps the nonce."""
        return self._names.place

    def _read_nonce(self):
        """Return the current nonce, which is part of each key of this function. clear() changes it."""
        return self._names.nonce(self.cache)

    # The private methods do the work. Bound methods call those directly, because they know the instance or the class.

    def cache_key(self, /, *args, **kwargs):
        """Return the key of a call with these arguments."""
        if _ATTRIBUTES_LACK_CLASS:
            self._refuse_without_class("cache_key")
        return self._key_of(*args, **kwargs)

    def invalidate(self, /, *args, **kwargs):
        """Forget the result of a call with these arguments. Returns True if there was one."""
        if _ATTRIBUTES_LACK_CLASS:
            self._refuse_without_class("invalidate")
        return self._invalidate(*args, **kwargs)

    def peek(self, /, *args, **kwargs):
        """Return the stored result of a call with these arguments, or None. Does not count as an access."""
        if _ATTRIBUTES_LACK_CLASS:
            self._refuse_without_class("peek")
        return self._peek(*args, **kwargs)

    def _invalidate(self, /, *args, **kwargs):
        return self.cache.delete(self._key_of(*args, **kwargs))

    def _peek(self, /, *args, **kwargs):
        found = self.cache.peek(self._key_of(*args, **kwargs))
        if isinstance(found, _core.Remembered):
            return None if found.raised else found.value
        return found

    def clear(self):
        """Forget all results of this function and nothing else. O(n) in a cache that other functions use too."""
        names, prefix = self._names, self._prefix
        if prefix is None and names.tag is None:
            self.cache.clear()
            return
        if names.tag is not None:
            self.cache.evict_tag(names.tag)
            return
        if names.in_store:
            # A new nonce also hides results that are only in the store. Running computations store under an old key.
            names.change_nonce(self.cache)
            self._forget_nonce()
            mine = [key for key in self.cache if isinstance(key, str) and key.startswith(names.head)]
        else:
            _core._discard_loads_of(self.cache, prefix)
            mine = [
                key
                for key in self.cache
                if isinstance(key, tuple) and key and isinstance(key[0], str) and key[0] == prefix
            ]
        self.cache.delete_many(mine)

    def stats(self):
        """Return the statistics of the cache."""
        return self.cache.stats()

    def cache_info(self):
        """Return the statistics of the cache in the form of functools.lru_cache: hits, misses, maxsize, currsize.

        maxsize is None if there is no limit. If other functions use the cache too, the statistics
        are those of all functions.
        """
        stats = self.cache.stats()
        return _CacheInfo(stats.hits, stats.misses, self.cache.max_items or None, len(self.cache))

    def cache_clear(self):
        """Do the same as clear(). Also reset the statistics, unless other functions use the cache too."""
        self.clear()
        if self._is_alone:
            self.cache.reset_stats()

    def cache_parameters(self):
        """Return a new dict with the largest number of results and whether types make a difference."""
        return {"maxsize": self.cache.max_items or None, "typed": self._typed}

    def _still(self, key):
        """Return a good result which is in the cache after all, or NOTHING. Raises an exception that is kept there."""
        found = self.cache.peek(key, NOTHING)
        if not isinstance(found, _core.Remembered):
            return found
        if found.raised:
            raise _core._copy_of_exception(found.value)
        return found.value if found.good_for > 0 and not found.lost else NOTHING

    def _fresh(self, key):
        """Return a result that has been refreshed meanwhile, or NOTHING."""
        found = self.cache.peek(key, NOTHING)
        if isinstance(found, _core.Remembered) and (found.raised or found.lost or not found.fresh):
            return NOTHING
        return found.value if isinstance(found, _core.Remembered) else found

    def _is_due(self, remembered):
        """Whether this call refreshes a result early. The probability rises as expiry nears."""
        from math import log  # Not imported before it is used.

        eagerness = self._plan.early_refresh * remembered.cost
        return -eagerness * log(1.0 - _core._random()) >= remembered.good_for

    def _log_refresh(self):
        import logging  # Not imported before it is used.

        # A callable instance and a partial have no __qualname__.
        name = getattr(self, "__qualname__", None) or type(self._function).__qualname__
        logging.getLogger("flexcache_rs").exception("refreshing %s() failed", name)


class SyncMemo(Memo):
    """A memoized function."""

    __slots__ = ()

    def _compute(self, load, key, tags, args, kwargs):
        begun = monotonic()
        try:
            value = self._function(*args, **kwargs)
        except self._plan.exceptions as error:
            self._keep(load, key, args, tags, error, True, 0.0)
            raise
        self.cache._count_load()
        # An awaitable may be awaited in one loop alone.
        if hasattr(type(value), "__await__") or _core._is_single_use(value):
            load.do_not_share()
        else:
            self._keep(load, key, args, tags, value, False, monotonic() - begun)
        return value

    def _load(self, key, args, kwargs):
        """Answer a call whose key is not in the cache."""

        def compute(load):
            tags = self._declare(load, args, kwargs)
            value = load.lease(self.cache, lambda: self._still(key), NOTHING)
            return self._compute(load, key, tags, args, kwargs) if value is NOTHING else value

        return _core._load(self.cache, key, compute)

    def _refresh_early(self, load, key, remembered, args, kwargs):
        """Compute a value that is still good again, unless another caller or process does so already."""
        tags = self._declare(load, args, kwargs)
        if self.cache.store is not None:
            value = load.lease(self.cache, lambda: self._fresh(key), NOTHING, blocks=False, patient=False)
            if value is load:
                load.do_not_share()
                return remembered.value
            if value is not NOTHING:
                return value
        return self._compute(load, key, tags, args, kwargs)

    def _reconsider(self, key, remembered, args, kwargs):
        """Answer a call that found an exception, or a result that is lost, stale or due for a refresh."""
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
                return _core._load(
                    self.cache, key, lambda load: self._refresh_early(load, key, remembered, args, kwargs)
                )
            except Exception:  # noqa: BLE001  # The present value is still good.
                self._log_refresh()
        elif self._plan.soft_ttl is not INFINITY:
            self._refresh_soon(key, remembered, args, kwargs)
        return remembered.value

    def _refresh_soon(self, key, remembered, args, kwargs):
        """Compute the value again in a separate thread. Each key has at most one such thread at a time."""

        def compute(load):
            try:
                return self._refresh_early(load, key, remembered, args, kwargs)
            except Exception:
                self._log_refresh()
                raise

        try:
            _core._refresh_in_thread(self.cache, key, compute)
        except Exception:  # noqa: BLE001  # No thread could be started. The present value is still good.
            self._log_refresh()

    def refresh(self, /, *args, **kwargs):
        """Call the function now, even if there is a result or a computation, and keep its result."""
        if _ATTRIBUTES_LACK_CLASS:
            self._refuse_without_class("refresh")
        return self._refresh(*args, **kwargs)

    def _refresh(self, /, *args, **kwargs):
        key = self._key_of(*args, **kwargs)

        def compute(load):
            tags = self._declare(load, args, kwargs)
            load.take_lease(self.cache)
            return self._compute(load, key, tags, args, kwargs)

        return _core._load(self.cache, key, compute, refresh=True)


class AsyncMemo(Memo):
    """A memoized coroutine function."""

    __slots__ = ()

    async def _compute(self, load, key, tags, args, kwargs):
        begun = monotonic()
        try:
            value = await self._function(*args, **kwargs)
        except self._plan.exceptions as error:
            await in_thread(self.cache, self._keep, load, key, args, tags, error, True, 0.0)
            raise
        self.cache._count_load()
        if _core._is_single_use(value):
            load.do_not_share()
        else:
            await in_thread(self.cache, self._keep, load, key, args, tags, value, False, monotonic() - begun)
        return value

    async def _load(self, key, args, kwargs):
        """Answer a call whose key is not in memory."""
        if self.cache.store is not None:
            # The store has not been asked yet.
            found = await in_thread(self.cache, self.cache.get, key, NOTHING)
            if isinstance(found, _core.Remembered):
                return found.value if found.fresh else await self._reconsider(key, found, args, kwargs)
            if found is not NOTHING:
                return found
        return await self._compute_once(key, args, kwargs)

    async def _compute_once(self, key, args, kwargs):
        async def compute(load):
            tags = self._declare(load, args, kwargs)
            value = await lease(self.cache, load, lambda: self._still(key), NOTHING)
            return await self._compute(load, key, tags, args, kwargs) if value is NOTHING else value

        await before_joining(self.cache, key)
        return await _core._load_in_task(self.cache, key, compute)

    async def _refresh_early(self, load, key, remembered, args, kwargs):
        """Compute a value that is still good again, unless another caller or process does so already."""
        tags = self._declare(load, args, kwargs)
        if self.cache.store is not None:
            value = await in_thread(self.cache, load.lease, self.cache, lambda: self._fresh(key), NOTHING, False, False)
            if value is load:
                load.do_not_share()
                return remembered.value
            if value is not NOTHING:
                return value
        return await self._compute(load, key, tags, args, kwargs)

    async def _reconsider(self, key, remembered, args, kwargs):
        """Answer a call that found an exception, or a result that is lost, stale or due for a refresh."""
        if remembered.raised:
            raise _core._copy_of_exception(remembered.value)
        if remembered.lost:
            return await self._compute_once(key, args, kwargs)
        if remembered.good_for <= 0:
            try:
                return await self._compute_once(key, args, kwargs)
            except Exception:
                if self._plan.stale_if_error:
                    self._log_refresh()
                    return remembered.value
                raise
        if self._plan.early_refresh and self._is_due(remembered):
            try:
                return await _core._load_in_task(
                    self.cache, key, lambda load: self._refresh_early(load, key, remembered, args, kwargs)
                )
            except Exception:  # noqa: BLE001  # The present value is still good.
                self._log_refresh()
        elif self._plan.soft_ttl is not INFINITY:
            self._refresh_soon(key, remembered, args, kwargs)
        return remembered.value

    async def _call_with_nonce(self, args, kwargs):
        """Answer a call whose nonce must first be read from the store, and written there if it is missing."""
        return await self._load(await self._key_in_thread(args, kwargs), args, kwargs)

    async def _key_in_thread(self, args, kwargs):
        """Return the key of a call. Reading its nonce from the store may block, hence the thread."""
        return await in_thread(self.cache, lambda: self._key_of(*args, **kwargs))

    def _refresh_soon(self, key, remembered, args, kwargs):
        """Compute the value again in a separate task. Each key has at most one such task at a time."""

        async def compute(load):
            try:
                return await self._refresh_early(load, key, remembered, args, kwargs)
            except Exception:
                self._log_refresh()
                raise

        try:
            _core._refresh_in_task(self.cache, key, compute)
        except Exception:  # noqa: BLE001  # The present value is still good.
            self._log_refresh()

    async def refresh(self, /, *args, **kwargs):
        """Call the function now, even if there is a result or a computation, and keep its result."""
        if _ATTRIBUTES_LACK_CLASS:
            self._refuse_without_class("refresh")
        return await self._refresh(*args, **kwargs)

    async def _refresh(self, /, *args, **kwargs):
        key = await self._key_in_thread(args, kwargs)

        async def compute(load):
            tags = self._declare(load, args, kwargs)
            await in_thread(self.cache, load.take_lease, self.cache)
            return await self._compute(load, key, tags, args, kwargs)

        return await _core._load_in_task(self.cache, key, compute, refresh=True)


for _class in (Memo, SyncMemo, AsyncMemo):
    _core._call_directly(_class)
