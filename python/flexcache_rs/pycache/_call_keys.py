"""The keys of decorated functions' calls.

They take more arguments than memoized calls in a store, as in PyCache. The content of a list, a dict, a set or an
object that can be pickled is part of the key, as it is at the time of the call. An object that cannot be pickled counts
as itself in its process. It is refused if it has its own `__eq__` and no hash.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import hashlib
import inspect
import itertools
import os
import pickle
import sys
from collections import deque
from functools import partial
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any
from weakref import ref

from flexcache_rs._core import _canonical_key
from flexcache_rs.pycache.adapters import Adapter, InMemory
from flexcache_rs.sessions._arguments import short

if TYPE_CHECKING:
    from collections.abc import Callable

_PROTOCOL = 5

_DEEPEST = 200
"""Containers that are nested deeper than this are refused, and so are those that contain themselves."""

_numbers = itertools.count()

_tokens: dict[int, tuple[ref[Any], str]] = {}
"""By address: live objects that only their identity tells apart, and the text which stands for each in keys."""

if hasattr(os, "register_at_fork"):
    # In a child, the objects are others: they change independently of those of the parent.
    os.register_at_fork(after_in_child=_tokens.clear)


class _Decorated:
    """Stands for a decorated function that only its identity tells apart, since it may allow no weak reference."""


def keys_of(prefix: str, function: Callable[..., Any], adapter: Adapter) -> Callable[..., str]:
    """Return a function that makes the keys under which the results of a function's calls are kept.

    If the adapter is in memory, functions of the same name have different keys. In other adapters, several processes
    have the same keys for a function with a name in its module, and for an object that can be called and pickled.
    """
    whose = _whose(function, alone=isinstance(adapter, InMemory))
    return _keys(_name_of(prefix, function, adapter), whose, function)


def counters_of(prefix: str, function: Callable[..., Any], adapter: Adapter) -> Callable[..., str]:
    """Return a function that makes the keys under which the calls of a function are counted.

    These are the same while the function's own state changes. All processes count the calls of a function of some name
    together, also if it was defined in another function.
    """
    named = hasattr(function, "__qualname__") and not hasattr(function, "__self__")
    own = "" if named else _whose(function, alone=False)()
    return _keys(_name_of(prefix, function, adapter), lambda: own, function)


def _name_of(prefix: str, function: Any, adapter: Adapter) -> str:
    own: Any = function if hasattr(function, "__qualname__") else type(function)  # pyright: ignore[reportUnknownVariableType]
    name = f"{prefix}:{getattr(own, '__module__', None)}.{own.__qualname__}"
    return f"{name}:{next(_numbers)}" if isinstance(adapter, InMemory) else name


def _keys(name: str, whose: Callable[[], str], function: Any) -> Callable[..., str]:
    def key(*args: Any, **kwargs: Any) -> str:
        own = whose()
        called = f"{name}:{own}" if own else name
        named = sorted(kwargs.items())
        try:
            return short(_canonical_key((called, args, tuple(named))))
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - what an argument raises as it is hashed or pickled
            pass
        positional = [_argument(value, str(place), function) for place, value in enumerate(args, 1)]
        by_name = [(argument, _argument(value, repr(argument), function)) for argument, value in named]
        # With another name, because a text among other arguments could look like a part.
        return short(_canonical_key((f"{called}:parts", tuple(positional), tuple(by_name))))

    return key


def _whose(function: Any, alone: bool) -> Callable[[], str]:
    """Return a function that tells the callable from others of its name. Its text is empty if the name suffices.

    Args:
        function: The callable.
        alone: Whether no other callable has the name.
    """
    decorated = _Decorated()

    def own() -> str:
        return "" if _is_found(function) else _content(function) or _token(decorated)

    if not isinstance(function, FunctionType):
        # It may change, even if no other has its name.
        return own
    if "<" in function.__qualname__ and not alone:
        code = _content_of_local(function)
        return own if code is None else lambda: code
    # functools.wraps() gives it the name of another function.
    return own if hasattr(function, "__wrapped__") and not alone else lambda: ""


def _is_found(function: Any) -> bool:
    """Return whether the function's name in its module means the function, perhaps behind other decorators."""
    found: Any = sys.modules.get(getattr(function, "__module__", ""))
    try:
        for name in getattr(function, "__qualname__", "").split("."):
            found = getattr(found, name)
        return inspect.unwrap(found, stop=lambda each: each is function) is function
    except Exception:  # noqa: BLE001 - what has replaced it may have any attributes
        return False


def _content_of_local(function: FunctionType) -> str | None:
    """Return a text for the code of a function without a name in its module, or None if it has other state."""
    if function.__closure__:
        return None
    try:
        defaults = _canonical_key((function.__defaults__, tuple(sorted((function.__kwdefaults__ or {}).items()))))
        code = repr((_parts_of_code(function.__code__), defaults))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a default that cannot be part of a key
        return None
    return hashlib.blake2b(code.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _parts_of_code(code: CodeType) -> tuple[Any, ...]:
    constants: list[Any] = []
    for each in code.co_consts:
        if isinstance(each, CodeType):
            constants.append(_parts_of_code(each))
        elif isinstance(each, frozenset):
            # Its order depends on the process.
            constants.append(sorted(map(repr, each)))  # pyright: ignore[reportUnknownArgumentType]
        else:
            constants.append(repr(each))
    arguments = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    handlers = getattr(code, "co_exceptiontable", b"")
    return (code.co_code, arguments, code.co_names, code.co_varnames, handlers, constants)


def _argument(value: Any, argument: str, function: Any) -> str:
    """Return a text for an argument.

    Raises:
        TypeError: It cannot be part of a key.
    """
    try:
        return _text(value)
    except MemoryError:
        raise
    except Exception as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        called = getattr(function, "__qualname__", type(function).__qualname__)
        message = f"argument {argument} of {called}() cannot be part of a key: {reason}"
        raise TypeError(message) from error


def _text(value: Any, depth: int = 0) -> str:
    """Return a text that only equal objects of the same type have.

    Raises:
        TypeError: There is none.
    """
    if depth == _DEEPEST:
        message = f"it contains itself, or is nested more than {_DEEPEST} deep"
        raise TypeError(message)
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind in (list, tuple, deque):
        return _canonical_key((kind.__name__, *[_text(each, depth + 1) for each in tuple(value)]))
    if kind in (set, frozenset, dict):
        # Their texts are sorted, and not put into a set: 1 and True are equal there.
        items: Any = value.items() if kind is dict else value
        return _canonical_key((kind.__name__, *sorted([_text(each, depth + 1) for each in tuple(items)])))
    if kind is memoryview:
        return _canonical_key((kind.__name__, value.format, value.shape, value.tobytes()))
    return _content(value, depth) or _identity(value, kind)


def _content(value: Any, depth: int = 0) -> str | None:
    """Return a text for the content of an object, or None if it cannot be pickled.

    Raises:
        TypeError: It is nested too deeply.
    """
    try:
        return _canonical_key(("value", value))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - it cannot be hashed or pickled
        pass
    try:
        pickled = pickle.dumps(value, _PROTOCOL)
    except MemoryError:
        raise
    except RecursionError as error:
        # With more room on the stack, it can be pickled, so it must not count as itself.
        message = f"an object of type {type(value).__qualname__} is nested too deeply"
        raise TypeError(message) from error
    except Exception:  # noqa: BLE001 - the modules of objects raise many exceptions here
        return None
    # The pickle of an object may be that of another type.
    return _canonical_key(("object", _text(type(value), depth + 1), pickled))


def _identity(value: Any, kind: Any) -> str:
    """Return a text for an object that cannot be pickled.

    Raises:
        TypeError: It may be equal to others and cannot be hashed, or it allows no weak reference.
    """
    if kind.__eq__ is not object.__eq__:
        try:
            hash(value)
        except MemoryError:
            raise
        except Exception as error:
            message = f"an object of type {kind.__qualname__} can be neither pickled nor hashed"
            raise TypeError(message) from error
    try:
        return _canonical_key(("itself", _token(value)))
    except TypeError as error:
        message = f"an object of type {kind.__qualname__} can be neither pickled nor referred to weakly"
        raise TypeError(message) from error


def _token(value: Any) -> str:
    """Return a text that stands for an object as long as it lives. No other object and no other process has it.

    Raises:
        TypeError: The object can have no weak reference.
    """
    place = id(value)
    known = _tokens.get(place)
    if known is None or known[0]() is not value:
        # The entry disappears with the object, before another can have its address. No Python code runs then, in which
        # a signal handler could raise. If several threads are here, all get the token of the first.
        mine = (ref(value, partial(_tokens.pop, place)), os.urandom(16).hex())
        known = _tokens.setdefault(place, mine)
        if known[0]() is not value:
            _tokens[place] = known = mine
    return known[1]
