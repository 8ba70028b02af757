"""Instances whose methods are memoized: their representation in keys, and the results that they hold."""

import gc
from _weakref import ref
from types import FunctionType, ModuleType

from flexcache_rs import _core

# The attribute of an instance that holds those results of its methods which may refer to the instance.
_RESULTS = "_flexcache_rs_results"


class InstanceRef(ref):
    """A weak reference to an instance, which replaces the instance in keys. It is equal only to itself."""

    __slots__ = ("address", "tag")

    def __eq__(self, other):
        return self is other

    def __ne__(self, other):
        return self is not other

    def __hash__(self):
        return object.__hash__(self)


def results_of(instance):
    """Return the object in which an instance holds results of its methods. None if it has no __dict__ for it."""
    attributes = getattr(instance, "__dict__", None)
    if type(attributes) is not dict:
        return None
    results = attributes.setdefault(_RESULTS, _core._InstanceResults(instance))
    if not isinstance(results, _core._InstanceResults) or not results.belong_to(instance):
        # The instance was unpickled or copied, and the attribute came along.
        results = attributes[_RESULTS] = _core._InstanceResults(instance)
    return results


# The search for an instance ends after this many objects. A result with more of them counts as referring to it.
_MOST_REFERENTS = 10_000


def may_refer_to(value, instance):
    """Whether a result may keep an instance alive, judging by the references that the garbage collector reports."""
    seen, left = {id(value)}, [value]
    while left:
        one = left.pop()
        if one is instance:
            return True
        if isinstance(one, FunctionType):
            # Skip __globals__: the module owns them, not the result.
            referents = [one.__closure__, one.__defaults__, one.__kwdefaults__, one.__dict__]
        else:
            referents = gc.get_referents(one)
        for other in referents:
            if other is instance:
                return True
            # Skip classes, modules and their globals. They live anyway, and so does whatever they refer to.
            if (
                id(other) in seen
                or not gc.is_tracked(other)
                or issubclass(type(other), (type, ModuleType))
                or (type(other) is dict and "__builtins__" in other)
            ):
                continue
            if len(seen) == _MOST_REFERENTS:
                return True
            seen.add(id(other))
            left.append(other)
    return False
