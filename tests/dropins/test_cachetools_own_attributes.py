"""Attributes that programs give to caches of `flexcache_rs.cachetools`, and to their subclasses."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any
from unittest import mock

import pytest
from cachetools_makers import MAKERS, build, timed, used
from interrupting import INTERRUPTS, points

from flexcache_rs.cachetools import Cache, LRUCache, TTLCache

KINDS = [type(make(1)) for make in MAKERS]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_popitem_that_is_assigned_to_a_cache_evicts(kind: Any) -> None:
    """As GPTCache does, to remove several entries at once and to be told of them."""
    for sizes in ({}, {"getsizeof": lambda _value: 1}):
        cache, evicted = build(kind, 5, **sizes), []
        popitem = cache.popitem

        def several(popitem: Any = popitem, evicted: list[Any] = evicted) -> None:
            evicted.append([popitem()[0] for _ in range(2)])

        cache.popitem = several
        for number in range(12):
            cache[number] = number
        assert [len(keys) for keys in evicted] == [2, 2, 2, 2]
        assert sorted([*cache, *(key for keys in evicted for key in keys)]) == list(range(12))
        del cache.popitem
        cache[12], cache[13] = 12, 13
        assert (len(cache), len(evicted)) == (5, 4)


def test_a_popitem_can_be_patched_for_a_time(kind: Any) -> None:
    cache = build(kind, 2)
    with mock.patch.object(cache, "popitem", wraps=cache.popitem) as popitem:
        for number in range(4):
            cache[number] = number
    assert popitem.call_count == 2
    cache[4] = 4
    assert (popitem.call_count, len(cache)) == (2, 2)


def test_a_popitem_may_be_assigned_before_the_size_is_known() -> None:
    class Telling(LRUCache[Any, Any]):
        def __init__(self, size: int) -> None:
            self.told: list[Any] = []
            kept = super().popitem
            self.popitem = lambda: self.told.append(kept()) or self.told[-1]  # type: ignore[func-returns-value, method-assign]
            super().__init__(size)

    cache = Telling(1)
    cache["a"], cache["b"] = 1, 2
    assert cache.told == [("a", 1)]


@pytest.mark.parametrize("make", [timed, used], ids=["timed", "used"])
def test_an_expire_that_is_assigned_to_a_cache_is_called_by_each_write(make: Any) -> None:
    cache, told = make(3), []
    expire = cache.expire
    cache.expire = lambda time=None: told.append(time) or expire(time)
    cache["a"] = 1
    assert told
    del told[:], cache.expire
    cache["b"] = 1
    assert not told


def test_a_missing_that_is_assigned_to_a_cache_is_called(kind: Any) -> None:
    cache = build(kind, 3)
    cache.__missing__ = lambda key: key * 2
    assert (cache["a"], cache.get("a"), "a" in cache) == ("aa", None, False)


class Named:
    """A further base class with names that FlexCache has and cachetools has not."""

    name = "named"
    max_items = 7

    def stats(self) -> str:
        return f"statistics of {self.name}"

    @classmethod
    def copy(cls) -> str:
        return f"copy of {cls.__name__}"

    @property
    def store(self) -> Any:
        return vars(self).get("kept")

    @store.setter
    def store(self, value: Any) -> None:
        vars(self)["kept"] = value


def test_base_classes_after_a_cache_have_names_of_flexcache(kind: Any) -> None:
    class Mixed(kind, Named):  # type: ignore[misc]
        pass

    class Derived(Mixed):
        pass

    for one in (Mixed, Derived):
        cache = build(one, 2)
        assert (cache.name, cache.max_items, cache.stats()) == ("named", 7, "statistics of named")
        assert (cache.copy(), one.copy()) == (f"copy of {one.__name__}",) * 2
        assert cache.store is None
        cache.store = "there"
        assert (cache.store, vars(cache)["kept"]) == ("there", "there")
        assert {"name", "stats", "store"} <= set(dir(cache))
        with pytest.raises(AttributeError, match="put"):
            cache.put("a", 1)
        cache["a"], cache["b"], cache["c"] = 1, 2, 3
        assert len(cache) == 2


class Tracked:
    """Notes what is assigned and deleted."""

    def __setattr__(self, name: str, value: Any) -> None:
        NOTED.append(("set", name))
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        NOTED.append(("delete", name))
        super().__delattr__(name)


NOTED: list[Any] = []


def test_base_classes_after_a_cache_notice_assignments(kind: Any) -> None:
    class Mixed(kind, Tracked):  # type: ignore[misc]
        pass

    cache = build(Mixed, 2)
    NOTED.clear()
    cache.mine = 1
    cache.popitem = cache.popitem
    del cache.mine, cache.popitem
    assert NOTED == [("set", "mine"), ("set", "popitem"), ("delete", "mine"), ("delete", "popitem")]
    assert not vars(cache).keys() & {"mine", "popitem"}


class Another(Named):
    @property
    def store(self) -> Any:
        return "another's"

    @store.setter
    def store(self, value: Any) -> None:
        vars(self)["another's"] = value


class Plainly(Named):
    store = "plain"  # type: ignore[assignment]


def test_a_property_is_the_one_that_python_finds(kind: Any) -> None:
    class Mixed(kind, Named):  # type: ignore[misc]
        pass

    class Cached(kind):  # type: ignore[misc]
        store = "cached"

    class Own(Mixed):
        @property
        def store(self) -> Any:
            return ("own", super().store)

    of_another: Any = build(type("OfAnother", (Mixed, Another), {}), 2)
    of_another.store = 1
    assert (of_another.store, vars(of_another)["another's"]) == ("another's", 1)
    with pytest.raises(AttributeError):
        del of_another.store

    for name, second in (("plain", Plainly), ("cached", Cached)):
        one: Any = build(type("OfPlain", (Mixed, second), {}), 2)
        assert one.store == name
        one.store = 1
        assert (one.store, vars(one)["store"]) == (1, 1)
        del one.store
        assert one.store == name
        with pytest.raises(AttributeError, match="store"):
            del one.store

    own = build(Own, 2)
    vars(own)["kept"] = 1
    assert own.store == ("own", 1)


def test_deleting_before_the_size_is_known() -> None:
    class Early(LRUCache[Any, Any]):
        def __init__(self) -> None:
            self.popitem = super().popitem  # type: ignore[method-assign]
            del self.popitem
            super().__init__(1)

    cache = Early()
    cache["a"], cache["b"] = 1, 2
    assert list(cache) == ["b"]


class Pickled(LRUCache[Any, Any]):
    """Keeps all of its attributes."""

    def __getstate__(self) -> Any:
        return self.__dict__.copy()


class Telling:
    """An own `popitem`, which can be pickled."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.told = 0

    def __call__(self) -> Any:
        self.told += 1
        return LRUCache.popitem(self.cache)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_an_assigned_popitem_is_called_in_copies_of_subclasses_with_a_state(again: Any) -> None:
    cache = Pickled(1)
    telling: Any = Telling(cache)
    cache.popitem = telling
    copied = again(cache)
    found: Any = copied.popitem
    found.cache = copied
    copied["a"], copied["b"] = 1, 2
    assert (list(copied), found.told) == (["b"], 1)


@pytest.mark.parametrize("how", INTERRUPTS)
def test_an_assignment_that_is_interrupted_is_used_or_not_made(kind: Any, how: str) -> None:
    cache = build(kind, 1)
    calls: list[int] = []

    def popitem() -> Any:
        calls.append(1)
        return type(cache).popitem(cache)

    for at in points(lambda: setattr(cache, "popitem", popitem), how):
        cache["a"], cache["b"] = 1, 2
        assert len(cache) == 1
        assert bool(calls) == ("popitem" in vars(cache)), f"not used after point {at}"
        vars(cache).pop("popitem", None)
        cache.popitem = popitem
        del cache.popitem
        cache.clear()
        calls.clear()


def private_names() -> list[str]:
    """The private names of all classes and caches, which subclasses of cachetools may use for what they like."""
    found: set[str] = set()
    for make in MAKERS:
        cache = make(2)
        found.update(vars(cache), *(vars(one) for one in type(cache).__mro__[:-1]))
    mangled = tuple(f"_{one.__name__.lstrip('_')}__" for kind in KINDS for one in kind.__mro__)
    # The prefix says whose the names are.
    return sorted(
        name for name in found if name.startswith("_") and not name.startswith(("__", "_cachetools_", *mangled))
    )


def test_base_classes_after_a_cache_have_private_names(kind: Any) -> None:
    # cachetools' class has this one as well.
    names = [name for name in private_names() if name != "_Link"]
    further = type("Further", (), dict.fromkeys(names, "further"))
    cache: Any = build(type("Mixed", (kind, further), {}), 2)
    assert [name for name in names if getattr(cache, name) != "further"] == []
    assert used_once(type("Mixed", (kind, further), {}), {}) == used_once(kind, {})


class Other:
    """What a program keeps under a name."""

    def __call__(self, *_arguments: Any, **_named: Any) -> str:
        return "other"

    def __reduce__(self) -> Any:
        return Other, ()


def used_once(kind: Any, sizes: Any) -> list[Any]:
    """What the calls of a cache return."""
    cache = build(kind, 3, **sizes)
    for number in range(5):
        cache[number] = number
    done = [len(cache), cache.get("absent"), cache.setdefault("a", 1), cache.pop("a"), cache.pop("a", None)]
    done += [copy.copy(cache).currsize, copy.deepcopy(cache).currsize]
    done += [len([cache.popitem() for _ in range(2)]), "a" in cache, repr(cache).removeprefix(kind.__name__)]
    cache.update(b=1)
    del cache["b"]
    cache.clear()
    return [*done, list(cache), cache.currsize]


@pytest.mark.parametrize("name", private_names())
@pytest.mark.parametrize("sizes", [{}, {"getsizeof": lambda _value: 1}], ids=["plain", "sizes"])
def test_subclasses_may_use_private_names(kind: Any, name: str, sizes: Any) -> None:
    class Plain(kind):  # type: ignore[misc]
        def __delitem__(self, key: Any) -> None:
            super().__delitem__(key)

    class Before(kind):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            setattr(self, name, Other())
            super().__init__(*arguments, **named)

    class After(kind):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            setattr(self, name, Other())

    expected = used_once(kind, sizes)
    of_class = type("OfClass", (kind,), {name: Other()})
    of_overriding = type("OfOverriding", (Plain,), {name: lambda *_arguments: "other"})
    for one in (Before, After, of_class, of_overriding):
        assert used_once(one, sizes) == expected


class Timing(TTLCache[Any, Any]):
    """A subclass with a timer, a state and a policy of its own."""

    _policy = "mine"

    def __init__(self) -> None:
        super().__init__(2, 60)
        self._timer, self._state, self._default_ttl = "timer", {"open": True}, 60

    def _make_room(self) -> None:
        raise AssertionError


def test_private_attributes_of_subclasses_are_copied_and_pickled() -> None:
    cache = Timing()
    cache["a"], cache["b"], cache["c"] = 1, 2, 3
    for twin in (copy.copy(cache), copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert (list(twin), twin._timer, twin._state, twin._default_ttl) == (["b", "c"], "timer", {"open": True}, 60)
        twin["d"] = 4
        assert (list(twin), list(cache)) == (["c", "d"], ["b", "c"])


def test_methods_stay_functions() -> None:
    assert inspect.isfunction(LRUCache.popitem)
    assert inspect.isfunction(TTLCache.expire)
    assert Cache.__missing__ is LRUCache.__missing__
