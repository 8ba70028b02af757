"""Policies written in Python: the notifications that they get, and the errors of faulty ones."""

from __future__ import annotations

import copy
import pickle
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.testing import advance

if TYPE_CHECKING:
    from specimens import MakeCache


class Recency:
    """Least recently used, with a record of its notifications."""

    def __init__(self) -> None:
        self.order: dict[Any, None] = {}
        self.told: list[tuple[str, Any]] = []

    def on_insert(self, key: Any) -> None:
        self.told.append(("insert", key))
        assert key not in self.order
        self.order[key] = None

    def on_access(self, key: Any) -> None:
        self.told.append(("access", key))
        self.order[key] = self.order.pop(key)

    def on_remove(self, key: Any) -> None:
        self.told.append(("remove", key))
        del self.order[key]

    def victim(self) -> Any:
        return next(iter(self.order))


class Sized:
    """A value with a size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def item_size(self) -> int:
        return self.size


def test_it_decides_as_the_built_in_one_does(make_cache: MakeCache) -> None:
    """Least recently used in Python agrees with "lru", with sizes, expiry and all."""
    own, built_in = (make_cache(policy, max_items=10, max_bytes=40) for policy in (Recency(), "lru"))
    draw = random.Random(1)
    for _ in range(4000):
        key, what, size = draw.randrange(25), draw.randrange(12), draw.randrange(9)
        answers = []
        for cache in (own, built_in):
            if what < 5:
                answers.append(cache.get(key) is None)
            elif what < 9:
                answers.append(cache.put(key, Sized(size), ttl=20 if what == 5 else None))
            elif what == 9:
                answers.append(cache.delete(key))
            elif what == 10:
                answers.append(len(cache) > 0 and cache.popitem()[0])
            else:
                answers.append(cache.add(key, Sized(size)))
        assert answers[0] == answers[1]
        if draw.random() < 0.02:
            advance(15)
        assert sorted(own) == sorted(built_in)
        assert (own.bytes, own.stats().evictions) == (built_in.bytes, built_in.stats().evictions)
    assert set(own.eviction_policy.order) == set(own)


def test_it_is_told_of_everything_in_order(make_cache: MakeCache) -> None:
    """The policy is notified of insertions, accesses and removals of every cause."""
    policy = Recency()
    cache = make_cache(policy, max_items=2)
    cache["a"] = 1
    cache["b"] = 2
    _ = cache["a"], cache.get("x"), cache.peek("b"), "a" in cache
    cache["c"] = 3
    cache["a"] = 4
    cache.pop("a")
    cache.put("d", 1, ttl=1)
    advance(2)
    cache.scan()
    cache.clear()
    assert policy.told == [
        ("insert", "a"), ("insert", "b"), ("access", "a"),
        ("remove", "b"), ("insert", "c"), ("access", "a"), ("remove", "a"),
        ("insert", "d"), ("remove", "d"), ("remove", "c"),
    ]  # fmt: skip


class Raising(Recency):
    """A policy that raises in a chosen method."""

    failing: str | None = None

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "failing"):
            raise LookupError(f"{name} failed")
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("victim", lambda cache: cache.put("new", 1)),
        ("victim", lambda cache: cache.popitem()),
        ("on_insert", lambda cache: cache.add("new", 1)),
        ("on_access", lambda cache: cache.put("a", "changed")),
    ],
)
def test_a_policy_that_raises_leaves_the_cache_as_it_was(make_cache: MakeCache, method: str, call: Any) -> None:
    """The error names the policy and the method, and has the original exception as its cause."""
    policy = Raising()
    cache = make_cache(policy, max_items=3 if method == "victim" else 4)
    cache.set_many({"a": 1, "b": 2, "c": 3})
    before = (list(cache.entries()), cache.bytes, cache.stats())
    policy.failing = method
    with pytest.raises(RuntimeError, match=rf"{method}\(\) of eviction policy Raising raised") as raised:
        call(cache)
    assert isinstance(raised.value.__cause__, LookupError)
    policy.failing = None
    assert (list(cache.entries()), cache.bytes, cache.stats()) == before
    cache["new"] = 1
    assert "new" in cache


class Naming(Recency):
    """A policy that names a given victim."""

    named: Any = None

    def victim(self) -> Any:
        return self.named


@pytest.mark.parametrize("named", ["not there", None, [], float("nan")])
def test_a_victim_that_is_not_there(make_cache: MakeCache, named: Any) -> None:
    """An absent victim is an error, and no entry is removed."""
    policy = Naming()
    policy.named = named
    cache = make_cache(policy, max_items=2)
    cache.set_many({"a": 1, "b": 2})
    before = (list(cache.entries()), cache.stats())
    with pytest.raises(RuntimeError, match=r"victim\(\) of eviction policy Naming named"):
        cache["c"] = 3
    assert (list(cache.entries()), cache.stats()) == before
    policy.named = "a"
    cache["c"] = 3
    assert list(cache) == ["b", "c"]


class Reentering(Recency):
    """A policy that uses its own cache."""

    cache: Any = None
    within: str | None = None

    def on_access(self, key: Any) -> None:
        if self.within == "on_access":
            self.cache.get("a")
        super().on_access(key)

    def victim(self) -> Any:
        if self.within == "victim":
            self.cache.pop("a")
        return super().victim()


@pytest.mark.parametrize(("within", "call"), [("victim", "put"), ("on_access", "get")])
def test_a_policy_that_uses_its_own_cache(make_cache: MakeCache, within: str, call: str) -> None:
    """The call raises an error. It neither deadlocks nor damages the cache."""
    policy = Reentering()
    cache = policy.cache = make_cache(policy, max_items=2)
    cache.set_many({"a": 1, "b": 2})
    policy.within = within
    with pytest.raises(RuntimeError) as raised:
        cache.put("c", 3) if call == "put" else cache.get("a")
    assert "called back into its own cache" in str(raised.value.__cause__)
    policy.within = None
    assert sorted(cache) == ["a", "b"]
    policy.cache = None


@pytest.mark.parametrize("missing", ["on_insert", "on_access", "on_remove", "victim"])
def test_a_policy_without_a_method(missing: str) -> None:
    """The constructor of the cache refuses a policy without a required method."""
    methods = dict.fromkeys({"on_insert", "on_access", "on_remove", "victim"} - {missing}, lambda *_: None)
    with pytest.raises(TypeError, match=f"Half has no {missing}"):
        FlexCache(type("Half", (), methods)())
    with pytest.raises(TypeError, match=f"has no {missing}"):
        FlexCache(type("Half", (), {**methods, missing: 5})())


def test_shards_need_a_built_in_policy() -> None:
    """Shards are refused, because a policy in Python has a single order."""
    with pytest.raises(ValueError, match="shards must be 1"):
        FlexCache(Recency(), shards=2)


def test_resize_asks_the_policy(make_cache: MakeCache) -> None:
    """resize() removes the victims that the policy names."""
    cache = make_cache(Recency(), max_items=5)
    cache.set_many({key: key for key in range(5)})
    _ = cache[0]
    cache.resize(max_items=2)
    assert sorted(cache) == [0, 4]


def test_threads_take_turns(make_cache: MakeCache) -> None:
    """One thread at a time calls the policy, and the notifications are in order."""
    inside = threading.Lock()

    class Alone(Recency):
        def on_insert(self, key: Any) -> None:
            assert inside.acquire(blocking=False)
            super().on_insert(key)
            inside.release()

        def on_remove(self, key: Any) -> None:
            assert inside.acquire(blocking=False)
            super().on_remove(key)
            inside.release()

    policy = Alone()
    cache = make_cache(policy, max_items=20)
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        draw = random.Random(thread)
        try:
            for _ in range(1000):
                cache[draw.randrange(50)] = thread
                cache.get(draw.randrange(50))
                cache.delete(draw.randrange(50))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert set(policy.order) == set(cache)


def test_copies_have_a_policy_of_their_own(make_cache: MakeCache) -> None:
    """Copies and pickles have a separate policy."""
    cache = make_cache(Recency(), max_items=3)
    cache.set_many({"a": 1, "b": 2, "c": 3})
    _ = cache["a"]
    for other in (pickle.loads(pickle.dumps(cache)), copy.deepcopy(cache), copy.copy(cache), cache.copy()):
        assert other.eviction_policy is not cache.eviction_policy
        assert set(other.eviction_policy.order) == {"a", "b", "c"}
        other["d"] = 4
        assert len(other) == 3
        assert list(other.eviction_policy.order)[-2:] == ["a", "d"]
    assert list(cache.eviction_policy.order) == ["b", "c", "a"]
