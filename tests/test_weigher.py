"""The weight of entries: `weigher=`, `size_of` and `close_values=`."""

from __future__ import annotations

import functools
import pickle
import sys
from typing import Any

import pytest

from flexcache_rs import FlexCache, memoize, size_of
from flexcache_rs.testing import check


def two(key: str, value: str) -> int:
    return len(key) + len(value)


class Counting:
    def __call__(self, value: str) -> int:
        return len(value)

    def of(self, key: str, value: str) -> int:
        return len(key) + len(value)


@pytest.mark.parametrize(
    ("weigher", "weight"),
    [
        (len, 3),
        (lambda value: len(value), 3),
        (lambda value, factor=2: len(value) * factor, 6),
        (lambda *values: len(values), 1),
        (two, 5),
        (lambda key, value: len(key), 2),
        (lambda key, value, more=0: 7, 7),
        (functools.partial(two, "key"), 6),
        (Counting(), 3),
        (Counting().of, 5),
        (sys.getsizeof, sys.getsizeof("abc")),
        (size_of, sys.getsizeof("abc")),
        (None, 1),
    ],
)
def test_a_weigher_is_called_with_what_it_takes(weigher: Any, weight: int) -> None:
    """A weigher is called with the value, or with the key and the value."""
    cache: FlexCache[str, str] = FlexCache(weigher=weigher)
    cache["ke"] = "abc"
    assert cache.bytes == weight
    check(cache)


WRITES: dict[str, Any] = {
    "assign": lambda cache, key, value: cache.__setitem__(key, value),
    "put": lambda cache, key, value: cache.put(key, value),
    "put with ttl": lambda cache, key, value: cache.put(key, value, 60),
    "put with tags": lambda cache, key, value: cache.put(key, value, tags=("t",)),
    "set": lambda cache, key, value: cache.set(key, value),
    "add": lambda cache, key, value: cache.add(key, value),
    "set_many": lambda cache, key, value: cache.set_many({key: value}),
    "update": lambda cache, key, value: cache.update({key: value}),
    "setdefault": lambda cache, key, value: cache.setdefault(key, value),
    "get_or_set": lambda cache, key, value: cache.get_or_set(key, lambda: value),
    "copy": lambda cache, key, value: cache.__setstate__(([(key, value, None, 0)], None, {})),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("store", [False, True], ids=["memory", "store"])
def test_every_write_is_weighed(write: Any, store: bool) -> None:
    seen = []

    def weigh(key: str, value: str) -> int:
        seen.append((key, value))
        return len(value)

    behind: Any = {"store": FlexCache(), "coherence": None} if store else {}
    cache: FlexCache[str, str] = FlexCache(max_bytes=10, weigher=weigh, **behind)
    write(cache, "k", "abcd")
    assert set(seen) == {("k", "abcd")}
    assert cache.bytes == 4
    check(cache)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (-1, ValueError, r"weigher .*bad.* must return an integer from 0 to 2\*\*64 - 1, not -1"),
        (2**64, ValueError, "weigher .*bad.* must return an integer from 0"),
        (1.5, TypeError, "weigher .*bad.* must return an integer, not float"),
        (True, TypeError, "weigher .*bad.* must return an integer, not bool"),
        (None, TypeError, "weigher .*bad.* must return an integer, not NoneType"),
        ("3", TypeError, "weigher .*bad.* must return an integer, not str"),
        (11, ValueError, "11 is larger than max_bytes"),
        (ZeroDivisionError("mine"), ZeroDivisionError, "mine"),
    ],
)
def test_what_a_weigher_must_not_return(write: Any, returned: Any, error: type[Exception], message: str) -> None:
    """The error names the wrong weight, and the cache is unchanged."""

    def bad(key: str, value: str) -> Any:
        if value == "old":
            return 3
        if isinstance(returned, Exception):
            raise returned
        return returned

    cache: FlexCache[str, str] = FlexCache(max_bytes=10, weigher=bad)
    cache["other"] = "old"
    with pytest.raises(error, match=message):
        write(cache, "k", "new")
    assert dict(cache.items()) == {"other": "old"}
    assert cache.bytes == 3
    check(cache)


@pytest.mark.parametrize("bad", [5, "len", lambda: 1, lambda a, b, c: 1, lambda *, value: 1])
def test_what_is_no_weigher(bad: Any) -> None:
    with pytest.raises(TypeError, match="weigher must be"):
        FlexCache(weigher=bad)


def test_limits_evict_by_weight() -> None:
    cache: FlexCache[str, str] = FlexCache(max_bytes=10, weigher=len)
    for key in "abc":
        cache[key] = key * 4
    assert list(cache) == ["b", "c"]
    cache["b"] = "x" * 9
    assert list(cache) == ["b"]
    assert cache.bytes == 9


def test_a_weigher_may_use_the_cache() -> None:
    def weigh(value: str) -> int:
        cache.get("a")
        cache["inner"] = ""
        return len(value)

    weigh_inner = iter([True])

    def guarded(value: str) -> int:
        return weigh(value) if next(weigh_inner, False) else len(value)

    cache: FlexCache[str, str] = FlexCache(max_bytes=10, weigher=guarded)
    cache["a"] = "abc"
    assert cache == {"a": "abc", "inner": ""}
    check(cache)


def test_the_item_size_of_a_value_gives_way() -> None:
    class Sized:
        def item_size(self) -> int:
            return 5

    cache: FlexCache[str, Sized] = FlexCache(weigher=lambda value: 7)
    cache["a"] = Sized()
    assert cache.bytes == 7


def test_copies_weigh_the_same() -> None:
    cache: FlexCache[str, str] = FlexCache(max_bytes=10, weigher=two, close_values=False)
    cache["k"] = "abc"
    for twin in (cache.copy(), pickle.loads(pickle.dumps(cache))):
        assert twin.bytes == 4
        twin["k"] = "abcdef"
        assert twin.bytes == 7


def test_results_of_functions_are_weighed() -> None:
    """The weigher gets the result, even if times are stored with it."""
    for options in ({}, {"soft_ttl": 60, "ttl": 120}):

        @memoize(max_bytes=100, weigher=len, **options)  # type: ignore[call-overload]
        def text(length: int) -> str:
            return "x" * length

        assert len(text(30)) == 30
        assert text.cache.bytes == 30


def test_size_of() -> None:
    size = sys.getsizeof
    shared = "x" * 1000
    assert size_of(shared) == size(shared)
    assert size_of(b"abc") == size(b"abc")
    assert size_of([shared, shared]) == size([0, 0]) + size(shared)
    assert size_of({"k": [shared]}) == size({"k": 0}) + size("k") + size([0]) + size(shared)
    assert size_of(None) == size_of(True) == size_of(int) == size_of(len) == 0
    assert size_of(memoryview(bytearray(5000))) > 5000

    class Plain:
        def __init__(self) -> None:
            self.text = shared

    class Slots:
        __slots__ = ("__private", "text")

        def __init__(self) -> None:
            self.text = shared
            self.__private = "y" * 500

    class Listed(list[Any]):
        pass

    assert size_of(Plain()) > 1000
    assert size_of(Slots()) > 1500
    assert size_of(Listed([shared])) > 1000
    loop: list[Any] = [shared]
    loop.append(loop)
    assert 1000 < size_of(loop) < 1500
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert size_of(deep) > 100_000


class Closing:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_values_are_left_alone() -> None:
    """With close_values=False, values are not closed, however their entries are removed."""
    values = [Closing() for _ in range(5)]
    cache: FlexCache[int, Closing] = FlexCache("fifo", max_items=3, close_values=False)
    cache.update(enumerate(values))
    cache[4] = values[0]
    del cache[3]
    cache.clear()
    cache.update(enumerate(values))
    cache.close()
    del cache
    assert [value.closed for value in values] == [0] * 5
    with FlexCache[int, Closing]() as closing:
        closing[0] = values[0]
    assert values[0].closed == 1
    for bad in (1, None, "no"):
        with pytest.raises(TypeError, match="close_values must be True or False"):
            FlexCache(close_values=bad)  # type: ignore[arg-type]
