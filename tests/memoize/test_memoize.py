"""memoize: what is remembered, under which key, for how long, and how it is forgotten."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import weakref
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import Cache, FlexCache, memoize
from flexcache_rs.testing import advance, check

if TYPE_CHECKING:
    from collections.abc import Callable


class Counted:
    """A function that tells how often it was called with what."""

    def __init__(self, function: Callable[..., Any] = lambda *args, **kwargs: (args, kwargs)) -> None:
        self.calls: list[Any] = []
        self.function = function
        self.__qualname__ = self.__name__ = "counted"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        return self.function(*args, **kwargs)


@pytest.mark.parametrize(
    "call",
    [
        ((), {}),
        ((1,), {}),
        (("a",), {}),
        ((None,), {}),
        ((1.5,), {}),
        (((1, 2),), {}),
        ((1, 2), {}),
        ((1, "b", 2.5, None, True), {}),
        ((), {"a": 1}),
        ((1,), {"b": 2}),
        ((1, 2), {"c": 3, "d": 4}),
        ((frozenset({1}),), {"x": (1, (2, (3, (4, (5, (6,))))))}),
        ((2**70, -1, -(2**40)), {}),
    ],
)
@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_every_form_of_call_is_remembered(call: Any, typed: bool, shared: bool) -> None:
    """Once computed, then found again, also with arguments that are equal but other objects."""
    args, kwargs = call
    counted = Counted()
    function = memoize(counted, typed=typed, cache=FlexCache() if shared else None)
    first = function(*args, **kwargs)
    again = pickle.loads(pickle.dumps((args, kwargs)))
    assert function(*again[0], **again[1]) is first
    assert first == (args, kwargs)
    assert len(counted.calls) == 1
    assert list(function.cache) == [function.cache_key(*args, **kwargs)]
    assert function.peek(*args, **kwargs) is first
    assert function.invalidate(*args, **kwargs) is True
    assert function.invalidate(*args, **kwargs) is False
    assert function.peek(*args, **kwargs) is None
    check(function.cache)


def test_keys_of_different_calls_are_different() -> None:
    """Positional or by keyword, a tuple or its items, in one order or another."""
    counted = Counted()
    function = memoize(counted)
    calls: list[Any] = [
        ((1, 2), {}),
        (((1, 2),), {}),
        ((1,), {"b": 2}),
        ((), {"a": 1, "b": 2}),
        ((), {"b": 2, "a": 1}),
        ((1, "b", 2), {}),
        (("1",), {}),
        ((1,), {}),
        ((), {}),
        (((),), {}),
    ]
    results = [function(*args, **kwargs) for args, kwargs in calls]
    assert results == calls
    assert len(function.cache) == len(calls)


def test_typed() -> None:
    """Equal arguments of different types are different on request."""
    for typed, computed in ((False, 2), (True, 4)):
        counted = Counted()
        function = memoize(counted, typed=typed)
        for value in (1.0, True, 1, 1.0):
            function((value,) if value is True else value)
            function(value, value)
        assert len({repr(call) for call in counted.calls}) >= computed


def test_none_is_a_result_like_any_other() -> None:
    counted = Counted(lambda: None)
    function = memoize(counted)
    assert function() is None
    assert function() is None
    assert len(counted.calls) == 1


def test_key_function() -> None:
    """Decides alone."""
    counted = Counted()
    function = memoize(counted, key=lambda *args, **kwargs: len(args))
    assert function(1, 2) is function(3, 4)
    assert function.cache_key(1) == 1
    assert function(5) is not function(3, 4)


def test_ignored_parameters() -> None:
    """By name, however they are passed."""
    calls = []

    @memoize(ignore=("session", "debug"))
    def load(session: object, number: int, *, debug: bool = False, other: int = 0) -> int:
        calls.append(number)
        return number

    load("one", 1)
    load("two", 1)
    load("two", 1, debug=True)
    load(session="three", number=1)
    assert len(calls) == 2, "number by keyword is another key"
    load("one", 1, other=1)
    assert len(calls) == 3


def test_condition() -> None:
    """What does not meet it is computed again."""
    counted = Counted(lambda number: number)
    function = memoize(counted, condition=lambda result: result > 1)
    for number in (1, 1, 2, 2):
        function(number)
    assert len(counted.calls) == 3


class Ten:
    """An integer, as those of numpy."""

    def __index__(self) -> int:
        return 10


@pytest.mark.parametrize(
    "ttl", [10, 10.0, Ten(), timedelta(seconds=10), lambda result: 10, lambda result: timedelta(seconds=10)]
)
def test_ttl(ttl: Any) -> None:
    """For all results, or as a function of each."""
    counted = Counted()
    function = memoize(counted, ttl=ttl)
    function(1)
    advance(9)
    function(1)
    assert len(counted.calls) == 1
    advance(2)
    function(1)
    assert len(counted.calls) == 2


def test_ttl_until_a_moment() -> None:
    function = memoize(Counted(), ttl=lambda _: datetime.now(timezone.utc) + timedelta(hours=1))
    function(1)
    remaining = function.cache.ttl(function.cache_key(1))
    assert remaining is not None
    assert 3590 < remaining <= 3600


def test_jitter_cuts_up_to_its_part_off() -> None:
    """Every result's time is within the bounds, and they differ."""
    function = memoize(Counted(), ttl=100, jitter=0.5)
    for number in range(200):
        function(number)
    left = [function.cache.ttl(key) for key in function.cache]
    assert all(49 < one <= 100 for one in left if one is not None)
    assert len(set(left)) > 100


def fail(error: type[BaseException]) -> Callable[..., Any]:
    def raise_(*_: Any) -> Any:
        raise error("wrong")

    return raise_


def test_exceptions_are_not_remembered() -> None:
    counted = Counted(fail(ValueError))
    function = memoize(counted)
    for _ in range(3):
        with pytest.raises(ValueError, match="wrong"):
            function(1)
    assert len(counted.calls) == 3
    assert len(function.cache) == 0


@pytest.mark.parametrize("which", [True, ValueError, (KeyError, ValueError)])
def test_exceptions_on_request(which: Any) -> None:
    """For as long as they are asked to."""
    counted = Counted(fail(ValueError))
    function = memoize(counted, cache_exceptions=which, exception_ttl=5, ttl=100)
    for _ in range(3):
        with pytest.raises(ValueError, match="wrong"):
            function(1)
    assert len(counted.calls) == 1
    assert function.peek(1) is None
    advance(6)
    with pytest.raises(ValueError, match="wrong"):
        function(1)
    assert len(counted.calls) == 2


def test_other_exceptions_are_not_remembered() -> None:
    counted = Counted(fail(TypeError))
    function = memoize(counted, cache_exceptions=ValueError)
    for _ in range(2):
        with pytest.raises(TypeError):
            function(1)
    assert len(counted.calls) == 2


def test_a_remembered_exception_does_not_grow() -> None:
    """Raised a thousand times it carries one traceback, not a thousand."""
    function = memoize(Counted(fail(ValueError)), cache_exceptions=True)
    depths = []
    for _ in range(1000):
        with pytest.raises(ValueError, match="wrong") as caught:
            function(1)
        depth, traceback = 0, caught.value.__traceback__
        while traceback is not None:
            depth, traceback = depth + 1, traceback.tb_next
        depths.append(depth)
    assert max(depths[1:]) == min(depths[1:])


def test_refresh() -> None:
    """Computes whatever is there."""
    numbers = iter(range(10))
    function = memoize(Counted(lambda: next(numbers)))
    assert [function(), function.refresh(), function()] == [0, 1, 1]


def test_limits_are_those_of_the_cache() -> None:
    function = memoize(Counted(), max_items=2, eviction_policy="fifo")
    for number in range(5):
        function(number)
    assert [function.peek(number) is not None for number in range(5)] == [False, False, False, True, True]
    assert function.stats().evictions == 3


class Large:
    def item_size(self) -> int:
        return 100


def test_a_result_too_large_is_returned_all_the_same() -> None:
    counted = Counted(Large)
    function = memoize(counted, max_bytes=10)
    assert isinstance(function(), Large)
    assert isinstance(function(), Large)
    assert len(counted.calls) == 2


def test_functions_that_share_a_cache_do_not_meet() -> None:
    """Nor do functions without a name of their own."""
    cache: FlexCache[Any, Any] = FlexCache()
    one = cache.memoize(lambda number: ("one", number))
    two = cache.memoize(lambda number: ("two", number))
    assert (one(1), two(1), one(1)) == (("one", 1), ("two", 1), ("one", 1))
    assert one.cache is cache
    assert len(cache) == 2
    cache["mine"] = 1
    one.clear()
    assert (one.peek(1), two.peek(1), cache["mine"]) == (None, ("two", 1), 1)


class Thing:
    """Has methods of all kinds."""

    calls: list[Any]

    def __init__(self) -> None:
        self.calls = []

    @memoize
    def method(self, number: int, *, extra: int = 0) -> tuple[Any, ...]:
        self.calls.append(number)
        return number, extra

    @classmethod
    @memoize
    def of_class(cls, number: int) -> tuple[Any, ...]:
        return cls, number

    @memoize
    @classmethod
    def of_class_too(cls, number: int) -> tuple[Any, ...]:
        return cls, number

    @staticmethod
    @memoize
    def static(number: int) -> tuple[Any, ...]:
        return (number,)

    @memoize
    @staticmethod
    def static_too(number: int) -> tuple[Any, ...]:
        return (number,)

    __hash__ = None  # type: ignore[assignment]


def test_methods_are_remembered_for_each_instance() -> None:
    """Whether or not instances are hashable."""
    one, two = Thing(), Thing()
    assert one.method(1) is one.method(1)
    assert two.method(1) is two.method(1)
    assert (one.calls, two.calls) == ([1], [1])
    assert one.method(1, extra=1) == (1, 1)
    assert Thing.method(one, 1) is one.method(1)
    assert Thing.method.invalidate(one, 1) is True
    one.method(1)
    two.method(1)
    assert (one.calls, two.calls) == ([1, 1, 1], [1])


def test_instances_are_not_kept_alive() -> None:
    """And their results leave with them."""
    Thing.method.clear()
    things = [Thing() for _ in range(20)]
    for thing in things:
        for number in range(5):
            thing.method(number)
    assert len(Thing.method.cache) == 100
    dead = weakref.ref(things[3])
    del thing, things[3]
    gc.collect()
    assert dead() is None
    assert len(Thing.method.cache) == 95
    things.clear()
    gc.collect()
    assert len(Thing.method.cache) == 0
    assert not Thing.method._instances


def test_instances_at_the_same_address_are_told_apart() -> None:
    """A new instance often gets the place of a dead one."""
    for number in range(200):
        thing = Thing()
        thing.calls = [number]
        assert thing.method(7) == (7, 0)
        assert thing.calls == [number, 7]


def test_class_and_static_methods() -> None:
    class Sub(Thing):
        pass

    for of in (Thing.of_class, Thing.of_class_too, Thing().of_class, Thing().of_class_too):
        assert of(1) == (Thing, 1)
        assert of(1) is of(1)
    assert Sub.of_class(1) == (Sub, 1)
    assert Thing.static(1) is Thing.static(1) is Thing().static(1)
    assert Thing.static_too(1) is Thing().static_too(1)


def test_instances_without_weak_references_are_refused() -> None:
    class Slotted:
        __slots__ = ()

        @memoize
        def method(self) -> int:
            return 1

    with pytest.raises(TypeError, match=r"Slotted\.method\(\) can only be remembered .* give memoize\(\) a key"):
        Slotted().method()


def test_it_looks_like_the_function() -> None:
    """Name, docs, signature, module; pickled by name; copied as itself; weakly referenced."""
    assert global_function.__name__ == "global_function"
    assert global_function.__doc__ == "Doc."
    assert str(inspect.signature(global_function)) == "(number: 'int') -> 'int'"
    assert pickle.loads(pickle.dumps(global_function)) is global_function
    assert copy.copy(global_function) is copy.deepcopy(global_function) is global_function
    assert weakref.ref(global_function)() is global_function
    assert not inspect.iscoroutinefunction(global_function)


@memoize
def global_function(number: int) -> int:
    """Doc."""
    return number


def test_partial_functions_and_callables() -> None:
    part = memoize(functools.partial(lambda a, b: a + b, 1))
    assert (part(2), part(2)) == (3, 3)
    builtin = memoize(len)
    assert (builtin("abc"), builtin("abc")) == (3, 3)


def test_tags() -> None:
    """Fixed ones, or as a function of the arguments."""
    function = memoize(Counted(), tags=("all",))
    by_user = memoize(Counted(), cache=function.cache, tags=lambda user: [f"user:{user}"])
    function(1)
    by_user(1)
    by_user(2)
    assert function.cache.evict_tag("user:1") == 1
    assert (by_user.peek(1), by_user.peek(2) is None) == (None, False)
    assert function.cache.evict_tag("all") == 1
    assert len(function.cache) == 1


class Hostile:
    """An argument whose equality is Python's business."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        if "raises" in (self.name, getattr(other, "name", None)):
            raise LookupError("no comparison")
        return isinstance(other, Hostile) and self.name == other.name


def test_arguments_with_equality_of_their_own() -> None:
    counted = Counted()
    function = memoize(counted)
    assert function(Hostile("a"), 1) is function(Hostile("a"), 1)
    assert function(Hostile("b"), 1) is not function(Hostile("a"), 1)
    with pytest.raises(LookupError, match="no comparison"):
        function(Hostile("raises"), 1)
    check(function.cache)


def test_unhashable_arguments() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        memoize(Counted())([])
    with pytest.raises(TypeError, match="unhashable"):
        memoize(Counted())(1, x=[])


def generator() -> Any:
    yield 1


async def async_generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cache": {}}, TypeError, "cache must be a FlexCache or None, not dict"),
        ({"cache": FlexCache(), "max_items": 3}, TypeError, "takes max_items only without a cache"),
        ({"typed": 1}, TypeError, "typed must be True or False, not 1"),
        ({"ttl": "1"}, TypeError, r"ttl must be a number of seconds.* not str \('1'\)"),
        ({"ttl": float("nan")}, ValueError, "ttl must not be NaN"),
        ({"ttl": 10**400}, OverflowError, "ttl must be a number that a float can hold, not int"),
        ({"soft_ttl": 10**400}, OverflowError, "soft_ttl must be a number that a float can hold"),
        ({"soft_ttl": -(10**400)}, ValueError, "soft_ttl must be after now"),
        ({"early_refresh": 10**400, "ttl": 1}, OverflowError, "early_refresh must be a number that a float can hold"),
        ({"soft_ttl": 0}, ValueError, "soft_ttl must be after now, not 0"),
        ({"soft_ttl": "1"}, TypeError, "soft_ttl must be a number of seconds"),
        ({"stale_if_error": 5}, ValueError, "stale_if_error needs a ttl"),
        ({"stale_if_error": -5, "ttl": 1}, ValueError, "stale_if_error must be after now"),
        ({"early_refresh": 1.0}, ValueError, "early_refresh needs a ttl"),
        ({"early_refresh": -1.0, "ttl": 1}, ValueError, "early_refresh must be 0 or more"),
        ({"jitter": 2}, ValueError, "jitter must be between 0 and 1, not 2"),
        ({"jitter": "a"}, TypeError, "jitter must be a number, not str"),
        ({"key": 1}, TypeError, "key must be callable or None, not int"),
        ({"condition": 1}, TypeError, "condition must be callable or None, not int"),
        ({"ignore": "abc"}, TypeError, "ignore must be names in a tuple"),
        ({"ignore": ("abc",)}, ValueError, "has no parameter 'abc'"),
        ({"ignore": (1,)}, TypeError, "ignore must contain names of parameters, not 1"),
        ({"cache_exceptions": 3}, TypeError, "cache_exceptions must be a bool or classes of exceptions, not 3"),
        ({"cache_exceptions": KeyboardInterrupt}, TypeError, "cache_exceptions must be"),
        ({"exception_ttl": 3}, ValueError, "exception_ttl needs cache_exceptions"),
        ({"tags": 1}, TypeError, "tags must be an iterable of str, not int"),
        ({"name": 1}, TypeError, "name must be a str or None, not int"),
        ({"version": ""}, ValueError, "version must not be empty"),
        ({"tags": (1,)}, TypeError, "a tag must be a str, not int"),
        ({"max_items": -1}, ValueError, "max_items"),
        ({"no_such_option": 1}, TypeError, "no_such_option"),
    ],
)
def test_arguments_that_make_no_sense(arguments: Any, error: type[Exception], message: str) -> None:
    """Are refused where they stand, before there is a function."""
    with pytest.raises(error, match=message):
        memoize(**arguments)(lambda number: number)
    with pytest.raises(error, match=message):
        memoize(lambda number: number, **arguments)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (generator, r"generator\(\) is a generator function"),
        (async_generator, r"async_generator\(\) is an async generator function"),
        (3, "memoize\\(\\) takes a function, not int"),
        (FlexCache(), r"takes a function, not FlexCache; did you mean memoize\(cache=...\)\?"),
    ],
)
def test_functions_that_cannot_be_memoized(function: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        memoize(function)
    with pytest.raises(TypeError, match=message):
        memoize(ttl=1)(function)


def test_recursion() -> None:
    """A function that calls itself with other arguments."""

    @memoize
    def fibonacci(number: int) -> int:
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    assert fibonacci(80) == 23416728348467685


@pytest.mark.parametrize("options", [{}, {"max_items": 1000}, {"ttl": 60}])
def test_recursion_as_deep_as_without_a_cache_of_ours(options: dict[str, Any]) -> None:
    """A memoized function that calls itself recurs as deeply as under functools.lru_cache."""

    def depth(decorate: Any) -> int:
        deepest = 0

        @decorate
        def descend(level: int) -> int:
            nonlocal deepest
            deepest = max(deepest, level)
            return int(descend(level + 1)) + 1

        with pytest.raises(RecursionError):
            descend(0)
        return deepest

    assert depth(memoize(**options)) >= depth(functools.lru_cache(maxsize=None)) - 5


def test_coroutine_functions() -> None:
    calls = []

    @memoize(ttl=10)
    async def load(number: int) -> int:
        calls.append(number)
        await asyncio.sleep(0)
        return number

    async def main() -> None:
        assert await load(1) == 1
        assert await load(1) == 1
        assert calls == [1]
        hit = load(1)
        assert inspect.iscoroutine(hit)
        assert await asyncio.gather(hit, load(2), load(2)) == [1, 2, 2]
        assert calls == [1, 2]
        assert await load.refresh(1) == 1
        assert calls == [1, 2, 1]
        assert load.peek(1) == 1
        assert load.invalidate(1)
        assert await load(1) == 1
        assert calls == [1, 2, 1, 1]

    asyncio.run(main())
    assert asyncio.iscoroutinefunction(load)


@pytest.mark.parametrize("options", [{}, {"copy": True}, {"store": Cache, "name": "load"}], ids=str)
def test_a_coroutine_has_the_name_of_its_function(options: dict[str, Any]) -> None:
    """A warning about a coroutine that was never awaited shows it."""

    @memoize(**{name: Cache() if value is Cache else value for name, value in options.items()})
    async def load(number: int) -> int:
        return number

    misses_and_hit = [load(1), load(1)]
    assert asyncio.run(misses_and_hit[0]) == 1
    misses_and_hit.append(load(1))
    assert {call.__qualname__ for call in misses_and_hit} == {load.__qualname__}
    for call in misses_and_hit:
        call.close()
