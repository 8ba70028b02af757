"""A cache in front of a store that lasts."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from scale import scaled

from flexcache_rs import Cache, FanoutCache, FlexCache
from flexcache_rs._core import _advance_clock

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path(__file__).parent.parent / "programs"


class Dictionary:
    """A store with no more than a store needs."""

    def __init__(self) -> None:
        self.entries: dict[Any, Any] = {}
        self.loads = 0

    def load(self, key: Any) -> Any:
        self.loads += 1
        return self.entries.get(key)

    def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
        self.entries[key] = value, ttl, tags

    def remove(self, key: Any) -> bool:
        return self.entries.pop(key, None) is not None

    def clear(self) -> None:
        self.entries.clear()


class Versioned(Dictionary):
    """A store that says when it has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
        super().save(key, value, ttl, tags)
        self.changes += 1

    def remove(self, key: Any) -> bool:
        self.changes += 1
        return super().remove(key)

    def clear(self) -> None:
        super().clear()
        self.changes += 1

    def version(self) -> int:
        return self.changes


@pytest.fixture(params=[Cache, FanoutCache])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A cache on disk."""
    cache = request.param(tmp_path / "disk")
    yield cache
    cache.close()


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[Any]:
    """Another process that uses `tmp_path / "disk"`: what it is to evaluate, and the answer."""
    command = [sys.executable, str(PROGRAMS / "tier_neighbour.py"), str(tmp_path / "disk")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, answers = process.stdin, process.stdout

        def ask(line: str) -> str:
            to.write(line + "\n")
            to.flush()
            return answers.readline().strip()

        yield ask


def test_a_write_goes_to_both(disk: Any) -> None:
    """And the very object stays in memory."""
    cache = FlexCache(max_items=10, store=disk)
    value = [1, 2]
    cache["a"] = value
    assert cache["a"] is value
    assert disk["a"] == value
    assert cache.store is disk


def test_a_restart_finds_what_was_written(disk: Any) -> None:
    """Also what was evicted from memory."""
    cache = FlexCache(max_items=2, store=disk)
    for number in range(10):
        cache[number] = number
    assert len(cache) == 2
    assert len(disk) == 10
    assert FlexCache(store=disk).get_many(range(10)) == {number: number for number in range(10)}


def test_a_hit_is_served_from_memory() -> None:
    """The store is not asked again."""
    store = Dictionary()
    store.save("a", 1, None, ())
    cache: FlexCache[str, int] = FlexCache(store=store, coherence=None)
    assert [cache["a"], cache["a"], cache.get("a")] == [1, 1, 1]
    assert store.loads == 1
    assert (cache.stats().hits, cache.stats().misses) == (2, 1)


@pytest.mark.parametrize("value", [None, 0, "", b"", float("nan"), [], (1, "a"), {"a": None}])
def test_values_of_all_kinds(disk: Any, value: Any) -> None:
    """None is a value too."""
    FlexCache(store=disk)["a"] = value
    cache = FlexCache(store=disk)
    assert repr(cache["a"]) == repr(value)
    assert "a" in cache


def test_calls_reach_the_store(disk: Any) -> None:
    """Each as it is documented, with and without the entry in memory."""
    for fresh in (False, True):
        cache = FlexCache(store=disk)

        def in_front(cache: Any = cache, fresh: bool = fresh) -> Any:
            return FlexCache(store=disk) if fresh else cache

        cache["a"], cache["b"], cache["c"] = 1, 2, 3
        assert in_front().add("a", 9) is False
        assert in_front().add("d", 4) is True
        with pytest.raises(KeyError):
            in_front().set("a", 9)
        assert in_front().peek("a") == 1
        assert "a" in in_front()
        assert "z" not in in_front()
        assert in_front().pop("a") == 1
        assert "a" not in disk
        with pytest.raises(KeyError):
            in_front().pop("a")
        assert in_front().pop("a", None) is None
        assert in_front().delete("b") is True
        assert in_front().delete("b") is False
        with pytest.raises(KeyError):
            del in_front()["b"]
        assert in_front().delete_many(["c", "d", "e"]) == 2
        assert len(disk) == 0
        in_front().set_many({"x": 1, "y": 2})
        assert in_front().get_many(["x", "y", "z"]) == {"x": 1, "y": 2}
        in_front().clear()
        assert len(disk) == 0


def test_popitem_takes_it_from_the_store(disk: Any) -> None:
    """What memory would evict next."""
    cache = FlexCache(store=disk)
    cache["a"], cache["b"] = 1, 2
    assert cache.popitem() == ("a", 1)
    assert list(disk) == ["b"]


def test_times_to_live_are_the_stores_too(disk: Any) -> None:
    """They come back with the entry."""
    FlexCache(store=disk, default_ttl=60)["a"] = 1
    cache = FlexCache(store=disk)
    assert 59 < cache.ttl("a") <= 60
    assert cache["a"] == 1
    assert 59 < cache.ttl("a") <= 60
    assert cache.touch("a", 600) is True
    assert 599 < cache.ttl("a") <= 600
    assert 599 < FlexCache(store=disk).ttl("a") <= 600
    assert cache.touch("a", None) is True
    assert FlexCache(store=disk).ttl("a") is None
    assert cache.touch("z", 1) is False
    with pytest.raises(KeyError):
        cache.ttl("z")
    cache.put("b", 2, ttl=0)
    assert cache.get("b") is None


def test_what_expires_in_memory_is_asked_for_again() -> None:
    """A store may know better."""
    store = Dictionary()
    cache: FlexCache[str, int] = FlexCache(store=store, coherence=None)
    cache.put("a", 1, ttl=60)
    store.save("a", 2, None, ())
    _advance_clock(61.0)
    assert cache["a"] == 2


def test_a_tag_is_the_stores_too(disk: Any) -> None:
    """One for an entry."""
    FlexCache(store=disk).put("a", 1, tags=("x",))
    cache = FlexCache(store=disk)
    assert cache["a"] == 1
    assert cache.tags("a") == ("x",)
    cache.put("b", 2, tags=("x",))
    assert FlexCache(store=disk).evict_tag("x") == 2
    assert "a" not in cache
    with pytest.raises(ValueError, match="at most one"):
        cache.put("c", 3, tags=("x", "y"))
    assert "c" not in cache


def test_computed_values_are_kept(disk: Any) -> None:
    """By `get_or_set` and by memoized functions."""
    calls = []

    def compute(number: int = 0) -> int:
        calls.append(number)
        return number + 1

    assert FlexCache(store=disk).get_or_set("a", compute) == 1
    assert FlexCache(store=disk).get_or_set("a", compute) == 1
    assert calls == [0]
    memo = FlexCache(store=disk).memoize(compute)
    assert (memo(1), memo(1)) == (2, 2)
    assert calls == [0, 1]


def test_others_writes_are_seen_at_once(tmp_path: Path, neighbour: Any) -> None:
    """With the default coherence."""
    cache: FlexCache[str, Any] = FlexCache(store=Cache(tmp_path / "disk"))
    cache["a"] = "ours"
    assert cache["a"] == "ours"
    assert neighbour("cache['a']") == "'ours'"
    for number in range(20):
        assert neighbour(f"cache.set('a', {number})") == "True"
        assert cache["a"] == number
        assert cache["a"] == number
    assert neighbour("cache.delete('a')") == "True"
    assert "a" not in cache
    assert cache.get("a") is None


def test_others_writes_are_seen_in_time(tmp_path: Path, neighbour: Any) -> None:
    """With a bound in seconds: not before it need be."""
    cache: FlexCache[str, Any] = FlexCache(store=Cache(tmp_path / "disk"), coherence=30)
    cache["a"] = "ours"
    neighbour("cache.set('a', 'theirs')")
    assert cache["a"] == "ours"
    _advance_clock(31.0)
    assert cache["a"] == "theirs"


def test_writes_through_the_store_itself_are_seen(disk: Any) -> None:
    """Of the very object that was given."""
    cache = FlexCache(store=disk)
    other = FlexCache(store=disk)
    cache["a"] = 1
    assert other["a"] == 1
    disk["a"] = 2
    assert (cache["a"], other["a"]) == (2, 2)
    other["a"] = 3
    assert cache["a"] == 3


def test_own_writes_are_no_reason_to_ask() -> None:
    """As long as nobody else writes."""
    store = Versioned()
    cache: FlexCache[int, int] = FlexCache(store=store)
    for number in range(10):
        cache[number] = number
    assert [cache[number] for number in range(10)] == list(range(10))
    assert store.loads == 0
    store.save(5, "theirs", None, ())
    assert cache[5] == "theirs"


def test_what_is_undone_is_not_in_memory(tmp_path: Path) -> None:
    """Whether it was written or read in the transaction."""
    disk = Cache(tmp_path)
    for coherence in ("strict", None):
        cache: FlexCache[str, int] = FlexCache(store=disk, coherence=coherence)
        cache["a"] = 1
        with pytest.raises(ZeroDivisionError), disk.transact():
            cache["a"], cache["b"] = 2, 2
            assert (cache["a"], cache["b"]) == (2, 2)
            raise ZeroDivisionError
        assert (cache["a"], cache.get("b")) == (1, None)


class Failing(Versioned):
    """A store whose calls fail when told so."""

    fails = False

    def _fail(self) -> None:
        if self.fails:
            raise OSError("the store is gone")

    def load(self, key: Any) -> Any:
        self._fail()
        return super().load(key)

    def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
        self._fail()
        super().save(key, value, ttl, tags)

    def remove(self, key: Any) -> bool:
        self._fail()
        return super().remove(key)


def test_a_store_that_fails() -> None:
    """Its exception arrives, and memory has nothing that the store may not have."""
    store = Failing()
    cache: FlexCache[str, int] = FlexCache(store=store)
    cache["a"] = 1
    store.fails = True
    assert cache["a"] == 1
    for call in (
        lambda: cache.put("a", 2),
        lambda: cache.put("b", 2),
        lambda: cache.add("b", 2),
        lambda: cache.get("c"),
        lambda: cache.delete("a"),
        lambda: cache.pop("a"),
        lambda: cache.set_many({"a": 3, "b": 3}),
    ):
        with pytest.raises(OSError, match="the store is gone"):
            call()
    store.fails = False
    assert (cache["a"], cache.get("b")) == (1, None)


def test_a_value_that_memory_cannot_take() -> None:
    """Is refused before it is stored; one that comes from the store is handed on."""

    class Large:
        def item_size(self) -> int:
            return 100

    store = Dictionary()
    cache: FlexCache[str, Any] = FlexCache(max_bytes=10, store=store, coherence=None)
    with pytest.raises(ValueError, match="100"):
        cache["a"] = Large()
    assert store.entries == {}
    store.save("a", Large(), None, ())
    assert isinstance(cache["a"], Large)
    assert len(cache) == 0


def test_hooks_run_for_memory_alone(disk: Any) -> None:
    """An eviction leaves the store as it is."""
    told = []
    cache = FlexCache(max_items=1, store=disk, on_evict=lambda *event: told.append(event))
    cache["a"], cache["b"] = 1, 2
    assert told == [("a", 1, "evicted")]
    assert cache["a"] == 1


def test_listeners_hear_of_what_was_found(disk: Any) -> None:
    """In memory or in the store."""
    disk["a"] = 1
    told = []
    cache = FlexCache(store=disk)
    cache.listen(lambda event, key, value: told.append((event, key, value)), "hit", "miss", "insert", "update")
    _ = cache.get("a"), cache.get("a"), cache.get("b")
    cache["b"] = 2
    cache["b"] = 3
    assert told == [
        ("hit", "a", 1),
        ("hit", "a", 1),
        ("miss", "b", None),
        ("insert", "b", 2),
        ("update", "b", 3),
    ]


def test_copies_and_pickles_share_the_store(disk: Any) -> None:
    """And its coherence."""
    cache = FlexCache(store=disk, coherence=30, max_items=5)
    cache["a"] = 1
    for twin in (cache.copy(), copy.copy(cache), pickle.loads(pickle.dumps(cache))):
        assert twin.store.directory == disk.directory
        assert twin["a"] == 1
        twin["b"] = 2
        assert disk["b"] == 2
        del twin["b"]


@pytest.mark.parametrize(
    ("options", "error", "names"),
    [
        ({"store": 5}, TypeError, "load"),
        ({"store": Dictionary()}, TypeError, "version"),
        ({"store": Versioned(), "coherence": "loose"}, ValueError, "loose"),
        ({"store": Versioned(), "coherence": -1}, ValueError, "coherence"),
        ({"store": Versioned(), "coherence": float("nan")}, ValueError, "coherence"),
        ({"store": Versioned(), "coherence": []}, TypeError, "coherence"),
        ({"coherence": "loose"}, ValueError, "loose"),
    ],
)
def test_what_is_no_store(options: Any, error: type[Exception], names: str) -> None:
    """Is refused with a word about it."""
    with pytest.raises(error, match=names):
        FlexCache(**options)


def test_a_policy_in_python_has_no_store() -> None:
    """The two would have to know of one another."""

    class Policy:
        def on_insert(self, key: Any) -> None: ...
        def on_access(self, key: Any) -> None: ...
        def on_remove(self, key: Any) -> None: ...
        def victim(self) -> Any: ...

    with pytest.raises(ValueError, match="store"):
        FlexCache(Policy(), store=Versioned())


def test_a_store_may_use_the_cache() -> None:
    """Nothing is locked while it runs."""

    class Curious(Versioned):
        cache: FlexCache[Any, Any]

        def load(self, key: Any) -> Any:
            if key == "outer":
                return self.cache["inner"] + 1, None, ()
            return super().load(key)

        def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
            if key == "outer":
                self.cache["inner"] = value
            super().save(key, value, ttl, tags)

    store = Curious()
    cache = store.cache = FlexCache(store=store)
    cache["outer"] = 1
    assert cache["inner"] == 1
    cache.close()
    assert cache["outer"] == 2


def test_a_store_that_holds_the_cache_is_collected() -> None:
    """A cycle through the store is garbage like any other."""
    store = Versioned()
    store.cache = FlexCache(store=store)  # type: ignore[attr-defined]
    store.cache["a"] = 1  # type: ignore[attr-defined]
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("coherence", ["strict", None, 3600])
def test_memory_never_keeps_what_the_store_has_not(tmp_path: Path, coherence: Any) -> None:
    """However writers of one key come between one another."""
    disk = Cache(tmp_path)
    cache: FlexCache[str, Any] = FlexCache(store=disk, coherence=coherence)
    start = threading.Barrier(4)

    def work(name: int) -> None:
        start.wait()
        for number in range(150):
            match (name + number) % 4:
                case 0:
                    cache.delete("k")
                case 1:
                    cache.get("k")
                case _:
                    cache["k"] = (name, number)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.get("k") == disk.get("k")
    assert cache.get("k") == FlexCache(store=disk).get("k")


class Tiered(RuleBasedStateMachine):
    """Two caches in front of one store are as one dict."""

    keys = st.sampled_from(["a", "b", 1, (1, "x")])
    sides = st.booleans()

    def __init__(self) -> None:
        super().__init__()
        self.disk = Cache()
        options = [(2, "lru"), (3, "fifo")]
        self.caches = [FlexCache(policy, max_items=most, store=self.disk) for most, policy in options]
        self.model: dict[Any, Any] = {}

    def teardown(self) -> None:
        self.disk.close()

    @rule(key=keys, value=st.integers(0, 9), side=sides)
    def put(self, key: Any, value: int, side: bool) -> None:
        self.caches[side][key] = value
        self.model[key] = value

    @rule(key=keys, value=st.integers(0, 9))
    def store(self, key: Any, value: int) -> None:
        self.disk[key] = value
        self.model[key] = value

    @rule(key=keys, value=st.integers(0, 9), side=sides)
    def add(self, key: Any, value: int, side: bool) -> None:
        assert self.caches[side].add(key, value) == (key not in self.model)
        self.model.setdefault(key, value)

    @rule(key=keys, side=sides)
    def get(self, key: Any, side: bool) -> None:
        assert self.caches[side].get(key) == self.model.get(key)
        assert (key in self.caches[side]) == (key in self.model)

    @rule(key=keys, side=sides)
    def pop(self, key: Any, side: bool) -> None:
        assert self.caches[side].pop(key, None) == self.model.pop(key, None)

    @rule(key=keys, side=sides)
    def delete(self, key: Any, side: bool) -> None:
        assert self.caches[side].delete(key) == (self.model.pop(key, None) is not None)

    @precondition(lambda self: self.model)
    @rule(side=sides)
    def clear(self, side: bool) -> None:
        self.caches[side].clear()
        self.model.clear()

    @invariant()
    def all_have_the_same(self) -> None:
        assert {key: self.disk[key] for key in self.disk} == self.model


TestTiered = Tiered.TestCase
TestTiered.settings = settings(max_examples=scaled(250), stateful_step_count=25, deadline=None)
