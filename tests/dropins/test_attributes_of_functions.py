"""Functions that are wrapped may have attributes, and so may their wrappers, whatever our own are called."""

from __future__ import annotations

import asyncio
import threading
from operator import attrgetter
from typing import Any

import pytest

from flexcache_rs.async_lru import alru_cache
from flexcache_rs.cachetools import cached, cachedmethod
from flexcache_rs.cachetools.func import ttl_cache

NAMES = (
    *("_clear", "_contains", "_descriptor", "_forget", "_function", "_hits", "_info", "_instance", "_invalidate"),
    *("_is_kept", "_keeps", "_key", "_maxsize", "_misses", "_owner", "_parameters", "_pending", "_positional"),
    *("_typed", "_use", "_use_loop", "_wait", "stats"),
)

DECORATORS: dict[str, Any] = {
    "cached": lambda: cached({}),
    "counted": lambda: cached({}, info=True),
    "locked": lambda: cached({}, info=True, lock=threading.Lock()),
    "waiting": lambda: cached({}, info=True, condition=threading.Condition()),
    "ttl_cache": lambda: ttl_cache(10),
    "alru_cache": lambda: alru_cache(10),
}


def double(number: int) -> int:
    return 2 * number


async def check_calls(wrapper: Any) -> None:
    for number in (1, 2):
        called = wrapper(number)
        assert (await called if asyncio.iscoroutine(called) else called) == 2 * number
    if hasattr(wrapper, "cache_info"):
        assert wrapper.cache_info()[1] == 2
    wrapper.cache_clear()
    if hasattr(wrapper, "cache_info"):
        assert wrapper.cache_info()[:2] == (0, 0)


async def check_attribute(wrapper: Any, name: str) -> None:
    assert getattr(wrapper, name) == "of the function"
    await check_calls(wrapper)
    setattr(wrapper, name, "of the user")
    await check_calls(wrapper)
    assert getattr(wrapper, name) == "of the user"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("decorator", DECORATORS)
def test_of_functions(decorator: str, name: str) -> None:
    def plain(number: int) -> int:
        return 2 * number

    async def awaited(number: int) -> int:
        return 2 * number

    function: Any = awaited if decorator == "alru_cache" else plain
    setattr(function, name, "of the function")
    wrapper = DECORATORS[decorator]()(function)
    asyncio.run(check_attribute(wrapper, name))


@pytest.mark.parametrize("name", NAMES)
def test_of_methods(name: str) -> None:
    def method(_self: Any, number: int) -> int:
        return 2 * number

    setattr(method, name, "of the function")

    class Thing:
        def __init__(self) -> None:
            self.kept: dict[Any, Any] = {}

        double = cachedmethod(attrgetter("kept"), info=True)(method)

    one: Any = Thing()
    assert getattr(Thing.double, name) == "of the function"
    asyncio.run(check_attribute(one.double, name))
    assert Thing.double(one, 3) == 6


def test_another_function_for_keys() -> None:
    """Given to the wrapper, as cachetools permits."""
    wrapper: Any = cached({})(double)
    wrapper.cache_key = lambda number: number % 10
    assert (wrapper(1), wrapper(11), wrapper(2)) == (2, 2, 4)
    assert wrapper.cache == {1: 2, 2: 4}
