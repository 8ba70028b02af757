"""Computations beside writes: what was written while a value was computed has the last word, over every store.

Callers that were waiting get the computed value all the same. Whoever comes after the write computes anew.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from gates import PATIENCE, Gate, stopped_at
from store_kinds import Complete, Kind, UserKind

from flexcache_rs.disk import Cache, PickleSerializer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from store_process import OtherProcess

WRITES: dict[str, Callable[[Any], Any]] = {
    "put": lambda cache: cache.put("a", "new"),
    "set_many": lambda cache: cache.set_many({"a": "new"}),
    "delete": lambda cache: cache.delete("a"),
    "delete_many": lambda cache: cache.delete_many(["a"]),
    "pop": lambda cache: cache.pop("a", None),
    "clear": lambda cache: cache.clear(),
    "evict_tag": lambda cache: cache.evict_tag("t"),
}


class Computation:
    """A factory that stops until the test lets it go on."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.go.wait(PATIENCE)
        return "computed"


def computed_beside(cache: Any, write: Callable[[], Any], tags: tuple[str, ...] = ()) -> list[str]:
    """What the callers of "a" get who were waiting for its value when a write came."""
    computation = Computation()
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(cache.get_or_set("a", computation, tags=tags)), daemon=True)
    thread.start()
    try:
        assert computation.begun.wait(PATIENCE)
        write()
    finally:
        computation.go.set()
        thread.join(PATIENCE)
    return results


@pytest.mark.parametrize("name", WRITES)
def test_a_write_outlives_a_computation_that_began_before(kind: Kind, store: Any, name: str) -> None:
    """In memory and in the store."""
    if name == "evict_tag" and not kind.evicts_tags:
        pytest.skip("the store has no evict_tag()")
    cache = kind.front(store)
    tags = ("t",) if kind.evicts_tags else ()
    assert computed_beside(cache, lambda: WRITES[name](cache), tags) == ["computed"]
    expected = "new" if name in ("put", "set_many") else None
    assert (cache.get("a"), kind.front(store).get("a")) == (expected, expected)


def test_a_caller_after_a_write_computes_anew(kind: Kind, store: Any) -> None:
    """It does not wait for the older computation."""
    cache = kind.front(store)

    def write_and_call() -> None:
        cache.delete("a")
        results: list[str] = []
        thread = threading.Thread(target=lambda: results.append(cache.get_or_set("a", lambda: "anew")), daemon=True)
        thread.start()
        thread.join(60)
        assert results == ["anew"]

    assert computed_beside(cache, write_and_call) == ["computed"]
    assert cache.get("a") == "anew"


@pytest.mark.needs(notices=True)
@pytest.mark.parametrize("how", ["second cache", "store"])
def test_a_write_from_elsewhere_outlives_a_computation(kind: Kind, store: Any, how: str) -> None:
    """Of another cache over the store, and of the user with the store object: the key is named to the tracker."""
    if how == "store" and not kind.tells:
        pytest.skip("nothing tells which key was written")
    cache, second = kind.front(store), kind.front(store)
    computed_beside(cache, lambda: kind.write(store, "a", "new") if how == "store" else second.put("a", "new"))
    assert (cache.get("a"), second.get("a")) == ("new", "new")


@pytest.mark.needs(shared=True)
def test_a_write_of_another_process_outlives_a_computation(kind: Kind, store: Any, other: OtherProcess) -> None:
    """Its write makes this process's lease void."""
    cache = kind.front(store)
    computed_beside(cache, lambda: other.ask("put", "a", "new"))
    assert cache.get("a") == "new"
    assert other.ask("read", "a") == ("new", "new")


class Hesitant(Complete):
    """Stops between a load's last look and the transaction of its `save`; says when another writer waits for that."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.other_waits = Gate(), threading.Event()

    def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
        self.gate()
        super().save(key, value, ttl, tags)

    def transact(self) -> AbstractContextManager[None]:
        if self.gate.reached.is_set():
            self.other_waits.set()
        return super().transact()


def test_a_write_between_the_last_look_and_the_save() -> None:
    """A store that keeps other writers out of its transactions keeps this one out, too."""
    kind, store = UserKind("hesitant", Hesitant), Hesitant()
    cache, second = kind.front(store), kind.front(store)
    with stopped_at(store.gate, lambda: cache.get_or_set("a", lambda: "computed")):
        writer = threading.Thread(target=lambda: second.put("a", "new"), daemon=True)
        writer.start()
        assert store.other_waits.wait(PATIENCE)
    writer.join(PATIENCE)
    assert (cache.get("a"), second.get("a")) == ("new", "new")


@pytest.mark.needs(shared=True)
def test_a_write_of_another_key_is_no_reason_to_discard(kind: Kind, store: Any, other: OtherProcess) -> None:
    """Otherwise nothing would ever be cached beside processes that write."""
    cache = kind.front(store)
    computed_beside(cache, lambda: other.ask("put", "b", "theirs"))
    assert cache.get_or_set("a", lambda: "again") == "computed"
    assert kind.read(store, "a") == "computed"


def test_an_eviction_from_memory_is_no_write(kind: Kind, store: Any) -> None:
    """What is computed meanwhile is kept."""
    cache = kind.front(store, max_items=2)
    cache["a"] = "evicted"
    kind.erase(store, "a")
    cache["b"], cache["c"] = 1, 1
    computed_beside(cache, lambda: cache.resize(max_items=1))
    assert kind.read(store, "a") == "computed"


@pytest.mark.parametrize("options", [{"soft_ttl": 50}, {"stale_if_error": 50}, {"cache_exceptions": True}], ids=str)
def test_what_is_known_of_a_result_is_no_class_of_ours(tmp_path: Path, options: Any) -> None:
    """A serializer that allows no classes stores it and reads it again."""
    store = Cache(tmp_path / "store", serializer=PickleSerializer(allow=[]))

    def double(number: int) -> int:
        calls.append(number)
        return number * 2

    double.__module__, double.__qualname__ = "tests_of_stores", "double"
    calls: list[int] = []
    for kind_of_restart in range(2):
        memo = Kind("disk", Cache).front(store).memoize(ttl=100, **options)(double)
        assert [memo(1), memo(2), memo(1)] == [2, 4, 2], kind_of_restart
    assert calls == [1, 2]
    store.close()
