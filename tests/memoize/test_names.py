"""What tells the results of one function from those of another: in a shared cache, in a store, over time."""

from __future__ import annotations

import functools
import gc
import importlib
import logging
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from flexcache_rs import Cache, FlexCache, caches, memoize
from flexcache_rs.disk import PickleSerializer


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


def underscore() -> Any:
    def _(number: int) -> int:
        return number + 1

    _.__qualname__ = "_"
    return _


NAMELESS: dict[str, Any] = {
    "partial": lambda number: functools.partial(lambda a, b: a + b, number),
    "bound method": lambda number: Adder(number).add,
    "instance": Adder,
    "nested": make,
    "lambda": lambda number: lambda other: number + other,
}


WHY = {
    "partial": "an instance of partial",
    "bound method": "a bound method",
    "instance": "an instance of Adder",
    "nested": "defined in another function",
    "lambda": "a lambda",
    "underscore": "_ is the name of many functions",
}


@pytest.mark.parametrize("kind", NAMELESS)
@pytest.mark.parametrize("where", ["cache", "cache behind", "store", "one store, two caches"])
@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_functions_are_not_taken_for_each_other(kind: str, where: str, order: tuple[int, int], tmp_path: Path) -> None:
    """Whatever they are, and in whatever order they are decorated. In a store that lasts each needs a name."""
    disk = Cache(tmp_path)
    behind = FlexCache[Any, Any]() if where == "cache behind" else disk
    cache: FlexCache[Any, Any] = FlexCache() if where == "cache" else FlexCache(store=behind)
    for first, second in (order, order[::-1]):
        names: list[dict[str, Any]] = [{}, {}] if "cache" in where[:5] else [{"name": f"{n}"} for n in (first, second)]
        one = cache.memoize(NAMELESS[kind](first), **names[0])
        decorate: Any = cache.memoize
        if where == "one store, two caches":
            decorate = functools.partial(memoize, store=disk)
        other = decorate(NAMELESS[kind](second), **names[1])
        assert (one(10), other(10)) == (first + 10, second + 10)
        assert (one(10), other(10)) == (first + 10, second + 10)
        one.clear()
        assert (one.peek(10), other.peek(10)) == (None, second + 10)
    disk.close()


class User:
    """A store that a user has written, of which nobody knows whether it lasts."""

    def load(self, key: Any) -> None:
        return None

    def save(self, key: Any, value: Any, ttl: Any, tags: Any) -> None: ...

    def remove(self, key: Any) -> bool:
        return False

    def clear(self) -> None: ...


@pytest.mark.parametrize("kind", WHY)
@pytest.mark.parametrize("behind", ["directory", "user", "cache over directory"])
def test_a_function_without_a_name_is_warned_of_in_a_store(kind: str, behind: str, tmp_path: Path) -> None:
    """Where it is decorated, with the reason and what to write. Its results are its own, and nobody else finds them."""
    function: Any = NAMELESS[kind](1) if kind in NAMELESS else underscore()
    store: Any = Cache(tmp_path) if behind != "user" else User()
    if behind == "cache over directory":
        store = FlexCache(store=store)
    for decorate in (memoize(store=store, coherence=None), FlexCache(store=store, coherence=None).memoize):
        because = rf"no name that .* because (it is )?{WHY[kind]}; other .* will not find its results in the store; "
        with pytest.warns(RuntimeWarning, match=because + r'give memoize\(\) a name="\.\.\."$') as warned:
            memoized = decorate(function)
        assert [Path(each.filename) for each in warned] == [Path(__file__)]
        assert (memoized.peek(2), memoized(2)) == (None, 3)
    assert memoize(store=store, coherence=None, name="it")(function)(2) == 3


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


def run(directory: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(["-c", script] if "\n" in script else ["-m", script]), str(directory), *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=directory,
    )


def test_names_across_processes(tmp_path: Path) -> None:
    """Results are found by the name that was given, in whatever order functions are decorated."""
    for names, calls in (("ab", 2), ("ba", 0)):
        done = run(tmp_path, SCRIPT.format(decorate="@cache.memoize(name=name)"), names)
        assert done.stdout.split() == ["a", "b", str(calls)], done.stderr
    for names in ("ab", "ba"):
        done = run(tmp_path, SCRIPT.format(decorate="@cache.memoize(version=name)"), names)
        assert done.stdout.split() == ["a", "b", "2"], done.stderr
        assert "RuntimeWarning: make.<locals>.function has no name that" in done.stderr


MAIN = """
import sys
from flexcache_rs import Cache, memoize
with Cache(sys.argv[1]) as disk:
    @memoize(store=disk)
    def function(number):
        return number
    print(function.peek(1), function(1))
"""


def test_functions_of_a_program(tmp_path: Path) -> None:
    """A script has no name; a module that python -m runs has its own, by which others find it as well."""
    for _ in range(2):
        script = run(tmp_path, MAIN)
        assert script.stdout == "None 1\n"
        assert "because it is a function of __main__" in script.stderr
    (tmp_path / "program.py").write_text(MAIN)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(MAIN)
    for module, other in (("program", "import program\n"), ("package", "import package.__main__\n")):
        assert run(tmp_path, module).stdout == "None 1\n"
        assert run(tmp_path, module).stdout == "1 1\n"
        assert run(tmp_path, other).stdout == "1 1\n"


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


@pytest.mark.parametrize("version", [None, "2"])
def test_two_functions_of_one_name(version: str | None, tmp_path: Path) -> None:
    """From two lines of a file they are an error, as long as both live; a redefinition replaces."""
    with Cache(tmp_path) as disk, Cache(tmp_path) as again:
        one = memoize(store=disk, name="f", version=version)(lambda number: number)
        for store in (disk, again, FlexCache(store=again)):
            match = (
                f"two functions have the name 'f'{' and the version .2.' if version else ''} in one store, from lines"
            )
            with pytest.raises(ValueError, match=match):
                memoize(store=store, name="f", version=version)(lambda number: -number)
        memoize(store=disk, name="f", version="another")(lambda number: -number)
        for _ in range(2):
            memoize(store=disk, name="g", version=version)(make(1))
        del one
        gc.collect()
        memoize(store=disk, name="f", version=version)(lambda number: -number)


def test_partials_of_one_name(tmp_path: Path) -> None:
    """Of functions from two lines."""
    with Cache(tmp_path) as disk:
        one = memoize(store=disk, name="f")(functools.partial(square))
        with pytest.raises(ValueError, match="two functions have the name 'f'"):
            memoize(store=disk, name="f")(functools.partial(cube))
        assert one(3) == 9


def test_a_function_and_its_decorated_self(tmp_path: Path) -> None:
    """They have one name, and different results."""

    @functools.wraps(square)
    def negative(number: int) -> int:
        return -square(number)

    with Cache(tmp_path) as disk:
        one = memoize(store=disk)(square)
        with pytest.raises(ValueError, match=r"two functions .*, under different decorators; give"):
            memoize(store=disk)(negative)
        assert (one(3), memoize(store=disk, name="negative")(negative)(3)) == (9, -9)


def test_versions_are_no_part_of_names(tmp_path: Path) -> None:
    """No name can be mistaken for that of a version of another."""
    with Cache(tmp_path) as disk:
        keys = {
            memoize(store=disk, name=name, version=version)(square).cache_key(1)
            for name, version in (("f", "2"), ("f version 2", None), ("f 2", None), ("f", None), ("('f', '2')", None))
        }
        assert len(keys) == 5


MODULE = """
from flexcache_rs import memoize
from names_in_common import disk
{lines}
@memoize(store=disk)
def function(number):
    return {result}, number
"""


def test_a_module_that_is_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its functions replace those from before, which are alive until then, on whatever lines they are now."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    common: Any = types.ModuleType("names_in_common")
    monkeypatch.setitem(sys.modules, "names_in_common", common)
    with Cache(tmp_path / "store") as common.disk:
        file = tmp_path / "loaded_again.py"
        file.write_text(MODULE.format(lines="", result=1))
        import loaded_again

        before = loaded_again.function
        assert before(3) == (1, 3)
        file.write_text(MODULE.format(lines="\n\n", result=2))
        module = importlib.reload(loaded_again)
        assert module.function is not before
        assert module.function(3) == (1, 3)
        module.function.clear()
        assert module.function(3) == (2, 3)
        file.write_text(MODULE.format(lines="", result=1) + MODULE.format(lines="", result=2))
        with pytest.raises(ValueError, match=r"two functions have the name 'loaded_again\.function'"):
            importlib.reload(module)
        del sys.modules["loaded_again"]


@pytest.mark.parametrize("between", ["nothing", "decorator", "partial"])
def test_two_memoizers_on_one_cache(between: str, tmp_path: Path) -> None:
    """Are refused, whatever is between them; on two caches they are not."""

    def wrap(function: Any) -> Any:
        if between == "partial":
            return functools.partial(function)
        return functools.wraps(function)(lambda number: function(number)) if between == "decorator" else function

    with Cache(tmp_path) as disk:
        for cache in (FlexCache[Any, Any](), FlexCache(store=disk)):
            with pytest.raises(ValueError, match="is memoized in this cache already"):
                cache.memoize(name="outer")(wrap(cache.memoize(square)))
        with pytest.raises(ValueError, match="is memoized in this store under this name already"):
            memoize(store=disk, name="one")(wrap(memoize(store=disk, name="one")(square)))
        outer: Any = memoize(wrap(memoize(store=disk, name="two")(square)))
        assert (outer(3), outer(3)) == (9, 9)


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
        with pytest.raises(TypeError, match=r"f\(\) is a method, .* give memoize\(\) a key"):

            class One:
                @memoize(store=disk)
                def f(self, number: int) -> int:
                    return number

        class Two:
            @memoize(store=disk, name="Two.f")
            def f(this, number: int) -> int:  # noqa: N805
                return number

            @memoize(store=disk, name="Two.g", key=lambda self, number: number)
            def g(self, number: int) -> int:
                return number

            @staticmethod
            @memoize(store=disk, name="Two.h")
            def h(number: int) -> int:
                return number

        with pytest.raises(TypeError, match=r"f\(\) is a method, .* give memoize\(\) a key"):
            Two().f(1)
        assert (Two().g(1), Two.h(2)) == (1, 2)


def test_a_store_gets_plain_types(tmp_path: Path) -> None:
    """A serializer that allows no class reads what it wrote, in keys and in values."""
    with Cache(tmp_path, serializer=PickleSerializer(allow=[])) as disk:

        @memoize(store=disk, name="f", ttl=100, soft_ttl=50, stale_if_error=10, early_refresh=0.1)
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
