"""The caches that have a name."""

from __future__ import annotations

from _weakref import ref
from itertools import count

from flexcache_rs import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The caches with a name. The keys are numbers in the order of creation.
_named: dict[int, tuple[str, ref[_core.FlexCache[Any, Any]]]] = {}
_numbers = count()


def _register(cache: _core.FlexCache[Any, Any]) -> None:
    assert cache.name is not None
    number = next(_numbers)
    _named[number] = cache.name, ref(cache, lambda _: _named.pop(number, None))


_core._set_registrar(_register)


def caches() -> dict[str, _core.FlexCache[Any, Any]]:
    """Return all live caches that have a name, by name, in the order of their creation.

    If several caches have the same name, the last one is returned. Copies and unpickled caches are not included. This
    does not keep the caches alive. O(caches).

    >>> from flexcache_rs import FlexCache, caches
    >>> users = FlexCache(name="users", max_items=100)
    >>> caches()["users"] is users
    True
    """
    found = [(name, reference()) for name, reference in list(_named.values())]
    return {name: cache for name, cache in found if cache is not None}


# The same for caches in shared memory.
_shared: dict[int, ref[Any]] = {}


def register_shared(cache: Any) -> None:
    """Register a `SharedCache`, which always has a name."""
    number = next(_numbers)
    _shared[number] = ref(cache, lambda _: _shared.pop(number, None))


def shared_caches() -> dict[str, Any]:
    """Return every `SharedCache` that this process has open, by name."""
    found = [reference() for reference in list(_shared.values())]
    return {cache.name: cache for cache in found if cache is not None and not cache.closed}


# The same for near caches of servers.
_remote: dict[int, ref[Any]] = {}


def register_remote(cache: Any) -> None:
    """Register a `RemoteCache`."""
    number = next(_numbers)
    _remote[number] = ref(cache, lambda _: _remote.pop(number, None))


def remote_caches() -> dict[str, Any]:
    """Return every open `RemoteCache` of this process by name. Without a name, its namespace is the key."""
    found = [reference() for reference in list(_remote.values())]
    return {cache.name or cache.namespace: cache for cache in found if cache is not None and not cache.closed}
