"""Subclasses of the caches of `flexcache_rs.cachetools`, as programs write them."""

from __future__ import annotations

import copy
import functools
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from cachetools_makers import MAKERS, build, timed, used

from flexcache_rs.cachetools import Cache, LFUCache, LRUCache, RRCache, TTLCache


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_overriding_methods_pass_cachetools_arguments_on(make: Any) -> None:
    done: list[Any] = []
    kind: Any = type(make(1))

    class Noting(kind):  # type: ignore[misc]
        def __getitem__(self, key: Any, cache_getitem: Any = Cache.__getitem__) -> Any:
            def noted(cache: Any, key: Any) -> Any:
                done.append(("get", key))
                return cache_getitem(cache, key)

            return super().__getitem__(key, cache_getitem=noted)

        def __setitem__(self, key: Any, value: Any, cache_setitem: Any = Cache.__setitem__) -> None:
            if value is not None:
                super().__setitem__(key, value, cache_setitem)

        def __delitem__(self, key: Any, cache_delitem: Any = Cache.__delitem__) -> None:
            done.append(("delete", key))
            super().__delitem__(key, cache_delitem=lambda cache, key: cache_delitem(cache, key))

    cache: Any = build(Noting, 2)
    cache["none"] = None
    cache["a"], cache["b"] = 1, 2
    assert (dict(cache.items()), cache.currsize, cache.get("none")) == ({"a": 1, "b": 2}, 2, None)
    done.clear()
    cache["c"] = 3
    # The entry is evicted. Cache itself has the mapping's popitem, which reads the value with `[]`.
    assert [how for how, _ in done] == (["get", "delete"] if kind is Cache else ["delete"])
    done.clear()
    assert (len(cache), cache["c"], cache.pop("c"), "c" in cache) == (2, 3, 3, False)
    assert done == [("get", "c"), ("get", "c"), ("delete", "c")]
    with pytest.raises(KeyError):
        del cache["c"]


def test_overrides_of_siblings_are_called(make: Any) -> None:
    """Also if another class that derives from the first one has made it use overrides."""
    kind: Any = type(make(1))

    class First(kind):  # type: ignore[misc]
        pass

    class Second(kind):  # type: ignore[misc]
        def get(self, key: Any, default: Any = None) -> Any:
            return ("second", super().get(key, default))

    class Early(First, Second):
        pass

    class Overriding(kind):  # type: ignore[misc]
        def __getitem__(self, key: Any) -> Any:
            return super().__getitem__(key)

    class Both(Overriding, First):
        pass

    class Third(kind):  # type: ignore[misc]
        def get(self, key: Any, default: Any = None) -> Any:
            return ("third", super().get(key, default))

    class Late(First, Third):
        pass

    for one, expected in ((Early, ("second", 1)), (Late, ("third", 1)), (Both, 1)):
        cache: Any = build(one, 3)
        cache["a"] = 1
        assert cache.get("a") == expected
    length = len(Both.__mro__)
    for _ in range(5):

        class More(Overriding, First):
            def __getitem__(self, key: Any) -> Any:
                return super().__getitem__(key)

    assert len(Both.__mro__) == len(More.__mro__) == length


@pytest.mark.parametrize("make", [timed, used], ids=["timed", "used"])
def test_expired_entries_are_missing_for_replaced_methods(make: Any) -> None:
    kind: Any = type(make(1))

    class Noting(kind):  # type: ignore[misc]
        def __getitem__(self, key: Any, **replaced: Any) -> Any:
            return super().__getitem__(key, lambda cache, key: Cache.__getitem__(cache, key), **replaced)

        def __delitem__(self, key: Any, *replaced: Any) -> None:
            super().__delitem__(key, lambda cache, key: Cache.__delitem__(cache, key), *replaced)

    cache: Any = build(Noting, 2)
    cache["a"] = 1
    assert cache["a"] == 1
    cache.timer._clock.now = 10
    with pytest.raises(KeyError):
        cache["a"]
    with pytest.raises(KeyError):
        del cache["a"]
    assert (len(cache), cache.expire(), list(cache)) == (0, [], [])


def test_a_subclass_of_one_that_does_not_override_passes_arguments_on() -> None:
    class Plain(LRUCache[Any, Any]):
        pass

    class Passing(Plain):
        def __setitem__(self, key: Any, value: Any, cache_setitem: Any = Cache.__setitem__) -> None:
            super().__setitem__(key, value, cache_setitem)  # type: ignore[call-arg]

    class Deleting(Passing):
        def __delitem__(self, key: Any, cache_delitem: Any = Cache.__delitem__) -> None:
            super().__delitem__(key, cache_delitem)  # type: ignore[call-arg]

    class Reading(LRUCache[Any, Any]):
        def __getitem__(self, key: Any, cache_getitem: Any = Cache.__getitem__) -> Any:
            return super().__getitem__(key, cache_getitem)  # type: ignore[call-arg]

    class Both(Reading, Deleting):
        pass

    for kind in (Passing, Deleting, Both):
        cache: Any = kind(2)
        cache.update(a=1, b=2, c=3)
        del cache["b"]
        assert (dict(cache), cache.maxsize) == ({"c": 3}, 2)


@pytest.mark.parametrize("way", ["super", "class", "Cache"])
def test_calls_of_the_base_class_use_what_a_subclass_overrides(make: Any, way: str) -> None:
    done: list[Any] = []
    kind: Any = type(make(1))

    def inherited(cache: Any, name: str) -> Any:
        # Some programs name a base class instead of super().
        if way == "super":
            return getattr(super(Noting, cache), name)
        return functools.partial(getattr(kind if way == "class" else Cache, name), cache)

    class Noting(kind):  # type: ignore[misc]
        def __getitem__(self, key: Any) -> Any:
            done.append(("[]", key))
            return super().__getitem__(key)

        def __setitem__(self, key: Any, value: Any) -> None:
            done.append(("[]=", key))
            super().__setitem__(key, value)

        def __delitem__(self, key: Any) -> None:
            done.append(("del", key))
            super().__delitem__(key)

        def get(self, key: Any, default: Any = None) -> Any:
            return inherited(self, "get")(key, default)

        def pop(self, key: Any, *default: Any) -> Any:
            return inherited(self, "pop")(key, *default)

        def setdefault(self, key: Any, default: Any = None) -> Any:
            return inherited(self, "setdefault")(key, default)

        def popitem(self) -> Any:
            done.append(("popitem", None))
            return kind.popitem(self)

    cache: Any = build(Noting, 1)
    # Cache itself has the mapping's popitem, which reads the value with `[]`.
    read = [("[]", "a")] if kind is Cache else []
    for call, expected in (
        (lambda: cache.setdefault("a", 1), [("[]=", "a")]),
        (lambda: cache.get("a"), [("[]", "a")]),
        (lambda: cache.setdefault("a", 2), [("[]", "a")]),
        (lambda: cache.pop("a"), [("[]", "a"), ("del", "a")]),
        (lambda: cache.update(a=1), [("[]=", "a")]),
        (lambda: cache.popitem(), [("popitem", None), *read, ("del", "a")]),
        (lambda: cache.update(a=1), [("[]=", "a")]),
        (lambda: cache.update(b=1), [("[]=", "b"), ("popitem", None), *read, ("del", "a")]),
    ):
        done.clear()
        call()
        assert done == expected
    assert list(cache) == ["b"]


@pytest.mark.parametrize("make", [timed, used], ids=["timed", "used"])
def test_calls_of_cache_itself_find_no_expired_entry(make: Any) -> None:
    cache = make(2)
    cache["a"] = 1
    assert (Cache.get(cache, "a"), Cache.setdefault(cache, "a", 2)) == (1, 1)
    cache.timer._clock.now = 10
    assert (Cache.get(cache, "a"), Cache.get(cache, "a", 2), Cache.pop(cache, "a", 3)) == (None, 2, 3)
    assert (Cache.setdefault(cache, "a", 4), cache["a"], Cache.pop(cache, "a"), len(cache)) == (4, 4, 4, 0)


def test_a_list_in_order_of_expiry_is_made_of_links() -> None:
    kind: Any = TTLCache._Link  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    root = kind()
    root.prev = root.next = root
    links = [kind(key, expires) for key, expires in (("a", 1), ("b", 2), ("c", 3))]
    for link in links:
        link.insert(root)
    links[1].unlink()
    assert (root.next, root.next.next, root.next.next.next, root.prev) == (links[0], links[2], root, links[2])
    copied = pickle.loads(pickle.dumps(links[0]))
    assert (copied.key, copied.expires) == ("a", 1)


@pytest.mark.parametrize("make", [timed, used], ids=["timed", "used"])
@pytest.mark.parametrize("name", ["__getitem__", "__setitem__", "__contains__", "__delitem__", "popitem", "expire"])
def test_popitem_of_a_subclass_skips_what_has_expired(make: Any, name: str) -> None:
    base: Any = type(make(1))
    kind: Any = type("Overriding", (base,), {name: lambda self, *args: getattr(base, name)(self, *args)})
    cache: Any = build(kind, 3)
    cache["a"] = 1
    cache.timer._clock.now = 5
    cache["b"] = 2
    cache.timer._clock.now = 12
    assert cache.popitem() == ("b", 2)
    with pytest.raises(KeyError, match="is empty"):
        cache.popitem()


@pytest.mark.parametrize("make", [timed, used], ids=["timed", "used"])
def test_when_an_overridden_expire_is_called(make: Any) -> None:
    kind: Any = type(make(1))
    calls: list[Any] = []

    class Noting(kind):  # type: ignore[misc]
        def expire(self, time: Any = None) -> Any:
            calls.append(time)
            return super().expire(time)

    cache: Any = build(Noting, 3)
    cache["a"] = 1
    cache["a"] = 2
    assert calls == [0, 0]
    again = copy.copy(cache)
    assert (calls, again["a"]) == ([0, 0], 2)


class WithoutLock(TTLCache[Any, Any]):
    """Has a lock, which no pickle can contain."""

    def __init__(self, maxsize: float, ttl: float) -> None:
        super().__init__(maxsize, ttl)
        self.lock = threading.Lock()

    def __getstate__(self) -> Any:
        kept = self.__dict__.copy()
        del kept["lock"]
        return kept

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        self.lock = threading.Lock()


class FilledAgain(LRUCache[Any, Any]):
    """Keeps its entries and its size alone."""

    def __getstate__(self) -> Any:
        return {"size": self.maxsize, "entries": list(self.items())}

    def __setstate__(self, state: Any) -> None:
        self.__init__(state["size"])  # type: ignore[misc]
        self.update(state["entries"])


class Dropping(LFUCache[Any, Any]):
    """Leaves an attribute out."""

    def __getstate__(self) -> Any:
        return {name: value for name, value in self.__dict__.items() if name != "lock"}


class Counting(RRCache[Any, Any]):
    """Counts how often it was unpickled."""

    again = 0

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state)
        self.again += 1


@pytest.mark.parametrize("again", [copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_subclasses_decide_what_is_pickled(again: Callable[[Any], Any]) -> None:
    for cache in (WithoutLock(2, 1000), FilledAgain(2), Dropping(2), Counting(2, min, len)):
        if type(cache) is Dropping:
            cache.__dict__["lock"] = threading.Lock()
        cache.__dict__["tag"] = "kept"
        cache.update(a="1", b="2")
        copied: Any = again(cache)
        assert (type(copied), dict(copied), copied.maxsize, copied.currsize) == (type(cache), dict(cache), 2, 2)
        assert getattr(copied, "tag", None) == (None if type(cache) is FilledAgain else "kept")
        copied["c"] = "3"
        assert (len(copied), dict(cache)) == (2, {"a": "1", "b": "2"})
        assert getattr(copied, "again", 1) == 1
    assert again(WithoutLock(2, 1000)).lock.acquire(blocking=False)


def test_the_limit_counts_when_new_does_not_know_it(make: Any) -> None:
    kind: Any = type(make(1))
    only: list[Any] = []

    class Only(kind):  # type: ignore[misc]
        def __new__(cls, *_args: Any, **_options: Any) -> Any:
            if not only:
                only.append(super().__new__(cls))
            return only[0]

    for size in (2, 3):
        # The second call of `__init__` begins again, as it does in cachetools.
        cache = build(Only, size)
        assert len(cache) == 0
        cache.update(a=1, b=2, c=3, d=4)
        assert (len(cache), cache.currsize, cache.maxsize) == (size, size, size)


@pytest.mark.parametrize("options", [{}, {"getsizeof": len}])
def test_init_begins_again(make: Any, options: Any) -> None:
    cache = make(3, **options)
    cache["a"] = "1"
    again = make(2)
    arguments = [again.ttu] if hasattr(again, "ttu") else [again.ttl] if hasattr(again, "ttl") else []
    cache.__dict__.pop("getsizeof", None)
    cache.__init__(2, *arguments)
    assert (len(cache), cache.currsize, cache.maxsize) == (0, 0, 2)
    cache.update(a="111", b="1", c="1")
    assert (len(cache), cache.currsize) == (2, 2)


def test_a_surplus_end_of_a_timers_block_ends_nothing() -> None:
    """The time of an outer block stands still, even if a program has called `__exit__` once too often."""
    times = iter(range(10))
    timer = TTLCache(10, 10, timer=lambda: next(times)).timer
    timer.__exit__()
    with timer as outer:
        with timer as inner:
            assert inner == outer == timer()
        assert timer() == outer
    assert timer() > outer
