"""`memoize(per_instance=True)`: each instance has its own cache, limits and statistics for a method.

Types are in the stub: `typing` takes longer to import than all of this package.
"""

import functools
from _weakref import ref
from functools import _CacheInfo

from flexcache_rs import _core
from flexcache_rs._memoize_options import flag


class PerInstance:
    """A method that memoize() has wrapped. `instance.method` is a memoized function with the instance's own cache."""

    # Slots, because update_wrapper() fills __dict__ with the attributes of the function.
    __slots__ = ("__dict__", "__weakref__", "_function", "_make", "_memos", "_parameters")

    def __init__(self, function, make, parameters):
        self._function, self._make, self._parameters = function, make, parameters
        # By the id of an instance: a weak reference to it, and its memoized function.
        self._memos = {}

    def _memo_of(self, instance):
        """Return the memoized function of an instance, made on first use."""
        found = self._memos.get(id(instance))
        if found is not None and found[0]() is instance:
            return found[1]
        memos, address = self._memos, id(instance)

        try:
            # This runs before another instance can have the same id.
            held = ref(instance, lambda _: memos.pop(address, None))
        except TypeError:
            raise TypeError(
                f"{self.__qualname__}() can only have a cache for instances that can be weakly referenced, "
                f"which those of {type(instance).__name__} cannot; add '__weakref__' to its __slots__"
            ) from None
        memo = self._make()
        # Declare it a method of the instance's class, so that keys do not keep the instance alive.
        memo._owners.append(ref(type(instance)))
        memo._may_be_method(memo._instances)
        made = held, memo
        # If two threads come here at once, both use the one that is stored first.
        known = memos.setdefault(address, made)
        if known[0]() is not instance:
            # A signal handler raised while another instance of this id was forgotten.
            known = memos[address] = made
        return known[1]

    def __get__(self, instance, owner=None):
        return self if instance is None else self._memo_of(instance).__get__(instance, owner)

    def _all(self):
        """Return the memoized functions of all live instances."""
        return [memo for held, memo in list(self._memos.values()) if held() is not None]

    def __call__(self, instance, /, *args, **kwargs):
        """Return the result of a call of an instance's method, from its cache if it is there."""
        return self._memo_of(instance)(instance, *args, **kwargs)

    def cache_key(self, instance, /, *args, **kwargs):
        """Return the key of a call with these arguments in the cache of the instance."""
        return self._memo_of(instance).cache_key(instance, *args, **kwargs)

    def invalidate(self, instance, /, *args, **kwargs):
        """Forget the instance's result of a call with these arguments. Returns True if there was one."""
        return self._memo_of(instance).invalidate(instance, *args, **kwargs)

    def peek(self, instance, /, *args, **kwargs):
        """Return the instance's stored result of a call with these arguments, or None. Does not count as an access."""
        return self._memo_of(instance).peek(instance, *args, **kwargs)

    def refresh(self, instance, /, *args, **kwargs):
        """Call the method of an instance now, even if there is a result, and keep its result."""
        return self._memo_of(instance).refresh(instance, *args, **kwargs)

    def clear(self):
        """Forget the results of all instances. O(n)."""
        for memo in self._all():
            memo.clear()

    def cache_clear(self):
        """Do the same as clear(). Also reset the statistics."""
        for memo in self._all():
            memo.cache_clear()

    def cache_info(self):
        """Return the sums of all live instances in the form of functools.lru_cache. maxsize is that of one instance."""
        found = [memo.cache_info() for memo in self._all()]
        hits, misses, held = (sum(one[at] for one in found) for at in (0, 1, 3))
        return _CacheInfo(hits, misses, self._parameters["maxsize"], held)

    def cache_parameters(self):
        """Return a new dict with the largest number of results of an instance and whether types make a difference."""
        return dict(self._parameters)

    @property
    def cache(self):
        """Raise AttributeError, because each instance has a cache of its own: `instance.method.cache`."""
        raise AttributeError(f"{self.__qualname__} has a cache for each instance: ask instance.{self.__name__}.cache")

    def __reduce__(self):
        return self.__qualname__

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __repr__(self):
        return f"<memoized {self.__qualname__}, for each instance>"


def refuse_other_methods(function):
    """Check that a function is neither a class method, which has no instances, nor a static method.

    Raises:
        TypeError: It is one.
    """
    if isinstance(function, (classmethod, staticmethod)):
        raise TypeError(f"per_instance is for methods of instances, not for a {type(function).__name__}")


def per_instance_of(function, make, parameters, mark):
    """Wrap a method, so that each instance has a separate memoized function, which `make` makes."""
    made = functools.update_wrapper(PerInstance(function, make, parameters), function)
    # Attributes of the function must not hide the methods of the wrapper.
    for name in set(made.__dict__).difference(functools.WRAPPER_ASSIGNMENTS):
        if hasattr(PerInstance, name):
            del made.__dict__[name]
    if mark:
        mark(made)
    return made


_NOT_FOR_EACH = ("store", "name", "record")


def check_per_instance(wanted, cache, options, version):
    """Check the options that are given with `per_instance`.

    Raises:
        TypeError: It is no bool; or with it stands a cache, or what only one cache can have.
    """
    flag("per_instance", wanted)
    if not wanted:
        return
    beside = [name for name in _NOT_FOR_EACH if options.get(name) is not None]
    beside += ["cache"] * (cache is not None) + ["version"] * (version is not None)
    if beside:
        why = "per_instance gives each instance a cache of its own, in memory"
        raise TypeError(f"{why}; memoize() does not take {beside[0]} with it")
    _core.FlexCache(**options)
