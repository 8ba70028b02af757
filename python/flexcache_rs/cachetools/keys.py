"""Key functions for `cached` and `cachedmethod`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("hashkey", "methodkey", "typedkey", "typedmethodkey")


class _KeywordMark:
    """Separates positional from keyword arguments in keys. The class itself is the mark, and pickles by its name."""


_MARK = (_KeywordMark,)


def hashkey(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return a key of the arguments, by which equal arguments are equal."""
    return (*args, *_MARK, *sorted(kwargs.items())) if kwargs else args


def methodkey(self: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:  # noqa: ARG001
    """Return a key of the arguments but the first, which is the instance."""
    return (*args, *_MARK, *sorted(kwargs.items())) if kwargs else args


def typedkey(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return a key of the arguments and their types, so that 3 and 3.0 are different."""
    if not kwargs:
        return (*args, *map(type, args))
    named = sorted(kwargs.items())
    return (*args, *_MARK, *named, *[type(value) for _, value in named], *map(type, args))


def typedmethodkey(self: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:  # noqa: ARG001
    """Return a key of the arguments but the first and their types."""
    return typedkey(*args, **kwargs)
