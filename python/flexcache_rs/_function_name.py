"""Names of memoized functions, which prefix the keys of their results in a cache with several users.

A store may outlive the process, or several processes may share it, so the name must tell the results of functions
apart. In a cache that is private to this process, a prefix with a random part does.
"""

from __future__ import annotations

import os
import sys
import warnings
from _weakref import ref

from flexcache_rs import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TypeAlias

# The first element of the keys under which a store keeps the nonces of functions.
_OF_NONCES = "flexcache_rs memoize"

# The encoded beginning of those keys.
HEAD_OF_NONCES = _core._canonical_key((_OF_NONCES,))[:-1]

# The time to live of a nonce in seconds, about a century. The cache's default_ttl does not apply to nonces.
_FOREVER = 3.0e9

# The limit of wrappers to unwrap: an object that has every attribute would unwrap without end.
_DEEPEST = 100

# The first element of a function's keys: its name, or in a store its name and version.
Prefix: TypeAlias = str | tuple[str, str]

# By store and prefix: a live function that has results in the store, and the execution of the module that defined it.
# A function keeps its store alive, so the id of the store is unique while the function lives.
_named: dict[tuple[tuple[object, ...], Prefix], tuple[ref[Any], object]] = {}


def text(argument: str, value: object) -> str | None:
    """Check a name or version that the user gave."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a str or None, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{argument} must not be empty; leave it out")
    return value


def stable_name(function: Any) -> tuple[str | None, str]:
    """Return `module.qualname`, or None and the reason why that does not identify the function in every process."""
    name, module = getattr(function, "__qualname__", None), getattr(function, "__module__", None)
    bound = getattr(function, "__self__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return None, f"it is an instance of {type(function).__qualname__}"
    if bound is not None and not isinstance(bound, type(sys)):
        return None, "it is a bound method"
    last = name.rpartition(".")[2]
    if last == "<lambda>":
        return None, "it is a lambda"
    if "<" in name:
        return None, "it is defined in another function"
    if last == "_":
        return None, "_ is the name of many functions"
    if module == "__main__":
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        if spec is None:
            return None, "it is a function of __main__, which is another program in another process"
        module = spec.name
    return f"{module}.{name}", ""


def random_prefix(function: Any) -> str:
    """Return a prefix that is unique to this function among all processes."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None)}.{name} {os.urandom(8).hex()}"


def _class_of(function: object) -> type:
    return type(function)


def _is_cache(store: Any) -> bool:
    return isinstance(store, _core.FlexCache)


def _is_memoized(function: Any) -> bool:
    return isinstance(function, _core.Memoized) and function.cache is not None


def _wrapped_by(function: Any) -> Iterator[Any]:
    """Yield the function, and the functions that it wraps, from the outside in."""
    known: list[Any] = []
    while function is not None and len(known) < _DEEPEST and not any(function is one for one in known):
        known.append(function)
        yield function
        inner = getattr(function, "func", None) if type(function).__module__ == "functools" else None
        function = getattr(function, "__wrapped__", None) or inner or getattr(function, "__func__", None)


def _places(function: Any) -> list[tuple[object, object]]:
    """Return file and first line of a function and of the functions that it wraps, if they have code."""
    codes = [getattr(one, "__code__", None) for one in _wrapped_by(function)]
    if codes == [None]:
        codes = [getattr(getattr(_class_of(function), "__call__", None), "__code__", None)]  # noqa: B004
    return [(code.co_filename, code.co_firstlineno) for code in codes if code is not None]


def _execution(function: Any) -> object:
    """Return an object that identifies the execution of the function's module. A reload makes a new one."""
    *_, innermost = _wrapped_by(function)
    return getattr(innermost, "__globals__", {}).get("__spec__")


def _store_of(cache: Any) -> tuple[object, ...]:
    """Return a value that is equal for caches over one store: its directory, or else the id of the store object."""
    store = cache.store
    while _is_cache(store) and store.store is not None:
        store = store.store
    directory = getattr(store, "directory", None)
    return (os.path.realpath(directory),) if isinstance(directory, str) else (id(store),)


def refuse_stacked(function: Any, label: str, cache: Any, prefix: Prefix) -> None:
    """Refuse a function that is, or wraps, one memoized in this cache, or in this store under this name.

    Raises:
        ValueError: for such a function.
    """
    for inner in _wrapped_by(function):
        if _is_memoized(inner):
            if inner.cache is cache:
                raise ValueError(f"{label}() is memoized in this cache already")
            has_store = cache.store is not None and inner.cache.store is not None
            if has_store and getattr(inner, "_prefix", None) == prefix and _store_of(inner.cache) == _store_of(cache):
                raise ValueError(f"{label}() is memoized in this store under this name already")


def claim(cache: Any, prefix: Prefix, memo: Any, function: Any) -> None:
    """Reserve a prefix of a store for a function. After a reload or a redefinition the new function replaces it.

    Raises:
        ValueError: A live function from another line of the same file has the prefix.
    """
    place = (_store_of(cache), prefix)
    execution = _execution(function)
    known, of_known = _named.get(place, (None, None))
    other = None if known is None else known()
    if other is not None and of_known is execution:
        here, there = _places(function), _places(other._function)
        if here != there and here and there and here[-1][0] == there[-1][0]:
            name, version = prefix if isinstance(prefix, tuple) else (prefix, None)
            file, lines = here[-1][0], (there[-1][1], here[-1][1])
            raise ValueError(
                f"two functions have the name {name!r}{'' if version is None else f' and the version {version!r}'} in "
                f"one store, from lines {lines[0]} and {lines[1]} of {file}"
                f'{", under different decorators" if lines[0] == lines[1] else ""}; give one of them another name="..."'
            )

    def forget(dead: ref[Any]) -> None:
        if _named.get(place, (None,))[0] is dead:
            _named.pop(place, None)

    _named[place] = ref(memo, forget), execution


class Names:
    """The beginning of one function's keys in a cache with several users, and its nonce."""

    __slots__ = ("_local", "head", "in_store", "place", "tag")

    def __init__(self, prefix: Prefix | None, in_store: bool, tag: str | None, has_place: bool) -> None:
        self.in_store = in_store
        # The encoded beginning of the keys in a store. Without the last byte, which ends the encoding of a tuple.
        self.head = _core._canonical_key((prefix,))[:-1] if in_store else None
        # The tag of all results if the user's `key` makes the keys, which then have no prefix.
        self.tag = tag
        # The key in the store under which all processes find the nonce.
        self.place = _core._canonical_key((_OF_NONCES, prefix)) if has_place else None
        self._local = os.urandom(8).hex()

    def nonce(self, cache: Any) -> str:
        """Return the random part of the keys, which clear() replaces. A counter could start again and repeat."""
        if self.place is None:
            return self._local
        for _ in range(10):
            # peek(), because this must not count as a lookup.
            nonce = cache.peek(self.place)
            if isinstance(nonce, str):
                return nonce
            nonce = os.urandom(8).hex()
            if cache.add(self.place, nonce, _FOREVER):
                return nonce
        # The store keeps nothing, so no result is found again and any nonce does.
        return self._local

    def change_nonce(self, cache: Any) -> None:
        self._local = nonce = os.urandom(8).hex()
        if self.place is not None:
            cache.put(self.place, nonce, _FOREVER)


def _levels_to_the_user() -> int:
    """Return the `stacklevel` with which a warning points at the user's decorator."""
    frame, levels = sys._getframe(1), 1  # pyright: ignore[reportPrivateUsage]
    package = __name__.rpartition(".")[0]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, levels = frame.f_back, levels + 1
    return levels


def _is_private(store: Any) -> bool:
    """Whether a store, and any store behind it, is a cache in the memory of this process."""
    while _is_cache(store):
        store = store.store
    return store is None


def names_in(
    cache: Any, shared: bool, function: Any, name: str | None, version: str | None, key: Any
) -> tuple[Prefix | None, Names]:
    """Return the prefix of a function's keys, and the `Names` that tell its keys from others'.

    Warns:
        RuntimeWarning: where a function has no name by which another process would find its results.
    """
    prefix: Prefix
    if cache.store is None:
        if not shared:
            return None, Names(None, False, None, False)
        prefix = sys.intern(random_prefix(function))
        return prefix, Names(prefix, False, f"flexcache_rs function {prefix}" if key is not None else None, False)
    stable, why = (name, "") if name is not None else stable_name(function)
    if stable is None:
        label = getattr(function, "__qualname__", None) or type(function).__qualname__
        if not _is_private(cache.store):
            message = (
                f"{label} has no name that is the same in every process, because {why}; other processes and later "
                f'runs will not find its results in the store; give memoize() a name="..."'
            )
            warnings.warn(message, RuntimeWarning, stacklevel=_levels_to_the_user())
    named = random_prefix(function) if stable is None else stable
    prefix = named if version is None else (named, version)
    return prefix, Names(prefix, True, None, stable is not None)
