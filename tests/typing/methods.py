"""Decorated functions and methods as programs use functools' decorators, for the type checkers. Never run."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from typing_extensions import Self, assert_type

from flexcache_rs import FlexCache, cachetools, disk, lru_cache, memoize
from flexcache_rs.async_lru import alru_cache
from flexcache_rs.cachetools import func
from flexcache_rs.remote import RemoteCache
from flexcache_rs.sessions import connect, sync
from flexcache_rs.shared import SharedCache

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

results: cachetools.LRUCache[Any, Any] = cachetools.LRUCache(10)
directory = disk.Cache("directory")


class Base:
    """Is derived from."""

    @memoize
    def memoized(self, number: int) -> str:
        """Keep results."""
        return str(number)

    @memoize(ttl=60)
    async def awaited(self, number: int) -> str:
        """Keep results."""
        return str(number)

    @lru_cache
    def recent(self, number: int) -> str:
        """Keep results."""
        return str(number)

    @directory.memoize()
    def on_disk(self, number: int) -> str:
        """Keep results."""
        return str(number)

    @cachetools.cached(results)
    def cached(self, number: int) -> str:
        """Keep results."""
        return str(number)

    @cachetools.cachedmethod(lambda self: results)
    def of_instance(self, number: int) -> str:
        """Keep results."""
        return str(number)

    @alru_cache
    async def awaited_recent(self, number: int) -> str:
        """Keep results."""
        return str(number)

    @classmethod
    @memoize
    def of_class(cls, number: int) -> str:
        """Keep results."""
        return str(number)

    @staticmethod
    @memoize
    def static(number: int) -> str:
        """Keep results."""
        return str(number)

    @memoize
    def wrong(self, number: int) -> str:
        """Keep results."""
        return str(number)


class Derived(Base):
    """Overrides what is decorated with what is decorated, and takes more."""

    @memoize
    def memoized(self, number: int, more: int = 0) -> str:
        """Keep results."""
        return super().memoized(number + more)

    @memoize(ttl=60)
    async def awaited(self, number: int) -> str:
        """Keep results."""
        return await super().awaited(number)

    @lru_cache
    def recent(self, number: int, more: int = 0) -> str:
        """Keep results."""
        return super().recent(number + more)

    @directory.memoize()
    def on_disk(self, number: int) -> str:
        """Keep results."""
        return super().on_disk(number)

    @cachetools.cached(results)
    def cached(self, number: int) -> str:
        """Keep results."""
        return super().cached(number)

    @cachetools.cachedmethod(lambda self: results)
    def of_instance(self, number: int) -> str:
        """Keep results."""
        return super().of_instance(number)

    @alru_cache
    async def awaited_recent(self, number: int) -> str:
        """Keep results."""
        return await super().awaited_recent(number)

    @classmethod
    @memoize
    def of_class(cls, number: int) -> str:
        """Keep results."""
        return str(number)

    @staticmethod
    @memoize
    def static(number: int) -> str:
        """Keep results."""
        return str(number)

    @memoize
    def wrong(self, number: str) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Takes something else."""
        return number


assert_type(Derived().memoized(1, 2), str)
assert_type(Derived.memoized(Derived(), 1), str)
assert_type(Derived.memoized.invalidate(Derived(), 1), bool)
assert_type(Derived().memoized.peek(1), "str | None")
assert_type(Derived().on_disk(1), str)
assert_type(Derived.of_class(1), str)
assert_type(Derived().of_class(1), str)
Derived().memoized("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Derived().static("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Static:
    """Has static methods, which are called through instances."""

    @staticmethod
    @memoize
    def memoized(number: int) -> str:
        """Keep results."""
        return str(number)

    @staticmethod
    @memoize
    def of_anything(one: object, *, two: int = 0) -> str:
        """Keep results."""
        return f"{one}{two}"

    @staticmethod
    @memoize
    def of_any(one: Any) -> Any:
        """Keep results."""
        return one

    @staticmethod
    @lru_cache(maxsize=None)
    def of_nothing() -> str:
        """Keep a result."""
        return ""

    @staticmethod
    @lru_cache
    def of_many(*numbers: int) -> str:
        """Keep results."""
        return str(numbers)

    @staticmethod
    @directory.memoize()
    def of_class(kind: type[Any]) -> str:
        """Keep results."""
        return kind.__name__

    @staticmethod
    @cachetools.cached(results)
    def cached(number: int) -> str:
        """Keep results."""
        return str(number)

    @staticmethod
    @func.ttl_cache
    def of_function(number: int) -> str:
        """Keep results."""
        return str(number)

    @staticmethod
    @alru_cache
    async def awaited(number: int) -> str:
        """Keep results."""
        return str(number)

    def use(self) -> str:
        """Call one."""
        return self.memoized(1)


assert_type(Static().memoized(1), str)
assert_type(Static().of_anything(1, two=2), str)
assert_type(Static().of_nothing(), str)
assert_type(Static().of_many(1, 2), str)
assert_type(Static().of_class(int), str)
assert_type(Static().cached(1), str)
assert_type(Static().of_function(1), str)
Static().of_any(1)


@memoize
def first(many: tuple[T, ...]) -> T:
    """Is generic."""
    return many[0]


@lru_cache
def same(one: T) -> T:
    """Is generic."""
    return one


@memoize(ttl=60)
def loaded(path: str) -> Any:
    """Return anything."""
    return path


assert_type(first((1,)), int)
assert_type(same("a"), str)
assert_type(loaded("a"), Any)
assert_type(loaded.cache_info().hits, int)


class Box(Generic[T]):
    """Has a type variable."""

    def __init__(self, one: T) -> None:
        self.one = one

    @memoize
    def pair(self, other: T) -> tuple[T, T]:
        """Keep results."""
        return self.one, other

    @memoize
    def itself(self) -> Self:
        """Return the instance."""
        return self


assert_type(Box("a").pair("b"), tuple[str, str])
itself: Box[str] = Box("a").itself()


class Loads(Protocol):
    """Is a protocol."""

    def load(self, number: int) -> str:
        """Load something."""
        ...


class Loader:
    """Has what the protocol has, and special methods."""

    @memoize
    def load(self, number: int) -> str:
        """Keep results."""
        return str(number)

    @property
    @memoize
    def size(self) -> int:
        """Keep a result."""
        return 1

    @lru_cache(maxsize=None)
    def __len__(self) -> int:
        return 1


def use(loader: Loads) -> str:
    """Use the protocol."""
    return loader.load(1)


use(Loader())
assert_type(Loader().size, int)
assert_type(len(Loader()), int)


@dataclasses.dataclass(frozen=True)
class Point:
    """Is a dataclass."""

    x: int

    @lru_cache(maxsize=None)
    def norm(self) -> float:
        """Keep a result."""
        return 1.0


class Colour(enum.Enum):
    """Is an enumeration."""

    RED = 1

    @lru_cache(maxsize=None)
    def label(self) -> str:
        """Keep a result."""
        return self.name


assert_type(Point(1).norm(), float)
assert_type(Colour.RED.label(), str)


def logged(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    return call


@logged
@memoize
def inside(number: int) -> str:
    """Is decorated twice."""
    return str(number)


@memoize
@logged
def outside(number: int) -> str:
    """Is decorated twice."""
    return str(number)


assert_type(inside(1), str)
assert_type(outside(1), str)
assert_type(list(map(outside, [1])), list[str])

shared = SharedCache("example")
remote = RemoteCache("redis://localhost", namespace="example")
awaiting = connect("memory://")
waiting = sync.connect("memory://")
front: FlexCache[Any, Any] = FlexCache()


@shared.memoize(ttl=60)
def in_shared_memory(number: int) -> str:
    """Keep results."""
    return str(number)


@remote.memoize(ttl=60)
async def on_a_server(number: int) -> str:
    """Keep results."""
    return str(number)


@awaiting.memoize(60)
async def awaited_in_a_session(number: int) -> str:
    """Keep results."""
    return str(number)


@awaiting.memoize(60)
def computed_in_a_session(number: int) -> str:
    """Keep results."""
    return str(number)


@waiting.memoize(60)
def in_a_session(number: int) -> str:
    """Keep results."""
    return str(number)


assert_type(in_shared_memory(1), str)
assert_type(in_a_session(1), str)
in_shared_memory("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def main() -> None:
    """Use what is awaited."""
    assert_type(await Derived().awaited(1), str)
    assert_type(await Derived().awaited_recent(1), str)
    assert_type(await Static().awaited(1), str)
    assert_type(await on_a_server(1), str)
    assert_type(on_a_server.peek(1), "str | None")
    assert_type(await awaited_in_a_session(1), str)
    assert_type(await computed_in_a_session(1), str)
    assert_type(await asyncio.gather(on_a_server(1), Derived().awaited(1)), tuple[str, str])
    assert_type(await asyncio.create_task(on_a_server(1)), str)
