"""DjangoCache in shared memory passes checks of Django's own tests of cache backends."""

from __future__ import annotations

import importlib.util
import itertools
import os
import pickle
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from scale import may_skip

from flexcache_rs.shared import SharedCache

if may_skip("django", importlib.util.find_spec("django")):
    pytest.skip("Django is not installed", allow_module_level=True)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NUMBERS = itertools.count()


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    """Return a function that makes backends for one place."""
    from django.conf import settings

    if not settings.configured:
        settings.configure(USE_TZ=False)
    from flexcache_rs.shared import DjangoCache

    location = f"test-django-{os.getpid()}-{next(NUMBERS)}"

    def make(**params: Any) -> Any:
        options = {"max_bytes": 1 << 20, **params.pop("OPTIONS", {})}
        return DjangoCache(location, {"OPTIONS": options, **params})

    yield make
    with SharedCache(location, max_bytes=1 << 20) as cache:
        cache.unlink()


def test_simple(make: Callable[..., Any]) -> None:
    cache = make()
    cache.set("key", "value")
    assert cache.get("key") == "value"
    assert cache.get("missing") is None
    assert cache.get("missing", "bang!") == "bang!"
    cache.set("none", None)
    assert cache.get("none", "bang!") is None
    assert cache.add("addkey1", "value")
    assert not cache.add("addkey1", "newvalue")
    assert cache.get("addkey1") == "value"
    assert cache.has_key("key")
    assert not cache.has_key("goodbye1")
    assert "key" in cache
    assert "goodbye2" not in cache
    assert cache.delete("key")
    assert not cache.delete("key")
    cache.clear()
    assert cache.get("addkey1") is None


def test_values(make: Callable[..., Any]) -> None:
    """Values of every type, non-ASCII keys, binary values, and values that are changed afterwards."""
    cache = make()
    for value in (
        "string",
        42,
        [1, 2, 3, 4],
        (1, 2),
        {"A": 1, "B": {"c": None}},
        "Iñtërnâtiônàlizætiøn",
        b"\0\xff",
        1.5,
    ):
        cache.set("k", value)
        assert cache.get("k") == value
    listed: list[int] = []
    cache.set("l", listed)
    listed.append(1)
    assert cache.get("l") == []
    with pytest.raises((AttributeError, pickle.PicklingError)):
        cache.set("unpickable", lambda: None)


def test_get_and_set_many(make: Callable[..., Any]) -> None:
    cache = make()
    assert cache.set_many({"a": "a", "b": None, "c": 3}) == []
    assert cache.get_many(["a", "b", "c", "d"]) == {"a": "a", "b": None, "c": 3}
    assert cache.get_many(iter(["a", "b"])) == {"a": "a", "b": None}
    cache.delete_many(["a", "b"])
    assert cache.get_many(["a", "b", "c"]) == {"c": 3}
    assert cache.set_many({}) == []


def test_numbers(make: Callable[..., Any]) -> None:
    cache = make()
    cache.set("answer", 41)
    assert (cache.incr("answer"), cache.incr("answer", 10), cache.incr("answer", -10)) == (42, 52, 42)
    assert (cache.decr("answer"), cache.decr("answer", 2), cache.get("answer")) == (41, 39, 39)
    cache.set("half", 0.5, 100)
    assert cache.incr("half", 1.25) == cache.get("half") == 1.75
    for call in (cache.incr, cache.decr):
        with pytest.raises(ValueError, match="does_not_exist"):
            call("does_not_exist")
    cache.set("text", "text")
    with pytest.raises(TypeError):
        cache.incr("text")


def test_expiration(make: Callable[..., Any]) -> None:
    """A timeout of None means for ever, and 0 or less means expired at once."""
    cache = make(TIMEOUT=60)
    cache.set("default", 1)
    cache.set("forever", 2, None)
    cache.set("short", 3, 1)
    cache.incr("short")
    for timeout in (0, -1):
        cache.set("now", 4, timeout)
        assert cache.get("now") is None
        assert cache.add("now", 4, timeout)
        assert not cache.has_key("now")
    with SharedCache(cache._flexcache_cache.path) as inside:
        left = [inside.ttl(f":1:{key}") for key in ("default", "forever", "short")]
    assert 59 < left[0] <= 60  # type: ignore[operator]
    assert left[1] is None
    assert 0 < left[2] <= 1  # type: ignore[operator]
    assert cache.touch("short", 100)
    assert cache.touch("forever", 0)
    assert not cache.has_key("forever")
    assert not cache.touch("missing")
    assert cache.touch("default", None)
    assert make(TIMEOUT=None)._flexcache_cache.ttl(":1:default") is None


def test_versions_and_prefixes(make: Callable[..., Any]) -> None:
    cache, second, prefixed = make(), make(VERSION=2), make(KEY_PREFIX="cacheprefix")
    cache.set("answer", 1)
    assert (cache.get("answer", version=2), second.get("answer"), prefixed.get("answer")) == (None, None, None)
    second.set("answer", 2)
    prefixed.set("answer", 3)
    assert (cache.get("answer"), cache.get("answer", version=2), second.get("answer", version=1)) == (1, 2, 1)
    assert (prefixed.get("answer"), second.delete("answer", version=1), cache.get("answer")) == (3, True, None)
    assert cache.incr_version("answer", version=2) == 3
    assert (cache.get("answer", version=2), cache.get("answer", version=3)) == (None, 2)
    assert cache.decr_version("answer", version=3) == 2
    with pytest.raises(ValueError, match="does_not_exist"):
        cache.incr_version("does_not_exist")
    custom = make(KEY_FUNCTION=lambda key, prefix, version: f"CUSTOM-{prefix}-{version}-{key}")
    custom.set("answer", 4)
    assert SharedCache(cache._flexcache_cache.path)["CUSTOM--1-answer"] == 4


def test_get_or_set(make: Callable[..., Any]) -> None:
    cache = make()
    assert cache.get_or_set("projector", 42) == cache.get("projector") == 42
    assert cache.get_or_set("null", None) is None
    assert cache.get_or_set("callable", lambda: "computed", 100) == cache.get("callable") == "computed"
    with pytest.raises(TypeError):
        cache.get_or_set("brian")
    assert cache.get_or_set("brian", 1979, version=2) == 1979
    assert cache.get("brian") is None


def test_keys_that_memcached_would_refuse(make: Callable[..., Any]) -> None:
    """Django requires a warning from every backend."""
    from django.core.cache import CacheKeyWarning

    cache = make()
    for key in ("key with spaces", "a" * 251):
        with pytest.warns(CacheKeyWarning, match="memcached"):
            cache.set(key, "value")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheKeyWarning)
            assert cache.get(key) == "value"


def test_awaited(make: Callable[..., Any]) -> None:
    import asyncio

    cache = make()

    async def calls() -> None:
        await cache.aset("n", 1)
        assert (await cache.aget("n"), await cache.aincr("n"), await cache.adelete("n")) == (1, 2, True)
        # Several at once lose nothing, and keep the time to live.
        await cache.aset("n", 0, 3600)
        await asyncio.gather(*(cache.aincr("n") for _ in range(20)), *(cache.adecr("n", 2) for _ in range(5)))
        assert await cache.aget("n") == 10
        assert cache._flexcache_cache.ttl(":1:n") > 3000

    asyncio.run(calls())


def test_settings(make: Callable[..., Any]) -> None:
    """A misspelt setting raises an exception, which suggests the right one."""
    for wrong, match in (
        ({"max_bytes": 1}, "'max_bytes' in OPTIONS"),
        ({"TIMEOUTS": 1}, "'TIMEOUT'"),
        ({"OPTIONS": {"max_byte": 1}}, "'max_bytes'"),
    ):
        with pytest.raises(TypeError, match=match):
            make(**wrong)
    from flexcache_rs.shared import DjangoCache

    with pytest.raises(ValueError, match="LOCATION"):
        DjangoCache("", {})
    make(OPTIONS={"MAX_ENTRIES": 5, "CULL_FREQUENCY": 3})


PROGRAM = """
from django.conf import settings
settings.configure(CACHES={"default": {"BACKEND": "flexcache_rs.shared.DjangoCache", "LOCATION": LOCATION}})
from django.core.cache import cache
from django.core import signals
print(cache.get("k"), cache.incr("n"))
signals.request_finished.send(None)  # Django closes its caches then; this one stays usable.
print(cache.get("k"))
"""


def test_another_process_by_its_settings(make: Callable[..., Any]) -> None:
    cache = make()
    cache.set("k", "value")
    cache.set("n", 1)
    location = str(cache._flexcache_cache.path)
    program = PROGRAM.replace("LOCATION}", f"{location!r}}}")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["value", "2", "value"]
    assert cache.get("n") == 2
