"""Stores that fail, and what they cannot do: memory keeps nothing that the store may not have, and limits come early.

Hooks and listeners are told once what happened to the entry, as the store tells it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from store_kinds import ABSENT, Complete, Dictionary, Kind

from flexcache_rs import FlexCache
from flexcache_rs.disk import Timeout

if TYPE_CHECKING:
    from pathlib import Path

    from store_process import OtherProcess

WRITES: dict[str, Any] = {
    "put": lambda cache: cache.put("a", "new"),
    "put-another": lambda cache: cache.put("b", "new"),
    "add": lambda cache: cache.add("b", "new"),
    "get_or_set": lambda cache: cache.get_or_set("b", lambda: "new"),
    "touch": lambda cache: cache.touch("a", 1000),
    "delete": lambda cache: cache.delete("a"),
    "pop": lambda cache: cache.pop("a"),
    "set_many": lambda cache: cache.set_many({"b": "new", "a": "new", "c": "new"}),
    "delete_many": lambda cache: cache.delete_many(["b", "a"]),
    "clear": lambda cache: cache.clear(),
}


class BrokenError(OSError):
    """What a store of these tests raises."""


def failing(store_class: Any) -> Any:
    """A store of a class whose next writes fail: `fails` says when, and how many writes succeed before."""

    class Failing(store_class):  # type: ignore[misc]
        fails: str | None = None
        succeeds = 0

    def wrap(name: str) -> Any:
        method = getattr(store_class, name)

        def call(self: Any, *args: Any) -> Any:
            fails = self.fails if self.succeeds <= 0 else None
            self.succeeds -= 1
            if fails == "before":
                raise BrokenError("the store is gone")
            result = method(self, *args)
            if fails == "after":
                raise BrokenError("the store is gone")
            return result

        return call

    for name in ("save", "remove", "clear", "add", "pop", "touch", "evict_tag"):
        if hasattr(store_class, name):
            setattr(Failing, name, wrap(name))
    return Failing()


@pytest.mark.parametrize("store_class", [Dictionary, Complete])
@pytest.mark.parametrize("fails", ["before", "after"])
@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("succeeds", [0, 1])
def test_a_write_that_fails(store_class: Any, fails: str, call: Any, succeeds: int) -> None:
    """Its exception arrives, and memory then has what the store has, whether the store had written or not."""
    store = failing(store_class)
    caches = [FlexCache(store=store, coherence=None)]
    if store_class is Complete:
        caches.append(FlexCache(store=store))
    for cache in caches:
        store.fails, store.succeeds = None, 0
        store.clear()
        cache.put("a", "old")
        assert cache["a"] == "old"
        store.fails, store.succeeds = fails, succeeds
        try:
            call(cache)
        except BrokenError:
            pass
        else:
            assert succeeds or store.succeeds == 0
        store.fails = None
        for key in "abc":
            found = store.load(key)
            expected = ABSENT if found is None else found[0]
            assert (cache.get(key, ABSENT), cache.get(key, ABSENT)) == (expected, expected)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_write_that_is_interrupted(raised: Any) -> None:
    """No exception is special: the store may have written, or may not."""

    class Interrupted(Dictionary):
        armed = False

        def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
            super().save(key, value, ttl, tags)
            if self.armed:
                raise raised

    store = Interrupted()
    cache: FlexCache[str, str] = FlexCache(store=store, coherence=None)
    cache["a"] = "old"
    store.armed = True
    with pytest.raises(raised):
        cache["a"] = "new"
    assert cache["a"] == "new"


def test_a_read_that_fails() -> None:
    """Nothing is remembered of it."""

    class Failing(Dictionary):
        armed = True

        def load(self, key: Any) -> Any:
            if self.armed:
                raise BrokenError("the store is gone")
            return super().load(key)

    store = Failing()
    store.save("a", 1, None, ())
    cache: FlexCache[str, int] = FlexCache(store=store, coherence=None)
    for read in (lambda: cache.get("a"), lambda: cache["a"], lambda: cache.get_many(["a"]), lambda: cache.peek("a")):
        with pytest.raises(BrokenError):
            read()
    store.armed = False
    assert cache["a"] == 1


@pytest.mark.needs(shared=True, has_files=True)
def test_a_disk_that_is_full(kind: Kind, store: Any, other: OtherProcess) -> None:
    """The write raises, and memory goes on with what the store has. Afterwards writes succeed again."""
    other.ask("put", "a", "old")
    raised, in_memory, stored = other.ask("put_without_room", "a", "new" * 100_000)
    assert raised != "nothing"
    assert (in_memory, stored) == ("old", "old")
    other.ask("put", "a", "later")
    assert other.ask("read", "a") == ("later", "later")
    assert kind.front(store)["a"] == "later"


@pytest.mark.needs(times_out=True)
def test_a_store_that_another_process_has_locked(kind: Kind, other: OtherProcess, tmp_path: Path) -> None:
    """Writes raise after the store's timeout and leave memory as it was; reads go on."""
    store = kind.make(tmp_path, timeout=0.05)
    try:
        cache = kind.front(store)
        cache["a"] = value = ["old"]
        other.ask("enter")
        for call in WRITES.values():
            with pytest.raises(Timeout):
                call(cache)
            assert cache["a"] == value
            assert cache.get("b") is None
        other.ask("roll_back")
        cache["a"] = "new"
        assert (cache["a"], kind.read(store, "a")) == ("new", "new")
    finally:
        kind.close(store)


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.needs(times_out=True)
def test_a_read_that_meets_a_commit_waits(kind: Kind, store: Any, tmp_path: Path) -> None:
    """Outside WAL mode a commit keeps readers out for a moment. A hit in memory asks for the version, and waits too."""
    cache = kind.front(store)
    cache["a"] = 1
    assert cache["a"] == 1
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "store" / "cache.db")]
    found: list[Any] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        def read() -> None:
            for call in (lambda: cache["a"], lambda: cache.get("a"), lambda: kind.front(store).get("a")):
                try:
                    found.append(call())
                except Timeout as error:
                    found.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        for _ in range(20):
            time.sleep(0.01)
        holder.stdin.write("\n")
        holder.stdin.close()
        thread.join()
    assert found == [1, 1, 1]


# What listeners are told.


@pytest.mark.needs(keeps=True)
@pytest.mark.needs(tells=True)
def test_listeners_are_told_what_the_store_did(kind: Kind, store: Any) -> None:
    """A value that replaces one of the store's is an update, whether or not memory had the old one."""
    kind.write(store, "there", 1)
    cache = kind.front(store)
    told: list[tuple[Any, ...]] = []
    cache.listen(lambda event, key, value: told.append((event, key, value)), "insert", "update")
    cache["there"] = 2
    cache["absent"] = 3
    assert cache.add("there", 4) is False
    assert cache.add("added", 5) is True
    cache.set_many({"added": 6, "many": 7})
    assert told == [
        ("update", "there", 2),
        ("insert", "absent", 3),
        ("insert", "added", 5),
        ("update", "added", 6),
        ("insert", "many", 7),
    ]


@pytest.mark.needs(keeps=True)
def test_listeners_and_hooks_are_told_once(kind: Kind, store: Any) -> None:
    """Each call is one event, and what leaves memory leaves it once."""
    left: list[tuple[Any, ...]] = []
    cache = kind.front(store, on_evict=lambda *event: left.append(event))
    told: list[tuple[Any, ...]] = []
    cache.listen(lambda event, key, value: told.append((event, key)), "hit", "miss", "insert", "update", "remove")
    cache["a"] = 1
    cache["a"] = 2
    assert cache["a"] == 2
    assert cache.get("b") is None
    assert cache.delete("a") is True
    assert cache.delete("a") is False
    assert told == [("insert", "a"), ("update", "a"), ("hit", "a"), ("miss", "b"), ("remove", "a")]
    assert [(key, value) for key, value, _ in left] == [("a", 1), ("a", 2)]


def test_listeners_are_not_told_of_a_write_that_failed() -> None:
    """Nothing happened that the store confirms."""
    store = failing(Dictionary)
    cache: FlexCache[str, str] = FlexCache(store=store, coherence=None)
    told: list[tuple[Any, ...]] = []
    cache.listen(lambda event, key, value: told.append((event, key)), "insert", "update")
    store.fails = "before"
    with pytest.raises(BrokenError):
        cache["a"] = "new"
    with pytest.raises(BrokenError):
        cache.set_many({"a": "new"})
    assert told == []


# Limits.


@pytest.mark.needs(most_tags=1)
def test_several_tags_where_a_store_keeps_one(kind: Kind, store: Any) -> None:
    """Said before anything is stored or computed, and for a decorator where it stands."""
    cache = kind.front(store)
    called: list[str] = []
    for call in (
        lambda: cache.put("a", 1, tags=("x", "y")),
        lambda: cache.add("a", 1, tags=("x", "y")),
        lambda: cache.set_many({"a": 1, "b": 2}, tags=("x", "y")),
        lambda: cache.get_or_set("a", lambda: called.append("factory"), tags=("x", "y")),
        lambda: cache.memoize(tags=("x", "y"), name="f")(lambda: called.append("function")),
    ):
        with pytest.raises(ValueError, match=r"tag.*one|one.*tag"):
            call()
    assert called == []
    assert cache.get_many(["a", "b"]) == {}
    cache.put("a", 1, tags=("x", "x"))
    assert cache.tags("a") == ("x",)


def test_what_a_store_lacks_is_named() -> None:
    """The message names the method and the store."""
    cache: FlexCache[str, int] = FlexCache(store=Dictionary(), coherence=None)
    with pytest.raises(TypeError, match="evict_tag"):
        cache.evict_tag("x")
    with pytest.raises(TypeError, match="version"):
        FlexCache(store=Dictionary(), coherence="strict")


@pytest.mark.parametrize("found", [5, "abc", (1,), ("value", "5", ()), ("value", 10**400, ()), ["value", None, ()]])
def test_a_load_that_finds_nonsense_is_named(found: Any) -> None:
    """The message says which method of the store returned what, and what it may return."""
    store = Dictionary()
    cache: FlexCache[str, Any] = FlexCache(store=store, coherence=None)
    store.load = lambda key: found  # type: ignore[method-assign]
    for call in (cache.get, cache.ttl, cache.tags, lambda key: cache.get_many([key])):
        with pytest.raises(TypeError, match=r"the store's load\(\) must be a tuple of the value, .* or None, not"):
            call("key")


def test_tags_that_a_store_returns_as_one_text_are_refused() -> None:
    """A text is no iterable of tags: its letters are not what anybody meant."""
    store = Dictionary()
    cache: FlexCache[str, Any] = FlexCache(store=store, coherence=None)
    store.load = lambda key: ("value", None, "ab")  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(TypeError, match=r"tags must be an iterable of str, such as \('ab',\), not a str"):
        cache.get("key")


@pytest.mark.needs(shared=True, tells_tags=True)
@pytest.mark.parametrize("tags", [(), ("x",)])
def test_tags_come_from_the_store(kind: Kind, store: Any, tags: tuple[str, ...]) -> None:
    """`tags()` asks the store where memory has nothing, as `ttl()` does."""
    kind.front(store).put("a", 1, tags=tags)
    assert kind.front(store).tags("a") == tags
    assert kind.front(store).tags("absent") == ()
