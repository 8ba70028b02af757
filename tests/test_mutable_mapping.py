"""A cache is a MutableMapping, and stays compatible with programs from before it was one."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from collections import ChainMap, OrderedDict
from collections.abc import ItemsView, KeysView, Mapping, MutableMapping, ValuesView
from collections.abc import Set as AbstractSet
from typing import Any

import pytest

from flexcache_rs import FlexCache


def make(*args: Any, **options: Any) -> FlexCache[Any, Any]:
    cache: FlexCache[Any, Any] = FlexCache(**options)
    cache.update(*args)
    return cache


def test_it_is_a_mutable_mapping() -> None:
    cache = make({"a": 1})
    assert isinstance(cache, MutableMapping)
    assert issubclass(FlexCache, Mapping)
    assert not isinstance(cache, dict)
    missing = [name for name in dir(MutableMapping) if not name.startswith("_") and not hasattr(cache, name)]
    assert not missing
    assert ChainMap(cache, {"b": 2})["b"] == 2
    assert {**cache} == dict(cache) == {"a": 1}
    assert "{a}".format_map(cache) == "1"


def test_patterns() -> None:
    def shape(subject: object) -> Any:
        match subject:
            case {"kind": "point", "x": x, **rest}:
                return x, rest
            case {"kind": kind}:
                return kind
            case {}:
                return "mapping"
        return None

    assert shape(make({"kind": "point", "x": 5, "y": 6})) == (5, {"y": 6})
    assert shape(make({"kind": "line"})) == "line"
    assert shape(FlexCache()) == "mapping"
    assert shape(5) is None

    class Special(FlexCache[str, int]):
        pass

    assert shape(Special()) == "mapping"


def test_items_is_the_number_of_entries() -> None:
    """Older programs use `items` as a number."""
    cache = make({"a": 1, "b": 2, "c": 3})
    count = cache.items
    assert count == 3
    assert isinstance(count, int)
    assert [count + 1, count * 2, count / 2, 7 - count, f"{count}", f"{count:03}", repr(count), str(count)] == [
        *(4, 6, 1.5, 4, "3", "003", "3", "3")
    ]
    assert json.dumps({"items": count}) == '{"items": 3}'
    assert list(range(count)) == [0, 1, 2]
    assert {3: "x"}[count] == "x"
    assert bool(count)
    assert not FlexCache().items
    cache["d"] = 4
    assert (count, cache.items) == (3, 4)
    for same in (pickle.loads(pickle.dumps(count)), copy.copy(count), copy.deepcopy(count)):
        assert (same, type(same)) == (3, int)


def test_items_is_called_for_the_entries() -> None:
    """Programs for mappings call `items()`."""
    cache = make({"a": 1, "b": 2})
    assert isinstance(cache.items(), ItemsView)
    assert list(cache.items()) == [("a", 1), ("b", 2)]
    assert dict(cache.items()) == {"a": 1, "b": 2}
    assert sorted((value, key) for key, value in cache.items()) == [(1, "a"), (2, "b")]
    assert list(make({"c": 3}).items()) == [("c", 3)]  # The view keeps the cache alive.
    view = cache.items
    cache["c"] = 3
    assert len(view()) == 3
    assert ("c", 3) in view()


def test_views_are_sets() -> None:
    cache = make({"a": 1, "b": 2})
    keys, entries = cache.keys(), cache.items()
    assert isinstance(keys, KeysView)
    assert isinstance(keys, AbstractSet)
    assert isinstance(entries, ItemsView)
    assert isinstance(cache.values(), ValuesView)
    assert not isinstance(cache.values(), AbstractSet)
    assert keys & {"a", "x"} == {"a"} == {"a", "x"} & keys
    assert keys | {"x"} == {"a", "b", "x"} == {"x"} | keys
    assert keys - {"a"} == {"b"}
    assert {"a", "x"} - keys == {"x"}
    assert keys ^ {"a", "x"} == {"b", "x"} == {"a", "x"} ^ keys
    assert keys == {"a", "b"} == keys
    assert keys == {"a": 0, "b": 0}.keys()
    assert keys != {"a"}
    assert keys > {"a"}
    assert keys >= {"a", "b"}
    assert keys <= {"a", "b"}
    assert keys < {"a", "b", "c"}
    assert keys.isdisjoint({"x"})
    assert entries & {("a", 1), ("b", 9)} == {("a", 1)}
    assert entries == {"a": 1, "b": 2}.items()
    assert entries - {("a", 1)} == {("b", 2)}
    for view in (keys, entries):
        with pytest.raises(TypeError, match="unhashable"):
            hash(view)
    before = cache.stats()
    assert ("a", 1) in entries
    assert list(entries)
    assert cache.stats() == before


def test_equality() -> None:
    cache = make({"a": 1, "b": [2]})
    assert cache == {"b": [2], "a": 1} == cache
    assert cache == make({"b": [2], "a": 1}, eviction_policy="lfu", max_items=5)
    assert cache == OrderedDict(a=1, b=[2])
    assert cache != {"a": 1}
    assert cache != make({"a": 1})
    assert cache != [("a", 1)]
    assert (cache == 5) is False
    assert cache == cache
    assert FlexCache() == {}
    assert len({cache, cache, cache.copy()}) == 2  # Hashes are by identity, as before.

    class Bad:
        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

        __hash__ = None  # type: ignore[assignment]

    with pytest.raises(ZeroDivisionError):
        _ = make({"a": Bad()}) == {"a": 1}
    cache.put("gone", 1, ttl=0)
    assert cache == {"a": 1, "b": [2]}


def test_setdefault() -> None:
    cache = make()
    assert cache.setdefault("a", 1) == 1
    assert cache.setdefault("a", 2) == cache["a"] == 1
    assert cache.setdefault("none") is None
    assert cache.setdefault("none", 5) is None
    with pytest.raises(TypeError, match="unhashable"):
        cache.setdefault([], 1)
    at_once = make(default_ttl=0)
    assert at_once.setdefault("a", 1) == 1
    with pytest.raises(ValueError, match="max_bytes"):
        make(max_bytes=1, weigher=len).setdefault("a", "xx")


def test_setdefault_of_several_threads() -> None:
    """All threads get the single stored value."""
    cache, results, barrier = make(), [], threading.Barrier(8)

    def run() -> None:
        barrier.wait()
        results.append([cache.setdefault(key, object()) for key in range(100)])

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result == results[0] for result in results)


def test_update() -> None:
    cache = make({"a": 1})
    cache.update([("b", 2)], c=3)
    cache.update(make({"d": 4}))
    cache.update(e=5)
    cache.update({"other": 6}, self=7)
    assert cache == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "other": 6, "self": 7}
    for bad in (5, [1], {1: 1}.values()):
        with pytest.raises((TypeError, ValueError)):
            cache.update(bad)  # type: ignore[arg-type, call-overload]
    with pytest.raises(TypeError):
        cache.update([("x", 1), ([], 2)])
    assert "x" not in cache
    source = make({"a": 1}, max_items=3)
    before = source.stats()
    cache.update(source)
    assert source.stats() == before


def test_union() -> None:
    cache = make({"a": 1, "b": 2}, eviction_policy="lru", max_items=3)
    union = cache | {"b": 3, "c": 4}
    assert isinstance(union, FlexCache)
    assert union == {"a": 1, "b": 3, "c": 4}
    assert union.max_items == 3
    assert cache == {"a": 1, "b": 2}
    assert {"a": 0, "x": 9} | cache == {"a": 1, "b": 2, "x": 9}
    assert type({"x": 9} | cache) is dict
    same = cache
    cache |= {"b": 5}
    cache |= [("c", 6)]
    assert cache is same
    assert cache == {"a": 1, "b": 5, "c": 6}
    for other in (5, [("a", 1)], None):
        with pytest.raises(TypeError, match="unsupported operand"):
            cache | other  # type: ignore[operator]
        with pytest.raises(TypeError, match="unsupported operand"):
            other | cache  # type: ignore[operator]


def test_a_program_of_mappings() -> None:
    """A program for any MutableMapping works with a cache."""

    def program(mapping: MutableMapping[str, int]) -> list[Any]:
        seen: list[Any] = []
        mapping.update(a=1, b=2)
        seen.append(mapping.setdefault("c", 3))
        seen.append(mapping.pop("a"))
        seen.append(mapping.pop("a", None))
        seen.append(sorted(mapping.items()))
        seen.append(sorted(mapping.keys() & {"b"}))
        seen.append(sorted(mapping.values()))
        del mapping["b"]
        seen.append(mapping.popitem())
        seen.append(len(mapping))
        mapping["z"] = 26
        mapping.clear()
        seen.append(dict(mapping))
        return seen

    assert program(FlexCache()) == program({})
