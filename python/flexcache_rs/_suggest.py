"""Functions that say what was meant where an argument has a name that they do not know."""

from __future__ import annotations

import functools

from flexcache_rs import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ParamSpec, TypeVar

    _P = ParamSpec("_P")
    _R = TypeVar("_R")


def suggesting(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Has a function suggest the argument that was meant."""
    code: Any = getattr(function, "__code__", None)
    names: tuple[str, ...] = code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]
    known = frozenset(names)
    shown: Any = [name for name in names if name != "self"]
    is_constructor = function.__name__ == "__init__"

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if not known.issuperset(kwargs):
            unknown = next(name for name in kwargs if name not in known)
            label = type(args[0]).__name__ if is_constructor and args else function.__name__
            raise TypeError(_core._unexpected_argument(label, unknown, shown))  # pyright: ignore[reportPrivateUsage]
        return function(*args, **kwargs)

    return call
