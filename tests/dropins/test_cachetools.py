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
from cachetools_makers import MAKERS, Clock, build

from flexcache_rs import FlexCache, cachetools
from flexcache_rs.cachetools import Cache, FIFOCache, LFUCache, LRUCache, RRCache, TTLCache, cached, func


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
        next = last = None

        def __setitem__(self, key: Any, value: Any) -> None:
            raise Stop

        def move_to_end(self, key: Any) -> None:
            raise AssertionError

    ends = cache._TTLCache__ends  # type: ignore[attr-defined]
    cache._TTLCache__ends = times = Times()  # type: ignore[attr-defined]
    with pytest.raises(Stop):
        cache[1] = 1
    ends.next, ends.last = times.next, times.last
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


def test_popitem_of_an_empty_cache() -> None:
    """`Cache` itself has the mapping's `popitem`, whose exception has no message."""
    for make, arguments in ((Cache, ()), (LRUCache, ("LRUCache is empty",))):
        with pytest.raises(KeyError) as caught:
            make(1).popitem()
        assert caught.value.args == arguments
