"""Storing, reading and removing: the mapping calls of a cache."""

from __future__ import annotations

import asyncio
import enum
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from flexcache_rs import FlexCache

if TYPE_CHECKING:
    from specimens import MakeCache


def test_a_stored_value_is_read_in_every_way(make_cache: MakeCache, policy: str) -> None:
    """Every reading call returns the very object that was stored."""
    cache, value = make_cache(policy, max_items=10), object()
    cache["key"] = value
    assert cache["key"] is cache.get("key") is cache.peek("key") is cache.get(key="key", default=None) is value
    assert "key" in cache
    assert len(cache) == cache.items == cache.bytes == 1


def test_an_absent_key(make_cache: MakeCache, policy: str) -> None:
    """Reading an absent key returns the default, or raises KeyError with the key."""
    cache = make_cache(policy)
    assert cache.get("key") is cache.peek("key") is cache.pop("key", None) is None
    assert cache.get("key", 7) == cache.peek("key", 7) == cache.peek("key", default=7) == cache.pop("key", 7) == 7
    assert "key" not in cache
    assert not cache.delete("key")
    for call in (cache.__getitem__, cache.__delitem__, cache.pop, cache.ttl):
        with pytest.raises(KeyError) as raised:
            call("key")
        assert raised.value.args == ("key",)
    with pytest.raises(KeyError, match="empty"):
        cache.popitem()


def test_every_call_computes_a_hash_once(make_cache: MakeCache) -> None:
    """The same holds for equal keys that only Python code can compare, for which there is no fast path."""
    hashed = []

    class Key:
        def __hash__(self) -> int:
            hashed.append(self)
            return 7

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Key)

    calls: dict[str, Any] = {
        "get": lambda cache: cache.get(Key()),
        "subscript": lambda cache: cache[Key()],
        "contains": lambda cache: Key() in cache,
        "put": lambda cache: cache.put(Key(), 2),
        "put with ttl": lambda cache: cache.put(Key(), 2, ttl=60),
        "assign": lambda cache: cache.__setitem__(Key(), 2),
        "get_or_set": lambda cache: cache.get_or_set(Key(), int),
        "delete": lambda cache: cache.delete(Key()),
        "del": lambda cache: cache.__delitem__(Key()),
        "pop": lambda cache: cache.pop(Key()),
    }
    for name, call in calls.items():
        cache = make_cache()
        cache[Key()] = 1
        hashed.clear()
        call(cache)
        assert len(hashed) == 1, name


def test_a_tuple_key_is_one_argument_of_key_error(make_cache: MakeCache) -> None:
    """A missing tuple is a single argument of the exception."""
    with pytest.raises(KeyError) as raised:
        make_cache()["a", "b"]
    assert raised.value.args == (("a", "b"),)


def test_none_is_a_value_and_a_key(make_cache: MakeCache) -> None:
    """None is stored like anything else."""
    cache = make_cache()
    cache[None] = None
    assert None in cache
    assert cache[None] is None
    assert cache.get(None, 7) is None
    assert cache.pop(None, 7) is None


def test_put_replaces_and_set_and_add_do_not(make_cache: MakeCache, policy: str) -> None:
    """Each storing call is checked with a present key."""
    cache = make_cache(policy)
    cache.set("key", 1)
    with pytest.raises(KeyError) as raised:
        cache.set("key", 2)
    assert raised.value.args == ("key",)
    assert not cache.add("key", 3)
    assert cache["key"] == 1
    cache.put("key", 4)
    assert cache["key"] == 4
    cache["key"] = 5
    assert cache["key"] == 5
    assert cache.add("other", 6)
    cache.put(key="third", value=7, ttl=None)
    assert [cache["other"], cache["third"], len(cache)] == [6, 7, 3]


def test_an_update_keeps_the_key_that_was_there(make_cache: MakeCache) -> None:
    """As in a dict, the first of several equal keys stays."""
    cache = make_cache()
    cache[1] = "int"
    cache[1.0] = "float"
    cache[True] = "bool"
    assert list(cache.entries()) == [(1, "bool")]
    assert type(next(iter(cache))) is int


def test_removing(make_cache: MakeCache, policy: str) -> None:
    """Each removing call removes one entry, and returns it or its value."""
    cache = make_cache(policy)
    cache.set_many({number: str(number) for number in range(6)})
    del cache[0]
    assert cache.delete(1)
    assert cache.pop(2) == "2"
    assert cache.pop(3, None) == "3"
    key, value = cache.popitem()
    assert {(key, value)} | set(cache.entries()) == {(4, "4"), (5, "5")}
    cache.clear()
    assert len(cache) == 0
    assert list(cache) == []


class Text(str):
    """A subclass of str."""

    __slots__ = ()


KEYS: list[Any] = [
    "", "a", "ä", "\ud800", "x" * 1000, Text("text"),
    0, 1, -1, -2, 2**31, 2**61 - 1, 2**61, 2**64, -(2**100), 10**300,
    0.5, -0.0, float("inf"), 1e300, 2.0**70,
    b"", b"bytes", None, True, (), (1,), (1, "a", (2.5, None)), ((((((1,),),),),),), frozenset({1, 2}),
    int, len, ..., 3 + 4j, range(3),
]  # fmt: skip


def test_keys_of_every_kind(make_cache: MakeCache, policy: str) -> None:
    """A cache accepts the same keys as a dict."""
    cache, model = make_cache(policy), dict[Any, int]()
    for number, key in enumerate(KEYS):
        cache[key] = model[key] = number
    assert len(cache) == len(model)
    for key, number in model.items():
        assert cache[key] == number
    assert dict(cache.entries()) == model


def test_equal_keys_of_different_types(make_cache: MakeCache) -> None:
    """Equal numbers are the same key. Text and bytes are always different keys."""
    cache = make_cache()
    cache[1], cache[2**80], cache["a"], cache[(1, 2)] = "int", "large", "text", "tuple"
    assert cache[1.0] == cache[True] == cache[1 + 0j] == "int"
    assert cache[float(2**80)] == "large"
    assert cache[(1.0, 2.0)] == "tuple"
    assert b"a" not in cache
    assert Text("a") in cache


class Number(enum.IntEnum):
    """A subclass of int."""

    ONE = 1


class Pair(NamedTuple):
    """A subclass of tuple."""

    left: int
    right: int


def test_keys_that_inherit_equality(make_cache: MakeCache) -> None:
    """Enum members and named tuples are the same keys as the values to which they are equal."""
    for stored, asked in (
        (1, Number.ONE),
        (Number.ONE, 1),
        ((1, 2), Pair(1, 2)),
        (Pair(1, 2), (1, 2)),
        ("text", Text("text")),
        (Text("text"), "text"),
    ):
        cache = make_cache()
        cache[stored] = "value"
        assert cache[asked] == "value"
        cache[asked] = "other"
        assert list(cache.entries()) == [(stored, "other")]
        assert type(next(iter(cache))) is type(stored)
        del cache[asked]
        assert len(cache) == 0


def test_not_a_number_is_found_by_identity(make_cache: MakeCache) -> None:
    """As in a dict: a NaN equals nothing, but an object is always itself."""
    cache, nan = make_cache(), float("nan")
    cache[nan] = 1
    cache[(nan, 1)] = 2
    assert cache[nan] == 1
    assert cache[(nan, 1)] == 2
    assert float("nan") not in cache


def test_ints_whose_hashes_collide(make_cache: MakeCache, policy: str) -> None:
    """Multiples of Python's modulus all hash to 0."""
    cache = make_cache(policy, max_items=50)
    keys = [number * (2**61 - 1) for number in range(100)]
    for key in keys:
        cache[key] = key
    assert len(cache) == 50
    assert all(cache[key] == key for key in cache)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cache: cache.get(), r"get\(\) missing required argument: 'key'"),
        (lambda cache: cache.get(1, 2, 3), r"get\(\) takes at most 2 arguments \(3 given\)"),
        (lambda cache: cache.get(1, key=1), r"get\(\) got multiple values for argument 'key'"),
        (lambda cache: cache.get(1, other=1), r"get\(\) got an unexpected keyword argument 'other'"),
        (lambda cache: cache.put(1), r"put\(\) missing required argument: 'value'"),
        (lambda cache: cache.put(value=1), r"put\(\) missing required argument: 'key'"),
        (lambda cache: cache.set(1, 2, 3, (), 5), r"set\(\) takes at most 4 arguments \(5 given\)"),
        (lambda cache: cache.add(1), "add"),
        (lambda cache: cache.peek(), "peek"),
    ],
)
def test_wrong_arguments(make_cache: MakeCache, call: Any, message: str) -> None:
    """The exception names the method and the argument, like a Python function's."""
    cache = make_cache()
    with pytest.raises(TypeError, match=message):
        call(cache)
    assert len(cache) == 0


@pytest.mark.parametrize(
    "name", [name for name in dir(FlexCache) if callable(getattr(FlexCache, name)) and name[0] != "_"]
)
def test_every_call_refuses_what_it_does_not_know(make_cache: MakeCache, name: str) -> None:
    """Too many arguments, or an unknown keyword, raise TypeError."""
    cache = make_cache()
    cache["a"] = 1
    with pytest.raises(TypeError, match=rf"{name}\(\)"):
        getattr(cache, name)(*"abcdef")
    if name != "update":  # It stores any keyword.
        with pytest.raises(TypeError, match=rf"{name}\(\)"):
            answer = getattr(cache, name)(nonsense=1)
            if inspect.iscoroutine(answer):
                asyncio.run(answer)
    assert dict(cache.entries()) == {"a": 1}


def test_methods_are_those_of_the_class(make_cache: MakeCache) -> None:
    """Fast methods are descriptors that check the type of their object."""
    cache = make_cache()
    type(cache).put(cache, "a", 1)
    assert type(cache).get(cache, "a") == type(cache).__getitem__(cache, "a") == 1
    for method in (type(cache).get, type(cache).put, type(cache).set):
        with pytest.raises(TypeError):
            method({}, "a", "b")  # type: ignore[arg-type]


def test_a_subclass_may_override_everything(make_cache: MakeCache) -> None:
    """Overridden slots and methods are used, as in any class."""
    base = type(make_cache())

    class Loud(base):  # type: ignore[misc,valid-type]
        def __getitem__(self, key: str) -> str:
            return str(super().__getitem__(key)).upper()

        def __setitem__(self, key: str, value: str) -> None:
            super().__setitem__(key, value + "!")

        def get(self, key: str, default: object = None) -> object:
            return ("got", super().get(key, default))

    cache = Loud(max_items=3)
    cache["a"] = "x"
    assert cache["a"] == "X!"
    assert cache.get("a") == ("got", "x!")
    assert "a" in cache
    del cache["a"]
    assert len(cache) == 0
