"""Names of memoized functions, which begin the keys of their results in a cache that others use as well.

In a store, which may outlive the process or be shared by several, the name is what tells the results of one
function from those of another. In a cache that is private to this process the memoized function itself does: its
prefix holds a random part.
"""

from __future__ import annotations

import os
import sys
from _weakref import ref

from flexcache_rs import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How long a nonce lives, in seconds, whatever the cache's default_ttl says: about a century.
_FOREVER = 3.0e9

# The functions alive that have results in a store, by the store's address and their prefix. A function keeps its
# store alive, so the address of a store whose function is alive is no other's.
_named: dict[tuple[int, str], ref[Any]] = {}


def text(argument: str, value: object) -> str | None:
    """Check a name or version that the user gave."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a str or None, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{argument} must not be empty; leave it out")
    return value


def stable_name(function: Any) -> str | None:
    """`module.qualname`, or None where that does not name this function alone, or not in every process."""
    name, module = getattr(function, "__qualname__", None), getattr(function, "__module__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return None
    bound = getattr(function, "__self__", None)
    if (bound is not None and not isinstance(bound, type(sys))) or "<" in name or name.rpartition(".")[2] == "_":
        return None
    if module == "__main__":
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        if spec is None:
            return None
        module = spec.name
    return f"{module}.{name}"


def random_prefix(function: Any) -> str:
    """A prefix that no other function has, in any process."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None)}.{name} {os.urandom(8).hex()}"


def warn_of_random_name(function: Any) -> None:
    """Log that the results of a function are not found again by other processes."""
    import logging  # Not imported before it is used.

    logging.getLogger("flexcache_rs").warning(
        "%s has no name that is the same in every process: its results in the store will not be found again; "
        "give memoize() a name",
        random_prefix(function).rpartition(" ")[0],
    )


def _place(function: Any) -> tuple[object, object]:
    """Where a function is written: its file and line."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return getattr(code, "co_filename", None), getattr(code, "co_firstlineno", None)


def claim(store: object, prefix: str, memo: Any, function: Any) -> None:
    """Note that a function's results in a store begin with a prefix.

    Raises:
        ValueError: where another function alive, from another line of the same file, has it.
    """
    place = (id(store), prefix)
    known = _named.get(place)
    other = None if known is None else known()
    if other is not None:
        here, there = _place(function), _place(other._function)
        if here[0] is not None and here[0] == there[0] and here[1] != there[1]:
            raise ValueError(
                f"two functions have the name {prefix!r} in one store, from lines {there[1]} and {here[1]} of "
                f"{here[0]}; give one of them another name"
            )

    def forget(dead: ref[Any]) -> None:
        if _named.get(place) is dead:
            _named.pop(place, None)

    _named[place] = ref(memo, forget)


class Names:
    """What the keys of one function begin with in a cache that others use as well."""

    __slots__ = ("_local", "head", "in_store", "place", "tag")

    def __init__(self, prefix: str | None, in_store: bool, tag: str | None, has_place: bool) -> None:
        self.in_store = in_store
        # What keys in a store begin with: the encoding of a tuple that ends here does so alone.
        self.head = _core._canonical_key((prefix,))[:-1] if in_store else None
        # What all results have whose keys are of the user's making.
        self.tag = tag
        # The key in the store under which all processes find the nonce.
        self.place = _core._canonical_key(("flexcache_rs memoize", prefix)) if has_place else None
        self._local = os.urandom(8).hex()

    def nonce(self, cache: Any) -> str:
        """A random part of the keys, another one after each clear(): never a number, which would begin again."""
        if self.place is None:
            return self._local
        for _ in range(100):
            # No lookup of the user's: it counts as none.
            nonce = cache.peek(self.place)
            if isinstance(nonce, str):
                return nonce
            nonce = os.urandom(8).hex()
            if cache.add(self.place, nonce, _FOREVER):
                return nonce
        # Nothing stays in the store: what is computed is not found again.
        return self._local

    def change_nonce(self, cache: Any) -> None:
        self._local = nonce = os.urandom(8).hex()
        if self.place is not None:
            cache.put(self.place, nonce, _FOREVER)


def names_in(
    cache: Any, shared: bool, function: Any, name: str | None, version: str | None, key: Any
) -> tuple[str | None, Names]:
    """The prefix of a function's keys, and what else tells them from others'."""
    in_store = cache.store is not None
    if not shared and not in_store:
        return None, Names(None, False, None, False)
    stable = name
    if name is None and in_store:
        stable = stable_name(function)
        if stable is None:
            warn_of_random_name(function)
    prefix = random_prefix(function) if stable is None else stable
    if version is not None:
        prefix = f"{prefix} version {version}"
    prefix = sys.intern(prefix)
    if not in_store:
        return prefix, Names(prefix, False, f"flexcache_rs function {prefix}" if key is not None else None, False)
    return prefix, Names(prefix, True, None, stable is not None)
