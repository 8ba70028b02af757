"""Modules of the packages as attributes, and names that do not exist, for the type checkers."""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

import flexcache_rs.cachetools as cachetools_by_name
import flexcache_rs.cachetools.func
from flexcache_rs import cachetools, disk, diskcache_rs, pycache, remote, sciqlop, sessions, shared


@cachetools.func.ttl_cache(maxsize=10)
def of_the_package(number: int) -> str:
    """Is found as an attribute."""
    return str(number)


@cachetools_by_name.func.lru_cache
def of_an_alias(number: int) -> str:
    """Is found under another name."""
    return str(number)


@flexcache_rs.cachetools.func.lfu_cache
def of_the_full_name(number: int) -> str:
    """Is found by the whole name."""
    return str(number)


assert_type(of_the_package(1), str)
assert_type(of_an_alias(1), str)
assert_type(of_the_full_name(1), str)
assert_type(cachetools.keys.hashkey(1), tuple[Any, ...])

assert_type(disk.core.Cache(), disk.Cache)
assert_type(disk.fanout.FanoutCache(), disk.FanoutCache)
assert_type(disk.persistent.Deque(), disk.Deque)
assert_type(disk.recipes.Lock(disk.Cache(), "key"), disk.Lock)
assert_type(disk.djangocache.DjangoCache("directory", {}), disk.DjangoCache)

assert_type(diskcache_rs.cache.Cache("directory"), diskcache_rs.Cache)
assert_type(diskcache_rs.fast_cache.FastCache(), diskcache_rs.FastCache)
assert_type(diskcache_rs.recipes.Lock(disk.Cache(), "key"), diskcache_rs.Lock)
assert_type(diskcache_rs.djangocache.DjangoCache("directory", {}), diskcache_rs.DjangoCache)
print(diskcache_rs.constants.ENOVAL, diskcache_rs.disk.JSONDisk, diskcache_rs.pickle_cache.PickleCache)

print(sciqlop.serializers.PickleSerializer, sessions.sync.connect, pycache.decorators.cache, pycache.sql.SQL)
print(pycache.adapters.InMemory, pycache.collections, pycache.datatypes.Map, pycache.migrate.migrate)
print(pycache.py_cache.PyCache, pycache.snapshot.Reader, remote.DjangoCache, shared.DjangoCache)

# A misspelt name is an error.
print(flexcache_rs.FlexCahce)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
print(cachetools.LRUCahce)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
print(disk.Cahce)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
print(disk.core.JSONDsik)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
print(diskcache_rs.Cahce)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
print(remote.RemoteCahce)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
print(shared.SharedCahce)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
print(pycache.PyCahce)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
print(sessions.conect)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
