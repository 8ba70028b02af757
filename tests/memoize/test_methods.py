"""Memoized functions in classes and under other decorators: what is a method, and whose attributes are whose."""

from __future__ import annotations

import abc
import asyncio
import copy
import functools
import gc
import inspect
import pickle
import sys
import weakref
from typing import Any

import pytest

from flexcache_rs import FlexCache, lru_cache, memoize
from flexcache_rs.testing import check


@memoize
def double(number: Any) -> Any:
    return 2 * number


def area_of(self: Any, factor: int = 1) -> Any:
    return self.size * factor


class Shape:
    """Has methods of many kinds; its instances are all equal."""

    transform = double
    area = memoize(area_of)

    def __init__(self, size: int = 0) -> None:
        self.size = size

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1

    @property
    @memoize
    def doubled(self) -> int:
        return 2 * self.size

    @memoize
    def me(self) -> Shape:
        return self

    @memoize
    def listed(self, *numbers: int) -> list[Any]:
        return [self, *numbers]

    @memoize
    async def awaited(self, number: int) -> list[Any]:
        return [self, number]

    @memoize
    def sized(self, number: int) -> int:
        return self.size * number


def test_an_alias_in_a_class_body_changes_nothing() -> None:
    """The function still takes any argument; instances of the class are told apart by identity."""
    assert double(4) == 8
    assert double("a") == "aa"
    assert Shape.transform(5) == 10
    with pytest.raises(TypeError):
        Shape(1).transform()
    one, two = Shape(1), Shape(2)
    assert (one.area(), two.area(), one.area(3)) == (1, 2, 3)
    assert Shape.area(two) == 2


def test_a_property_over_a_memoized_function() -> None:
    """Equal instances are not taken for each other, and none is kept alive."""
    one, two = Shape(1), Shape(2)
    assert (one.doubled, two.doubled, one.doubled) == (2, 4, 2)
    dead = weakref.ref(one)
    del one
    gc.collect()
    assert dead() is None


@pytest.mark.parametrize("call", [Shape.me, Shape.listed, lambda shape: asyncio.run(shape.awaited(1))])
def test_a_result_that_refers_to_the_instance_keeps_nothing_alive(call: Any) -> None:
    """It is found as long as the instance lives, and leaves with it."""
    cache = Shape.me.cache
    for pickled in (False, True):
        shape = Shape(3)
        first = call(shape)
        assert call(shape) is first
        if pickled:
            for other in (pickle.loads(pickle.dumps(shape)), copy.copy(shape), copy.deepcopy(shape)):
                assert call(other) is not first
                assert call(other) is call(other)
        dead = weakref.ref(shape)
        del shape, first
        gc.collect()
        assert dead() is None
    other = None
    gc.collect()
    assert other is None
    for function in (Shape.me, Shape.listed, Shape.awaited):
        assert len(function.cache) == 0
    check(cache)


@pytest.mark.parametrize("original_lives", [False, True])
def test_a_copy_of_an_instance_has_results_of_its_own(original_lives: bool) -> None:
    """Neither of the two is kept alive by results of the other."""
    shape = Shape(3)
    first = shape.listed(1)
    other = copy.copy(shape)
    second = other.listed(1)
    assert (shape.listed(1) is first, other.listed(1) is second) == (True, True)
    if original_lives:
        dead = weakref.ref(other)
        del other, second
    else:
        dead = weakref.ref(shape)
        del shape, first
    gc.collect()
    assert dead() is None
    assert shape.listed(1) is first if original_lives else other.listed(1) is second


def test_a_deep_copy_of_a_bound_method_is_bound_to_a_copy() -> None:
    """As of any method, also where the instance refers to it."""
    shape = Shape(3)
    shape.callback = shape.sized  # type: ignore[attr-defined]
    other = copy.deepcopy(shape)
    other.size = 5
    assert (other.callback(2), shape.callback(2)) == (10, 6)  # type: ignore[attr-defined]
    assert other.callback.__self__ is other  # type: ignore[attr-defined]
    assert copy.deepcopy(Shape.sized) is Shape.sized


def test_results_of_instances_are_evicted_and_invalidated() -> None:
    class Thing:
        calls = 0

        @memoize(max_items=2)
        def listed(self, number: int) -> list[Any]:
            self.calls += 1
            return [self, number]

    thing = Thing()
    alive = weakref.WeakSet[Any]()

    class Item:
        pass

    item = Item()
    alive.add(item)
    thing.listed(item).append(item)  # type: ignore[arg-type]
    del item
    for number in range(3):
        thing.listed(number)
    gc.collect()
    assert not list(alive), "what was evicted is not held by the instance either"
    assert thing.calls == 4
    assert thing.listed.invalidate(2) is True
    thing.listed(2)
    assert thing.calls == 5
    vars(thing).pop("_flexcache_rs_results")
    assert thing.listed(2) == [thing, 2], "what an instance has lost is computed anew"
    assert thing.calls == 6


def test_a_bound_method_is_about_its_instance() -> None:
    one, two = Shape(1), Shape(2)
    assert (one.sized(5), two.sized(5)) == (5, 10)
    assert one.sized.peek(5) == 5
    assert one.sized.cache_key(5) == Shape.sized.cache_key(one, 5) != two.sized.cache_key(5)
    assert one.sized.invalidate(5) is True
    assert one.sized.invalidate(5) is False
    assert (one.sized.peek(5), two.sized.peek(5)) == (None, 10)
    one.size = 7
    assert one.sized.refresh(5) == 35
    assert one.sized(5) == 35
    assert one.sized.cache is Shape.sized.cache
    assert one.sized.stats().hits >= 1


def test_a_bound_method_is_like_any() -> None:
    """Called in all ways, compared, hashed, pickled, looked at."""
    shape, other = Shape(2), Shape(3)
    bound = shape.sized
    assert bound(5) == bound(*(5,)) == bound(number=5) == bound(number=5) == functools.partial(bound, 5)() == 10
    assert list(map(bound, [1, 2])) == [2, 4]
    assert bound == shape.sized
    assert bound != other.sized
    assert hash(bound) == hash(shape.sized)
    assert (bound.__self__, bound.__func__) == (shape, Shape.sized)
    assert (bound.__name__, bound.__qualname__) == ("sized", "Shape.sized")
    assert str(inspect.signature(bound)) == "(number: 'int') -> 'int'"
    assert "bound method Shape.sized of" in repr(bound)
    restored = pickle.loads(pickle.dumps(bound))
    assert restored(5) == 10
    assert weakref.ref(bound)() is bound
    # Before Python 3.12 only asyncio takes what is marked for a coroutine function.
    is_awaited = inspect.iscoroutinefunction if sys.version_info >= (3, 12) else asyncio.iscoroutinefunction
    assert is_awaited(shape.awaited)
    assert not is_awaited(bound)
    with pytest.raises(TypeError):
        bound()


def test_class_methods_of_abstract_classes() -> None:
    """Their metaclass is written in Python, like a class whose method this might be."""

    class Base(abc.ABC):
        calls = 0

        @classmethod
        @memoize
        def made(cls, number: int) -> tuple[Any, int]:
            Base.calls += 1
            return cls, number

    class Derived(Base):
        pass

    for _ in range(3):
        assert Base.made(1) == (Base, 1)
        assert Derived.made(1) == (Derived, 1)
    assert Base.calls == 2


def test_instances_of_many_classes_as_plain_arguments() -> None:
    """The classes that are known to be plain are bounded, and may go."""

    class Holder:
        @staticmethod
        @memoize
        def name(thing: Any) -> str:
            return type(thing).__name__

    for number in range(50):
        made = type(f"Thing{number}", (), {})
        assert Holder.name(made()) == f"Thing{number}"
        assert Holder.name(made()) == f"Thing{number}"


def test_stacked_decorators_keep_their_own_options() -> None:
    @memoize(ttl=5, condition=lambda _: False)
    @memoize(ttl=1000)
    def function(number: int) -> int:
        return number

    function(1)
    assert function.peek(1) is None
    assert function.__wrapped__.peek(1) == 1
    outer = lru_cache(maxsize=10)(lru_cache(maxsize=3)(abs))
    assert (outer.cache_info().maxsize, outer.cache_parameters()["maxsize"]) == (10, 10)
    assert outer.__wrapped__.cache_info().maxsize == 3


def test_stacking_in_one_cache_is_refused() -> None:
    cache: FlexCache[Any, Any] = FlexCache()
    with pytest.raises(ValueError, match="memoized in this cache already"):
        cache.memoize(cache.memoize(double.__wrapped__))


@pytest.mark.parametrize(
    "name", ["clear", "stats", "invalidate", "peek", "refresh", "cache_key", "cache", "_plan", "_meet"]
)
def test_attributes_of_the_function_hide_nothing(name: str) -> None:
    """They stay the function's; others are seen on the memoized one, as with any decorator."""

    def function(number: int) -> int:
        return number

    setattr(function, name, "mine")
    function.other = "other"  # type: ignore[attr-defined]
    memoized: Any = memoize(function)
    assert memoized(1) == 1
    assert memoized.other == "other"
    assert getattr(memoized.__wrapped__, name) == "mine"
    assert memoized.peek(1) == 1
    assert memoized.invalidate(1) is True
    memoized.clear()
    assert memoized.stats().misses == 1
    functools.update_wrapper(memoized, lambda _: "another")
    assert memoized(1) == 1, "what is called is the function's own business"


@pytest.mark.parametrize("name", ["cache_info", "cache_clear", "cache_parameters"])
def test_attributes_of_the_function_hide_nothing_of_lru_cache(name: str) -> None:
    """Nor what an lru_cache() below it says of itself."""

    def function(number: int) -> int:
        return number

    setattr(function, name, "mine")
    cached: Any = lru_cache(maxsize=5)(function)
    assert cached(1) == 1
    assert getattr(cached.__wrapped__, name) == "mine"
    assert cached.cache_info().currsize == 1
    assert cached.cache_parameters()["maxsize"] == 5
    cached.cache_clear()
    assert cached.cache_info().currsize == 0
    assert lru_cache(maxsize=10)(functools.lru_cache(maxsize=3)(abs)).cache_parameters()["maxsize"] == 10


class Slotted:
    """Has no room for attributes."""

    __slots__ = ("__weakref__", "size")

    @memoize
    def made(self, make: Any) -> Any:
        return make(self)

    @memoize(cache_exceptions=True)
    def failed(self, make: Any) -> Any:
        raise ValueError(make(self))

    @memoize
    async def awaited(self, make: Any) -> Any:
        return make(self)


def nested(thing: Any) -> list[Any]:
    inner: list[Any] = [thing]
    for _ in range(100):
        inner = [inner]
    return inner


def circle(thing: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    made.update(itself=made, function=lambda: thing)
    return made


REFERRING: dict[str, Any] = {
    "itself": lambda thing: thing,
    "list": nested,
    "circle": circle,
    "bound method": lambda thing: thing.made,
    "partial": lambda thing: functools.partial(print, thing),
    "iterator": lambda thing: iter([thing]),
    "default": lambda thing: lambda _=thing: None,
    "object": lambda thing: Holder(thing),
    "much": lambda thing: [[] for _ in range(20_000)] + [[thing]],
}
OTHER: dict[str, Any] = {
    "list": lambda _: [[1], {2: [3]}],
    "function": lambda _: lambda: nested,
    "class": lambda _: [Slotted, sys, Slotted.made],
    "object": lambda _: Holder([1]),
}


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held


@pytest.mark.parametrize("what", REFERRING)
@pytest.mark.parametrize("how", ["made", "failed", "awaited"])
def test_an_instance_without_room_is_not_kept_by_its_results(what: str, how: str) -> None:
    """What refers to it is not remembered, and a warning says so."""
    thing, make = Slotted(), REFERRING[what]

    def call(thing: Any) -> Any:
        try:
            made = getattr(thing, how)(make)
            return asyncio.run(made) if how == "awaited" else made
        except ValueError as error:
            return error.args[0]

    with pytest.warns(RuntimeWarning, match="add '__dict__' to its __slots__"):
        first = call(thing)
    with pytest.warns(RuntimeWarning, match=rf"Slotted\.{how}\(\) returned what refers to its instance"):
        second = call(thing)
    assert (second is first) is (first is thing)
    dead = weakref.ref(thing)
    del thing, first, second
    gc.collect()
    assert dead() is None


@pytest.mark.parametrize("what", OTHER)
@pytest.mark.parametrize("how", ["made", "awaited"])
def test_other_results_of_an_instance_without_room_are_remembered(what: str, how: str) -> None:
    thing, make = Slotted(), OTHER[what]

    def call(thing: Any) -> Any:
        made = getattr(thing, how)(make)
        return asyncio.run(made) if how == "awaited" else made

    assert call(thing) is call(thing)
    dead = weakref.ref(thing)
    del thing
    gc.collect()
    assert dead() is None


def test_instances_without_room_for_attributes() -> None:
    """They are remembered all the same."""

    class Slotted:
        __slots__ = ("__weakref__",)

        @memoize
        def listed(self) -> list[Any]:
            return [1]

    thing = Slotted()
    assert thing.listed() is thing.listed()
    dead = weakref.ref(thing)
    del thing
    gc.collect()
    assert dead() is None
    assert len(Slotted.listed.cache) == 0


def test_a_method_of_a_metaclass_is_not_told_to_add_slots() -> None:
    class Meta(type):
        @memoize
        def made(cls) -> list[Any]:
            return [cls]

    class Kind(metaclass=Meta):
        pass

    with pytest.warns(RuntimeWarning, match="that is the class .*Kind, which can hold no results") as told:
        assert Kind.made() == [Kind]
    assert "__slots__" not in str(told[0].message)


def test_coroutine_methods() -> None:
    class Client:
        calls = 0

        @memoize
        async def load(self, number: int) -> int:
            self.calls += 1
            return number

    async def main() -> None:
        client = Client()
        assert await client.load(1) + await client.load(1) == 2
        assert client.calls == 1
        assert await Client().load(1) == 1

    asyncio.run(main())
    gc.collect()
    assert len(Client.load.cache) == 0
