"""The arguments of a weigher, and a weigher that estimates bytes."""

# This module looks at objects of any type.
# pyright: basic

from __future__ import annotations

import sys

from flexcache_rs._suggest import suggesting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


def takes_key(weigher: Callable[..., Any]) -> bool:
    """Whether a weigher is called with the key and the value, rather than with the value alone."""
    from inspect import signature  # Not imported before it is used.

    try:
        parameters = signature(weigher)
    except (TypeError, ValueError):
        # A function written in C without a signature. Such functions usually measure one object.
        return False
    for arguments in ((None,), (None, None)):
        try:
            parameters.bind(*arguments)
        except TypeError:
            continue
        return len(arguments) == 2
    raise TypeError(f"weigher must be a function of a value, or of a key and a value, not {weigher!r}{parameters}")


_SHARED: tuple[type, ...] = (type, type(sys), type(lambda: None), type(len))


def _parts(value: Any) -> Iterator[Any]:
    """Yield the objects which a value refers to, and which are counted with it."""
    of = type(value)
    # Others may change the value while this generator rests. A list has what was there at one moment.
    if issubclass(of, dict):
        for pair in list(dict.items(value)):  # Not the method of a subclass.
            yield from pair
    elif issubclass(of, (list, tuple, set, frozenset)) or (of.__module__, of.__name__) == ("collections", "deque"):
        yield from list(value)
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is dict:
        yield attributes
    for base in of.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in {"__dict__", "__weakref__"}:
                mangled = f"_{base.__name__.lstrip('_')}{name}" if name[:2] == "__" and name[-2:] != "__" else name
                part = getattr(value, mangled, None)
                if part is not None:
                    yield part


@suggesting
def size_of(value: object) -> int:
    """Estimate the bytes of memory that a value takes.

    The estimate is the sum of `sys.getsizeof` over the value and its parts. Parts are the elements of a list, tuple,
    set, frozenset, deque and dict, including their subclasses, and the attributes of an object in its `__dict__` and
    its slots. An object that occurs several times counts once. Classes, modules and functions do not count, and
    neither do None, True and False, because they exist anyway. Objects that other values share count in full. The
    whole buffer behind a memoryview counts. Memory of a type written in C that `sys.getsizeof` does not report does
    not count.

    Args:
        value: Any object.

    Returns:
        Bytes.

    Raises:
        Exception: An attribute or a `__sizeof__` raised it.

    O(1) for str, bytes and numbers, O(n) for n objects otherwise.

    >>> from flexcache_rs import FlexCache, size_of
    >>> size_of("a" * 1000) >= 1000
    True
    >>> size_of(["a" * 1000, "b" * 1000]) >= 2000
    True
    >>> cache = FlexCache(max_bytes=10_000, weigher=size_of)
    >>> cache["page"] = b"<html>" * 100
    >>> 600 < cache.bytes < 700
    True
    """
    if type(value) in {str, bytes, int, float}:
        return sys.getsizeof(value)
    total = 0
    seen: set[int] = set()
    waiting: list[Any] = [value]
    # Keep the objects alive, so that no id is reused meanwhile.
    kept: list[Any] = []
    while waiting:
        one = waiting.pop()
        if id(one) in seen or one is None or one is True or one is False or isinstance(one, _SHARED):
            continue
        seen.add(id(one))
        kept.append(one)
        total += sys.getsizeof(one)
        of = type(one)
        if of is memoryview:
            total += one.nbytes
        elif of not in {str, bytes, int, float}:
            waiting.extend(_parts(one))
    return total
