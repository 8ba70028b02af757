"""Decorated functions outside classes whose first parameter is called `cls`, for the type checkers. Never run."""

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from flexcache_rs import FlexCache, cachetools, disk, lru_cache, memoize
from flexcache_rs.async_lru import alru_cache
from flexcache_rs.cachetools import func

kept: FlexCache[Any, Any] = FlexCache()
directory = disk.Cache()


@lru_cache
def recent(cls: type, depth: int = 0) -> str:
    """Keep results."""
    return cls.__name__ * depth


@memoize
def memoized(cls: type, depth: int = 0) -> str:
    """Keep results."""
    return cls.__name__ * depth


@kept.memoize(ttl=60)
def for_a_while(cls: type, depth: int = 0) -> str:
    """Keep results."""
    return cls.__name__ * depth


@directory.memoize()
def on_disk(cls: type, depth: int = 0) -> str:
    """Keep results."""
    return cls.__name__ * depth


@cachetools.cached({})
def cached(cls: type, depth: int = 0) -> str:
    """Keep results."""
    return cls.__name__ * depth


@func.ttl_cache
def of_function(cls: type, depth: int = 0) -> str:
    """Keep results."""
    return cls.__name__ * depth


@alru_cache
async def awaited(cls: type, depth: int = 0) -> str:
    """Keep results."""
    return cls.__name__ * depth


assert_type(recent(int, 1), str)
assert_type(recent(depth=1, cls=int), str)
assert_type(memoized(cls=int), str)
assert_type(for_a_while(cls=int), str)
assert_type(on_disk(cls=int), str)
assert_type(cached(cls=int), str)
assert_type(of_function(cls=int), str)
recent(int, depth="")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(memoized.invalidate(int), bool)
assert_type(memoized.peek(int, depth=1), "str | None")
assert_type(memoized.refresh(int), str)
assert_type(for_a_while.cache_key(int), Any)


async def main() -> None:
    """Use what is awaited."""
    assert_type(await awaited(cls=int), str)
