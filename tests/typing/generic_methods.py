"""Decorated methods whose parameter `self` has a type variable, and generic ones, for the type checkers. Never run.

mypy does not solve their results, and takes them for Any, as with functools. It must not take them for Never, because
it reports nothing of what follows. pyright solves them.
"""

# ruff: noqa: PYI019
# pyright: reportAssertTypeFailure=false

from __future__ import annotations

from typing import Any, TypeVar

from typing_extensions import Self, assert_type

from flexcache_rs import FlexCache, cache, cachetools, disk, lru_cache, memoize
from flexcache_rs.async_lru import alru_cache
from flexcache_rs.cachetools import func

S = TypeVar("S", bound="Base")
T = TypeVar("T")
kept: FlexCache[Any, Any] = FlexCache()
stored = disk.Cache()


class Base:
    """Has methods that return lists of instances."""

    def __init__(self) -> None:
        self.results: dict[Any, Any] = {}

    @lru_cache
    def recent(self: S, number: int) -> list[S]:
        """Return instances."""
        return [self] * number

    @cache
    def all_of_any(self, one: T) -> list[T]:
        """Return a list."""
        return [one]

    @memoize
    def memoized(self: S) -> list[S]:
        """Return instances."""
        return [self]

    @kept.memoize(ttl=60)
    def for_a_while(self: S) -> dict[str, S]:
        """Return instances."""
        return {"": self}

    @memoize
    async def awaited(self: S) -> list[S]:
        """Return instances."""
        return [self]

    @cachetools.cached({})
    def cached(self: S) -> list[S]:
        """Return instances."""
        return [self]

    @cachetools.cachedmethod(lambda self: self.results)
    def of_instance(self: S, number: int) -> list[S]:
        """Return instances."""
        return [self] * number

    @cachetools.cachedmethod(lambda self: self.results)
    def itself(self) -> Self:
        """Return the instance."""
        return self

    @func.ttl_cache
    def of_function(self: S) -> list[S]:
        """Return instances."""
        return [self]

    @stored.memoize()
    def stored(self: S) -> list[S]:
        """Return instances."""
        return [self]

    @alru_cache
    async def awaited_recent(self: S) -> list[S]:
        """Return instances."""
        return [self]

    @classmethod
    @lru_cache
    def make(cls: type[S]) -> list[S]:
        """Return instances."""
        return [cls()]

    @classmethod
    @cachetools.cached({})
    def make_cached(cls: type[S]) -> list[S]:
        """Return instances."""
        return [cls()]

    @classmethod
    @memoize
    def make_memoized(cls: type[S]) -> list[S]:
        """Return instances."""
        return [cls()]


class Derived(Base):
    """Has the methods of its base."""


one = Derived()
assert_type(one.recent(1), Any)
assert_type(one.all_of_any(1), Any)
assert_type(one.memoized(), Any)
assert_type(one.for_a_while(), Any)
assert_type(one.cached(), Any)
assert_type(one.of_instance(1), Any)
assert_type(one.itself(), Derived)
assert_type(one.of_function(), Any)
assert_type(one.stored(), Any)
assert_type(one.make(), Any)
assert_type(Derived.make(), Any)
assert_type(Derived.make_cached(), Any)
assert_type(Derived.make_memoized(), Any)
assert_type(Derived.recent(one, 1), list[Derived])


async def main() -> None:
    """Use what is awaited."""
    assert_type(await one.awaited(), Any)
    assert_type(await one.awaited_recent(), Any)
