"""The whole API at random, against a model of it (hypothesis)."""

from __future__ import annotations

import copy
import pickle
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from test_policies import MODELS, Model

from flexcache_rs import FlexCache
from flexcache_rs.testing import advance, check


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


KEYS = [0, 1, 2.5, "a", "b", (1, "x"), None, *(Colliding(number) for number in range(3))]
keys = st.sampled_from(KEYS)
lifetimes = st.sampled_from([None, None, 10, 100, 1000])
HOUR = 3600.0


class Machine(RuleBasedStateMachine):
    """A cache beside a dict, an order and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: FlexCache[Any, Any] = FlexCache()
        self.model: dict[Any, tuple[Sized, float | None]] = {}
        self.order: Model = MODELS["lru"]()
        self.max_items = self.max_bytes = self.made = 0
        self.now = 0.0
        self.told: list[tuple[Any, str]] = []
        self.expected: list[tuple[Any, str]] = []

    @initialize(policy=st.sampled_from(sorted(MODELS)), items=st.integers(0, 6), size=st.integers(0, 15))
    def make(self, policy: str, items: int, size: int) -> None:
        self.cache = FlexCache(policy, max_items=items, max_bytes=size, on_evict=self.listen)
        self.order = MODELS[policy]()
        self.max_items, self.max_bytes = items, size

    def listen(self, key: Any, _value: Any, reason: str) -> None:
        self.told.append((key, reason))

    def expire(self) -> None:
        """What is due has left by the time that anything is counted or stored."""
        for key, (_, due) in list(self.model.items()):
            if due is not None and due <= self.now:
                self.leave(key, "expired")

    def leave(self, key: Any, reason: str) -> None:
        del self.model[key]
        self.order.remove(key)
        self.expected.append((key, reason))

    def fits(self) -> bool:
        size = sum(value.size for value, _ in self.model.values())
        return (not self.max_items or len(self.model) <= self.max_items) and (
            not self.max_bytes or size <= self.max_bytes
        )

    def store(self, key: Any, value: Sized, ttl: float | None) -> None:
        self.expire()
        due = None if ttl is None else self.now + ttl
        if key in self.model:
            self.expected.append((key, "replaced"))
            self.order.access(key)
            old, _ = self.model[key]
            self.model[key] = value, due
            if old.size != value.size and not self.fits():
                self.order.remove(key)
                while not self.fits():
                    self.leave(self.order.order()[0], "evicted")
                self.order.insert(key)
            return
        self.model[key] = value, due
        while not self.fits():
            self.leave(self.order.order()[0], "evicted")
        self.order.insert(key)

    @rule(key=keys, size=st.integers(0, 5), ttl=lifetimes, how=st.sampled_from(["put", "set", "add", "many"]))
    def write(self, key: Any, size: int, ttl: float | None, how: str) -> None:
        self.made += 1
        value = Sized(self.made, size)
        self.cache.scan()
        self.expire()
        try:
            if how == "put":
                self.cache.put(key, value, ttl)
            elif how == "set":
                self.cache.set(key, value, ttl)
            elif how == "many":
                self.cache.set_many([(key, value)], ttl=ttl)
            else:
                assert self.cache.add(key, value, ttl=ttl) == (key not in self.model)
        except ValueError:
            assert 0 < self.max_bytes < size
            return
        except KeyError:
            assert how == "set"
            assert key in self.model
            return
        if how == "add" and key in self.model:
            return
        self.store(key, value, ttl)

    @rule(key=keys, how=st.sampled_from(["get", "subscript", "many"]))
    def read(self, key: Any, how: str) -> None:
        self.cache.scan()
        self.expire()
        expected = self.model[key][0] if key in self.model else None
        if how == "get":
            assert self.cache.get(key) == expected
        elif how == "many":
            assert self.cache.get_many([key]) == ({key: expected} if expected else {})
        else:
            try:
                assert self.cache[key] == expected
            except KeyError:
                assert expected is None
        if expected is not None:
            self.order.access(key)

    @rule(key=keys)
    def look(self, key: Any) -> None:
        present = key in self.model and (self.model[key][1] is None or self.model[key][1] > self.now)  # type: ignore[operator]
        assert (key in self.cache) == present
        assert self.cache.peek(key) == (self.model[key][0] if present else None)

    @rule(key=keys, how=st.sampled_from(["delete", "pop", "many"]))
    def remove(self, key: Any, how: str) -> None:
        self.cache.scan()
        self.expire()
        present = key in self.model
        if how == "delete":
            assert self.cache.delete(key) == present
        elif how == "many":
            assert self.cache.delete_many([key]) == present
        else:
            assert self.cache.pop(key, None) == (self.model[key][0] if present else None)
        if present:
            self.leave(key, "popped" if how == "pop" else "deleted")

    @precondition(lambda self: self.model)
    @rule()
    def pop_victim(self) -> None:
        self.cache.scan()
        self.expire()
        if self.model:
            key = self.order.order()[0]
            assert self.cache.popitem() == (key, self.model[key][0])
            self.leave(key, "popped")

    @rule(key=keys, ttl=lifetimes)
    def touch(self, key: Any, ttl: float | None) -> None:
        self.cache.scan()
        self.expire()
        assert self.cache.touch(key, ttl) == (key in self.model)
        if key in self.model:
            self.model[key] = self.model[key][0], None if ttl is None else self.now + ttl
            assert (self.cache.ttl(key) is None) == (ttl is None)

    @rule(seconds=st.sampled_from([5.0, 50.0, 500.0]))
    def wait(self, seconds: float) -> None:
        advance(seconds)
        # The real clock runs meanwhile; no deadline lies this close to a multiple of five seconds.
        self.now += seconds + 1e-3
        advance(1e-3)

    @rule(items=st.integers(0, 6), size=st.integers(0, 15))
    def resize(self, items: int, size: int) -> None:
        self.cache.scan()
        self.expire()
        self.cache.resize(max_items=items, max_bytes=size)
        self.max_items, self.max_bytes = items, size
        while not self.fits():
            self.leave(self.order.order()[0], "evicted")

    @rule()
    def clear(self) -> None:
        self.cache.scan()
        self.expire()
        self.cache.clear()
        for key in list(self.model):
            self.leave(key, "cleared")

    @rule(way=st.sampled_from(["copy", "deepcopy", "pickle"]))
    def duplicate(self, way: str) -> None:
        """The copy is as the original, in the order of eviction too."""
        if way == "copy":
            other = self.cache.copy()
        elif way == "deepcopy":
            other = copy.deepcopy(self.cache, {id(self): self})
        else:
            other = pickle.loads(pickle.dumps(self.without_listener()))
        check(other)
        self.expire()
        assert len(list(other)) == len(list(self.cache))
        if way != "pickle":
            assert list(other) == list(self.cache)
        self.told = [told for told in self.told if told[1] != "closed"]

    def without_listener(self) -> FlexCache[Any, Any]:
        plain: FlexCache[Any, Any] = FlexCache()
        plain.set_many(list(self.cache.entries()))
        return plain

    @invariant()
    def agrees(self) -> None:
        check(self.cache)
        self.cache.scan()
        self.expire()
        assert len(self.cache) == len(self.model)
        assert list(self.cache) == self.order.order()
        assert dict(self.cache.entries()) == {key: value for key, (value, _) in self.model.items()}
        assert self.cache.bytes == sum(value.size for value, _ in self.model.values())
        # What expires at the same time leaves in any order.
        told = [told for told in self.told if told[1] != "closed"]
        assert sorted(map(str, told)) == sorted(map(str, self.expected))
        self.told, self.expected = [], []


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
