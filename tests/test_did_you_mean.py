"""An argument with another library's name is refused with the name that was meant."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache, lru_cache, memoize

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPTIONS = {
    "maxsize": "max_items",
    "capacity": "max_items",
    "max_size": "max_items",
    "MaxItems": "max_items",
    "max_item": "max_items",
    "size_limit": "max_bytes",
    "ttl": "default_ttl",
    "expire": "default_ttl",
    "timeout": "default_ttl",
    "policy": "eviction_policy",
    "callback": "on_evict",
    "thread_save": "thread_safe",
    "timer": "clock",
    "ttl_seconds": "default_ttl",
}


@pytest.mark.parametrize(("given", "meant"), OPTIONS.items())
def test_options_of_a_cache(given: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"'{given}'; did you mean {meant}=\?"):
        FlexCache(**{given: 1})  # type: ignore[call-overload]


def test_what_nobody_meant() -> None:
    with pytest.raises(TypeError, match="the arguments are eviction_policy, scan_interval, max_items"):
        FlexCache(colour=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="the arguments are"):
        FlexCache(**{"x" * 10**6: 1})  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        FlexCache(**{"\udc80": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [100, 0, -5, 2**70])
def test_a_size_in_place_of_the_policy(size: int) -> None:
    with pytest.raises(TypeError, match=rf"not the int {size}; did you mean max_items={size}\?"):
        FlexCache(size)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["put", "set", "get_or_set"])
@pytest.mark.parametrize(("given", "meant"), [("expire", "ttl"), ("timeout", "ttl"), ("tag", "tags")])
def test_arguments_of_writes(method: str, given: str, meant: str) -> None:
    cache: FlexCache[str, Any] = FlexCache()
    with pytest.raises(TypeError, match=rf"{method}\(\) .*'{given}'; did you mean {meant}=\?"):
        getattr(cache, method)("key", str, **{given: 1})
    assert "key" not in cache


@pytest.mark.parametrize(
    ("decorator", "given", "meant"),
    [
        (lru_cache, "max_items", "maxsize"),
        (lru_cache, "max_size", "maxsize"),
        (lru_cache, "type", "typed"),
        (memoize, "maxsize", "max_items"),
        (memoize, "expire", "ttl"),
        (memoize, "tag", "tags"),
        (memoize, "soft_tll", "soft_ttl"),
        (memoize, "unless", "condition"),
        (memoize, "exceptions", "cache_exceptions"),
        (FlexCache().memoize, "timeout", "ttl"),
    ],
)
def test_options_of_decorators(decorator: Callable[..., Any], given: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"'{given}'; did you mean {meant}=\?"):
        decorator(**{given: 1})


@pytest.mark.parametrize(
    ("call", "given", "told"),
    [
        (memoize, "lock", "no lock is needed: one call computes for all that ask at once"),
        (lru_cache, "lock", "no lock is needed: threads may share the cache"),
        (FlexCache, "lock", "no lock is needed: threads may share the cache"),
        (memoize, "skip_cache_func", r"did you mean condition=\? It returns True for what is kept"),
        (memoize, "location", r"did you mean store=flexcache_rs\.disk\.Cache\(directory\)\?"),
        (FlexCache, "directory", r"did you mean store=flexcache_rs\.disk\.Cache\(directory\)\?"),
    ],
)
def test_what_is_not_needed_or_called_otherwise(call: Callable[..., Any], given: str, told: str) -> None:
    with pytest.raises(TypeError, match=rf"'{given}'; {told}$"):
        call(**{given: 1})


def test_a_word_with_a_meaning_stands_for_no_other() -> None:
    with pytest.raises(TypeError, match=r"'getsizeof'; the arguments are maxsize, typed$"):
        lru_cache(getsizeof=len)  # type: ignore[call-overload]


def test_what_cannot_be_called() -> None:
    with pytest.raises(TypeError, match="callable, not int"):
        lru_cache(maxsize=5)(7)  # type: ignore[type-var]


def test_unhashable_arguments_name_the_function() -> None:
    """The message begins with the words of functools, because sympy looks for them."""

    @memoize
    def load(key: Any) -> Any:
        return key

    @memoize(key=lambda key: [key])
    def by_key(key: Any) -> Any:
        return key

    class Thing:
        @memoize
        def method(self, key: Any) -> Any:
            return key

    for call, name, end in (
        (load, "an argument of .*load", "cannot be part of a key; give memoize() a key"),
        (lru_cache(load.__wrapped__), "an argument of .*load", "cannot be part of a key"),
        (by_key, "the key of a call of .*by_key", "must be hashable"),
        (Thing().method, "an argument of .*Thing.method", "cannot be part of a key; give memoize() a key"),
    ):
        with pytest.raises(TypeError, match=rf"^unhashable type: 'list'; {name}\(\) {re.escape(end)}$") as raised:
            call([])
        assert isinstance(raised.value.__cause__, TypeError)


def test_a_trace_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        FlexCache(record=tmp_path / "none" / "trace.gz")
    assert (raised.value.errno, str(raised.value.filename)) == (errno.ENOENT, str(tmp_path / "none" / "trace.gz"))
    assert "trace.gz" in str(raised.value)


def test_the_range_of_shards() -> None:
    with pytest.raises(ValueError, match="from 1 to 1024, not -1"):
        FlexCache(shards=-1)
