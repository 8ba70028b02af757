from typing import Any

__all__ = ("hashkey", "methodkey", "typedkey", "typedmethodkey")

def hashkey(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return a key of the arguments, by which equal arguments are equal."""

def methodkey(self: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return a key of the arguments but the first, which is the instance."""

def typedkey(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return a key of the arguments and their types, so that 3 and 3.0 are different."""

def typedmethodkey(self: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return a key of the arguments but the first and their types."""
