"""The caches that have a name."""

from __future__ import annotations

from _weakref import ref

from flexcache_rs import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_named: dict[str, ref[_core.FlexCache[Any, Any]]] = {}


def _register(cache: _core.FlexCache[Any, Any]) -> None:
    name = cache.name
    assert name is not None

    def forget(dead: ref[_core.FlexCache[Any, Any]]) -> None:
        if _named.get(name) is dead:
            _named.pop(name, None)

    _named[name] = ref(cache, forget)


_core._set_registrar(_register)


def caches() -> dict[str, _core.FlexCache[Any, Any]]:
    """All caches alive that were made with a name, by name, in the order they were made.

    Of several with one name it is the last. Copies and unpickled caches are not among them. They are
    not kept alive by this. O(caches).

    >>> from flexcache_rs import FlexCache, caches
    >>> users = FlexCache(name="users", max_items=100)
    >>> caches()["users"] is users
    True
    """
    found = [(name, reference()) for name, reference in list(_named.items())]
    return {name: cache for name, cache in found if cache is not None}
