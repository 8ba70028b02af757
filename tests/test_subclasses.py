"""Subclasses whose `__init__` or `__new__` has other parameters."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest

from flexcache_rs import FlexCache, caches

if TYPE_CHECKING:
    from pathlib import Path

V = TypeVar("V")


class TTLCache(FlexCache[Any, Any]):
    """A subclass in the style of cachetools' users."""

    def __init__(self, maxsize: int, ttl: float) -> None:
        super().__init__(max_items=maxsize, default_ttl=ttl)
        self.maxsize = maxsize


class Slotted(FlexCache[Any, Any]):
    __slots__ = ("label",)

    def __init__(self, label: str, *, limit: int = 2) -> None:
        self.label = label
        super().__init__("fifo", max_items=limit)


class Mixin:
    def __init__(self, *args: Any, color: str = "red", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.color = color


class Mixed(Mixin, FlexCache[Any, V], Generic[V]):
    """Multiple inheritance, with an `__init__` that passes on what is not its own."""


@dataclass(eq=False)
class Data(FlexCache[Any, Any]):
    """A subclass that never calls FlexCache's `__init__`."""

    size: int
    unit: str = "B"


class Singleton(FlexCache[Any, Any]):
    made: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls.made is None:
            cls.made = super().__new__(cls)
        return cls.made

    def __init__(self, size: int) -> None:
        super().__init__(max_items=size)


def test_the_options_are_those_that_init_passes_on() -> None:
    cache = TTLCache(10, 60)
    cache["a"] = 1
    assert cache.max_items == 10
    assert 59 < (cache.ttl("a") or 0) <= 60
    cache.update((number, number) for number in range(20))
    assert len(cache) == 10
    with pytest.raises(ValueError, match="max_items must be from 0"):
        TTLCache(-1, 60)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'ttl'"):
        TTLCache(10)  # type: ignore[call-arg]


def test_what_init_passes_on_counts_though_the_arguments_are_options() -> None:
    class Doubled(FlexCache[Any, Any]):
        def __init__(self, max_items: int, **options: Any) -> None:
            super().__init__(max_items=2 * max_items, **options)

    cache = Doubled(max_items=5, default_ttl=60, eviction_policy="lfu")
    assert (cache.max_items, cache.eviction_policy) == (10, "lfu")

    class Ignoring(FlexCache[Any, Any]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__()

    assert Ignoring(max_items=5).max_items == 5
    assert Ignoring("nothing", 1, 2, 3, 4, 5, odd=6).max_items == 0


def test_every_option_can_be_passed_on(tmp_path: Path) -> None:
    left: list[Any] = []
    trace = tmp_path / "trace"

    class Everything(FlexCache[Any, Any]):
        def __init__(self, label: str) -> None:
            super().__init__(
                "lru",
                max_bytes=100,
                default_ttl=60,
                shards=4,
                on_evict=lambda *entry: left.append(entry),
                weigher=len,
                close_values=False,
                name=f"everything {label}",
                record=trace,
            )

    with Everything("x") as cache:
        assert caches()["everything x"] is cache
        for number in range(100):
            cache[number] = "x" * 10
            assert cache[number]
        assert cache.bytes <= 100
        assert left
    assert trace.stat().st_size

    class Behind(FlexCache[Any, Any]):
        def __init__(self, behind: Any, policy: Any) -> None:
            super().__init__(policy, store=behind)

    store: FlexCache[Any, Any] = FlexCache()
    cache2 = Behind(store, "lfu")
    cache2["a"] = 1
    assert store["a"] == 1
    assert cache2.store is store


def test_a_trace_begins_once(tmp_path: Path) -> None:
    class Recorded(FlexCache[Any, Any]):
        def __init__(self, **options: Any) -> None:
            super().__init__()

    with Recorded(record=tmp_path / "trace") as cache:
        cache.get("a")
    assert (tmp_path / "trace").stat().st_size


@pytest.mark.parametrize("kind", ["early", "late", "never"])
def test_when_init_is_called(kind: str) -> None:
    class Cache(FlexCache[Any, Any]):
        def __init__(self, size: int) -> None:
            if kind == "late":
                self["early"] = 1
                del self["early"]
            if kind != "never":
                super().__init__(max_items=size)

    cache = Cache(3)
    cache.update(dict.fromkeys(range(5), 0))
    assert len(cache) == (5 if kind == "never" else 3)


@pytest.mark.parametrize("kind", ["entry", "listener"])
def test_init_does_not_lose_what_there_is(kind: str) -> None:
    class Late(FlexCache[Any, Any]):
        def __init__(self, size: int) -> None:
            if kind == "entry":
                self["early"] = 1
            else:
                self.listen(lambda *event: None)
            super().__init__(max_items=size)

    with pytest.raises(RuntimeError, match=r"call super\(\).__init__\(\) before"):
        Late(3)


def test_init_configures_once() -> None:
    cache = TTLCache(10, 60)
    cache["a"] = 1
    with pytest.warns(RuntimeWarning, match="called before"):
        cache.__init__(5, 1)  # type: ignore[misc]
    assert (cache.max_items, dict(cache)) == (10, {"a": 1})
    first = Singleton(7)
    with pytest.warns(RuntimeWarning, match="called before"):
        second = Singleton(9)
    assert first is second
    assert first.max_items == 7


def test_arguments_of_new() -> None:
    class Made(FlexCache[str, int]):
        def __new__(cls, size: int, seconds: float) -> Made:  # noqa: PYI034
            return super().__new__(cls, max_items=size, default_ttl=seconds)

    assert Made(10, 60).max_items == 10

    class Wrong(FlexCache[str, int]):
        def __new__(cls, size: int) -> Wrong:  # noqa: PYI034
            return super().__new__(cls, size=size)  # type: ignore[call-arg]

    with pytest.raises(TypeError, match="did you mean max_items="):
        Wrong(5)


def test_several_bases() -> None:
    cache: Mixed[int] = Mixed("lfu", max_items=3, color="blue")
    assert (cache.color, cache.max_items, cache.eviction_policy) == ("blue", 3, "lfu")
    data = Data(5)
    data["a"] = 1
    assert (data.size, data.unit, data["a"]) == (5, "B", 1)


@pytest.mark.parametrize(
    "make",
    [lambda: TTLCache(10, 60), lambda: Slotted("x", limit=5), lambda: Mixed(max_items=10), lambda: Data(5)],
    ids=["own init", "slots", "mixin", "dataclass"],
)
@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        lambda cache: cache.copy(),
        *(lambda cache, protocol=protocol: pickle.loads(pickle.dumps(cache, protocol)) for protocol in (2, 5)),
    ],
)
def test_copies(make: Any, duplicate: Any) -> None:
    """Copies have the configuration of the original. Copying does not call `__init__`."""
    cache = make()
    cache.update(a=1, b=2)
    twin = duplicate(cache)
    assert type(twin) is type(cache)
    assert twin == cache
    assert list(twin) == list(cache)
    for name in ("max_items", "eviction_policy", "maxsize", "label", "color", "size"):
        assert getattr(twin, name, None) == getattr(cache, name, None)
    twin["c"] = 3
    assert "c" not in cache


def test_instances_are_collected() -> None:
    class Node(FlexCache[Any, Any]):
        def __init__(self, parent: Any) -> None:
            super().__init__(on_evict=lambda *entry: self, weigher=lambda value: 1 if self is not None else 0)
            self.parent = parent
            self["parent"] = parent

    node = Node(None)
    node["self"] = node
    reference = weakref.ref(node)
    del node
    gc.collect()
    assert reference() is None


class Sharded(FlexCache[Any, Any]):
    """A subclass whose arguments are also options of the cache."""

    def __init__(self, shards: int = 1, max_items: int = 100, record: Any = None) -> None:
        super().__init__(shards=shards, max_items=max_items, record=record)


def test_arguments_that_are_options_as_well() -> None:
    cache = Sharded(shards=4, max_items=40)
    for number in range(100):
        cache[number] = number
    assert 20 <= cache.items <= 40
    assert 20 <= copy.copy(cache).items <= 40


def test_a_configuration_that_fails_can_be_followed_by_another(tmp_path: Path) -> None:
    """The failed configuration leaves nothing behind."""

    class Careful(FlexCache[Any, Any]):
        def __init__(self, **_options: Any) -> None:
            with pytest.raises(OSError, match="nowhere"):
                super().__init__(max_items=3, record=tmp_path / "nowhere" / "trace")
            super().__init__(max_items=5)

    cache = Careful(label="a")
    cache.update(dict.fromkeys(range(10), 1))
    assert cache.items == 5
