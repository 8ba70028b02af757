"""Calls of a subclass that go through what it overrides, as in python-diskcache.

There, `cache[key]` calls `get`, `cache[key] = value` calls `set`, and so on. Here, each call is native. A subclass that
overrides one of these gets the calls that python-diskcache makes of it in the form that uses the override.
"""

from __future__ import annotations

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


def follow_overrides(cls: type, kind: type, forms: Mapping[str, tuple[str, Any]]) -> None:
    """Give a user's subclass of `kind` the forms that use what it overrides.

    Calls that it overrides itself stay, and find the forms with `super()`.
    """
    if cls.__module__.startswith(_PACKAGE):
        return
    ours = next(one for one in cls.__mro__ if one.__module__.startswith(_PACKAGE) and issubclass(one, kind))
    found_by_super: dict[str, Any] = {}
    for name, (used, form) in forms.items():
        if getattr(cls, used) is getattr(ours, used):
            continue
        if getattr(cls, name) is getattr(ours, name):
            setattr(cls, name, form)
        elif getattr(cls, name) is not form:
            found_by_super[name] = form
    if found_by_super:
        _add_base(cls, ours, found_by_super)


def _add_base(cls: type, ours: type, methods: dict[str, Any]) -> None:
    """Add a base class with these methods directly before the class of this package."""
    added = type("_Composed", (), {"__slots__": (), **methods})
    one = next(one for one in cls.__mro__ if ours in one.__bases__)
    place = one.__bases__.index(ours)
    one.__bases__ = (*one.__bases__[:place], added, *one.__bases__[place:])
