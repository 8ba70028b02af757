"""All backends for Django: no call is composed of a read and a write that would lose other writes in between."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import itertools
import os
import re
import threading
import warnings
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import points
from own_server import LEFT_OUT, Server
from scale import may_skip

from flexcache_rs import shared

if may_skip("django", importlib.util.find_spec("django")):
    pytest.skip("Django is not installed", allow_module_level=True)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NUMBERS = itertools.count()
STEPS = {"flexcache_rs.remote.djangocache": 7}
"""The step between interrupted events, for backends whose calls have very many events."""

OF_DJANGO = {"MAX_ENTRIES": 10, "CULL_FREQUENCY": 2}
"""Options that settings may have for any backend. They have no effect here."""


def _on_disk(path: Path) -> Iterator[Any]:
    from flexcache_rs.disk import DjangoCache

    backend = DjangoCache(str(path), {"SHARDS": 2, "DATABASE_TIMEOUT": 60, "OPTIONS": OF_DJANGO})
    yield backend
    backend.close()


def _of_diskcache_rs(path: Path) -> Iterator[Any]:
    from flexcache_rs.diskcache_rs import DjangoCache

    backend = DjangoCache(str(path), {"OPTIONS": OF_DJANGO})
    yield backend
    backend.close()


def _shared(_: Path) -> Iterator[Any]:
    location = f"test-backends-{os.getpid()}-{next(NUMBERS)}"
    yield shared.DjangoCache(location, {"OPTIONS": {"max_bytes": 1 << 20, **OF_DJANGO}})
    with shared.SharedCache(location, max_bytes=1 << 20) as cache:
        cache.unlink()


def _remote(path: Path) -> Iterator[Any]:
    from flexcache_rs.remote import DjangoCache, djangocache

    server = Server(path)
    server.start()
    backend = DjangoCache(f"unix://{server.path}", {"OPTIONS": {"timeout": 10.0, **OF_DJANGO}})
    yield backend
    backend.cache.close()
    djangocache._CACHES.clear()
    server.kill()


BACKENDS: dict[str, Callable[[Path], Iterator[Any]]] = {
    "disk": _on_disk,
    "diskcache_rs": _of_diskcache_rs,
    "shared": _shared,
    "remote": _remote,
}


@pytest.fixture(params=[name for name in BACKENDS if name != "remote" or not LEFT_OUT])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    from django.conf import settings

    if not settings.configured:
        settings.configure(USE_TZ=False)
    yield from BACKENDS[request.param](tmp_path)


def test_nothing_is_composed_of_a_read_and_a_write(backend: Any) -> None:
    """The backends override calls that Django composes. Django's `get_or_set` uses `add`, which is atomic."""
    from django.core.cache.backends.base import BaseCache

    composed = [
        name
        for name, method in inspect.getmembers(BaseCache, inspect.isfunction)
        for source in [inspect.getsource(method)]
        if re.search(r"self\.a?get\(", source) and re.search(r"self\.a?(set|delete)\(", source)
    ]
    assert {"incr", "aincr", "incr_version", "aincr_version"} <= set(composed)
    assert [name for name in composed if getattr(type(backend), name) is getattr(BaseCache, name)] == []


def test_subclasses_may_have_private_names(backend: Any) -> None:
    """An attribute of an object hides what its class has under the name."""
    from django.core.cache.backends.base import BaseCache

    classes = [one for one in type(backend).__mro__ if one not in BaseCache.__mro__]
    found = {*(name for one in classes for name in vars(one)), *(vars(backend).keys() - vars(BaseCache({})).keys())}
    # python-diskcache's and diskcache_rs's backends have `_cache` as well.
    ours = ("__", "_flexcache_", *(["_cache"] if hasattr(backend, "_cache") else []))
    private = {name for name in found if name.startswith("_") and not name.startswith(ours)}
    for name in {"_key", "_move", "_seconds", "_options", "_server"} | private:
        setattr(backend, name, "own")
    backend.set("a", 1, 60)
    assert (backend.get("a"), backend.add("a", 2), backend.touch("a", 30), backend.incr("a")) == (1, False, True, 2)
    assert (backend.incr_version("a"), backend.get("a", version=2), backend.get("a")) == (2, 2, None)
    assert (backend.get_or_set("b", 3), backend.delete("b"), "b" in backend) == (3, True, False)


def test_tasks_that_add(backend: Any) -> None:
    """Nothing is lost, and the time to live stays."""

    async def main() -> None:
        await backend.aset("n", 0, 3600)
        await asyncio.gather(*(backend.aincr("n") for _ in range(20)), *(backend.adecr("n", 2) for _ in range(5)))
        assert await backend.aget("n") == 10
        for call in (backend.aincr, backend.adecr):
            with pytest.raises(ValueError, match="absent"):
                await call("absent")

    asyncio.run(main())


def test_threads_that_add_and_take_away(backend: Any) -> None:
    """A removed number is not created again."""
    for _ in range(30):
        backend.set("n", 1)
        both = threading.Barrier(2)

        def add(both: threading.Barrier = both) -> None:
            both.wait()
            try:
                for _ in range(3):
                    backend.incr("n")
            except ValueError:
                pass

        thread = threading.Thread(target=add)
        thread.start()
        both.wait()
        backend.delete("n")
        thread.join()
        assert backend.get("n") is None


def test_a_version_moves_once(backend: Any) -> None:
    """One of several callers moves a value. Its time to live goes with it."""
    backend.set("moved", "value", 3600)

    async def main() -> list[Any]:
        moves = (backend.aincr_version("moved") for _ in range(5))
        return await asyncio.gather(*moves, return_exceptions=True)

    moved = asyncio.run(main())
    assert moved.count(2) == 1
    assert [type(each) for each in moved if each != 2] == [ValueError] * 4
    assert (backend.get("moved"), backend.get("moved", version=2)) == (None, "value")
    assert backend.decr_version("moved", version=2) == 1
    assert backend.get("moved") == "value"
    for call in (backend.incr_version, backend.decr_version):
        with pytest.raises(ValueError, match="absent"):
            call("absent")
    backend.set("forever", 1, None)
    backend.incr_version("forever")
    assert backend.get("forever", version=2) == 1


# Use exceptions that are no subclass of Exception. Others would count as errors of the serializer.
@pytest.mark.parametrize("how", ["KeyboardInterrupt", "a signal"])
def test_a_move_that_is_interrupted_anywhere_loses_nothing(backend: Any, how: str) -> None:
    """The value is under at least one of the versions. A value that was moved can be moved back."""
    backend.set("moved", "value", 3600)
    for at in points(lambda: backend.incr_version("moved"), how, step=STEPS.get(type(backend).__module__, 1)):
        found = [backend.get("moved", version=version) for version in (1, 2)]
        assert "value" in found, f"lost at point {at}"
        backend.set("moved", "value", 3600)
        backend.delete("moved", version=2)
        # Other callers can still move the value.
        assert backend.incr_version("moved") == 2
        assert backend.decr_version("moved", version=2) == 1


def test_a_move_that_fails_leaves_the_value_where_it_is(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullError(Exception):
        pass

    def fail(*_: Any, **__: Any) -> None:
        raise FullError

    cache = getattr(backend, "_flexcache_cache", getattr(backend, "_cache", None))
    backend.set("moved", "value", 3600)
    if cache is None:
        # The command is not sent.
        client = type(backend.cache._client)
        execute = client.execute

        def execute_others(self: Any, *command: Any) -> Any:
            return (fail if command[0] == "SET" else execute)(self, *command)

        monkeypatch.setattr(client, "execute", execute_others)
    else:
        monkeypatch.setattr(type(cache), "put" if hasattr(type(cache), "put") else "set", fail)
    with pytest.raises(FullError):
        backend.incr_version("moved")
    monkeypatch.undo()
    assert (backend.get("moved"), backend.get("moved", version=2)) == ("value", None)
    assert backend.incr_version("moved", 0) == 1
    assert backend.get("moved") == "value"


def test_options_of_django_have_no_effect(backend: Any) -> None:
    backend.set_many({f"key{number}": number for number in range(2 * OF_DJANGO["MAX_ENTRIES"])})
    assert len(backend.get_many([f"key{number}" for number in range(20)])) == 20


KINDS = ["disk", "diskcache_rs", "shared", "remote"]
OUTSIDE = {"disk": "directory", "diskcache_rs": "directory", "shared": "name", "remote": "client"}
"""The argument of the cache that each backend has from LOCATION."""
OPTION = {"disk": "size_limit", "diskcache_rs": "max_size", "shared": "max_bytes", "remote": "l1_ttl"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "shared" or hasattr(shared, "DjangoCache")])
def test_settings_with_wrong_names(kind: str, tmp_path: Path) -> None:
    """Each raises an exception, which suggests the right one, instead of having no effect."""
    make = importlib.import_module(f"flexcache_rs.{kind}").DjangoCache
    option = OPTION[kind]
    for params, meant in (
        ({"TIEMOUT": 5}, "'TIEMOUT'; did you mean 'TIMEOUT'?"),
        ({"KEY_PREFX": "x"}, "'KEY_PREFX'; did you mean 'KEY_PREFIX'?"),
        ({"MAX_ENTRIES": 5}, "'MAX_ENTRIES'; did you mean 'MAX_ENTRIES' in OPTIONS?"),
        ({option: 5}, f"'{option}'; did you mean '{option}' in OPTIONS?"),
        ({option.upper(): 5}, f"'{option.upper()}'; did you mean '{option}' in OPTIONS?"),
        ({"OPTIONS": {OUTSIDE[kind]: "x"}}, f"'{OUTSIDE[kind]}'; did you mean 'LOCATION' beside OPTIONS?"),
    ):
        with pytest.raises(TypeError, match=re.escape(meant)):
            make(f"unix://{tmp_path}/none" if kind == "remote" else str(tmp_path / "cache"), params)


def test_timeouts_of_all_kinds(backend: Any) -> None:
    """All backends accept and refuse the same. A refused timeout changes nothing."""
    for seconds in (timedelta(hours=1), 3600.5, Decimal(3600), float("inf"), None):
        for store in (backend.set, backend.add):
            backend.delete("key")
            store("key", seconds, seconds)
            assert backend.get("key") == seconds
        assert backend.touch("key", seconds)
        assert backend.get_or_set("key", "other", seconds) == seconds
    backend.set("key", "value")
    for wrong in (True, "60", b"60", object(), float("nan")):
        for call in (
            lambda wrong=wrong: backend.set("key", "other", wrong),
            lambda wrong=wrong: backend.add("new", "other", wrong),
            lambda wrong=wrong: backend.touch("key", wrong),
            lambda wrong=wrong: backend.set_many({"key": "other"}, wrong),
            lambda wrong=wrong: backend.get_or_set("new", "other", wrong),
        ):
            with pytest.raises((TypeError, ValueError), match=r"^(timeout|ttl) must be "):
                call()
        assert backend.get_many(["key", "new"]) == {"key": "value"}
    for over in (timedelta(0), timedelta(-1), 0, -1, -0.5, float("-inf")):
        backend.set("key", "value", over)
        assert backend.get("key") is None


CALLS_WITH_A_KEY: list[Callable[[Any, str], object]] = [
    lambda backend, key: backend.add(key, 1),
    lambda backend, key: backend.get(key),
    lambda backend, key: backend.set(key, 1),
    lambda backend, key: backend.incr(key),
    lambda backend, key: backend.incr_version(key),
    lambda backend, key: backend.touch(key),
    lambda backend, key: backend.has_key(key, version=2),
    lambda backend, key: backend.get_many([key], version=2),
    lambda backend, key: backend.set_many({key: 1}),
    lambda backend, key: backend.delete(key),
    lambda backend, key: backend.delete_many([key]),
]


@pytest.mark.parametrize("key", ["with blanks", "a" * 250])
def test_keys_that_memcached_refuses(backend: Any, key: str) -> None:
    """All calls warn of them, as in Django itself. The calls of `disk` do not, as in python-diskcache."""
    from django.core.cache.backends.base import CacheKeyWarning

    silent = type(backend).__module__ == "flexcache_rs.disk.djangocache"
    for call in CALLS_WITH_A_KEY:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call(backend, key)
        assert {warning.category for warning in caught} == (set() if silent else {CacheKeyWarning})


def test_a_key_function_may_return_any_key(tmp_path: Path) -> None:
    """python-diskcache stores under the object itself."""
    from flexcache_rs.disk import DjangoCache

    backend = DjangoCache(str(tmp_path), {"SHARDS": 1, "KEY_FUNCTION": lambda key, _, version: (key, version)})
    backend.set("key", "value")
    assert list(backend._cache) == [("key", 1)]
    assert backend.incr_version("key") == 2
    assert (backend.get("key"), backend.get("key", version=2)) == (None, "value")
    backend.close()


def test_what_is_awaited(backend: Any) -> None:
    """The other calls that Django composes of several."""

    async def main() -> None:
        assert await backend.aset_many({"a": 1, "b": None}, 60) == []
        assert await backend.aget_many(["a", "b", "c"]) == {"a": 1, "b": None}
        assert (await backend.ahas_key("b"), await backend.ahas_key("c")) == (True, False)
        await backend.adelete_many(["a"])
        assert await backend.aget("a", "default") == "default"
        assert await asyncio.gather(*(backend.aget_or_set("d", lambda: 4) for _ in range(5))) == [4] * 5
        assert await backend.aget_or_set("d", 5) == 4

    asyncio.run(main())
