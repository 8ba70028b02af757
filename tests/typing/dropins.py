"""Programs that use cachetools and async-lru with the import changed, for the type checkers."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta

from typing_extensions import assert_type

from flexcache_rs import cachetools
from flexcache_rs.async_lru import alru_cache
from flexcache_rs.cachetools import func, keys

sizes: cachetools.LRUCache[str, int] = cachetools.LRUCache(maxsize=10)
sizes["a"] = 1
assert_type(sizes["a"], int)
assert_type(sizes.get("a"), "int | None")
assert_type(sizes.popitem(), "tuple[str, int]")
assert_type(sizes.maxsize, float)

texts: cachetools.TTLCache[str, str] = cachetools.TTLCache(maxsize=10, ttl=60, getsizeof=len)
days: cachetools.TTLCache[str, int, datetime] = cachetools.TTLCache(10, timedelta(days=1), datetime.now)
assert_type(days.timer(), datetime)
assert_type(days.expire(), "list[tuple[str, int]]")


@cachetools.cached(sizes, key=keys.hashkey, lock=threading.Lock(), info=True)
def length(text: str) -> int:
    return len(text)


assert_type(length("a"), int)
assert_type(length.cache_info().hits, int)
with length.cache_lock:
    length.cache.clear()
length(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@func.lru_cache(maxsize=10)
def double(number: int) -> int:
    return 2 * number


assert_type(double(1), int)


class Shop:
    """Has cached methods."""

    def __init__(self) -> None:
        self.cache: cachetools.LRUCache[object, float] = cachetools.LRUCache(10)

    @cachetools.cachedmethod(lambda self: self.cache)
    def price(self, article: str) -> float:
        """What an article costs."""
        return float(len(article))

    @classmethod
    @cachetools.cached(sizes)
    def of_class(cls, number: int) -> str:
        """Is asked for on the class and on an instance."""
        return str(number)

    @staticmethod
    @cachetools.cached(sizes)
    def static(number: int) -> str:
        """Needs no instance."""
        return str(number)

    @classmethod
    @alru_cache
    async def awaited_of_class(cls, number: int) -> str:
        """Is awaited."""
        return str(number)

    @alru_cache(maxsize=10)
    async def stock(self, article: str) -> int:
        """How many there are."""
        return len(article)


assert_type(Shop().price("nail"), float)
assert_type(Shop.price(Shop(), "nail"), float)
assert_type(Shop.of_class(1), str)
assert_type(Shop().of_class(1), str)
assert_type(Shop.static(1), str)
Shop.of_class("1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
Shop().price.cache_clear()


@alru_cache
async def load(key: int) -> str:
    """Load something."""
    return str(key)


async def main() -> None:
    """Use what is awaited."""
    assert_type(await load(1), str)
    assert_type(await Shop().stock("nail"), int)
    assert_type(await Shop.stock(Shop(), "nail"), int)
    assert_type(await Shop.awaited_of_class(1), str)
    assert_type(await Shop().awaited_of_class(1), str)
    assert_type(await asyncio.gather(load(1), Shop().stock("nail")), tuple[str, int])
    assert_type(load.cache_invalidate(1), bool)
    await load("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
