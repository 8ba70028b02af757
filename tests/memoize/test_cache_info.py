"""functools' `cache_info`, `cache_clear` and `cache_parameters` on memoized functions and methods."""

from __future__ import annotations

import asyncio
import copy
import functools
import pickle
from typing import Any

import pytest

from flexcache_rs import FlexCache, lru_cache, memoize


def double(number: int) -> int:
    return 2 * number


async def double_later(number: int) -> int:
    return 2 * number


def called(function: Any, *args: Any) -> Any:
    made = function(*args)
    return asyncio.run(made) if asyncio.iscoroutine(made) else made


@pytest.mark.parametrize("function", [double, double_later])
@pytest.mark.parametrize("most", [None, 3])
def test_they_are_those_of_functools(function: Any, most: int | None) -> None:
    ours = memoize(max_items=most or 0, typed=True)(function)
    theirs = lru_cache(maxsize=most, typed=True)(double)
    for one in (ours, theirs):
        for number in (1, 1, 2, 3, 4, 5, 5):
            called(one, number)
    assert ours.cache_info() == theirs.cache_info()
    assert ours.cache_info()._fields == ("hits", "misses", "maxsize", "currsize")
    assert ours.cache_parameters() == theirs.cache_parameters()
    for one in (ours, theirs):
        one.cache_clear()
    assert ours.cache_info() == theirs.cache_info() == (0, 0, most, 0)


def test_of_an_instance() -> None:
    class Shop:
        @memoize(max_items=10)
        def price(self, article: str) -> int:
            return len(article)

    shop = Shop()
    shop.price("nail"), shop.price("nail")
    assert shop.price.cache_info() == Shop.price.cache_info() == (1, 1, 10, 1)
    assert shop.price.cache_parameters() == {"maxsize": 10, "typed": False}
    shop.price.cache_clear()
    assert shop.price.cache_info() == (0, 0, 10, 0)


def test_others_that_use_the_cache_keep_theirs() -> None:
    cache: FlexCache[Any, Any] = FlexCache()
    one, other = cache.memoize(double), cache.memoize(lambda number: 3 * number)
    one(1), other(1), other(1)
    one.cache_clear()
    assert other.cache_info() == (1, 2, None, 1)


def test_what_is_no_function() -> None:
    with pytest.raises(TypeError, match=r"memoize\(\) takes a function, not int; did you mean @memoize\(max_items=9\)"):
        memoize(9)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="ignore must be an iterable of names of parameters, not int"):
        memoize(ignore=3)(double)  # type: ignore[call-overload]


def test_lru_cache_takes_any_truth_value() -> None:
    assert lru_cache(typed=1)(double).cache_parameters() == {"maxsize": 128, "typed": 1}  # type: ignore[arg-type]


def test_lru_cache_is_known_as_one_of_functools() -> None:
    """As pydantic does, which takes such an attribute of a model for a method."""
    assert type(lru_cache(double)).__module__ == type(functools.lru_cache(double)).__module__ == "functools"
    assert pickle.loads(pickle.dumps(remembered)) is copy.deepcopy(remembered) is remembered


remembered = lru_cache(double)
remembered.__qualname__ = "remembered"
