"""Bases that subclasses of users get, so that calls use what the subclasses override."""

from __future__ import annotations


def classes_beside(one: type) -> list[type]:
    """Return the classes that derive from a class, and all their base classes."""
    classes: list[type] = []
    subclasses: list[type] = type.__subclasses__(one)
    for below in subclasses:
        classes += (*below.__mro__, *classes_beside(below))
    return classes
