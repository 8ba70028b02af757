"""What type checkers make of memoized functions: parameters and results survive. Never run."""

from __future__ import annotations

import asyncio
import functools
from datetime import timedelta
from typing import Any

from typing_extensions import assert_type

from flexcache_rs import FlexCache, cache, lru_cache, memoize


@lru_cache
def bare(a: int, b: str = "") -> float:
    return a


@lru_cache(maxsize=3, typed=True)
def with_arguments(a: int) -> str:
    return str(a)


@cache
def unbounded(a: int) -> str:
    return str(a)


@memoize
def memoized(a: int, *, b: str = "") -> float:
    return a


@memoize(max_items=3, ttl=timedelta(seconds=1), ignore=("b",), tags=("t",), cache_exceptions=(ValueError,))
def memoized_with_arguments(a: int, b: str) -> float:
    return a


@memoize(ttl=60)
async def awaited(a: int) -> str:
    return str(a)


shared: FlexCache[Any, Any] = FlexCache()


@shared.memoize
def in_shared(a: int) -> str:
    return str(a)


@shared.memoize(ttl=lambda result: 1.0)
async def awaited_in_shared(a: int) -> str:
    return str(a)


class Client:
    @memoize
    def load(self, a: int) -> str:
        return str(a)

    @memoize
    async def aload(self, a: int) -> str:
        return str(a)

    @lru_cache(maxsize=None)
    def once(self, a: int) -> str:
        return str(a)

    @classmethod
    @memoize
    def of_class(cls, a: int) -> str:
        return str(a)

    @classmethod
    @memoize
    async def awaited_of_class(cls, a: int) -> str:
        return str(a)

    @classmethod
    @lru_cache
    def once_of_class(cls, a: int) -> str:
        return str(a)

    @staticmethod
    @memoize
    def static(a: int) -> str:
        return str(a)


assert_type(bare(1, b="x"), float)
assert_type(bare.cache_info().hits, int)
assert_type(bare.cache_parameters()["maxsize"], int | None)
assert_type(with_arguments(1), str)
assert_type(unbounded(1), str)
assert_type(memoized(1, b="x"), float)
assert_type(memoized.peek(1), float | None)
assert_type(memoized.refresh(1), float)
assert_type(memoized.invalidate(1, b="x"), bool)
assert_type(memoized_with_arguments(1, "x"), float)
assert_type(in_shared(1), str)
assert_type(Client().load(1), str)
assert_type(Client().once(1), str)
assert_type(Client.load(Client(), 1), str)
assert_type(Client.once(Client(), 1), str)
assert_type(Client().of_class(1), str)
assert_type(Client.of_class(1), str)
assert_type(Client.of_class.invalidate(1), bool)
assert_type(Client.once_of_class(1), str)
assert_type(Client().once_of_class(1), str)
Client.of_class("a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
assert_type(Client.static(1), str)
bare("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
memoized("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
memoized(1, c=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
memoized_with_arguments(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
memoized.invalidate("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
in_shared("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Client().load("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
memoize(max_itmes=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def clear_all(*wrappers: functools._lru_cache_wrapper[Any]) -> None: ...  # pyright: ignore[reportPrivateUsage]


clear_all(bare, with_arguments, unbounded)
clear_all(Client.once, Client().once, Client.once_of_class, Client().once_of_class)
clear_all(memoized)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def main() -> None:
    assert_type(await awaited(1), str)
    assert_type(await awaited.refresh(1), str)
    assert_type(awaited.peek(1), str | None)
    assert_type(await awaited_in_shared(1), str)
    assert_type(await Client().aload(1), str)
    assert_type(await Client.awaited_of_class(1), str)
    assert_type(await asyncio.gather(awaited(1), Client().aload(1), asyncio.sleep(0, 1)), tuple[str, str, int])
    numbers: FlexCache[str, int] = FlexCache()
    assert_type(numbers.get_or_set("a", lambda: 1), int)
    assert_type(await numbers.aget_or_set("a", lambda: 1, ttl=1, tags=("t",)), int)


assert_type(memoized.cache_info().currsize, int)
assert_type(memoized.cache_parameters()["typed"], bool)
assert_type(memoized.cache_clear(), None)
assert_type(Client().load.cache_info().hits, int)
assert_type(Client().load.invalidate(1), bool)
assert_type(Client().load.peek(1), "str | None")
assert_type(Client().load.__self__, Any)
Client().load.cache_info(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Client().load.invalidate("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
timed: FlexCache[str, int] = FlexCache(clock=lambda: 1.5)
FlexCache[str, int](clock=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
copied = timed.memoize(copy=True, normalize=True)(len)
assert_type(copied("a"), int)


class Shop:
    @memoize(per_instance=True, max_items=10)
    def price(self, item: str) -> int:
        return len(item)

    @memoize(per_instance=True)
    async def later(self, item: str) -> int:
        return len(item)


async def of_each_instance(shop: Shop) -> None:
    assert_type(shop.price("a"), int)
    assert_type(shop.price.peek("a"), int | None)
    assert_type(shop.price.cache_info().hits, int)
    assert_type(await shop.later("a"), int)
    assert_type(shop.price.invalidate("a"), bool)
