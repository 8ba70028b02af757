"""Hides attributes of a base class, because the class that a drop-in replaces does not have them."""

# mypy: ignore-errors

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class _Absent:
    """A descriptor that looks as if the attribute did not exist.

    Instances may still have an attribute of the name, and so may further base classes of a subclass.
    """

    def __init__(self, name: str, hidden_in: type) -> None:
        self._name, self._hidden_in = name, hidden_in

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        name = self._name
        found = self.found_below(type(instance) if owner is None else owner)
        if found is not self:
            get: Any = getattr(type(found), "__get__", None)
            return found if get is None else get(found, instance, owner)
        if instance is None and owner is not None:
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {name!r}", name=name, obj=owner)
        kind = type(instance).__name__
        raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=instance)

    def found_below(self, owner: type) -> object:
        """Return the attribute of a base class that comes after the one in which it is hidden, or this object."""
        hidden = set(self._hidden_in.__mro__)
        for one in owner.__mro__[owner.__mro__.index(self._hidden_in) :]:
            if one not in hidden and self._name in vars(one):
                return vars(one)[self._name]
        return self


def show_assignable(class_: type) -> None:
    """Show the hidden properties that further base classes of a subclass have, so that they can be assigned."""
    first: dict[str, Any] = {}
    for one in class_.__mro__:
        for name, kept in vars(one).items():
            first.setdefault(name, kept)
    for name, kept in first.items():
        found: object = kept.found_below(class_) if isinstance(kept, _Absent) else kept
        if found is not kept and hasattr(type(found), "__set__"):
            setattr(class_, name, found)


def hide(class_: type, names: Iterable[str]) -> None:
    """Hide attributes of its base class from a class and its instances."""
    for name in names:
        setattr(class_, name, _Absent(name, class_))


def present_names(instance: object) -> list[str]:
    """Return the names of an object without those that `hide` has hidden. A class has this function as `__dir__`."""
    own, kind = vars(instance), type(instance)
    return [name for name in object.__dir__(instance) if name in own or hasattr(kind, name)]
