"""Random calls, on every backend, compared with plain dicts and lists."""

from __future__ import annotations

import copy
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from scale import scaled
from session_places import BACKENDS, SERVERS, URLS, advance

from flexcache_rs.sessions import KEEP, KindError
from flexcache_rs.sessions.sync import connect

KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from([None, 0, 1, -5, "text", "7", b"bytes", (1, 2), 1.5])
WHOLES = (
    VALUES | st.builds(list, st.lists(VALUES, max_size=3)) | st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=3)
)
WHOLES |= st.sets(st.integers(0, 5), max_size=3) | st.lists(VALUES, max_size=3).map(deque)
# Longer than an example takes on a busy machine: the clocks of servers go on by themselves.
TTLS = st.none() | st.sampled_from([300, 1000])
ENDS = st.integers(-5, 5)

SCORES = st.sampled_from([0.0, 1.5, -2.0, float("inf")])


class Scores(dict[Any, float]):
    """The members of a sorted set with their scores."""


KINDS = {list: "list", dict: "map", set: "set", deque: "queue", Scores: "sorted"}


def kind_of(value: Any) -> str:
    return KINDS.get(type(value), "scalar")


class Machine(RuleBasedStateMachine):
    backend = ""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        url = URLS[self.backend](Path(self.folder.name) / "data")
        self.session = connect(url)
        self.other = connect(url, namespace="other")
        self.other.set("a", "untouched")
        self.now = 0.0
        # By key: the value and its deadline.
        self.model: dict[str, tuple[Any, float | None]] = {}
        self.saved: list[dict[str, tuple[Any, float | None]]] = []
        self.blocks: list[Any] = []

    def teardown(self) -> None:
        if hasattr(self, "session"):
            for block in reversed(self.blocks):
                block.__exit__(None, None, None)
            self.session.close()
            self.other.close()
            self.folder.cleanup()

    def held(self, key: str, kind: str, empty: Any) -> Any:
        """Return the container of a key, an empty one for an absent key, or None for another kind."""
        if key not in self.model:
            return copy.copy(empty)
        value = self.model[key][0]
        return value if kind_of(value) == kind else None

    def leave(self, key: str, value: Any, ttl: float | None) -> None:
        old = self.model.get(key)
        deadline = self.now + ttl if ttl is not None else old[1] if old else None
        self.model[key] = (value, deadline)

    def check(
        self, key: str, kind: str, empty: Any, call: Any, expected: Any, creates: bool = False, ttl: Any = None
    ) -> None:
        """Make a call on a container, and the same on the model.

        `expected` changes the model's container and returns the result.
        """
        held = self.held(key, kind, empty)
        if held is None:
            with pytest.raises(KindError):
                call()
            return
        answer = expected(held)
        assert call() == answer
        if key in self.model or creates:
            self.leave(key, held, ttl)

    @rule(key=KEYS, value=WHOLES, ttl=TTLS, mode=st.sampled_from(["", "if_absent", "if_present", "keep"]))
    def set(self, key: str, value: Any, ttl: float | None, mode: str) -> None:
        wanted = {"if_absent": key not in self.model, "if_present": key in self.model}.get(mode, True)
        if mode == "keep":
            assert self.session.set(key, value, ttl=KEEP)
            self.leave(key, copy.copy(value), None)
            return
        assert self.session.set(key, value, ttl=ttl, **({mode: True} if mode else {})) is wanted
        if wanted:
            self.model[key] = (copy.copy(value), None if ttl is None else self.now + ttl)

    @rule(key=KEYS, other=KEYS)
    def delete(self, key: str, other: str) -> None:
        assert self.session.delete(key, other) == len({key, other} & self.model.keys())
        self.model.pop(key, None)
        self.model.pop(other, None)

    @rule(key=KEYS)
    def pop_key(self, key: str) -> None:
        assert self.session.pop(key, "none") == self.model.pop(key, ("none", None))[0]

    @rule(key=KEYS, to=KEYS)
    def rename(self, key: str, to: str) -> None:
        assert self.session.rename(key, to) is (key in self.model)
        if key in self.model:
            self.model[to] = self.model.pop(key)

    @rule(key=KEYS, ttl=TTLS)
    def expire(self, key: str, ttl: float | None) -> None:
        assert self.session.expire(key, ttl) is (key in self.model)
        if key in self.model:
            self.model[key] = (self.model[key][0], None if ttl is None else self.now + ttl)

    @rule(key=KEYS, by=st.sampled_from([1, -3, 0.5]))
    def incr(self, key: str, by: float) -> None:
        old = self.model.get(key, (0, None))[0]
        if type(old) in (int, float):
            assert self.session.incr(key, by) == old + by
            self.leave(key, old + by, None)
        else:
            with pytest.raises(TypeError):
                self.session.incr(key, by)

    @rule(
        key=KEYS,
        values=st.lists(VALUES, min_size=1, max_size=3),
        left=st.booleans(),
        maxlen=st.none() | st.just(3),
        ttl=TTLS,
    )
    def push(self, key: str, values: list[Any], left: bool, maxlen: int | None, ttl: Any) -> None:
        def expected(held: list[Any]) -> int:
            for value in values:
                held.insert(0 if left else len(held), value)
            if maxlen is not None:
                del held[slice(maxlen, None) if left else slice(0, max(0, len(held) - maxlen))]
            return len(held)

        jobs = self.session.list(key)
        call = jobs.push_left if left else jobs.push
        self.check(key, "list", [], lambda: call(*values, maxlen=maxlen, ttl=ttl), expected, True, ttl)

    @rule(key=KEYS, left=st.booleans(), n=st.none() | st.integers(0, 3), kind=st.sampled_from(["list", "queue"]))
    def pop(self, key: str, left: bool, n: int | None, kind: str) -> None:
        def expected(held: Any) -> Any:
            found = []
            for _ in range(min(1 if n is None else n, len(held))):
                found.append(held[0 if left else -1])
                del held[0 if left else -1]
            return found if n is not None else found[0] if found else None

        jobs = self.session.list(key) if kind == "list" else self.session.queue(key)
        empty: Any = [] if kind == "list" else deque()
        self.check(key, kind, empty, lambda: (jobs.pop_left if left else jobs.pop)(n), expected)

    @rule(key=KEYS, start=ENDS, stop=ENDS, trim=st.booleans())
    def range(self, key: str, start: int, stop: int, trim: bool) -> None:
        def expected(held: list[Any]) -> Any:
            first = max(0, start + len(held) if start < 0 else start)
            end = max(0, (stop + len(held) if stop < 0 else stop) + 1)
            kept = held[first:end]
            if not trim:
                return kept
            held[:] = kept
            return len(kept)

        jobs = self.session.list(key)
        self.check(key, "list", [], lambda: jobs.trim(start, stop) if trim else jobs.range(start, stop), expected)

    @rule(key=KEYS, i=ENDS, value=VALUES, count=st.integers(-2, 2))
    def change(self, key: str, i: int, value: Any, count: int) -> None:
        jobs = self.session.list(key)

        def insert(held: list[Any]) -> int:
            held.insert(min(len(held), max(0, i + len(held) if i < 0 else i)), value)
            return len(held)

        def remove(held: list[Any]) -> int:
            places = [
                place
                for place, held_value in enumerate(held)
                if type(held_value) is type(value) and held_value == value
            ]
            places = places[: count or None] if count >= 0 else places[count:]
            for place in reversed(places):
                del held[place]
            return len(places)

        self.check(key, "list", [], lambda: jobs.insert(i, value), insert, True)
        self.check(
            key, "list", [], lambda: jobs.at(i, "no"), lambda held: held[i] if -len(held) <= i < len(held) else "no"
        )
        self.check(key, "list", [], lambda: jobs.remove(value, count), remove)

    @rule(key=KEYS, fields=st.dictionaries(st.sampled_from("xyz"), VALUES, min_size=1), ttl=TTLS)
    def update(self, key: str, fields: dict[str, Any], ttl: Any) -> None:
        def expected(held: dict[str, Any]) -> int:
            before = len(held)
            held.update(fields)
            return len(held) - before

        self.check(key, "map", {}, lambda: self.session.map(key).update(fields, ttl=ttl), expected, True, ttl)

    @rule(key=KEYS, field=st.sampled_from("xyz"))
    def fields(self, key: str, field: str) -> None:
        user = self.session.map(key)
        self.check(key, "map", {}, lambda: user.get(field, "no"), lambda held: held.get(field, "no"))
        self.check(key, "map", {}, lambda: user.delete(field), lambda held: int(held.pop(field, "no") != "no"))

    @rule(key=KEYS, members=st.lists(st.integers(0, 5), min_size=1, max_size=3), ttl=TTLS, add=st.booleans())
    def members(self, key: str, members: list[int], ttl: Any, add: bool) -> None:
        def expected(held: set[int]) -> int:
            before = len(held)
            (held.update if add else held.difference_update)(members)
            return abs(len(held) - before)

        one = self.session.set_of(key)
        call = (lambda: one.add(*members, ttl=ttl)) if add else (lambda: one.discard(*members))
        self.check(key, "set", set(), call, expected, add, ttl if add else None)

    @rule(key=KEYS, member=st.integers(0, 5))
    def look_at_members(self, key: str, member: int) -> None:
        one = self.session.set_of(key)
        self.check(key, "set", set(), lambda: (one.has(member), one.len()), lambda held: (member in held, len(held)))

    @rule(key=KEYS, field=st.sampled_from("xyz"), by=st.sampled_from([1, -3, 0.5]))
    def add_to_field(self, key: str, field: str, by: float) -> None:
        user = self.session.map(key)
        held = self.held(key, "map", {})
        if held is None or type(held.get(field, 0)) in (int, float):

            def expected(held: dict[str, Any]) -> Any:
                held[field] = held.get(field, 0) + by
                return held[field], len(held)

            self.check(key, "map", {}, lambda: (user.incr(field, by), user.len()), expected, True)
        else:
            with pytest.raises(TypeError):
                user.incr(field, by)

    @rule(
        key=KEYS,
        scores=st.dictionaries(st.integers(0, 3), SCORES, min_size=1, max_size=3),
        mode=st.sampled_from(["", "if_absent", "greater"]),
        ttl=TTLS,
    )
    def add_scores(self, key: str, scores: dict[int, float], mode: str, ttl: Any) -> None:
        def expected(held: Scores) -> int:
            before = len(held)
            for member, score in scores.items():
                if member not in held or mode == "" or (mode == "greater" and score > held[member]):
                    held[member] = score
            return len(held) - before

        options = {mode: True} if mode else {}
        one = self.session.sorted(key)
        self.check(key, "sorted", Scores(), lambda: one.add(scores, ttl=ttl, **options), expected, True, ttl)

    @rule(key=KEYS, member=st.integers(0, 3), by=st.sampled_from([1, -0.5]))
    def add_to_score(self, key: str, member: int, by: float) -> None:
        def expected(held: Scores) -> float:
            held[member] = held.get(member, 0.0) + by
            return held[member]

        self.check(key, "sorted", Scores(), lambda: self.session.sorted(key).incr(member, by), expected, True)

    @rule(key=KEYS, member=st.integers(0, 3))
    def look_at_scores(self, key: str, member: int) -> None:
        def expected(held: Scores) -> Any:
            in_order = sorted(held, key=lambda one: (held[one], str(one)))
            return held.get(member), in_order.index(member) if member in held else None, len(held)

        one = self.session.sorted(key)
        self.check(key, "sorted", Scores(), lambda: (one.score(member), one.rank(member), one.len()), expected)
        self.check(
            key, "sorted", Scores(), lambda: one.remove(member), lambda held: int(held.pop(member, None) is not None)
        )

    # What an open transaction has on a server cannot be made older.
    @precondition(lambda self: not self.blocks or self.backend not in SERVERS)
    @rule(seconds=st.sampled_from([100, 400, 2000]))
    def pass_time(self, seconds: int) -> None:
        advance(seconds)
        self.now += seconds
        for model in (self.model, *self.saved):
            for key in [key for key, (_, deadline) in model.items() if deadline is not None and deadline <= self.now]:
                del model[key]

    @precondition(lambda self: len(self.blocks) < 2)
    @rule()
    def begin_transaction(self) -> None:
        block = self.session.transaction()
        block.__enter__()
        self.blocks.append(block)
        self.saved.append(copy.deepcopy(self.model))

    @precondition(lambda self: self.blocks)
    @rule(commits=st.booleans())
    def end_transaction(self, commits: bool) -> None:
        block, saved = self.blocks.pop(), self.saved.pop()
        if commits:
            block.__exit__(None, None, None)
        else:
            block.__exit__(ValueError, ValueError(), None)
            self.model = saved

    @precondition(lambda self: not self.blocks)
    @rule()
    def clear(self) -> None:
        assert self.session.clear() == len(self.model)
        self.model.clear()

    @precondition(lambda self: not self.blocks)
    @rule()
    def look_at_all(self) -> None:
        assert list(self.session.keys()) == sorted(self.model)
        assert self.session.count() == len(self.model)
        self.session.purge()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "session"):
            return
        found = self.session.get_many(["a", "b", "c"])
        assert found == {key: value for key, (value, _) in self.model.items()}
        for key, (value, deadline) in self.model.items():
            assert self.session.kind(key) == kind_of(value)
            assert type(found[key]) is (dict if type(value) is Scores else type(value))
            assert self.session.get(key) == value
            left = self.session.ttl(key)
            assert (left is None) == (deadline is None)
            if left is not None and deadline is not None:
                assert deadline - self.now - 60 < left <= deadline - self.now
        assert self.other.get("a") == "untouched"


@pytest.mark.parametrize("backend", BACKENDS)
def test_random_calls(backend: str) -> None:
    machine = type("Machine", (Machine,), {"backend": backend})
    run_state_machine_as_test(
        machine,
        settings=settings(
            # A call of a server takes a hundred times as long.
            max_examples=scaled(100 if backend in SERVERS else 500, 5),
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )
