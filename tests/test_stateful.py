"""The whole API at random, against a model of it (hypothesis).

The model gets each removal with its cause, and checks that the entry had expired, was the policy's victim, or was
removed by a call. So it need not know when an expired entry is removed, but only when this must have happened.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from scale import scaled
from specimens import POLICIES
from test_policies import MODELS, Fifo, Model

from flexcache_rs import FlexCache
from flexcache_rs.testing import advance, check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Sized:
    """A value with a size that is equal to others of the same number."""

    def __init__(self, number: int, size: int) -> None:
        self.number, self.size = number, size

    def item_size(self) -> int:
        return self.size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sized) and self.number == other.number

    def __hash__(self) -> int:
        return self.number

    def __repr__(self) -> str:
        return f"Sized({self.number}, {self.size})"


class Colliding:
    """A key that Python code compares."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Colliding) and self.number == other.number

    def __repr__(self) -> str:
        return f"Colliding({self.number})"


KEYS = [-1, -2, 2**61 - 1, 2 * (2**61 - 1), 2.5, "a", (1, "x"), None, *(Colliding(number) for number in range(3))]
keys = st.sampled_from(KEYS)
TAGS = ["", "a", "aa", "\xe4"]
tag_lists = st.lists(st.sampled_from(TAGS), max_size=4) | st.none()
lifetimes = st.sampled_from([None, None, 0, 10, 100, 1000])
NEVER = 10.0**9
# The real clock advances a little meanwhile. Waits and lifetimes are multiples of five seconds. An entry is therefore
# due by at least this margin, or not for almost five seconds.
MARGIN = 0.01


NOTHING = object()


class Machine(RuleBasedStateMachine):
    """A cache beside a dict, an order, counters and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: FlexCache[Any, Any] = FlexCache()
        self.model: dict[Any, tuple[Sized, float | None]] = {}
        self.tags: dict[Any, tuple[str, ...]] = {}
        self.order: Model = MODELS["lru"]()
        self.exact = True
        self.counts: Counter[str] = Counter()
        self.max_items = self.max_bytes = self.made = 0
        self.now, self.scans = 0.0, True
        self.told: list[tuple[Any, Sized, str]] = []

    @initialize(
        policy=st.sampled_from(POLICIES),
        items=st.integers(0, 6),
        size=st.integers(0, 15),
        scans=st.booleans(),
    )
    def make(self, policy: Any, items: int, size: int, scans: bool) -> None:
        interval = 0.0 if scans else NEVER
        self.cache = FlexCache(policy, interval, max_items=items, max_bytes=size, on_evict=self.listen)
        self.exact = policy in MODELS
        self.order, self.scans = MODELS.get(policy, Fifo)(), scans
        self.max_items, self.max_bytes = items, size

    def listen(self, key: Any, value: Sized, reason: str) -> None:
        # Closing a cache that was copied is no event of its copy.
        if reason != "closed":
            self.told.append((key, value, reason))

    def due(self, key: Any, by: float = 0.0) -> bool:
        deadline = self.model[key][1]
        return deadline is not None and deadline <= self.now - by

    def live(self, key: Any) -> bool:
        return key in self.model and not self.due(key)

    def deadline(self, ttl: float | None) -> float | None:
        return None if ttl is None else self.now + ttl

    def fits(self, items: int = 0, size: int = 0) -> bool:
        size += sum(value.size for value, _ in self.model.values())
        return (not self.max_items or len(self.model) + items <= self.max_items) and (
            not self.max_bytes or size <= self.max_bytes
        )

    def leave(self, key: Any, value: Sized, counted: str) -> None:
        assert self.model.pop(key)[0] == value
        del self.tags[key]
        if key in self.order.order():
            self.order.remove(key)
        self.counts[counted] += 1

    def events(self) -> Iterator[tuple[Any, Sized, str]]:
        """Return the events since the last call, except expirations, which are checked here."""
        while self.told:
            key, value, reason = self.told.pop(0)
            if reason == "expired":
                assert self.due(key)
                self.leave(key, value, "expirations")
            else:
                yield key, value, reason

    def evict(self, key: Any, value: Sized, kept: Any = NOTHING) -> None:
        assert key != kept
        assert not self.exact or key == next(other for other in self.order.order() if other != kept)
        others = (other for other in self.order.order() if other != kept)
        assert not any(map(self.due, others)), "what had expired was to leave first"
        self.leave(key, value, "evictions")

    def nothing_more(self) -> None:
        assert list(self.events()) == []

    def scanned(self) -> None:
        """Update the model after a call that removes expired entries, if the cache scans automatically."""
        self.nothing_more()
        if self.scans:
            assert not any(self.due(key, MARGIN) for key in self.model)

    @rule(
        key=keys,
        size=st.integers(0, 5),
        ttl=lifetimes,
        tags=tag_lists,
        how=st.sampled_from(["put", "[]", "set", "add", "many"]),
    )
    def write(self, key: Any, size: int, ttl: float | None, tags: list[str] | None, how: str) -> None:
        self.made += 1
        value, ttl, tags = Sized(self.made, size), None if how == "[]" else ttl, None if how == "[]" else tags
        if how in ("set", "add") and self.live(key):
            if how == "add":
                assert not self.cache.add(key, value, ttl=ttl, tags=tags)
            else:
                with pytest.raises(KeyError):
                    self.cache.set(key, value, ttl, tags)
            return self.nothing_more()
        calls: dict[str, Callable[[], object]] = {
            "put": lambda: self.cache.put(key, value, ttl, tags),
            "[]": lambda: self.cache.__setitem__(key, value),
            "set": lambda: self.cache.set(key, value, ttl, tags),
            "add": lambda: self.cache.add(key, value, ttl, tags=tags),
            "many": lambda: self.cache.set_many([(key, value)], ttl=ttl, tags=tags),
        }
        call = calls[how]
        if 0 < self.max_bytes < size:
            with pytest.raises(ValueError, match=f"size of {size}"):
                call()
            return self.nothing_more()
        replaces = self.live(key)
        call()
        given = tuple(dict.fromkeys(tags or ()))
        if replaces:
            self.replace(key, value, ttl)
        else:
            self.insert(key, value, ttl)
        self.tags[key] = given
        return self.scanned()

    def insert(self, key: Any, value: Sized, ttl: float | None) -> None:
        # The event of a new entry that has expired at once comes last.
        own = [self.told.pop()] if self.told and self.told[-1][1] == value else []
        for gone, its, reason in self.events():
            assert reason == "evicted"
            assert not self.fits(1, value.size)
            self.evict(gone, its)
        assert self.fits(1, value.size)
        self.model[key] = value, self.deadline(ttl)
        self.order.insert(key)
        self.counts["insertions"] += 1
        self.told += own

    def replace(self, key: Any, value: Sized, ttl: float | None) -> None:
        old, _ = self.model[key]
        assert self.told.pop(0) == (key, old, "replaced")
        self.model[key] = value, self.deadline(ttl)
        self.order.access(key)
        self.counts["updates"] += 1
        own = [self.told.pop()] if self.told and self.told[-1][1] == value else []
        for gone, its, reason in self.events():
            assert reason == "evicted"
            assert not self.fits()
            self.evict(gone, its, key)
        assert self.fits()
        self.told += own

    @rule(key=keys, how=st.sampled_from(["get", "[]", "many"]))
    def read(self, key: Any, how: str) -> None:
        live = self.live(key)
        expected = self.model[key][0] if live else None
        if how == "get":
            assert self.cache.get(key) == expected
        elif how == "many":
            assert self.cache.get_many([key]) == ({key: expected} if live else {})
        elif live:
            assert self.cache[key] == expected
        else:
            with pytest.raises(KeyError):
                self.cache[key]
        self.counts["hits" if live else "misses"] += 1
        if live:
            self.order.access(key)
        self.nothing_more()
        assert live or key not in self.model

    @rule(key=keys, how=st.sampled_from(["delete", "del", "pop", "many"]))
    def remove(self, key: Any, how: str) -> None:
        live = self.live(key)
        if how == "delete":
            assert self.cache.delete(key) == live
        elif how == "many":
            assert self.cache.delete_many([key]) == live
        elif how == "pop":
            assert self.cache.pop(key, None) == (self.model[key][0] if live else None)
        elif live:
            del self.cache[key]
        else:
            with pytest.raises(KeyError):
                del self.cache[key]
        for gone, value, reason in self.events():
            assert (gone, reason) == (key, "popped" if how == "pop" else "deleted")
            self.leave(gone, value, "removals")
        assert key not in self.model

    @rule(tag=st.sampled_from(TAGS))
    def evict_tag(self, tag: str) -> None:
        having = {key for key, tags in self.tags.items() if tag in tags}
        count = self.cache.evict_tag(tag)
        for gone, value, reason in self.events():
            assert reason == "deleted"
            having.remove(gone)
            count -= 1
            self.leave(gone, value, "removals")
        assert count == 0
        assert not having & self.tags.keys()

    @rule()
    def pop_victim(self) -> None:
        try:
            popped: tuple[Any, Any] | None = self.cache.popitem()
        except KeyError:
            popped = None
        assert [(key, value) for key, value, reason in self.events() if reason == "popped"] == [popped] * bool(popped)
        assert not any(map(self.due, self.model))
        if popped is None:
            assert not self.model
        else:
            assert not self.exact or popped[0] == self.order.order()[0]
            self.leave(*popped, "removals")

    @rule(key=keys, ttl=lifetimes)
    def touch(self, key: Any, ttl: float | None) -> None:
        live = self.live(key)
        assert self.cache.touch(key, ttl) == live
        if live:
            self.model[key] = self.model[key][0], self.deadline(ttl)
        self.nothing_more()

    @rule(seconds=st.sampled_from([5.0, 50.0, 500.0]))
    def wait(self, seconds: float) -> None:
        advance(seconds + MARGIN)
        self.now += seconds + MARGIN

    @rule()
    def scan(self) -> None:
        assert self.cache.scan() == sum(reason == "expired" for _, _, reason in self.told)
        self.nothing_more()
        assert not any(map(self.due, self.model))

    @rule(how=st.sampled_from(["len", "items", "bytes", "keys"]))
    def count(self, how: str) -> None:
        counts: dict[str, Callable[[], Any]] = {
            "len": lambda: len(self.cache),
            "items": lambda: self.cache.items,
            "bytes": lambda: self.cache.bytes,
            "keys": lambda: list(self.cache),
        }
        counted = counts[how]()
        self.scanned()
        if how == "keys":
            live = [key for key in self.order.order() if self.live(key)]
            assert counted == live if self.exact else Counter(counted) == Counter(live)
        elif how == "bytes":
            assert counted == sum(value.size for value, _ in self.model.values())
        else:
            assert counted == len(self.model)

    @rule(items=st.integers(0, 6), size=st.integers(0, 15))
    def resize(self, items: int, size: int) -> None:
        self.cache.resize(max_items=items, max_bytes=size)
        self.max_items, self.max_bytes = items, size
        for key, value, reason in self.events():
            assert reason == "evicted"
            assert not self.fits()
            self.evict(key, value)

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        for key, value, reason in self.events():
            assert reason == "cleared"
            self.leave(key, value, "removals")
        assert not self.model

    @rule(way=st.sampled_from(["copy", "deepcopy", "pickle"]))
    def duplicate(self, way: str) -> None:
        """Replace the cache by a copy of it."""
        if way == "copy":
            self.cache = self.cache.copy()
        elif way == "deepcopy":
            self.cache = copy.deepcopy(self.cache, {id(self): self})
        else:
            self.cache = self.through_pickle()
        if way != "copy":
            # A copy does not contain expired entries.
            for key in filter(self.due, list(self.model)):
                self.leave(key, self.model[key][0], "expirations")
        self.nothing_more()
        self.cache.reset_stats()
        self.counts.clear()

    def through_pickle(self) -> FlexCache[Any, Any]:
        """Replace the cache by its pickle, with the callback of this machine."""

        class Pickler(pickle.Pickler):
            def persistent_id(self, written: Any) -> Any:
                return "machine" if isinstance(written, Machine) else None

        class Unpickler(pickle.Unpickler):
            def persistent_load(self, _: Any, machine: Machine = self) -> Machine:
                return machine

        file = io.BytesIO()
        Pickler(file).dump(self.cache)
        made: FlexCache[Any, Any] = Unpickler(io.BytesIO(file.getvalue())).load()
        return made

    @invariant()
    def agrees(self) -> None:
        """Compare cache and model without a call that removes entries."""
        check(self.cache)
        assert self.told == []
        assert self.fits()
        for key in KEYS:
            live = self.live(key)
            assert (key in self.cache) == live
            assert self.cache.peek(key) == (self.model[key][0] if live else None)
            if live:
                assert (self.cache.ttl(key) is None) == (self.model[key][1] is None)
                assert self.cache.tags(key) == self.tags[key]
        stats = self.cache.stats()
        assert (stats.items, stats.bytes) == (len(self.model), sum(value.size for value, _ in self.model.values()))
        for count in ("hits", "misses", "insertions", "updates", "evictions", "expirations", "removals"):
            assert getattr(stats, count) == self.counts[count], count


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=scaled(1000), stateful_step_count=50)
