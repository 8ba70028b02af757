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

    def __init__(self, name: str, hidden_in: type, hidden: frozenset[type]) -> None:
        # The search begins after the class that has this object. The classes in `hidden` are left out.
        self._name, self._hidden_in, self.hidden = name, hidden_in, hidden

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
        """Return the attribute of a base class that comes after the one with this object, or this object."""
        name, hidden, classes = self._name, self.hidden, owner.__mro__
        place = classes.index(self._hidden_in)
        if len(classes) - place == len(hidden) and type(self) is _Absent:
            # There are no further base classes.
            return self
        for one in classes[place:]:
            if one not in hidden and name in vars(one) and not isinstance(vars(one)[name], _Absent):
                return vars(one)[name]
        return self


class _Forwarding(_Absent):
    """Forwards to the attribute of a further base class of a subclass, which may be a property with a setter."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is not None and self._name in vars(instance):
            kind = type(self.found_below(type(instance)))
            if kind is _Forwarding or not (hasattr(kind, "__set__") or hasattr(kind, "__delete__")):
                return vars(instance)[self._name]
        return _Absent.__get__(self, instance, owner)

    def __set__(self, instance: object, value: Any) -> None:
        found = self.found_below(type(instance))
        assign: Any = getattr(type(found), "__set__", None)
        if found is not self and assign is not None:
            assign(found, instance, value)
        else:
            vars(instance)[self._name] = value

    def __delete__(self, instance: object) -> None:
        found = self.found_below(type(instance))
        delete: Any = getattr(type(found), "__delete__", None)
        if found is not self and delete is not None:
            delete(found, instance)
        elif self._name in vars(instance):
            del vars(instance)[self._name]
        else:
            kind = type(instance).__name__
            raise AttributeError(f"{kind!r} object has no attribute {self._name!r}", name=self._name, obj=instance)


def show_assignable(class_: type) -> None:
    """Let a subclass find hidden properties in its further base classes, so that they can be assigned.

    Python asks a descriptor before it looks at the attributes of an object only if the descriptor can be assigned.
    """
    first: dict[str, Any] = {}
    for one in class_.__mro__:
        for name, kept in vars(one).items():
            first.setdefault(name, kept)
    for name, kept in first.items():
        if type(kept) is _Absent and hasattr(type(kept.found_below(class_)), "__set__"):
            setattr(class_, name, _Forwarding(name, class_, kept.hidden))


def hide(class_: type, names: Iterable[str]) -> None:
    """Hide attributes of its base class from a class and its instances."""
    hidden = frozenset(class_.__mro__)
    for name in names:
        setattr(class_, name, _Absent(name, class_, hidden))


def present_names(instance: object) -> list[str]:
    """Return the names of an object without those that `hide` has hidden. A class has this function as `__dir__`."""
    own, kind = vars(instance), type(instance)
    return [name for name in object.__dir__(instance) if name in own or hasattr(kind, name)]
