"""`memoize(per_instance=True)`: each instance has a cache, limits and statistics of its own."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
import sys
import threading
import weakref
from typing import Any

import pytest

from flexcache_rs import FlexCache, memoize


class Shop:
    """Something with memoized methods."""

    def __init__(self, name: str = "shop") -> None:
        self.name = name
        self.calls: list[Any] = []

    @memoize(per_instance=True, max_items=2)
    def price(self, item: int) -> Any:
        """What an item costs."""
        self.calls.append(item)
        return item * 10

    @memoize(per_instance=True)
    def itself(self) -> Shop:
        return self

    @memoize(per_instance=True, max_items=1)
    async def later(self, item: int) -> int:
        self.calls.append(item)
        return item

    @property
    @memoize(per_instance=True)
    def size(self) -> int:
        self.calls.append("size")
        return 3


def test_an_instance_that_was_not_forgotten_leaves_nothing_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler may raise while an instance is forgotten. Another instance may then get its id."""
    raised: list[Any] = []
    # The interpreter reports what is raised while an object is collected, and goes on.
    monkeypatch.setattr(sys, "unraisablehook", raised.append)

    def interrupt(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename == memoized.__code__.co_filename:
            raise KeyboardInterrupt

    class Numbered:
        # As large as few other objects, so that the memory of one is next used by another one.
        __slots__ = ("__weakref__", "number", *(f"unused{number}" for number in range(40)))

        def __init__(self, number: int) -> None:
            self.number = number

        @memoize(per_instance=True)
        def value(self) -> int:
            return self.number

    memoized: Any = type(Numbered.value).__get__
    first, others = Numbered(0), list[Numbered]()
    address = id(first)
    assert first.value() == 0
    sys.settrace(interrupt)
    try:
        del first
    finally:
        sys.settrace(None)
    assert len(raised) == 1
    while id(another := Numbered(1)) != address:
        others.append(another)
        assert len(others) < 100_000
    assert another.value() == another.value() == 1
    assert Numbered.value.cache_info() == (1, 1, None, 1)


def test_each_has_its_own_limit_and_statistics() -> None:
    one, other = Shop("one"), Shop("other")
    for item in (1, 2, 3):
        one.price(item)
    other.price(1)
    assert one.price.cache_info() == (0, 3, 2, 2)
    assert other.price(1) == 10
    assert other.price.cache_info() == (1, 1, 2, 1)
    assert Shop.price.cache_info() == (1, 4, 2, 3)
    assert one.price.invalidate(3)
    assert not one.price.invalidate(3)
    assert other.price.peek(1) == 10
    assert other.price.refresh(1) == 10
    assert other.calls == [1, 1]
    one.price.clear()
    assert one.price.cache_info().currsize == 0
    assert other.price.cache_info().currsize == 1
    other.price.cache_clear()
    assert other.price.cache_info() == (0, 0, 2, 0)
    assert one.price.cache_info().misses == 3
    assert one.price.cache_parameters() == Shop.price.cache_parameters() == {"maxsize": 2, "typed": False}
    assert one.price.cache is not other.price.cache


def test_through_the_class() -> None:
    one = Shop()
    assert Shop.price(one, 4) == one.price(4) == 40
    assert one.calls == [4]
    assert Shop.price.peek(one, 4) == 40
    assert Shop.price.cache_key(one, 4) == one.price.cache_key(4)
    assert Shop.price.refresh(one, 4) == 40
    assert Shop.price.invalidate(one, 4)
    Shop.price(one, 4)
    Shop.price.clear()
    assert Shop.price.peek(one, 4) is None
    Shop.price.cache_clear()
    assert one.price.cache_info() == (0, 0, 2, 0)
    with pytest.raises(AttributeError, match=r"ask instance\.price\.cache"):
        Shop.price.cache
    assert Shop.price.__doc__ == "What an item costs."
    assert Shop.price.__wrapped__(one, 5) == 50
    assert str(inspect.signature(one.price)) == "(item: 'int') -> 'Any'"


def test_properties_and_coroutine_functions() -> None:
    one = Shop()
    assert (one.size, one.size, one.calls) == (3, 3, ["size"])
    is_awaited = inspect.iscoroutinefunction if sys.version_info >= (3, 12) else asyncio.iscoroutinefunction
    assert is_awaited(Shop.later)

    async def main() -> None:
        assert [await one.later(1), await one.later(1), await Shop.later(one, 1)] == [1, 1, 1]
        assert await one.later.refresh(1) == 1

    asyncio.run(main())
    assert one.calls == ["size", 1, 1]


def test_a_cache_leaves_with_its_instance() -> None:
    one = Shop()
    one.price(1)
    assert one.itself() is one.itself()
    cache = weakref.ref(one.price.cache)
    held = weakref.ref(one)
    before = Shop.price.cache_info().currsize
    del one
    gc.collect()
    assert held() is None
    assert cache() is None
    assert Shop.price.cache_info().currsize == before - 1


def test_functions_from_outside_of_the_class_keep_no_instance_alive() -> None:
    def method(self: Any, number: int) -> int:
        return number

    class Other:
        pass

    Other.method = memoize(per_instance=True)(method)  # type: ignore[attr-defined]
    Other.price = Shop.price  # type: ignore[attr-defined]
    one: Any = Other()
    one.calls = []
    assert (one.method(1), one.method.cache_info().currsize, one.price(1)) == (1, 1, 10)
    held = weakref.ref(one)
    del one
    gc.collect()
    assert held() is None


def test_two_threads_at_once_use_one_cache() -> None:
    for _ in range(20):
        one, ready = Shop(), threading.Barrier(4)
        caches: list[Any] = []

        def ask(one: Shop = one, ready: Any = ready, caches: list[Any] = caches) -> None:
            ready.wait()
            caches.append(one.price.cache)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(caches) == 4
        assert len(set(map(id, caches))) == 1


def test_copies_and_pickles() -> None:
    one = Shop()
    one.price(1)
    other = pickle.loads(pickle.dumps(one))
    assert other.price.cache_info() == (0, 0, 2, 0)
    assert pickle.loads(pickle.dumps(Shop.price)) is Shop.price
    assert pickle.loads(pickle.dumps(one.price))(1) == 10


def test_what_cannot_be() -> None:
    class Bare:
        __slots__ = ()

        @memoize(per_instance=True)
        def method(self) -> int:
            return 1

    with pytest.raises(TypeError, match=r"method\(\) can only have a cache for instances .* of Bare cannot"):
        Bare().method()
    for wrong in (
        {"cache": FlexCache()},
        {"store": FlexCache()},
        {"name": "a"},
        {"version": "2"},
        {"record": "trace.gz"},
    ):
        with pytest.raises(TypeError, match=f"per_instance .* does not take {next(iter(wrong))} with it"):
            memoize(per_instance=True, **wrong)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="per_instance must be True or False, not 1"):
        memoize(per_instance=1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not for a classmethod"):
        memoize(per_instance=True)(classmethod(lambda cls: 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a function, not int"):
        memoize(per_instance=True)(3)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="max_items"):
        memoize(per_instance=True, max_items=-1)
