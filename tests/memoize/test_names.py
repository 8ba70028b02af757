"""What tells the results of one function from those of another: in a shared cache, in a store, over time."""

from __future__ import annotations

import functools
import gc
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import Cache, FlexCache, caches, memoize
from flexcache_rs.disk import PickleSerializer

if TYPE_CHECKING:
    from pathlib import Path


class Adder:
    def __init__(self, number: int) -> None:
        self.number = number

    def add(self, other: int) -> int:
        return self.number + other

    def __call__(self, other: int) -> int:
        return self.number + other


def make(number: int) -> Any:
    def nested(other: int) -> int:
        return number + other

    return nested


NAMELESS: dict[str, Any] = {
    "partial": lambda number: functools.partial(lambda a, b: a + b, number),
    "bound method": lambda number: Adder(number).add,
    "instance": Adder,
    "nested": make,
    "lambda": lambda number: lambda other: number + other,
}


@pytest.mark.parametrize("kind", NAMELESS)
@pytest.mark.parametrize("where", ["cache", "store", "one store, two caches"])
@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_functions_are_not_taken_for_each_other(kind: str, where: str, order: tuple[int, int], tmp_path: Path) -> None:
    """Whatever they are, and in whatever order they are decorated."""
    disk = Cache(tmp_path)
    cache: FlexCache[Any, Any] = FlexCache() if where == "cache" else FlexCache(store=disk)
    for first, second in (order, order[::-1]):
        one = cache.memoize(NAMELESS[kind](first))
        other = (memoize(store=disk) if where == "one store, two caches" else cache.memoize)(NAMELESS[kind](second))
        assert (one(10), other(10)) == (first + 10, second + 10)
        assert (one(10), other(10)) == (first + 10, second + 10)
        one.clear()
        assert (one.peek(10), other.peek(10)) == (None, second + 10)
    disk.close()


SCRIPT = """
import sys
from flexcache_rs import Cache, FlexCache
cache = FlexCache(store=Cache(sys.argv[1]))
calls = 0

def make(name):
    {decorate}
    def function(number):
        global calls
        calls += 1
        return name
    return function

functions = {{name: make(name) for name in sys.argv[2]}}
print(*(functions[name](1) for name in "ab"), calls)
"""


@pytest.mark.parametrize(
    ("decorate", "again"),
    [("@cache.memoize", 2), ("@cache.memoize(name=name)", 0), ("@cache.memoize(version=name)", 2)],
)
def test_names_across_processes(decorate: str, again: int, tmp_path: Path) -> None:
    """Without a name that every process knows, results are never another function's; with one they are found."""
    for names, calls in (("ab", 2), ("ba", again)):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(decorate=decorate), str(tmp_path), names],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.stdout.split() == ["a", "b", str(calls)], done.stderr
        assert ("give memoize() a name" in done.stderr) is ("name=" not in decorate)


def square(number: int) -> int:
    return number * number


def cube(number: int) -> int:
    return number**3


def test_a_function_of_a_module_has_a_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another cache on the directory finds its results; another version does not."""
    with caplog.at_level(logging.WARNING):
        with Cache(tmp_path) as disk:
            assert memoize(store=disk)(square)(3) == 9
        with Cache(tmp_path) as disk:
            again = memoize(store=disk)(square)
            assert again.peek(3) == 9
            assert memoize(store=disk, version="2")(square).peek(3) is None
            assert memoize(store=disk)(cube).peek(3) is None
    assert not caplog.records


def test_two_functions_of_one_name(tmp_path: Path) -> None:
    """From two lines of a file they are an error, as long as both live; a redefinition replaces."""
    with Cache(tmp_path) as disk:
        one = memoize(store=disk, name="f")(lambda number: number)
        with pytest.raises(ValueError, match="two functions have the name 'f' in one store, from lines"):
            memoize(store=disk, name="f")(lambda number: -number)
        for _ in range(2):
            memoize(store=disk, name="g")(make(1))
        del one
        gc.collect()
        memoize(store=disk, name="f")(lambda number: -number)


@pytest.mark.parametrize("how", ["private", "shared", "key"])
def test_clear_forgets_the_function_and_nothing_else(how: str, tmp_path: Path) -> None:
    """Also what was evicted from memory, in all caches on the store; entries of others stay."""
    now = "old"

    def function(number: int) -> str:
        return now

    with Cache(tmp_path) as disk:
        disk["mine"] = 1
        cache: FlexCache[Any, Any] = FlexCache(max_items=2, store=disk)
        options: dict[str, Any] = {"key": lambda number: ("k", number)} if how == "key" else {}
        if how == "private":
            memoized: Any = memoize(store=disk, max_items=2, name="f")(function)
        else:
            memoized = cache.memoize(name="f", **options)(function)
        other = cache.memoize(name="other")(cube)
        elsewhere = FlexCache(store=disk).memoize(name="f", **options)(function)
        for number in range(5):
            assert (memoized(number), other(number)) == ("old", number**3)
            assert elsewhere.peek(number) == "old"
        memoized.clear()
        now = "new"
        assert {memoized(number) for number in range(5)} == {"new"}
        assert {elsewhere(number) for number in range(5)} == {"new"}
        assert [other.peek(number) for number in range(5)] == [number**3 for number in range(5)]
        assert disk["mine"] == 1


def test_clear_of_a_function_with_keys_of_its_own() -> None:
    cache: FlexCache[Any, Any] = FlexCache()
    calls = []

    @cache.memoize(key=lambda number: ("k", number), tags=("all",))
    def function(number: int) -> int:
        calls.append(number)
        return number

    cache["mine"] = 1
    function(1)
    assert cache["k", 1] == 1
    function.clear()
    assert list(cache) == ["mine"]
    function(1)
    assert calls == [1, 1]
    assert cache.evict_tag("all") == 1


def test_a_method_over_a_store_needs_a_key(tmp_path: Path) -> None:
    """Which is said where the decorator stands, or at the first call where only that shows it."""
    with Cache(tmp_path) as disk:
        with pytest.raises(TypeError, match=r"f\(\) is a method: .* give memoize\(\) a key"):

            class One:
                @memoize(store=disk)
                def f(self, number: int) -> int:
                    return number

        class Two:
            @memoize(store=disk)
            def f(this, number: int) -> int:  # noqa: N805
                return number

            @memoize(store=disk, key=lambda self, number: number)
            def g(self, number: int) -> int:
                return number

            @staticmethod
            @memoize(store=disk)
            def h(number: int) -> int:
                return number

        with pytest.raises(TypeError, match=r"f\(\) is a method: .* give memoize\(\) a key"):
            Two().f(1)
        assert (Two().g(1), Two.h(2)) == (1, 2)


def test_a_store_gets_plain_types(tmp_path: Path) -> None:
    """A serializer that allows no class reads what it wrote, in keys and in values."""
    with Cache(tmp_path, serializer=PickleSerializer(allow=[])) as disk:

        @memoize(store=disk, ttl=100, soft_ttl=50, stale_if_error=10, early_refresh=0.1)
        def function(number: int, **more: int) -> int:
            return number + sum(more.values())

        for _ in range(2):
            assert [function(1), function(2, more=1), function(number=3)] == [1, 3, 3]
            function.cache.resize(max_items=1)
        assert function.peek(2, more=1) == 3
        for key in disk:
            assert_plain(key)
            assert_plain(disk[key])


def assert_plain(value: Any) -> None:
    assert type(value) in {str, int, float, bool, tuple, type(None)}
    if isinstance(value, tuple):
        for part in value:
            assert_plain(part)


def test_what_a_store_has_is_fresh_as_long_as_it_was(tmp_path: Path) -> None:
    with Cache(tmp_path) as disk:
        function = memoize(store=disk, ttl=100, soft_ttl=50, name="f")(square)
        function(3)
        again = memoize(store=disk, ttl=100, soft_ttl=50, name="f")(square)
        found = again.cache[again.cache_key(3)]
        assert (found.value, found.raised, found.lost) == (9, False, False)
        assert 99 < found.good_for <= 100


def test_of_two_caches_of_one_name_the_last_alive_is_found() -> None:
    one: FlexCache[Any, Any] = FlexCache(name="twice")
    two: FlexCache[Any, Any] = FlexCache(name="twice")
    assert caches()["twice"] is two
    del two
    gc.collect()
    assert caches()["twice"] is one
    del one
    gc.collect()
    assert "twice" not in caches()


def test_name_is_also_that_of_the_functions_own_cache() -> None:
    function = memoize(name="squares")(square)
    assert caches()["squares"] is function.cache
