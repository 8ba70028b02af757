"""Attributes that programs give to caches of `flexcache_rs.cachetools`, and to their subclasses."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any
from unittest import mock

import pytest
from cachetools_makers import MAKERS, build, timed, used

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


def private_names() -> list[str]:
    """The private names of all classes and caches, which subclasses of cachetools may use for what they like."""
    found: set[str] = set()
    for make in MAKERS:
        cache = make(2)
        found.update(vars(cache), *(vars(one) for one in type(cache).__mro__[:-1]))
    mangled = tuple(f"_{one.__name__.lstrip('_')}__" for kind in KINDS for one in kind.__mro__)
    # The prefix says whose the names are.
    return sorted(
        name
        for name in found
        if name.startswith("_") and not name.startswith(("__", "_cachetools_", *mangled)) and name != "_repr_html_"
    )


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
