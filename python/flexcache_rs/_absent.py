"""Hides attributes of a base class, because the class that a drop-in replaces does not have them."""

# mypy: ignore-errors

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class _Absent:
    """A descriptor that looks as if the attribute did not exist. Instances may still have an attribute of the name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        name = self._name
        if instance is None and owner is not None:
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {name!r}", name=name, obj=owner)
        kind = type(instance).__name__
        raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=instance)


def hide(class_: type, names: Iterable[str]) -> None:
    """Hide attributes of its base class from a class and its instances."""
    for name in names:
        setattr(class_, name, _Absent(name))


def present_names(instance: object) -> list[str]:
    """Return the names of an object without those that `hide` has hidden. A class has this function as `__dir__`."""
    own, kind = vars(instance), type(instance)
    return [name for name in object.__dir__(instance) if name in own or hasattr(kind, name)]
