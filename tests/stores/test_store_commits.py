"""What a cache may serve from memory while writes and reads of the store overlap, in every order that matters.

Rule 3: a written value is served from memory only after its commit, a batch's values only after the batch's commit,
and nothing from before the commit is served once the store has it. `clear`, `evict_tag` and `set_many` are writes
like `put`. Rule 6: what a read brings is kept only if it is still the store's; its stamp is older than the read.

The tracker belongs to the store object, so a second cache over the same object is told of the writes of the first.
"""

from __future__ import annotations

import os
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from gates import PATIENCE, GatedComplete, GatedDictionary, Gates, meanwhile, stopped_at
from store_kinds import Dictionary
from waiting import until

from flexcache_rs import FlexCache

if TYPE_CHECKING:
    from collections.abc import Callable

WRITES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "put": (lambda cache: cache.put("a", "new"), "new"),
    "assign": (lambda cache: cache.__setitem__("a", "new"), "new"),
    "set_many": (lambda cache: cache.set_many({"a": "new", "b": "new"}), "new"),
    "delete": (lambda cache: cache.delete("a"), None),
    "pop": (lambda cache: cache.pop("a"), None),
    "delete_many": (lambda cache: cache.delete_many(["a", "b"]), None),
    "clear": (lambda cache: cache.clear(), None),
    "evict_tag": (lambda cache: cache.evict_tag("t"), None),
}
OF_THE_MINIMAL = [name for name in WRITES if name != "evict_tag"]


@pytest.fixture(params=["minimal", "complete"])
def gated(request: pytest.FixtureRequest) -> Any:
    """A store of the user's with gates."""
    return GatedDictionary() if request.param == "minimal" else GatedComplete()


def front(store: Any, coherence: Any = None) -> FlexCache[str, Any]:
    """A cache that has the store's entries to itself."""
    return FlexCache(store=store, coherence=coherence)


def write_of(name: str, store: Any) -> tuple[Callable[[Any], Any], Any]:
    """A call and what it makes of "a"."""
    if name == "evict_tag" and not hasattr(store, "evict_tag"):
        pytest.skip("the store has no evict_tag()")
    return WRITES[name]


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("own", [True, False], ids=["own-memory", "second-cache"])
def test_the_old_value_is_not_served_after_the_commit(gated: Any, name: str, own: bool) -> None:
    """Not even before the call that committed has returned: others have seen the new one."""
    write, new = write_of(name, gated)
    cache = front(gated)
    reader = cache if own else front(gated)
    cache.put("a", "old", tags=("t",))
    assert reader.get("a") == "old"
    with stopped_at(gated.gates["after commit"], lambda: write(cache)):
        found = gated.load("a")
        assert (None if found is None else found[0]) == new
        assert meanwhile(lambda: reader.get("a")) == new
    assert (cache.get("a"), reader.get("a")) == (new, new)


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("own", [True, False], ids=["own-memory", "second-cache"])
def test_what_was_read_before_a_commit_is_not_kept(gated: Any, name: str, own: bool) -> None:
    """A read that began and ended during the write brought the old value."""
    write, new = write_of(name, gated)
    cache = front(gated)
    reader = cache if own else front(gated)
    gated.save("a", "old", None, ("t",))
    with stopped_at(gated.gates["before commit"], lambda: write(cache)):
        assert meanwhile(lambda: reader.get("a")) == "old"
    assert (cache.get("a"), reader.get("a")) == (new, new)


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("own", [True, False], ids=["own-memory", "second-cache"])
def test_what_was_read_before_a_commit_is_not_served_after_it(gated: Any, name: str, own: bool) -> None:
    """Not even before the call that committed has returned, although the read began after the call.

    Another thread may have read the new value from the store, and must not find the old one later.
    """
    write, new = write_of(name, gated)
    cache = front(gated)
    reader = cache if own else front(gated)
    gated.save("a", "old", None, ("t",))
    before, after = gated.gates["before commit"], gated.gates["after commit"]
    after.arm()
    with stopped_at(before, lambda: write(cache)):
        try:
            assert meanwhile(lambda: reader.get("a")) == "old"
            before.open()
            assert after.reached.wait(PATIENCE)
            assert meanwhile(lambda: reader.get("a")) == new
        finally:
            after.open()
    assert (cache.get("a"), reader.get("a")) == (new, new)


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("own", [True, False], ids=["own-memory", "second-cache"])
def test_what_was_read_before_a_write_is_not_kept_after_it(gated: Any, name: str, own: bool) -> None:
    """The whole write happens between the moment when the store reads the row and the end of the read."""
    write, new = write_of(name, gated)
    cache = front(gated)
    reader = cache if own else front(gated)
    gated.save("a", "old", None, ("t",))
    with stopped_at(gated.gates["after load"], lambda: reader.get("a")):
        meanwhile(lambda: write(cache) or True)
    assert (cache.get("a"), reader.get("a")) == (new, new)


@pytest.mark.parametrize(
    "read", [lambda cache: cache.get("a"), lambda cache: cache.get_many(["a"])], ids=["get", "get_many"]
)
def test_a_write_of_the_users_during_a_read(read: Any) -> None:
    """The stamp of what a read brings is the version from before it."""
    store = GatedComplete()
    cache = front(store, "strict")
    store.save("a", "old", None, ())
    with stopped_at(store.gates["after load"], lambda: read(cache)):
        meanwhile(lambda: store.save("a", "new", None, ()) or True)
    assert cache.get("a") == "new"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork()")
@pytest.mark.parametrize("name", ["put", "clear"])
def test_a_child_keeps_copies_whatever_its_parent_was_writing(name: str) -> None:
    """The thread that writes does not exist in the child, so the write never ends there."""
    store = GatedDictionary()
    cache = front(store)
    store.save("a", "old", None, ())
    with stopped_at(store.gates["before commit"], lambda: WRITES[name][0](cache)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the thread at the gate
            child = os.fork()
        if child == 0:
            status = 1
            try:
                found = [cache.get("a") for _ in range(3)]
                status = 0 if found == ["old"] * 3 and store.loads == 1 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork()")
@pytest.mark.parametrize("name", ["put", "clear"])
def test_a_child_that_a_write_forks_keeps_copies_like_its_parent(name: str) -> None:
    """The write goes on in both. What is read during later writes is not kept, and what is read after them is."""

    class Forking(GatedDictionary):
        child: int | None = None

        def fork(self) -> None:
            if self.child is None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests
                    self.child = os.fork()

        def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
            super().save(key, value, ttl, tags)
            self.fork()

        def clear(self) -> None:
            super().clear()
            self.fork()

    store = Forking()
    cache = front(store)
    status = 1
    try:
        WRITES[name][0](cache)
        store.loads = 0
        Dictionary.save(store, "a", "old", None, ())
        found = [cache.get("a") for _ in range(3)] if name == "clear" else ["old"] * 3
        kept = store.loads <= 1
        store.gates["after commit"].arm()
        with stopped_at(store.gates["before commit"], lambda: cache.put("a", "newer")):
            try:
                meanwhile(lambda: cache.get("a"))
                store.gates["before commit"].open()
                assert store.gates["after commit"].reached.wait(PATIENCE)
                found.append(meanwhile(lambda: cache.get("a")))
            finally:
                store.gates["after commit"].open()
        status = 0 if kept and found == ["old"] * 3 + ["newer"] else 2
    finally:
        if store.child == 0:
            os._exit(status)
    assert store.child is not None
    assert (status, os.waitstatus_to_exitcode(os.waitpid(store.child, 0)[1])) == (0, 0)


def test_a_renewed_time_to_live_does_not_prolong_the_bound() -> None:
    """A touch does not read the value, so memory asks the store again after the seconds of `coherence`."""
    store = GatedDictionary()
    cache = front(store, 1)
    cache["a"] = "old"
    store.save("a", "new", None, ())

    def touched() -> Any:
        cache.touch("a", 60)
        return cache["a"]

    until(lambda: touched() == "new")


def test_the_bound_counts_from_before_the_read() -> None:
    """A read that takes long brings a value that was replaced long ago."""
    store = GatedDictionary()
    cache = front(store, 0.5)
    store.save("a", "old", None, ())
    with stopped_at(store.gates["after load"], lambda: cache.get("a")):
        store.save("a", "new", None, ())
        replaced = time.monotonic()
        until(lambda: time.monotonic() > replaced + 0.5)
    assert cache["a"] == "new"


def test_a_reader_of_a_chain_never_goes_back() -> None:
    """What is read from the cache behind, while a write to it is in flight, is not kept in front of it."""
    gates = Gates()

    def weight(value: str) -> int:
        if value == "new":
            gates["before commit"]()
        return 1

    behind: FlexCache[str, str] = FlexCache(max_bytes=100, weigher=weight)
    behind.listen(lambda *_: gates["after commit"](), "update")
    cache = front(behind)
    behind["a"] = "old"
    gates["after commit"].arm()
    with stopped_at(gates["before commit"], lambda: cache.put("a", "new")):
        try:
            assert meanwhile(lambda: cache.get("a")) == "old"
            gates["before commit"].open()
            assert gates["after commit"].reached.wait(PATIENCE)
            assert meanwhile(lambda: cache.get("a")) == "new"
        finally:
            gates["after commit"].open()
    assert cache.get("a") == "new"


def test_absence_is_not_remembered_over_a_write() -> None:
    """A read that found nothing says nothing about what is there after a write."""
    store = GatedDictionary()
    cache = front(store)
    with stopped_at(store.gates["after load"], lambda: cache.get("a")):
        meanwhile(lambda: cache.put("a", "new") or True)
    assert cache.get("a") == "new"


def test_a_batch_is_served_after_its_commit_only() -> None:
    """Until then others read what was committed, and what they read is not kept after the commit."""
    store = GatedComplete()
    cache, second = front(store, "strict"), front(store, "strict")
    cache.set_many({"a": "old", "b": "old"})
    with stopped_at(store.gates["after a write of a batch"], lambda: cache.set_many({"a": "new", "b": "new"})):
        for reader in (cache, second):
            assert meanwhile(lambda reader=reader: reader.get_many(["a", "b"])) == {"a": "old", "b": "old"}
    for reader in (cache, second):
        assert reader.get_many(["a", "b"]) == {"a": "new", "b": "new"}


def test_a_batch_that_fails_half_way_leaves_memory_as_it_was() -> None:
    """Its first values were never committed."""

    class Failing(GatedComplete):
        def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
            if value == "refused":
                raise OSError("no room")
            super().save(key, value, ttl, tags)

    store = Failing()
    cache = front(store, "strict")
    cache["a"] = "old"
    with pytest.raises(OSError, match="no room"):
        cache.set_many({"a": "new", "b": "refused", "c": "new"})
    assert cache.get_many("abc") == {"a": "old"}
    assert (store.load("a")[0], store.load("c")) == ("old", None)


@pytest.mark.parametrize("first", ["put", "delete"])
@pytest.mark.parametrize("second", ["put", "delete", "clear", "set_many"])
def test_two_writers_whose_commits_and_returns_cross(gated: Any, first: str, second: str) -> None:
    """The first commits, the second commits and returns, the first returns: the second has the last word."""
    cache = front(gated)
    cache["a"] = "old"
    _, new = WRITES[second]
    begin = {"put": lambda: cache.put("a", "first"), "delete": lambda: cache.delete("a")}[first]
    with stopped_at(gated.gates["after commit"], begin):
        meanwhile(lambda: WRITES[second][0](cache) or True)
    found = gated.load("a")
    assert cache.get("a") == (None if found is None else found[0]) == new


def test_own_values_stay_in_memory() -> None:
    """A write that nothing overlapped is served from memory without another look at the store.

    Keys may share a counter of the tracker, and a write of one then costs the other its place; most do not.
    """
    store = GatedDictionary()
    cache = front(store)
    for number in range(8):
        cache[str(number)] = number
    cache.set_many({f"batch {number}": number for number in range(8)})
    loads = store.loads
    assert cache.get_many(map(str, range(8))) == {str(number): number for number in range(8)}
    assert cache.get_many([f"batch {number}" for number in range(8)]) == {f"batch {n}": n for n in range(8)}
    assert store.loads - loads <= 8


@pytest.mark.parametrize("make", [GatedDictionary, FlexCache])
def test_caches_over_one_object_share_its_tracker(make: Callable[[], Any]) -> None:
    """Only the cache that wrote keeps its value; the other one asks the store."""
    store = make()
    one, two = front(store), front(store)
    one["a"], one["b"] = 1, 1
    assert (two["a"], two["b"]) == (1, 1)
    one["a"] = 2
    assert two["a"] == 2
    two.delete("a")
    assert one.get("a") is None
    one.clear()
    assert two.get("b") is None
    one.set_many({"a": 3})
    assert two["a"] == 3
    two.set_many({"a": 4})
    assert one["a"] == 4
