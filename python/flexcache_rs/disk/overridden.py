"""Calls of a subclass that go through what it overrides, as in python-diskcache.

There, `cache[key]` calls `get`, `cache[key] = value` calls `set`, and so on. Here, each call is native. A subclass that
overrides one of these gets the calls that python-diskcache makes of it in the form that uses the override.
"""

from __future__ import annotations

from flexcache_rs._bases import classes_beside
from flexcache_rs.disk.constants import ENOVAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def _setitem(self: Any, key: Any, value: Any) -> None:
    self.set(key, value, retry=True)


def _getitem(self: Any, key: Any) -> Any:
    value = self.get(key, default=ENOVAL, retry=True)
    if value is ENOVAL:
        raise KeyError(key)
    return value


def _read(self: Any, key: Any, retry: bool = False) -> Any:
    handle = self.get(key, default=ENOVAL, read=True, retry=retry)
    if handle is ENOVAL:
        raise KeyError(key)
    return handle


def _read_of_fanout(self: Any, key: Any) -> Any:
    return _read(self, key, retry=True)


def _decr(self: Any, key: Any, delta: float = 1, default: float | None = 0, retry: bool = False) -> Any:
    return self.incr(key, -delta, default, retry)


def _delete(self: Any, key: Any, retry: bool = False) -> Any:
    try:
        return self.__delitem__(key, retry=retry)
    except KeyError:
        return False


def _contains(self: Any, key: object) -> bool:
    try:
        self[key]
    except KeyError:
        return False
    return True


OF_CACHE = {
    "__setitem__": ("set", _setitem),
    "__getitem__": ("get", _getitem),
    "read": ("get", _read),
    "decr": ("incr", _decr),
    "delete": ("__delitem__", _delete),
}
"""For each call of `Cache`, the call that python-diskcache makes it of, and the form that uses that one."""

OF_FANOUT = {"read": ("get", _read_of_fanout)}
"""The same for `FanoutCache`."""

OF_MAPPING = {"__contains__": ("__getitem__", _contains)}
"""The same for `Index`, which has the method of `collections.abc.Mapping` there."""

_PACKAGE = __name__.partition(".")[0] + "."


_DERIVED: dict[tuple[type, str], type] = {}
"""The class with the form of one call, by the class of this package that it derives from and the name of the call."""


def follow_overrides(cls: type, kind: type, forms: Mapping[str, tuple[str, Any]]) -> None:
    """Give a user's subclass of `kind` the forms that use what it overrides.

    Calls that this or another user's class overrides stay, and find the forms with `super()`.
    """
    if cls.__module__.startswith(_PACKAGE):
        return
    ours = next(one for one in cls.__mro__ if _is_ours(one, kind))
    names = {name for name, (used, _) in forms.items() if getattr(cls, used) is not getattr(ours, used)}
    # If a class of a user has a form already, it would come before the calls of the classes after that one.
    names.update(name for (_, name), derived in _DERIVED.items() if name in forms and derived in cls.__mro__)
    waiting = list(cls.__mro__) if names else []
    while waiting:
        one = waiting.pop()
        if _add_bases(one, kind, {name: form for name, (_, form) in forms.items()}, names):
            # A class that derives from this one and from another one needs the forms in both.
            waiting += classes_beside(one)


def _is_ours(one: type, kind: type) -> bool:
    """Whether it is a class from which users derive theirs."""
    return one.__module__.startswith(_PACKAGE) and issubclass(one, kind) and one not in _DERIVED.values()


def _derived(ours: type, name: str, form: Any) -> type:
    """Return the class that has the form of one call.

    It derives from the class of this package, because Python replaces bases only by others of the same layout.
    """
    if (ours, name) not in _DERIVED:
        body = {"__slots__": (), "__module__": __name__, name: form}
        _DERIVED.setdefault((ours, name), type(ours)("_Composed", (ours,), body))
    return _DERIVED[ours, name]


def _add_bases(one: type, kind: type, forms: Mapping[str, Any], names: set[str]) -> bool:
    """Add classes with these forms directly before the class of this package, if a user's class derives from it.

    Returns whether any was added. They are always in the same order, so that every order of bases is consistent.
    """
    bases = one.__bases__
    place = next((place for place, base in enumerate(bases) if _is_ours(base, kind)), None)
    if place is None or one.__module__.startswith(_PACKAGE):
        return False
    ours, present = bases[place], {name for name in forms if _DERIVED.get((bases[place], name)) in bases}
    added = [_derived(ours, name, form) for name, form in forms.items() if name in names | present]
    if all(base in bases for base in added):
        return False
    one.__bases__ = (*(base for base in bases[:place] if base not in added), *added, *bases[place:])
    return True
