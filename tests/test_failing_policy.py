"""Policies in Python that fail half-way: no value is lost, cache and policy agree, and no thread waits for ever."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from test_custom_policy import Recency

if TYPE_CHECKING:
    from collections.abc import Callable

    from specimens import MakeCache


class Closing:
    """A value that counts how often it was closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


class Forgetting(Recency):
    """A policy whose on_remove() raises while it is switched on."""

    failing = False

    def on_remove(self, key: Any) -> None:
        super().on_remove(key)
        if self.failing:
            raise LookupError("cannot forget")


WAYS_OUT: dict[str, Callable[[Any], Any]] = {
    "delete": lambda cache: cache.delete("a"),
    "del": lambda cache: cache.__delitem__("a"),
    "pop": lambda cache: cache.pop("a"),
    "pop with a default": lambda cache: cache.pop("a", None),
    "popitem": lambda cache: cache.popitem(),
    "delete_many": lambda cache: cache.delete_many(["a"]),
    "clear": lambda cache: cache.clear(),
    "close": lambda cache: cache.close(),
    "evict": lambda cache: cache.put("c", 1),
    "shrink": lambda cache: cache.resize(max_items=1),
    "scan": lambda cache: (cache.touch("a", 0), cache.scan()),
    "read when expired": lambda cache: (cache.touch("a", 0), cache.get("a")),
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_on_remove_that_raises_loses_no_value(make_cache: MakeCache, way: str) -> None:
    """The caller gets the error. The value is present, or it was closed and the listener was called, once."""
    told: list[Any] = []
    policy = Forgetting()
    cache = make_cache(policy, max_items=2, on_evict=lambda key, *_: told.append(key))
    value = Closing()
    cache["a"], cache["b"] = value, 1
    policy.failing = True
    with pytest.raises(RuntimeError, match=r"on_remove\(\) of eviction policy Forgetting raised"):
        WAYS_OUT[way](cache)
    policy.failing = False
    left = int("a" not in cache)
    assert (value.closed, told.count("a")) == (left, left)
    assert set(policy.order) == set(cache)
    cache.clear()
    assert (value.closed, told.count("a")) == (1, 1)


class Fickle:
    """A key whose comparison fails directly after the policy was notified of its insertion."""

    armed = False

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if Fickle.armed:
            Fickle.armed = False
            raise LookupError("no comparison")
        return isinstance(other, Fickle) and self.number == other.number


class Arming(Recency):
    """A policy that makes the comparisons after an insertion fail."""

    arming = False

    def on_insert(self, key: Any) -> None:
        super().on_insert(key)
        Fickle.armed = self.arming


def test_an_insertion_that_fails_is_taken_back(make_cache: MakeCache) -> None:
    """If an entry cannot be stored, the policy is notified again, so that it does not name the entry as a victim."""
    policy = Arming()
    cache = make_cache(policy, max_items=2)
    # Keep a key in the cache with which the next one collides, so that they are compared.
    cache[Fickle(0)] = 0
    policy.arming = True
    # The cache may or may not compare again. In both cases cache and policy must agree afterwards.
    with suppress(LookupError):
        cache[Fickle(1)] = 1
    Fickle.armed = policy.arming = False
    assert {key.number for key in policy.order} == {key.number for key in cache}
    for number in range(2, 6):
        cache[Fickle(number)] = number
    assert len(cache) == 2


@pytest.mark.parametrize("leave", ["delete", "pop", "clear", "evict", "replace"])
def test_hooks_run_when_the_turn_is_over(make_cache: MakeCache, leave: str) -> None:
    """Two threads, each in a hook of one cache, may use each other's cache without a deadlock."""
    both = threading.Barrier(2)
    caches: list[Any] = []

    def listener(other: int) -> Callable[[Any, Any, str], None]:
        def listen(key: Any, _value: Any, reason: str) -> None:
            # At its end, a cache is alone.
            if key == "first" and reason != "closed":
                both.wait(60)
                caches[other].get("x")
                both.wait(60)

        return listen

    caches += [make_cache(Recency(), max_items=2, on_evict=listener(1 - number)) for number in range(2)]

    def work(cache: Any) -> None:
        cache["first"], cache["second"] = 1, 2
        {
            "delete": lambda: cache.delete("first"),
            "pop": lambda: cache.pop("first"),
            "clear": lambda: cache.clear(),
            "evict": lambda: cache.put("third", 3),
            "replace": lambda: cache.put("first", 3),
        }[leave]()

    threads = [threading.Thread(target=work, args=(cache,), daemon=True) for cache in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "each waits for the other"
    assert [cache.stats().hook_errors for cache in caches] == [0, 0]


def test_a_hook_may_wait_for_another_thread(make_cache: MakeCache) -> None:
    """The other thread uses the same cache."""

    def listener(*_: Any) -> None:
        thread = threading.Thread(target=cache.get, args=("b",), daemon=True)
        thread.start()
        thread.join(60)
        ended.append(not thread.is_alive())

    ended: list[bool] = []
    cache = make_cache(Recency(), on_evict=listener)
    cache["a"], cache["b"] = 1, 2
    cache.delete("a")
    assert ended == [True]


def test_copies_while_another_thread_writes(make_cache: MakeCache) -> None:
    """A copy's policy knows exactly the entries of the copy. The writer runs before or after the copy."""

    class Copied(Recency):
        def __deepcopy__(self, memo: dict[int, Any]) -> Copied:
            writer.start()
            # The writer either finishes now, or waits until the copy is done.
            writer.join(0.5)
            other = Copied()
            other.order = dict(self.order)
            return other

    cache = make_cache(Copied(), max_items=2)
    cache["a"], cache["b"] = 1, 2
    writer = threading.Thread(target=cache.put, args=("c", 3), daemon=True)
    other = cache.copy()
    writer.join(60)
    assert "c" in cache
    assert set(other.eviction_policy.order) == set(other)
    other["d"] = 4
    assert len(other) == 2


def test_an_error_in_reading_leaves_the_entry(make_cache: MakeCache) -> None:
    """The caller gets the exception of on_access(). The entry stays, and can be read again."""

    class Refusing(Recency):
        failing = True

        def on_access(self, key: Any) -> None:
            if self.failing:
                raise LookupError("not now")
            super().on_access(key)

    policy = Refusing()
    cache = make_cache(policy)
    cache["a"] = 1
    for read in (cache.get, cache.__getitem__, lambda key: cache.get_many([key])):
        with pytest.raises(
            RuntimeError, match=r"on_access\(\) of eviction policy Refusing raised: LookupError: not now"
        ):
            read("a")
    assert "a" in cache
    assert cache.peek("a") == 1
    policy.failing = False
    assert cache["a"] == 1


def test_a_policy_that_never_forgets(make_cache: MakeCache) -> None:
    """A policy that names an entry which was already removed gets an error, and the cache stays usable."""

    class Elephant(Recency):
        def on_remove(self, key: Any) -> None:
            pass

    cache = make_cache(Elephant(), max_items=2)
    cache.set_many({"a": 1, "b": 2})
    cache["c"] = 3
    assert list(cache) == ["b", "c"]
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"victim\(\) of eviction policy Elephant named 'a', which is not"):
            cache["d"] = 4
    assert list(cache) == ["b", "c"]
    cache["b"] = 5
    assert cache["b"] == 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_caller_sees_what_stopped_the_policy(make_cache: MakeCache, error: type[BaseException]) -> None:
    """An exception that stops a program, such as Ctrl-C, is raised as it is, and the turn is over for others."""

    class Stopped(Recency):
        stopping = False

        def victim(self) -> Any:
            if self.stopping:
                raise error
            return super().victim()

    policy = Stopped()
    cache = make_cache(policy, max_items=1)
    cache["a"] = 1
    policy.stopping = True
    with pytest.raises(error):
        cache["b"] = 2
    policy.stopping = False
    done = threading.Thread(target=cache.put, args=("b", 2), daemon=True)
    done.start()
    done.join(60)
    assert list(cache) == ["b"]
