"""memoize(copy=...): callers may change what they get; memoize(normalize=True): one call however it is written."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from waiting import MANY

from flexcache_rs import FlexCache, memoize
from flexcache_rs.testing import advance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.every_python


def spoil(found: Any) -> Any:
    """What a caller does with a result of its own; the result as it was."""
    before = list(found)
    found.append("spoilt")
    return before


def numbers(size: int = 2) -> list[Any]:
    return list(range(size))


async def awaited_numbers(size: int = 2) -> list[Any]:
    return list(range(size))


OPTIONS: list[dict[str, Any]] = [
    {},
    {"ttl": 60, "soft_ttl": 30},
    {"ttl": 60, "stale_if_error": 60, "early_refresh": 1.0},
    {"key": lambda size=2: size},
    {"store": FlexCache()},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("copy", [True, list, lambda value: value[:]], ids=["deepcopy", "list", "slice"])
@pytest.mark.parametrize("function", [numbers, awaited_numbers])
def test_callers_may_change_what_they_get(function: Any, copy: Any, options: dict[str, Any]) -> None:
    memo = memoize(copy=copy, name="numbers", **options)(function)
    call = (lambda *args: asyncio.run(memo(*args))) if function is awaited_numbers else memo
    refresh = (lambda *args: asyncio.run(memo.refresh(*args))) if function is awaited_numbers else memo.refresh
    for _ in range(3):
        assert spoil(call()) == [0, 1]
    assert spoil(refresh()) == [0, 1]
    assert spoil(memo.peek()) == [0, 1]
    assert memo.peek(77) is None
    assert spoil(call()) == [0, 1]
    memo.cache.clear()


def test_stale_results_are_copied() -> None:
    memo = memoize(ttl=10, soft_ttl=5, stale_if_error=100, copy=True)(numbers)
    assert spoil(memo()) == [0, 1]
    advance(7)
    assert spoil(memo()) == [0, 1]
    assert spoil(memo()) == [0, 1]


def test_those_who_wait_get_copies_of_their_own() -> None:
    began, goes_on = threading.Event(), threading.Event()

    @memoize(copy=True)
    def slow() -> list[int]:
        began.set()
        assert goes_on.wait(30)
        return [1]

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(slow)
        assert began.wait(30)
        others = [pool.submit(slow) for _ in range(3)]
        goes_on.set()
        found = [one.result(30) for one in (first, *others)]
    assert len({id(one) for one in found}) == 4


def test_a_method_hands_out_copies() -> None:
    class Shop:
        @memoize(copy=True)
        def prices(self) -> list[Any]:
            return [3]

    shop = Shop()
    assert spoil(shop.prices()) == spoil(shop.prices()) == spoil(shop.prices.peek()) == [3]
    assert shop.prices.invalidate()


def test_a_copy_that_fails_is_said_and_spoils_nothing() -> None:
    broken = [True]

    def copier(value: Any) -> Any:
        if broken[0]:
            raise ZeroDivisionError
        return value

    memo = memoize(copy=copier)(numbers)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            memo()
    broken.clear()
    broken.append(False)
    assert memo() == [0, 1]


KEPT_OTHERWISE: list[dict[str, Any]] = [
    {},
    {"ttl": 60},
    {"condition": lambda _: True},
    {"ttl": 60, "soft_ttl": 30},
    {"copy": True},
]


async def items() -> AsyncIterator[int]:
    yield 1
    yield 2


async def read(result: Any) -> list[int]:
    if inspect.isasyncgen(result):
        return [item async for item in result]
    return [await result] if inspect.isawaitable(result) else list(result)


@pytest.mark.parametrize("options", KEPT_OTHERWISE, ids=lambda options: "-".join(options) or "none")
@pytest.mark.parametrize("make", [lambda: (item for item in (1, 2)), items, lambda: asyncio.sleep(0, 1)])
def test_what_can_be_used_once_is_not_kept(make: Callable[[], Any], options: dict[str, Any]) -> None:
    """Generators and coroutines, whatever kind of function returns them: each caller gets its own."""
    plain = memoize(**options)(lambda: make())

    @memoize(**options)
    async def awaited() -> Any:
        return make()

    async def main() -> list[list[int]]:
        both = await asyncio.gather(awaited(), awaited())
        results = (plain(), plain(), plain.refresh(), *both, await awaited(), await awaited.refresh())
        return [await read(result) for result in results]

    first, *others = asyncio.run(asyncio.wait_for(main(), MANY))
    assert first
    assert others == [first] * 6
    assert (len(plain.cache), len(awaited.cache)) == (0, 0)


def test_awaitables_of_plain_functions_are_not_copied() -> None:
    memo = memoize(copy=True)(lambda: awaited_numbers())
    assert asyncio.run(memo()) == asyncio.run(memo()) == [0, 1]


@pytest.mark.parametrize(
    ("argument", "value"), [("copy", 1), ("copy", "deep"), ("normalize", 1), ("normalize", None), ("normalize", "yes")]
)
def test_what_is_no_option_is_named(argument: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"^{argument} must be"):
        memoize(**{argument: value})


SAME: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((), {"first": 1}),
    ((1, 2), {}),
    ((1,), {"second": 2}),
    ((), {"second": 2, "first": 1}),
    ((1, 2), {"third": 3}),
]


@pytest.mark.parametrize("options", [{}, {"typed": True}, {"ignore": ("fourth",)}, {"store": FlexCache()}])
def test_one_call_however_it_is_written(options: dict[str, Any]) -> None:
    calls: list[Any] = []

    @memoize(normalize=True, name="normalized", **options)
    def function(first: int, second: int = 2, *rest: int, third: int = 3, **others: int) -> Any:
        calls.append(None)
        return first, second, rest, third, others

    function.clear()
    for args, kwargs in SAME:
        assert function(*args, **kwargs) == (1, 2, (), 3, {})
        assert function.cache_key(*args, **kwargs) == function.cache_key(1)
        assert function.peek(*args, **kwargs) == function(1)
    assert len(calls) == 1
    assert function(1, 2, b=5, a=4) == function(1, a=4, b=5) == (1, 2, (), 3, {"a": 4, "b": 5})
    assert len(calls) == 2
    assert function(1, 2, 9) != function(1, 2)
    assert function.invalidate(first=1)
    function(1)
    assert len(calls) == 4


def test_one_call_of_a_method_and_of_a_coroutine_function() -> None:
    calls: list[Any] = []

    class Shop:
        @memoize(normalize=True)
        def price(self, article: str, *, vat: bool = True) -> str:
            calls.append(self)
            return f"{article} {vat}"

        @memoize
        @classmethod
        def name(cls) -> str:
            return cls.__name__

    one, other = Shop(), Shop()
    for shop in one, other:
        assert shop.price("tea") == shop.price(article="tea", vat=True) == Shop.price(shop, "tea") == "tea True"
    assert calls == [one, other]
    assert one.price.invalidate(article="tea")
    assert other.price.peek("tea") == "tea True"

    @memoize(normalize=True)
    async def double(number: int = 1) -> int:
        calls.append(number)
        return 2 * number

    async def several() -> list[int]:
        return [await double(), await double(1), await double(number=1)]

    assert asyncio.run(several()) == [2, 2, 2]
    assert calls.count(1) == 1


def test_a_wrong_call_raises_what_the_function_raises() -> None:
    memo = memoize(normalize=True)(numbers)
    for args, kwargs in [((1, 2), {}), ((), {"sise": 1}), ((1,), {"size": 1})]:
        with pytest.raises(TypeError, match="numbers"):
            memo(*args, **kwargs)
    with pytest.raises(TypeError, match="cannot be part of a key"):
        memo([])


def test_a_function_without_parameters_to_see_is_refused() -> None:
    with pytest.raises(TypeError, match="normalize"):
        memoize(normalize=True)(type)
