"""`flexcache_rs.cachetools` beyond cachetools' own tests: what it is, and what a subclass changes."""

from __future__ import annotations

import copy
import math
import operator
import pickle
import random
import threading
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from flexcache_rs import FlexCache, cachetools
from flexcache_rs.cachetools import Cache, FIFOCache, LFUCache, LRUCache, RRCache, TLRUCache, TTLCache, cached, func


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def build(kind: type[Cache[Any, Any]], maxsize: float, **options: Any) -> Any:
    """A cache of a class or a subclass, with the times that it needs."""
    if issubclass(kind, TTLCache):
        options |= {"ttl": 10, "timer": Clock()}
    if issubclass(kind, TLRUCache):
        options |= {"ttu": lambda _key, _value, now: now + 10, "timer": Clock()}
    return kind(maxsize, **options)


def timed(maxsize: float, **options: Any) -> Any:
    return build(TTLCache, maxsize, **options)


def used(maxsize: float, **options: Any) -> Any:
    return build(TLRUCache, maxsize, **options)


MAKERS = [Cache, FIFOCache, LFUCache, LRUCache, RRCache, timed, used]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_is_a_mapping_and_a_flexcache(make: Any) -> None:
    cache = make(3)
    assert isinstance(cache, MutableMapping)
    assert isinstance(cache, FlexCache)
    cache.update(a=1, b=2)
    assert cache == {"a": 1, "b": 2}
    assert (list(cache.keys()), list(cache.values()), list(cache.items())) == (["a", "b"], [1, 2], [("a", 1), ("b", 2)])
    assert "put" not in dir(make) or not hasattr(cache, "put")
    for name in ("put", "stats", "get_or_set", "max_items", "memoize"):
        assert not hasattr(cache, name), name


def test_values_are_only_kept(make: Any) -> None:
    """They are not closed or weighed, whatever methods they have."""

    class Value:
        def close(self) -> None:
            raise AssertionError("closed")

        aclose = close

        def item_size(self) -> int:
            raise AssertionError("weighed")

    cache = make(2)
    for key in range(6):
        cache[key] = Value()
    del cache[next(iter(cache))]
    cache.clear()
    cache[1] = Value()


@pytest.mark.parametrize("size", [1, 2.5, 3, math.inf, 2**70])
def test_sizes(make: Any, size: float) -> None:
    cache = make(size)
    for key in range(20):
        cache[key] = key
    assert len(cache) == cache.currsize == min(size // 1 if size < math.inf else 20, 20)
    assert cache.maxsize == size


def test_evictions_go_through_popitem(make: Any) -> None:
    """A subclass that overrides it hears of each, whichever call of its own makes room."""
    kind, gone = type(make(2)), []

    class Told(kind):  # type: ignore[misc, valid-type]
        def popitem(self) -> Any:
            gone.append(super().popitem())
            return gone[-1]

    cache = build(Told, 2)
    for key in range(5):
        cache[key] = key
    assert len(gone) == 3
    assert dict(gone).keys() | cache.keys() == set(range(5))
    cache.setdefault(9, 9)
    assert len(gone) == 4


def test_removals_go_through_delitem(make: Any) -> None:
    kind, gone = type(make(2)), []

    class Told(kind):  # type: ignore[misc, valid-type]
        def __delitem__(self, key: Any) -> None:
            gone.append(key)
            super().__delitem__(key)

    cache = build(Told, 2)
    cache.update({1: 1, 2: 2, 3: 3})
    assert len(gone) == 1
    cache.pop(next(iter(cache)))
    cache.popitem()
    assert len(gone) == 3
    assert not cache


def test_get_and_pop_use_an_overridden_getitem(make: Any) -> None:
    kind = type(make(3))

    class Doubling(kind):  # type: ignore[misc, valid-type]
        def __getitem__(self, key: Any) -> Any:
            return 2 * super().__getitem__(key)

    cache = build(Doubling, 3)
    cache[1] = 1
    assert (cache[1], cache.get(1), cache.setdefault(1, 5), cache.get(7, "no"), cache.pop(1)) == (2, 2, 2, "no", 2)


def test_missing_is_called_by_brackets_alone() -> None:
    class Squares(FlexCache[int, int]):
        def __missing__(self, key: int) -> int:
            return key * key

    cache = Squares()
    assert (cache[3], cache.get(3), cache.items) == (9, None, 0)


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


def test_calls_of_the_base_class_use_what_a_subclass_overrides(make: Any) -> None:
    done: list[Any] = []
    kind: Any = type(make(1))

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
            return super().get(key, default)

        def pop(self, key: Any, *default: Any) -> Any:
            return super().pop(key, *default)

        def setdefault(self, key: Any, default: Any = None) -> Any:
            return super().setdefault(key, default)

        def popitem(self) -> Any:
            done.append(("popitem", None))
            # Some programs name the base class instead of super().
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


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_a_copy_evicts_what_choice_returns(again: Callable[[Any], Any]) -> None:
    cache: Any = again(RRCache(3, choice=max))
    cache.update({1: 1, 3: 3, 2: 2})
    cache[0] = 0
    assert sorted(cache) == [0, 1, 2]
    random.seed(7)
    first, second = RRCache[int, int](5), again(RRCache[int, int](5))
    for cache in (first, second):
        random.seed(7)
        for number in range(50):
            cache[number] = number
    assert list(first) == list(second)


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


def test_least_used_counts_exactly() -> None:
    """Far beyond what FlexCache's own policy counts, and without forgetting."""
    cache = LFUCache(2)
    cache["hot"], cache["warm"] = 1, 2
    for _ in range(5_000):
        cache["hot"]
    for _ in range(4_999):
        cache["warm"]
    cache["new"] = 3
    assert "hot" in cache
    assert "warm" not in cache


def test_a_key_that_cannot_be_hashed_is_refused(make: Any) -> None:
    cache = make(2)
    for call in (cache.get, cache.pop, cache.setdefault, cache.__getitem__, cache.__delitem__, cache.__contains__):
        with pytest.raises(TypeError):
            call([])
    with pytest.raises(TypeError):
        cache[[]] = 1


def test_an_entry_that_missing_stores_is_accessed() -> None:
    class Loading(LFUCache):
        def __missing__(self, key: Any) -> Any:
            self[key] = key
            return key

    cache = Loading(2)
    cache["read once"]
    cache.__setitem__("only stored", 1)
    cache["new"]
    assert set(cache) == {"read once", "new"}


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
@pytest.mark.parametrize("kind", [FIFOCache, LFUCache, LRUCache])
def test_copies_evict_in_the_same_order(kind: Any, again: Any) -> None:
    generator = random.Random(1)
    cache = kind(50)
    for _ in range(500):
        key = generator.randrange(80)
        if generator.random() < 0.5 and key in cache:
            cache[key]
        else:
            cache[key] = -key
    twin = again(cache)
    assert list(twin.items()) == list(cache.items())
    assert [twin.popitem() for _ in range(50)] == [cache.popitem() for _ in range(50)]


def test_an_interrupted_write_leaves_nothing_that_is_seen() -> None:
    """The value is stored before its time is noted, and goes after it."""
    cache = TTLCache(2, ttl=10, timer=Clock())

    class Stop(BaseException):
        pass

    class Times(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            raise Stop

        def move_to_end(self, key: Any) -> None:
            raise AssertionError

    ends = cache._TTLCache__ends  # type: ignore[attr-defined]
    cache._TTLCache__ends = Times()  # type: ignore[attr-defined]
    with pytest.raises(Stop):
        cache[1] = 1
    cache._TTLCache__ends = ends  # type: ignore[attr-defined]
    assert 1 not in cache
    assert cache.get(1) is None
    cache[1], cache[2], cache[3] = 1, 2, 3
    assert sorted(cache) == [2, 3]


def test_sizes_are_counted_again_after_an_interruption() -> None:
    cache = LRUCache(10, getsizeof=lambda value: value)
    cache[1], cache[2] = 4, 5
    cache._Cache__sizes.pop(1)  # type: ignore[attr-defined]
    cache[3] = 6
    assert cache.currsize == sum(cache.values()) <= 10


def errors_in_threads(rounds: int, step: Callable[[random.Random], None]) -> list[Exception]:
    """What four threads raise that make a step so often, each with numbers of its own."""
    errors = []

    def work(seed: int) -> None:
        generator = random.Random(seed)
        try:
            for _ in range(rounds):
                step(generator)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_threads_share_a_native_cache() -> None:
    cache = LRUCache(100)

    def step(generator: random.Random) -> None:
        key = generator.randrange(200)
        assert cache.get(key, key) == key
        cache[key] = key

    assert not errors_in_threads(3_000, step)
    assert len(cache) == 100


def test_threads_share_a_random_cache() -> None:
    """A key that another thread removes after it was chosen is no error, and is chosen once."""
    cache = RRCache(20)

    def step(generator: random.Random) -> None:
        key = generator.randrange(60)
        cache[key] = key
        cache.pop(generator.randrange(60), None)
        assert len(cache) <= 20

    assert not errors_in_threads(1_000, step)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_a_copy_of_a_random_cache_chooses_the_same(again: Any) -> None:
    cache = RRCache(9, operator.itemgetter(0))
    for key in range(9):
        cache[key] = key
    del cache[2], cache[5]
    cache[9] = cache[10] = 1
    twin = again(cache)
    assert list(twin) == list(cache)
    chosen = [cache.popitem() for _ in range(9)]
    assert chosen != sorted(chosen)
    assert chosen == [twin.popitem() for _ in range(9)]


def test_what_chooses_gets_a_sequence_of_the_keys() -> None:
    given = []

    def first(keys: Any) -> Any:
        given.append((len(keys), keys[0], keys[-1], keys[:2], sorted(keys), keys.index("b"), "c" in keys))
        return keys[0]

    cache = RRCache(3, first)
    cache.update(a=1, b=2, c=3)
    cache["d"] = 4
    assert given == [(3, "a", "c", ["a", "b"], ["a", "b", "c"], 1, True)]
    assert list(cache) == ["b", "c", "d"]
    with pytest.raises(KeyError, match="nobody"):
        RRCache(3, lambda _: "nobody").update(a=1, b=2, c=3, d=4)


def test_the_decorators_of_func() -> None:
    @func.ttl_cache(maxsize=None, ttl=60)
    def double(number: int) -> int:
        return 2 * number

    assert (double(2), double(2), double.cache_info()[:3]) == (4, 4, (1, 1, None))


def test_what_cached_refuses() -> None:
    with pytest.raises(TypeError, match="None"):
        cached(None)
    with pytest.raises(TypeError, match="dict"):
        cachetools.cachedmethod({})  # type: ignore[arg-type]


def test_a_cache_that_holds_itself_can_be_shown(make: Any) -> None:
    cache = make(3)
    cache[1] = cache
    assert repr(cache).count("{...}") == 1


def test_caches_are_not_combined(make: Any) -> None:
    """As cachetools' own, which are no dicts."""
    cache = make(3)
    for combine, left, right in [
        (operator.or_, cache, {1: 1}),
        (operator.or_, {1: 1}, cache),
        (operator.ior, cache, {}),
    ]:
        with pytest.raises(TypeError, match="unsupported operand"):
            combine(left, right)
    assert not cache


def test_what_is_not_there_is_named(make: Any) -> None:
    for told in (make(3), type(make(3))):
        with pytest.raises(AttributeError, match="'put'"):
            told.put


@pytest.mark.parametrize("size", [1, 2])
def test_entries_that_come_after_all_have_expired_expire_too(size: int) -> None:
    """Sizes of 1 and others take different ways through a write."""
    now = 0

    def getsizeof(_value: object) -> int:
        return size

    cache: Any = TTLCache(4, 5, timer=lambda: now, **({} if size == 1 else {"getsizeof": getsizeof}))
    cache["first"] = 1
    now = 5
    cache["second"] = 2
    assert (len(cache), cache.currsize, list(cache)) == (1, size, ["second"])
    now = 11
    assert (len(cache), cache.currsize, list(cache)) == (0, 0, [])
    with pytest.raises(KeyError):
        cache.popitem()
