"""Every public callable suggests the argument that was meant if a name is misspelt or from another library."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest

import flexcache_rs
from flexcache_rs import FlexCache, cachetools, disk, lru_cache, memoize
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk import recipes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMORY = {
    "FlexCache": {
        **dict.fromkeys(("maxsize", "max_size", "capacity", "size", "limit", "max_entries", "maxitems"), "max_items"),
        **dict.fromkeys(("size_limit", "maxbytes", "max_memory", "max_weight"), "max_bytes"),
        **dict.fromkeys(("ttl", "expire", "timeout", "max_age", "expire_after", "defualt_ttl"), "default_ttl"),
        **dict.fromkeys(("policy", "strategy", "algorithm"), "eviction_policy"),
        **dict.fromkeys(("callback", "on_remove", "listener"), "on_evict"),
        **dict.fromkeys(("getsizeof", "sizeof", "weight", "wiegher"), "weigher"),
        "close_value": "close_values",
        "shard": "shards",
        "threadsafe": "thread_safe",
    },
    "resize": {"maxsize": "max_items", "capacity": "max_items", "size_limit": "max_bytes"},
    "put": {"expire": "ttl", "timeout": "ttl", "tag": "tags"},
    "set": {"expire": "ttl", "timeout": "ttl", "tag": "tags"},
    "add": {"expire": "ttl", "timeout": "ttl", "tag": "tags"},
    "touch": {"expire": "ttl", "timeout": "ttl", "seconds": "ttl"},
    "set_many": {"expire": "ttl", "timeout": "ttl", "tag": "tags"},
    "get_or_set": {"expire": "ttl", "timeout": "ttl", "tag": "tags"},
    "get": {"defualt": "default"},
    "peek": {"defualt": "default"},
    "pop": {"defualt": "default"},
    "memoize": {"maxsize": "max_items", "expire": "ttl", "timeout": "ttl", "tag": "tags", "key_builder": "key"},
    "lru_cache": {"max_items": "maxsize", "capacity": "maxsize", "max_size": "maxsize", "type": "typed"},
}
ON_DISK = {
    "Cache": {
        "ttl": r"set\(expire=\)",
        "maxsize": "size_limit",
        "max_bytes": "size_limit",
        "policy": "eviction_policy",
    },
    "FanoutCache": {"maxsize": "size_limit", "max_bytes": "size_limit", "policy": "eviction_policy", "shard": "shards"},
    "Deque": {"maxsize": "maxlen", "max_items": "maxlen", "path": "directory"},
    "FanoutIndex": {"path": "directory", "dir": "directory", "shard": "shards"},
    "set": {"ttl": "expire", "timeout": "expire", "tags": "tag"},
    "add": {"ttl": "expire", "timeout": "expire", "tags": "tag"},
    "touch": {"ttl": "expire", "timeout": "expire"},
    "push": {"ttl": "expire", "tags": "tag"},
    "set_many": {"ttl": "expire", "tags": "tag"},
    "get": {"defualt": "default", "tags": "tag", "expires_time": "expire_time"},
    "pop": {"defualt": "default", "tags": "tag"},
    "pull": {"defualt": "default", "prefx": "prefix", "tags": "tag"},
    "peek": {"defualt": "default", "prefx": "prefix", "tags": "tag"},
    "incr": {"delt": "delta", "defualt": "default"},
    "decr": {"delt": "delta", "defualt": "default"},
    "delete": {"rety": "retry"},
    "memoize": {"ttl": "expire", "tags": "tag"},
    "lock": {"ttl": "expire", "timeout": "expire"},
    "throttle": {"ttl": "expire", "tags": "tag"},
    "barrier": {"ttl": "expire", "tags": "tag"},
    "memoize_stampede": {"ttl": "expire", "tags": "tag"},
    "Lock": {"ttl": "expire", "timeout": "expire"},
    "RLock": {"ttl": "expire", "timeout": "expire"},
    "Averager": {"ttl": "expire", "tags": "tag"},
    "BoundedSemaphore": {"ttl": "expire", "count": None},
}
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("put", "set", "add"), ("key", "value")),
    **dict.fromkeys(("touch", "lock", "get", "pop", "incr", "decr", "delete"), ("key",)),
    "push": ("value",),
    "peek": ("key",),
    "set_many": ({"a": 1},),
    "get_or_set": ("key", int),
}


def rows(table: dict[str, dict[str, str | None]]) -> list[tuple[str, str, str | None]]:
    return [(name, given, meant) for name, names in table.items() for given, meant in names.items()]


@pytest.mark.parametrize(("name", "given", "meant"), rows(MEMORY))
def test_in_memory(name: str, given: str, meant: str) -> None:
    cache: Any = FlexCache()
    plain = {"FlexCache": FlexCache, "memoize": memoize, "lru_cache": lru_cache}
    call: Any = plain.get(name) or getattr(cache, name)
    with pytest.raises(TypeError, match=rf"{name}\(\) .*'{given}'; did you mean {meant}=\?"):
        call(*ARGUMENTS.get(name, ()), **{given: 1})
    assert not cache


@pytest.fixture(scope="module", params=[disk.Cache, disk.FanoutCache])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with request.param(tmp_path_factory.mktemp("meant") / "cache") as cache:
        yield cache


@pytest.mark.parametrize(("name", "given", "meant"), rows(ON_DISK))
def test_on_disk(store: Any, name: str, given: str, meant: str | None) -> None:
    recipe = getattr(recipes, name, None)
    call: Any
    arguments: tuple[Any, ...] = ()
    if name in {"Cache", "FanoutCache", "Deque", "FanoutIndex"}:
        call = getattr(disk, name)
    elif recipe is not None:
        call, arguments = recipe, (store, "key")[: 1 if name.islower() else 2]
        arguments += (1, 1) if name == "throttle" else (recipes.Lock,) if name == "barrier" else ()
    else:
        call, arguments = getattr(store, name), ARGUMENTS.get(name, ())
    hint = f"; did you mean '?{meant}" if meant else "; the arguments are "
    with pytest.raises(TypeError, match=f"'{given}'{hint}"):
        call(*arguments, **{given: 1})
    assert len(store) == 0


def test_signatures_stay_as_they_were() -> None:
    """The wrapper that suggests does not appear in signatures."""
    for of in (FlexCache, disk.Cache, disk.FanoutCache):
        for name in ("set", "add", "touch", "set_many", "push", "get", "pop", "peek", "pull", "incr", "delete"):
            method = getattr(of, name, None)
            if method is not None:
                assert "unknown" not in str(inspect.signature(method)), (of, name)
                assert "kwargs" not in str(inspect.signature(method)), (of, name)
    assert str(inspect.signature(FlexCache.touch)) == "(self, /, key, ttl)"
    with pytest.raises(TypeError, match=r"touch\(\) missing required argument: 'ttl'"):
        FlexCache().touch("a")  # type: ignore[call-arg]


def test_positional_mistakes() -> None:
    with pytest.raises(TypeError, match="did you mean max_items=100"):
        FlexCache(100)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"at most 4 positional arguments \(eviction_policy, .*default_ttl="):
        FlexCache("lru", 0, 10, 0, 60)  # type: ignore[misc]
    with pytest.raises(TypeError, match="multiple values for argument 'eviction_policy'"):
        FlexCache("lru", eviction_policy="lfu")  # type: ignore[misc]
    assert flexcache_rs.FlexCache("lru", 0, 10).max_items == 10


DROPINS = [
    ("sciqlop", "Cache.set", "ttl", "expire"),
    ("sciqlop", "Cache.add", "tags", "tag"),
    ("sciqlop", "Cache.memoize", "ttl", "expire"),
    ("sciqlop", "Cache", "max_items", "max_size"),
    ("diskcache_rs", "Cache.set", "ttl", "expire"),
    ("diskcache_rs", "FanoutCache.push", "tags", "tag"),
    ("diskcache_rs", "FanoutCache.touch", "ttl", "expire"),
    ("cachetools", "LRUCache", "max_items", "maxsize"),
    ("cachetools", "RRCache", "capacity", "maxsize"),
    ("cachetools", "TTLCache", "expire", "ttl"),
    ("cachetools", "TTLCache", "size_of", "getsizeof"),
    ("cachetools", "cached", "keyfunc", "key"),
    ("cachetools.func", "ttl_cache", "timeout", "ttl"),
    ("cachetools.func", "lru_cache", "max_items", "maxsize"),
]


@pytest.mark.parametrize(("module", "name", "given", "meant"), DROPINS)
def test_in_dropins(module: str, name: str, given: str, meant: str, tmp_path: Path) -> None:
    of: Any = importlib.import_module(f"flexcache_rs.{module}")
    kind, _, method = name.partition(".")
    call = getattr(of, kind)
    if method:
        call = getattr(call(tmp_path), method)
    arguments = {"set": ("a", 1), "add": ("a", 1), "push": (1,), "touch": ("a",), "TTLCache": (1, 1), "cached": ({},)}
    with pytest.raises(TypeError, match=rf"'{given}'; did you mean {meant}=\?"):
        call(*arguments.get(method or kind, ()), **{given: 1})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cachetools.LRUCache("10"), r"maxsize must be a number, not str \('10'\)"),
        (lambda: cachetools.LRUCache(None), "maxsize must be a number, not NoneType"),
        (lambda: cachetools.LRUCache(3, 60), r"getsizeof must be callable, not int \(60\)"),
        (lambda: cachetools.TTLCache(3, "60"), r"ttl must be a number of seconds, not str \('60'\)"),
        (lambda: cachetools.TTLCache(3, 60, 5), r"timer must be callable, not int \(5\)"),
        (lambda: cachetools.TLRUCache(3, 60), r"ttu must be callable, not int \(60\)"),
        (lambda: cachetools.RRCache(3, 60), r"choice must be callable, not int \(60\)"),
        (lambda: FlexCache(max_items=None), r"max_items must be an integer \(0 for no limit\), not NoneType"),
        (lambda: FlexCache(max_items="10"), r"max_items must be an integer, not str \('10'\)"),
        (lambda: FlexCache(default_ttl="60"), r"default_ttl must be .* not str \('60'\); did you mean 60\?"),
        (lambda: FlexCache().put("a", 1, "1.5"), r"ttl must be .* not str \('1.5'\); did you mean 1.5\?"),
        (lambda: FlexCache().get_or_set("a", 3), r"factory must be callable, not int \(3\)"),
        (
            lambda: FlexCache().set_many([1]),
            "mapping must be a mapping or an iterable of pairs: cannot convert dictionary update",
        ),
        (lambda: disk.Deque(3), r"iterable must be an iterable, not int \(3\)"),
        (lambda: disk.Averager(disk.Cache(), "a").add("x"), "value must be a number, not 'x'"),
    ],
)
def test_values_are_named(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()
    with pytest.raises(ValueError, match="did you mean 'lru'"):
        FlexCache("LRU")  # type: ignore[arg-type]


SINGLE = {
    "delete": ("keyy", "key"),
    "ttl": ("keyy", "key"),
    "tags": ("keyy", "key"),
    "get_many": ("key", "keys"),
    "delete_many": ("key", "keys"),
    "evict_tag": ("tags", "tag"),
}


@pytest.mark.parametrize(("name", "given", "meant"), [(name, *names) for name, names in SINGLE.items()])
def test_calls_with_one_argument(name: str, given: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}\(\) .*'{given}'; did you mean {meant}=\?"):
        getattr(FlexCache(), name)("a", **{given: 1})


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory is Linux's")
def test_shared(tmp_path: Path) -> None:
    from flexcache_rs.shared import SharedCache

    with SharedCache(tmp_path / "cache", max_bytes=1 << 20) as cache:
        rows: list[tuple[Any, tuple[Any, ...], str, str]] = [
            (cache.add, ("a", 1), "expire", "ttl"),
            (cache.touch, ("a",), "timeout", "ttl"),
            (cache.delete, ("a",), "keyy", "key"),
            (cache.evict_tag, ("a",), "tags", "tag"),
            (cache.set_many, ({},), "expire", "ttl"),
            (cache.get_or_set, ("a", int), "expire", "ttl"),
            (cache.pop, ("a",), "defualt", "default"),
            (cache.lock, ("a",), "expire", "ttl"),
        ]
        for call, arguments, given, meant in rows:
            with pytest.raises(TypeError, match=rf"'{given}'; did you mean {meant}=\?"):
                call(*arguments, **{given: 1})
        with pytest.raises(TypeError, match="factory must be callable"):
            cache.get_or_set("a", 3)  # type: ignore[arg-type]
        for wrong, error in (("x", TypeError), (0, ValueError), (float("nan"), ValueError)):
            with pytest.raises(error, match=r"^ttl must"):
                cache.lock("a", ttl=wrong)  # type: ignore[arg-type]


def test_a_function_that_suggests_looks_like_the_one_that_it_calls() -> None:
    def meant(value: list[int], ttl: float = 1.0) -> int:
        """Return a number."""
        return len(value)

    meant.attribute = 1  # type: ignore[attr-defined]
    suggests: Any = suggesting(meant)
    dressed: Any = functools.update_wrapper(lambda *_: None, meant)
    for name in (*functools.WRAPPER_ASSIGNMENTS, "attribute", "__wrapped__"):
        assert getattr(suggests, name) == getattr(dressed, name)
    assert set(vars(suggests)) == {*vars(dressed), "__suggests__"}
