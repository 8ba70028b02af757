"""Random programs do the same with a drop-in as with the original: results, exceptions, order, statistics."""

from __future__ import annotations

import copy
import functools
import random
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scale import may_skip, scaled

import flexcache_rs
from flexcache_rs import cachetools as ours

ORDERED = ["LFUCache", "LRUCache", "TTLCache", "TLRUCache"]
"""The classes in which a lookup is a use of the entry."""


class Hostile:
    """A key that raises where it is hashed or compared, or lies there."""

    def __init__(self, number: int, how: str) -> None:
        self.number, self.how = number, how

    def __repr__(self) -> str:
        return f"Hostile({self.number}, {self.how!r})"

    def __hash__(self) -> int:
        if self.how == "hash":
            raise RuntimeError("no hash")
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        if self.how == "eq":
            raise RuntimeError("no equality")
        if self.how == "never":
            return False
        return self.number == (other.number if isinstance(other, Hostile) else other)


TABLE: list[Any] = [
    *(0, 1, 2, 3, 4, 1.0, True, "a", (1, 2), None, b"a", float("inf"), []),
    *(Hostile(1, "plain"), Hostile(1, "hash"), Hostile(2, "eq"), Hostile(3, "never"), Hostile(7, "eq")),
]
# By their place: Hypothesis itself would hash and compare them.
PLACES = st.integers(0, len(TABLE) - 1)
KEYS = PLACES.map(TABLE.__getitem__)
# An empty dict pops without a hash, so that whether cachetools refuses these depends on what it holds.
HASHABLE = PLACES.filter(lambda place: place not in (12, 14)).map(TABLE.__getitem__)
"""All but the list and the key whose hash raises."""


EQUAL = [TABLE[place] for place in (1, 5, 6, 13)]
"""The keys that are equal to one another, though not the same."""


def outcome(call: Any, *args: Any, **kwargs: Any) -> Any:
    """What a call returns, as text, or the class of what it raises."""
    try:
        return repr(call(*args, **kwargs))
    except Exception as error:  # Whatever it is, both must raise it.
        return type(error)


CALLS = st.one_of(
    st.tuples(st.just("call"), KEYS),
    st.tuples(st.just("two"), KEYS, KEYS),
    st.tuples(st.just("keyword"), KEYS),
    st.tuples(st.just("fail"), st.integers(0, 4)),
    st.tuples(st.just("again"), st.integers(0, 4)),
    st.tuples(st.just("clear")),
    st.tuples(st.just("clear within"), st.integers(0, 4)),
)


def runs_of_lru_cache(decorate: Any, program: list[Any]) -> list[Any]:
    told: list[Any] = []

    @decorate
    def function(*args: Any, how: str = "call", **kwargs: Any) -> Any:
        told.append((how, repr(args), tuple(kwargs)))
        if how == "fail":
            raise KeyError(args)
        if how == "again":
            return [function(args[0] - 1, how="again")] if args[0] else []
        if how == "clear within":
            function.cache_clear()
        return len(told)

    for how, *args in program:
        if how == "clear":
            function.cache_clear()
        elif how == "keyword":
            told.append(outcome(function, key=args[0]))
        elif how in ("call", "two"):
            told.append(outcome(function, *args))
        else:
            told.append(outcome(function, *args, how=how))
        told.append(repr(function.cache_info()))
    return [*told, function.cache_parameters()]


@given(st.lists(CALLS, max_size=30), st.sampled_from([None, 0, 1, 2, 5, True, -1]), st.booleans())
@settings(max_examples=scaled(2000))
def test_lru_cache(program: list[Any], most: int | None, typed: bool) -> None:
    ours_, theirs = (
        runs_of_lru_cache(of.lru_cache(maxsize=most, typed=typed), program) for of in (flexcache_rs, functools)
    )
    assert ours_ == theirs


STEPS = st.one_of(
    st.tuples(st.sampled_from(["get", "item", "in", "pop", "delete", "setdefault"]), HASHABLE),
    st.tuples(st.just("set"), HASHABLE, st.integers(0, 4)),
    st.tuples(st.sampled_from(["popitem", "clear", "list", "expire"])),
    st.tuples(st.just("tick"), st.integers(-4, 4)),
)


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def tick(self, seconds: int) -> None:
        self.now += seconds


def popped_by_use(cache: Any) -> Any:
    """What `popitem` returns, with one name for all equal keys.

    A cache keeps the key that an entry was stored with. cachetools' LFUCache does as well, and shows it in all
    calls but this one. `popitem` returns the key with which the entry was looked up last, unless the entry was
    alone in its count.
    """
    key, value = cache.popitem()
    return "one" if any(key is equal for equal in EQUAL) else key, value


def runs_of_cachetools(make: Any, program: list[Any], name: str) -> list[Any]:
    clock = Clock()
    cache = make(clock)
    calls: dict[str, Any] = {
        "get": cache.get,
        "item": cache.__getitem__,
        "in": cache.__contains__,
        "pop": lambda key: cache.pop(key, "absent"),
        "delete": cache.__delitem__,
        "setdefault": lambda key: cache.setdefault(key, 2),
        "set": cache.__setitem__,
        "popitem": (lambda: popped_by_use(cache)) if name == "LFUCache" else cache.popitem,
        "clear": cache.clear,
        "expire": lambda: cache.expire(),
        "tick": clock.tick,
        "list": lambda: (list(cache), len(cache), cache.currsize),
    }
    return [(repr(step), outcome(calls[step[0]], *step[1:]), len(cache), cache.currsize) for step in program]


@pytest.mark.parametrize("name", ["Cache", "FIFOCache", "LFUCache", "LRUCache", "RRCache", "TTLCache", "TLRUCache"])
@pytest.mark.parametrize("weighs", [False, True])
@pytest.mark.parametrize("computes", [False, True])
def test_cachetools(name: str, weighs: bool, computes: bool) -> None:
    if may_skip("cachetools", find_spec("cachetools")):
        pytest.skip("cachetools is not installed")
    originals = import_module("cachetools")

    def maker(of: Any, most: int) -> Any:
        class Computing(getattr(of, name)):  # type: ignore[misc]
            def __missing__(self, key: Any) -> Any:
                self[key] = 1
                return 1

        kind = Computing if computes else getattr(of, name)
        options: dict[str, Any] = {"getsizeof": lambda value: value} if weighs else {}
        if name == "RRCache":
            # The same numbers choose the same keys.
            return lambda _: kind(most, random.Random(7).choice, **options)
        if name == "TTLCache":
            return lambda clock: kind(most, 3, timer=clock, **options)
        if name == "TLRUCache":
            return lambda clock: kind(most, lambda _key, value, now: now + value, timer=clock, **options)
        return lambda _: kind(most, **options)

    @given(st.lists(STEPS, max_size=30), st.sampled_from([0, 1, 2, 5]))
    @settings(max_examples=scaled(600))
    def compare(program: list[Any], most: int) -> None:
        ours_, theirs = (runs_of_cachetools(maker(of, most), program, name) for of in (ours, originals))
        assert ours_ == theirs

    compare()


@pytest.mark.parametrize("name", ["Cache", "FIFOCache", "LFUCache", "LRUCache", "RRCache", "TTLCache", "TLRUCache"])
@pytest.mark.parametrize("overridden", ["", "popitem", "__delitem__", "__iter__"])
def test_messages_of_popitem_on_an_empty_cache(name: str, overridden: str) -> None:
    if may_skip("cachetools", find_spec("cachetools")):
        pytest.skip("cachetools is not installed")
    options: Any = {"TTLCache": {"ttl": 3}, "TLRUCache": {"ttu": max}}.get(name, {})

    def arguments(of: Any) -> Any:
        base = getattr(of, name)
        kind: Any = type("Own", (base,), {overridden: getattr(base, overridden)} if overridden else {})
        with pytest.raises(KeyError) as caught:
            kind(2, **options).popitem()
        return caught.value.args

    assert arguments(ours) == arguments(import_module("cachetools"))


@pytest.mark.parametrize("name", ["TTLCache", "TLRUCache"])
@pytest.mark.parametrize("overrides", [False, True])
def test_a_timer_that_goes_back(name: str, overrides: bool) -> None:
    """Programs test with clocks that they set, and time.time() may go back."""
    if may_skip("cachetools", find_spec("cachetools")):
        pytest.skip("cachetools is not installed")

    def run(of: Any, numbers: random.Random) -> list[str]:
        clock, kind, base = Clock(), getattr(of, name), getattr(of, name)
        if overrides:
            kind = type("Own", (base,), {"popitem": lambda self: base.popitem(self)})
        first: Any = 3 if name == "TTLCache" else lambda _key, _value, now: now + 3
        cache, told = kind(3, first, timer=clock), []
        for _ in range(12):
            clock.tick(numbers.randint(-4, 3))
            key = numbers.randrange(5)
            if numbers.random() < 0.3:
                told.append(outcome(cache.__delitem__, key))
            else:
                cache[key] = len(told)
            told.append(repr((cache, len(cache), list(cache))))
        return told

    for seed in range(300):
        assert run(ours, random.Random(seed)) == run(import_module("cachetools"), random.Random(seed)), seed


@pytest.mark.parametrize("name", ["Cache", "FIFOCache", "LFUCache", "LRUCache", "RRCache", "TTLCache", "TLRUCache"])
def test_what_programs_ask_of_a_class(name: str) -> None:
    """The parameters that inspect.signature shows, the public names, and what `repr` and a named base class do."""
    if may_skip("cachetools", find_spec("cachetools")):
        pytest.skip("cachetools is not installed")
    options: Any = {"TTLCache": {"ttl": 3}, "TLRUCache": {"ttu": lambda _key, _value, now: now + 3}}.get(name, {})

    def answers(of: Any) -> list[Any]:
        kind = getattr(of, name)
        told: list[Any] = [[(one.name, one.default) for one in signature(kind).parameters.values()]]

        class Own(kind):  # type: ignore[misc]
            @property
            def currsize(self) -> int:
                return 77

            def stats(self) -> int:
                return 1

        for made in (kind(3, **options), Own(3, **options)):
            made.name = "mine"
            made.update(a=1, b=2, c=3)
            told += [made.get("a"), [one for one in dir(made) if not one.startswith("_")], repr(made)]
            told += [of.Cache.popitem(made), repr(made)]
        return told

    assert answers(ours) == answers(import_module("cachetools"))


@pytest.mark.parametrize("name", ["LRUCache", "LFUCache"])
@pytest.mark.parametrize("of_instance", [False, True])
def test_a_lookup_that_stores_is_no_use(name: str, of_instance: bool) -> None:
    """What `__missing__` stores, `Cache.__getitem__` does not read. The method may also be one of the instance."""
    if may_skip("cachetools", find_spec("cachetools")):
        pytest.skip("cachetools is not installed")

    def left(of: Any) -> list[Any]:
        def missing(key: Any) -> Any:
            cache[key] = key
            return key

        class Storing(getattr(of, name)):  # type: ignore[misc]
            def __missing__(self, key: Any) -> Any:
                return missing(key)

        cache = getattr(of, name)(2) if of_instance else Storing(2)
        if of_instance:
            cache.__missing__ = missing
        found = of.Cache.__getitem__(cache, 1)
        cache[2] = cache[3] = 0
        return [found, *sorted(cache)]

    assert left(ours) == left(import_module("cachetools"))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((name, how) for name in (*ORDERED, "Cache", "FIFOCache", "RRCache") for how in ("named base", "own get")),
        # In the other classes, `__getitem__` takes no other function.
        *((name, how) for name in ORDERED for how in ("passed on", "named", "other function")),
    ],
)
def test_which_lookups_count_as_a_use(name: str, how: str) -> None:
    """`Cache.__getitem__` does not, by which programs look at an entry without renewing it, drain3 for example."""
    if may_skip("cachetools", find_spec("cachetools")):
        pytest.skip("cachetools is not installed")
    options: Any = {"TTLCache": {"ttl": 3}, "TLRUCache": {"ttu": lambda _key, _value, now: now + 3}}.get(name, {})
    if name == "RRCache":
        options = {"choice": min}

    def left(of: Any) -> list[Any]:
        kind = getattr(of, name)

        class Looking(kind):  # type: ignore[misc]
            def __missing__(self, key: Any) -> None:
                return None

            def get(self, key: Any, default: Any = None) -> Any:
                return of.Cache.__getitem__(self, key)

        Cache = of.Cache  # noqa: N806  # As programs call it.

        class Passing(kind):  # type: ignore[misc]
            def __getitem__(self, key: Any, cache_getitem: Any = Cache.__getitem__) -> Any:
                return super().__getitem__(key, cache_getitem)

        class Naming(kind):  # type: ignore[misc]
            def __getitem__(self, key: Any) -> Any:
                return super().__getitem__(key, Cache.__getitem__)

        class Other(kind):  # type: ignore[misc]
            def __getitem__(self, key: Any) -> Any:
                return super().__getitem__(key, cache_getitem=lambda _cache, key: key)

        made: Any = {"named base": kind, "own get": Looking, "passed on": Passing, "named": Naming}.get(how, Other)
        cache = made(2, **options)
        cache["a"], cache["b"] = 1, 2
        if how == "named base":
            told = [of.Cache.__getitem__(cache, "a"), outcome(of.Cache.__getitem__, cache, "x")]
        elif how == "own get":
            told = [cache.get("a"), cache.get("x"), cache["x"]]
        else:
            told = [outcome(cache.__getitem__, key) for key in ("a", "a", "x")]
        cache["c"] = 3
        return [told, list(cache)]

    assert left(ours) == left(import_module("cachetools"))


@pytest.mark.parametrize("name", ["Cache", "FIFOCache", "LFUCache", "LRUCache", "RRCache", "TTLCache", "TLRUCache"])
@pytest.mark.parametrize("weighs", [False, True])
def test_programs_assign_the_size(name: str, weighs: bool) -> None:
    """cachetools has no call for it, so programs assign to a private attribute, wsinfer for example."""
    if may_skip("cachetools", find_spec("cachetools")):
        pytest.skip("cachetools is not installed")
    options: Any = {"TTLCache": {"ttl": 9}, "TLRUCache": {"ttu": lambda _key, _value, now: now + 9}}.get(name, {})
    options |= {"choice": min} if name == "RRCache" else {}
    options |= {"getsizeof": lambda value: value} if weighs else {}

    def run(of: Any, numbers: random.Random) -> list[str]:
        cache, told = getattr(of, name)(3, **options), []
        for step in range(15):
            if numbers.random() < 0.3:
                cache._Cache__maxsize = numbers.randrange(7)
            if numbers.random() < 0.2:
                cache = numbers.choice([copy.copy, copy.deepcopy])(cache)
            told.append(outcome(cache.__setitem__, step, numbers.randrange(3)))
            told.append(repr((cache, len(cache), list(cache), cache.maxsize, cache._Cache__maxsize, cache.currsize)))
        return told

    for seed in range(100):
        assert run(ours, random.Random(seed)) == run(import_module("cachetools"), random.Random(seed)), seed
