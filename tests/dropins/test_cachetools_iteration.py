"""Iterations of caches without times follow the rules of a dict's iterator, as those of cachetools do."""

from __future__ import annotations

import contextlib
import gc
import itertools
import weakref
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scale import may_skip, scaled

from flexcache_rs import cachetools as ours

NAMES = ["Cache", "FIFOCache", "LFUCache", "LRUCache", "RRCache"]
SIZE = 4

classes = pytest.mark.parametrize("name", NAMES)


def filled(name: str, module: Any = ours) -> Any:
    """A full cache."""
    cache = getattr(module, name)(SIZE)
    cache.update(dict.fromkeys(range(SIZE)))
    return cache


@classes
def test_a_change_of_the_size_ends_an_iteration_for_good(name: str) -> None:
    cache = filled(name)
    keys = iter(cache)
    assert next(keys) == 0
    del cache[3]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="changed its size during iteration"):
            next(keys)
    assert list(cache) == [0, 1, 2]


@classes
def test_also_after_the_last_key(name: str) -> None:
    cache = filled(name)
    keys = iter(cache)
    assert list(itertools.islice(keys, SIZE)) == [0, 1, 2, 3]
    cache.clear()
    with pytest.raises(RuntimeError):
        next(keys)
    assert list(cache) == []


@classes
def test_the_end_of_an_iteration_lets_the_cache_go(name: str) -> None:
    cache = filled(name)
    keys, reference = iter(cache), weakref.ref(cache)
    assert list(keys) == [0, 1, 2, 3]
    del cache
    assert reference() is None
    assert list(keys) == []


@classes
def test_an_iteration_keeps_its_cache(name: str) -> None:
    keys = iter(filled(name))
    assert list(keys) == [0, 1, 2, 3]


@classes
def test_the_collector_finds_a_cache_that_contains_its_iteration(name: str) -> None:
    cache = filled(name)
    cache[0] = iter(cache)
    reference = weakref.ref(cache)
    del cache
    gc.collect()
    assert reference() is None


def test_an_entry_that_replaces_an_earlier_one_is_no_error() -> None:
    cache = filled("FIFOCache")
    keys = iter(cache)
    assert next(keys) == 0
    cache["new"] = None
    assert 0 not in cache
    assert list(itertools.islice(keys, SIZE - 1)) == [1, 2, 3]


@pytest.mark.parametrize("news", [1, 2, 3])
def test_an_entry_that_replaces_a_later_one_leaves_nothing_out_silently(news: int) -> None:
    cache = filled("FIFOCache")
    keys = iter(cache)
    assert next(keys) == 0
    cache.update(dict.fromkeys("abcd"[:news]))
    with pytest.raises(RuntimeError, match="keys of the cache changed during iteration"):
        list(keys)


@classes
def test_an_iteration_is_not_endless(name: str) -> None:
    """Each step removes a key and stores it again, behind all others."""
    cache, seen = filled(name), []
    with contextlib.suppress(RuntimeError):
        for key in cache:
            value = cache.pop(key)
            cache[key] = value
            seen.append(key)
            assert len(seen) <= 2 * SIZE


@pytest.mark.skipif(may_skip("cachetools", find_spec("cachetools")), reason="needs cachetools")
@classes
@settings(max_examples=scaled(300))
@given(changes=st.lists(st.sampled_from(["pop", "set", "get", None]), max_size=2 * SIZE))
def test_changes_as_in_cachetools(name: str, changes: list[str | None]) -> None:
    """A dict that also gets new keys may be reorganized, and then returns any keys, so there are no new keys here."""
    outcomes = []
    for module in (ours, import_module("cachetools")):
        cache, seen, raised = filled(name, module), [], False
        steps = iter(changes)
        try:
            for key in cache:
                seen.append(key)
                how = next(steps, None)
                if how == "pop":
                    cache.pop(key, None)
                elif how == "set":
                    cache[key] = 1
                elif how == "get":
                    cache.get(key)
        except RuntimeError:
            raised = True
        outcomes.append((raised, seen))
    assert outcomes[0] == outcomes[1]
