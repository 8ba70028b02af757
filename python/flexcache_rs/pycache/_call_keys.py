"""The keys of decorated functions' calls, which have arguments of any kind, as in PyCache."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import itertools
import os
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import ref

from flexcache_rs._core import _canonical_key
from flexcache_rs.pycache.adapters import Adapter, InMemory
from flexcache_rs.sessions._arguments import short

if TYPE_CHECKING:
    from collections.abc import Callable

_numbers = itertools.count()

_tokens: dict[int, tuple[ref[Any], str]] = {}
"""By address: live objects that only their identity tells apart, and the text which stands for each in keys."""


def keys_of(prefix: str, function: Callable[..., Any], adapter: Adapter) -> Callable[..., str]:
    """Return a function that makes the keys of a function's calls.

    If the adapter is in memory, functions of the same name have different keys.
    """
    own: Any = function if hasattr(function, "__qualname__") else type(function)
    name = f"{prefix}:{own.__module__}.{own.__qualname__}"
    if isinstance(adapter, InMemory):
        name += f":{next(_numbers)}"

    def key(*args: Any, **kwargs: Any) -> str:
        named = sorted(kwargs.items())
        try:
            return short(_canonical_key((name, args, tuple(named))))
        except TypeError:
            # With another name, because a tuple among other arguments could look like a part.
            return short(_canonical_key((f"{name}:parts", _part(args), _part(named))))

    return key


def _part(value: Any) -> Any:
    """Return something that can be part of a key: the parts of a container, and a text for the object that it is."""
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind in (list, tuple, deque):
        return (kind.__name__, *map(_part, value))
    if kind is dict:
        return (kind.__name__, frozenset((_part(key), _part(item)) for key, item in value.items()))
    if kind in (set, frozenset):
        return (kind.__name__, frozenset(map(_part, value)))
    try:
        _canonical_key((value,))
    except TypeError:
        return ("object", _token(value))
    return ("value", value)


def _token(value: Any) -> str:
    """Return a text that stands for an object as long as it lives. No other object and no other process has it.

    Raises:
        TypeError: The object can have no weak reference.
    """
    place = id(value)
    known = _tokens.get(place)
    if known is not None and known[0]() is value:
        return known[1]

    def forget(dead: ref[Any]) -> None:
        if _tokens.get(place, (None,))[0] is dead:
            _tokens.pop(place, None)

    token = os.urandom(8).hex()
    try:
        _tokens[place] = ref(value, forget), token
    except TypeError as error:
        message = (
            f"an argument of type {type(value).__qualname__} cannot be part of a key, since it can be neither pickled "
            "nor referred to weakly"
        )
        raise TypeError(message) from error
    return token
