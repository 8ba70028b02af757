"""Subclasses whose overrides other calls use, as with python-diskcache, and which have names of their own."""

from __future__ import annotations

import io
import pickle
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from scale import may_skip

from flexcache_rs import disk, diskcache_rs

if TYPE_CHECKING:
    from pathlib import Path

LIBRARIES = ["flexcache_rs.disk", "diskcache"]


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    if may_skip(request.param, find_spec(request.param)):
        pytest.skip(f"{request.param} is not installed")
    return import_module(request.param)


def test_a_cache_that_notes_its_calls(library: Any, tmp_path: Path) -> None:
    """Every call that is made of an overridden one notes that one."""
    notes: list[Any] = []

    class Noting(library.Cache):  # type: ignore[misc]
        def set(self, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
            notes.append(("set", key))
            return super().set(key, value, *args, **kwargs)

        def get(self, key: Any, *args: Any, **kwargs: Any) -> Any:
            notes.append(("get", key))
            return super().get(key, *args, **kwargs)

        def incr(self, key: Any, delta: int = 1, *args: Any, **kwargs: Any) -> Any:
            notes.append(("incr", key, delta))
            return super().incr(key, delta, *args, **kwargs)

        def __delitem__(self, key: Any, retry: bool = True) -> Any:
            notes.append(("delete", key, retry))
            return super().__delitem__(key, retry=retry)

    with Noting(str(tmp_path)) as cache:
        cache["a"] = 1
        assert cache["a"] == 1
        with pytest.raises(KeyError, match="absent"):
            cache["absent"]
        assert (cache.decr("a", 3), cache.decr("a"), cache.decr("b", default=5)) == (-2, -3, 4)
        cache.set("file", io.BytesIO(b"content"), read=True)
        with cache.read("file") as file:
            assert file.read() == b"content"
        with pytest.raises(KeyError, match="absent"):
            cache.read("absent")
        assert (cache.delete("a"), cache.delete("a", retry=True), "a" in cache) == (True, False, False)
        del cache["b"]
        double = cache.memoize("double")(lambda number: 2 * number)
        assert (double(2), double(2)) == (4, 4)
        call = double.__cache_key__(2)
    assert notes == [
        *(("set", "a"), ("get", "a"), ("get", "absent")),
        *(("incr", "a", -3), ("incr", "a", -1), ("incr", "b", -1)),
        *(("set", "file"), ("get", "file"), ("get", "absent")),
        *(("delete", "a", False), ("delete", "a", True), ("delete", "b", True)),
        *(("get", call), ("set", call), ("get", call)),
    ]


def test_an_override_in_a_mixin_or_a_base(library: Any, tmp_path: Path) -> None:
    """Is used by all classes below it, and a call that a class overrides itself stays."""

    class Upper:
        def get(self, key: Any, default: Any = None, **options: Any) -> Any:
            value = super().get(key, default, **options)  # type: ignore[misc]
            return value.upper() if isinstance(value, str) else value

    class Base(Upper, library.Cache):  # type: ignore[misc]
        pass

    class Derived(Base):
        def __getitem__(self, key: Any) -> Any:
            return f"<{super().__getitem__(key)}>"

    for kind, expected in ((Base, "X"), (Derived, "<X>")):
        with kind(str(tmp_path)) as cache:
            cache["a"] = "x"
            assert cache["a"] == expected


def test_read_of_a_fanout_cache(library: Any, tmp_path: Path) -> None:
    """Goes through get."""

    class Noting(library.FanoutCache):  # type: ignore[misc]
        def get(self, key: Any, *args: Any, **kwargs: Any) -> Any:
            notes.append(key)
            return super().get(key, *args, **kwargs)

    notes: list[Any] = []
    with Noting(str(tmp_path), shards=1) as cache:
        cache.set("file", io.BytesIO(b"content"), read=True)
        with cache.read("file") as file:
            assert file.read() == b"content"
        with pytest.raises(KeyError, match="absent"):
            cache.read("absent")
        cache["a"] = 1
        assert cache["a"] == 1
    assert notes == ["file", "absent"]


def test_an_index_with_values_for_absent_keys(library: Any, tmp_path: Path) -> None:
    """Contains them, like any `Mapping`."""

    class Counts(library.Index):  # type: ignore[misc]
        def __getitem__(self, key: Any) -> Any:
            return super().__getitem__(key) if len(self) and key == "a" else 0

    counts = Counts(str(tmp_path), {"a": 1})
    assert (counts["a"], counts["b"], counts.get("b", 5), "b" in counts, "b" in counts.keys()) == (1, 0, 0, True, True)
    assert list(counts) == ["a"]
    counts.cache.close()


def test_a_deque_that_stores_through_another_call(library: Any, tmp_path: Path) -> None:
    """No call is made of a call that a subclass may override, so none calls itself."""

    class Circular(library.Deque):  # type: ignore[misc]
        def append(self, value: Any) -> None:
            self.extend([value])

        def appendleft(self, value: Any) -> None:
            self.extendleft([value])

        def extend(self, iterable: Any) -> None:
            self += iterable

        def clear(self) -> None:
            self.reverse()

    deque = Circular([1, 2], str(tmp_path))
    deque.append(3)
    deque.appendleft(0)
    deque.rotate()
    deque.clear()
    copy = deque.copy()
    assert list(deque) == list(copy) == [2, 1, 0, 3]
    for one in (deque, copy):
        one.cache.close()


def test_overrides_that_pass_on_to_super_use_other_overrides(library: Any, tmp_path: Path) -> None:
    """Also if the class that overrides the one derives from the class that overrides the other."""
    notes: list[Any] = []

    class Passing(library.Cache):  # type: ignore[misc]
        def __getitem__(self, key: Any) -> Any:
            return super().__getitem__(key)

        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, value)

        def read(self, key: Any, retry: bool = False) -> Any:
            return super().read(key, retry)

        def decr(self, key: Any, *args: Any, **kwargs: Any) -> Any:
            return super().decr(key, *args, **kwargs)

        def delete(self, key: Any, retry: bool = False) -> Any:
            return super().delete(key, retry)

    class Noting:
        def get(self, key: Any, *args: Any, **kwargs: Any) -> Any:
            notes.append(("get", key))
            return super().get(key, *args, **kwargs)  # type: ignore[misc]

        def set(self, key: Any, *args: Any, **kwargs: Any) -> Any:
            notes.append(("set", key))
            return super().set(key, *args, **kwargs)  # type: ignore[misc]

        def incr(self, key: Any, *args: Any, **kwargs: Any) -> Any:
            notes.append(("incr", key))
            return super().incr(key, *args, **kwargs)  # type: ignore[misc]

        def __delitem__(self, key: Any, retry: bool = True) -> Any:
            notes.append(("delete", key))
            return super().__delitem__(key, retry=retry)  # type: ignore[misc]

    class Derived(Noting, Passing):
        pass

    with Derived(str(tmp_path / "derived")) as cache:
        cache["a"] = 1
        assert (cache["a"], cache.decr("a"), cache.delete("a"), cache.delete("a")) == (1, 0, True, False)
        cache.set("file", io.BytesIO(b"content"), read=True)
        with cache.read("file") as file:
            assert file.read() == b"content"
    assert [how for how, _ in notes] == ["set", "get", "incr", "delete", "delete", "set", "get"]
    with Passing(str(tmp_path / "passing")) as cache:
        cache["a"] = 1
        assert (cache["a"], cache.decr("a"), cache.delete("a"), cache.get("a")) == (1, 0, True, None)


def passing(notes: list[str], name: str, *calls: str) -> dict[str, Any]:
    """Methods for a class that note themselves, and call `super()`."""

    def method(call: str) -> Any:
        def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
            notes.append(f"{name}.{call}")
            return getattr(super(made[0], self), call)(*args, **kwargs)

        return noted

    made: list[type] = []

    def remember(cls: type) -> None:
        made.append(cls)

    return {**{call: method(call) for call in calls}, "remember": classmethod(remember)}


def derived(notes: list[str], name: str, bases: tuple[type, ...], *calls: str) -> Any:
    """A class whose overrides of these calls note themselves, and call `super()`."""
    kind: Any = type(bases[-1])(name, bases, passing(notes, name, *calls))
    kind.remember()
    return kind


def noted_by(notes: list[str], kind: Any, folder: Path, *calls: Any) -> list[str]:
    """What the calls note, in order."""
    made = opened(kind, folder)
    notes.clear()
    for call in calls:
        call(made)
    noted = notes.copy()
    close(made)
    return noted


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        ("Index", ("__getitem__", "__contains__")),
        ("Index", ("__contains__", "__getitem__", "__setitem__", "get")),
        ("FanoutCache", ("get", "read")),
        ("FanoutCache", ("read", "get", "__getitem__", "__contains__")),
        ("Deque", ("__getitem__", "__contains__", "append", "extend")),
        ("Cache", ("get", "read", "__getitem__", "__contains__")),
    ],
)
def test_overrides_of_several_calls_of_one_class(library: Any, tmp_path: Path, kind: str, calls: Any) -> None:
    notes: list[str] = []
    several = derived(notes, "X", (getattr(library, kind),), *calls)
    if kind == "Deque":
        noted = noted_by(notes, several, tmp_path, lambda made: made.append(1), lambda made: (made[0], 1 in made))
        assert noted == ["X.append", "X.__getitem__", "X.__contains__"]
        return
    used = {"Index": "__getitem__", "FanoutCache": "get", "Cache": "get"}[kind]
    call = {"Index": lambda made: "b" in made, "FanoutCache": read_a, "Cache": read_a}[kind]
    assert noted_by(notes, several, tmp_path, call) == [
        "X.__contains__" if kind == "Index" else "X.read",
        f"X.{used}",
    ]


def read_a(made: Any) -> None:
    """Read a file, which is stored first by a call that nobody overrides."""
    made.set("a", io.BytesIO(b"content"), read=True)
    made.read("a").close()


def test_overrides_of_siblings_are_all_called(library: Any, tmp_path: Path) -> None:
    """Whichever class came first, and whether or not both override the same call."""
    notes: list[str] = []

    def look(made: Any) -> None:
        made["a"] = 1
        assert made["a"] == 1

    root = (library.Cache,)
    both, one = derived(notes, "X", root, "get", "__getitem__"), derived(notes, "Y", root, "__getitem__")
    expected = ["X.__getitem__", "Y.__getitem__", "X.get"]
    assert noted_by(notes, derived(notes, "Z", (both, one)), tmp_path, look) == expected

    gets, item = derived(notes, "X", root, "get"), derived(notes, "Y", root, "__getitem__")
    # It is there before any class that derives from `item` needs calls in Python.
    other = derived(notes, "Other", root, "__getitem__")
    early = derived(notes, "Early", (item, other))
    assert noted_by(notes, derived(notes, "Z", (gets, item)), tmp_path, look) == ["Y.__getitem__", "X.get"]
    assert noted_by(notes, early, tmp_path, look) == ["Y.__getitem__", "Other.__getitem__"]
    late = derived(notes, "Late", (item, derived(notes, "Another", root, "__getitem__")))
    assert noted_by(notes, late, tmp_path, look) == ["Y.__getitem__", "Another.__getitem__"]

    index = (library.Index,)
    first, second = derived(notes, "X", index, "__getitem__"), derived(notes, "Y", index, "__contains__")

    def contains(made: Any) -> None:
        assert "b" not in made

    noted = noted_by(notes, derived(notes, "Z", (first, second)), tmp_path / "index", contains)
    assert noted == ["Y.__contains__", "X.__getitem__"]

    fanout = (library.FanoutCache,)
    first, second = derived(notes, "X", fanout, "get"), derived(notes, "Y", fanout, "read")
    noted = noted_by(notes, derived(notes, "Z", (first, second)), tmp_path / "fanout", read_a)
    assert noted == ["Y.read", "X.get"]


@pytest.mark.parametrize("kind", [disk.Cache, disk.FanoutCache, disk.Index, diskcache_rs.Cache])
def test_bases_do_not_pile_up(kind: Any) -> None:
    notes: list[str] = []
    calls = ("__getitem__", "get", "set", "read", "incr", "decr", "delete")
    root = derived(notes, "Root", (kind,), *calls)
    sibling = derived(notes, "Sibling", (root,))
    longest = len(sibling.__mro__)
    for number in range(20):
        derived(notes, f"X{number}", (root,), *calls)
        derived(notes, f"Y{number}", (sibling, root))
    assert len(sibling.__mro__) == longest <= len(kind.__mro__) + 2 + 5


def opened(kind: Any, folder: Path) -> Any:
    return kind(directory=str(folder)) if "Deque" in [one.__name__ for one in kind.__mro__] else kind(str(folder))


def close(made: Any) -> None:
    (made if {"Cache", "FanoutCache"} & {one.__name__ for one in type(made).__mro__} else made.cache).close()


def private_names(kind: Any, folder: Path) -> list[str]:
    """The private names of a class and its objects that python-diskcache's class does not have."""
    names = []
    for one in (getattr(import_module("diskcache"), kind.__name__), kind):
        made = opened(one, folder / one.__module__)
        names.append({*vars(made), *(name for base in one.__mro__[:-1] for name in vars(base))})
        close(made)
    # The prefix says whose the names are.
    ours = ("__", "_flexcache_", "_Cache__", "_FanoutCache__", "_Deque__", "_Index__")
    return sorted(name for name in names[1] - names[0] if name.startswith("_") and not name.startswith(ours))


def used_once(kind: Any, folder: Path) -> list[Any]:
    """What the calls return of a Deque, of an Index, and of the caches."""
    made = opened(kind, folder)
    try:
        if issubclass(kind, disk.Deque):
            made.extend([3, 1, 2])
            made.rotate()
            made[0] = 5
            return [made.pop(), made.popleft(), made.peek(), made[0], list(made), made == [3], made < [4], 3 in made]
        if issubclass(kind, disk.Index):
            made.update(a=1, b=2)
            return [made["a"], made.popitem(), made == {"a": 1}, list(made.items()), made.peekitem(), made.push(3)]
        made["a"], made["long"] = 1, "x" * 50_000
        made.set("tagged", 1, tag="t", expire=60)
        done = [made["a"], made.get("b"), made.pop("a"), made.incr("n"), made.decr("n"), made.delete("n"), len(made)]
        with made.transact():
            made["a"] = 2
        done += [made.evict("t"), made.check(), made.stats(enable=True), made.cull(), made.reset("cull_limit", 5)]
        done += [made.memoize()(len)("abc"), made.get_many(["a"]), made.set_many({"m": 1}), made.volume() > 0]
        done += [made.push(1), made.peek(), made.pull(), made.get("long")[:3]]
        return [*done, pickle.loads(pickle.dumps(made))["a"], sorted(made, key=repr), made.clear()]
    finally:
        close(made)


class Other:
    """What a program keeps under a name."""

    def __call__(self, *_arguments: Any, **_named: Any) -> str:
        return "other"


@pytest.mark.skipif(
    may_skip("diskcache", find_spec("diskcache")), reason="python-diskcache's names are those that it may not have"
)
@pytest.mark.parametrize("kind", [disk.Cache, disk.FanoutCache, disk.Deque, disk.Index])
def test_subclasses_may_use_private_names(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = used_once(kind, tmp_path / "expected")
    names = private_names(kind, tmp_path)

    class OfObjects(kind):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            for name in names:
                setattr(self, name, Other())
            super().__init__(*args, **kwargs)
            for name in names:
                setattr(self, name, Other())

    OfClass = type("OfClass", (kind,), dict.fromkeys(names, Other()))  # noqa: N806
    for one in (OfObjects, OfClass):
        # Pickles find the class by its name.
        monkeypatch.setattr(f"{__name__}.{one.__name__}", one, raising=False)
        one.__qualname__ = one.__name__
        assert used_once(one, tmp_path / one.__name__) == expected


CALLS = {"__getitem__", "__setitem__", "read", "decr", "delete"}


@pytest.mark.parametrize("kind", [disk.Cache, disk.FanoutCache, diskcache_rs.Cache, diskcache_rs.FanoutCache])
def test_calls_stay_native_unless_what_they_use_is_overridden(kind: Any) -> None:
    """The classes that this package derives are not subclasses of a user."""
    plain = type("Plain", (kind,), {"more": lambda _self: 1})
    gets = type("Gets", (kind,), {"get": lambda _self, _key, **_options: 1})
    in_python = {name for one in gets.__mro__ for name in CALLS & set(vars(one)) if one.__name__ == "_Composed"}
    assert all(getattr(plain, name) is getattr(kind, name) for name in CALLS)
    assert in_python == ({"read"} if issubclass(kind, disk.FanoutCache) else {"read", "__getitem__"})
