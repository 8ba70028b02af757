"""Decorated methods that return the instance, an instance of their class, or a type variable, for the type checkers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from typing_extensions import Self, assert_type

from flexcache_rs import FlexCache, cache, cachetools, disk, lru_cache, memoize
from flexcache_rs.async_lru import alru_cache
from flexcache_rs.cachetools import func

T = TypeVar("T")
kept: FlexCache[Any, Any] = FlexCache()
stored = disk.Cache()


class Base:
    """Has methods that return instances."""

    @lru_cache
    def bare(self) -> Self:
        """Return the instance."""
        return self

    @lru_cache(maxsize=1)
    def limited(self, number: int) -> Self:
        """Return the instance."""
        del number
        return self

    @memoize
    def memoized(self) -> Self:
        """Return the instance."""
        return self

    @kept.memoize(ttl=60)
    def for_a_while(self) -> Self:
        """Return the instance."""
        return self

    @cachetools.cached({})
    def cached(self) -> Self:
        """Return the instance."""
        return self

    @func.ttl_cache
    def of_function(self) -> Self:
        """Return the instance."""
        return self

    @stored.memoize()
    def stored(self) -> Self:
        """Return the instance."""
        return self

    @alru_cache
    async def awaited(self) -> Self:
        """Return the instance."""
        return self

    @memoize(ttl=60)
    async def awaited_for_a_while(self) -> Self:
        """Return the instance."""
        return self

    @cache
    def many(self, number: int) -> list[Self]:
        """Return instances."""
        return [self] * number

    @cache
    def anything(self) -> Any:
        """Return anything."""
        return self

    @memoize
    async def awaited_anything(self) -> Any:
        """Return anything."""
        return self

    @cache
    def text(self) -> str:
        """Return a text."""
        return ""

    @classmethod
    @cache
    def make(cls) -> Self:
        """Return an instance of the class."""
        return cls()

    @classmethod
    @memoize
    def make_memoized(cls) -> Self:
        """Return an instance of the class."""
        return cls()

    @classmethod
    @cachetools.cached({})
    def make_cached(cls, number: int) -> Self:
        """Return an instance of the class."""
        del number
        return cls()

    @classmethod
    @alru_cache
    async def make_awaited(cls) -> Self:
        """Return an instance of the class."""
        return cls()

    def use(self) -> Self:
        """Return what decorated methods return."""
        self.make_cached(1).limited(1)
        return self.limited(1).bare() if self.text() else self.stored()

    @classmethod
    def use_class(cls) -> Self:
        """Return what a decorated class method returns."""
        return cls.make()

    @cache
    def mapped(self, function: Callable[[int], T]) -> T:
        """Is generic."""
        return function(1)

    @memoize
    def memoized_mapped(self, function: Callable[[int], T]) -> T:
        """Is generic."""
        return function(1)


class Derived(Base):
    """Has the methods of its base, and overrides one."""

    @lru_cache(maxsize=1)
    def limited(self, number: int) -> Self:
        """Return the instance."""
        del number
        return self


assert_type(Derived().bare(), Derived)
assert_type(Derived().limited(1), Derived)
assert_type(Derived().memoized(), Derived)
assert_type(Derived().for_a_while(), Derived)
assert_type(Derived().cached(), Derived)
assert_type(Derived().of_function(), Derived)
assert_type(Derived().stored(), Derived)
assert_type(Derived().many(1), list[Derived])
assert_type(Derived().anything(), Any)
assert_type(Derived().text(), str)
assert_type(Derived.make(), Derived)
assert_type(Derived().make(), Derived)
assert_type(Derived.make_memoized(), Derived)
assert_type(Derived.make_cached(1), Derived)
assert_type(Derived().make_cached(1), Derived)
assert_type(Base.bare(Base()), Base)
Derived.bare.cache_clear()
# mypy takes the result of a generic method for Any, as with functools.
mapped: str = Derived().mapped(str)
memoized_mapped: str = Derived().memoized_mapped(str)


async def main() -> None:
    """Use what is awaited."""
    assert_type(await Derived().awaited(), Derived)
    assert_type(await Derived().awaited_for_a_while(), Derived)
    assert_type(await Derived().awaited_anything(), Any)
    assert_type(await Derived.make_awaited(), Derived)
