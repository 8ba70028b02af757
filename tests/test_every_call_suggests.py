"""The error of every public callable for an unknown argument lists the known ones."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache, disk, diskcache_rs, sciqlop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODULES = [
    *("flexcache_rs", "flexcache_rs.async_lru", "flexcache_rs.cachetools", "flexcache_rs.cachetools.func"),
    *("flexcache_rs.disk", "flexcache_rs.disk.recipes", "flexcache_rs.disk.djangocache"),
    *("flexcache_rs.diskcache_rs", "flexcache_rs.diskcache_rs.djangocache", "flexcache_rs.lilcache"),
    *("flexcache_rs.pycache", "flexcache_rs.pycache.adapters", "flexcache_rs.pycache.collections.bitarray"),
    *("flexcache_rs.pycache.collections.bloomfilters", "flexcache_rs.remote", "flexcache_rs.remote.djangocache"),
    *("flexcache_rs.sciqlop", "flexcache_rs.sciqlop.migrate", "flexcache_rs.sessions", "flexcache_rs.sessions.sync"),
    *("flexcache_rs.testing",),
    *(("flexcache_rs.shared",) if sys.platform == "linux" else ()),
]

# Callables that only caches call, with positional arguments; that take any name, as a mapping does; or that belong to
# another library.
EXEMPT = {
    **dict.fromkeys(("Disk", "JSONDisk", "Store", "Serializer", "MsgspecSerializer", "PickleOOBSerializer"), "a part"),
    **dict.fromkeys(("PickleSerializer", "SignedPickleSerializer"), "a part"),
    **dict.fromkeys(("Index", "FanoutIndex", "Statistics"), "a mapping"),
    **dict.fromkeys(("rust_pickle_dumps", "rust_pickle_loads"), "pickle's"),
    **dict.fromkeys(("lilcache.get", "lilcache.set", "lilcache.pop", "lilcache.delete"), "of one way to be called"),
    "RemoteCache.get": "needs a server: its own tests call it",
    **dict.fromkeys(("Session.get", "Transaction.get", "RemoteCache.aget"), "called by position, as often as anything"),
    **dict.fromkeys(("CheckResult", "EvictionPolicy"), "made by the library, or written by its users"),
}


def public() -> Iterator[tuple[str, Any, Any]]:
    """Yield the name of every public callable, its class, and the callable."""
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
        short = module_name.removeprefix("flexcache_rs.")
        for name in names:
            found = getattr(module, name)
            home = getattr(found, "__module__", None) or ""
            if not home.startswith("flexcache_rs") or name == "suggesting":
                continue
            if not isinstance(found, type):
                if callable(found):
                    yield f"{short}.{name}", None, found
                continue
            if issubclass(found, (BaseException, tuple)) or getattr(found, "_is_protocol", False):
                continue
            yield f"{short}.{name}", None, found
            for attribute in dir(found):
                value = inspect.getattr_static(found, attribute)
                is_call = callable(value) or isinstance(value, classmethod | staticmethod)
                if not attribute.startswith("_") and is_call and not isinstance(value, type):
                    yield f"{short}.{name}.{attribute}", found, value


def named_parameters(call: Any) -> list[inspect.Parameter] | None:
    """Return the parameters that can be passed by name, except the instance. None if any name is accepted."""
    try:
        parameters = list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return None
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [one for one in parameters if one.kind in kinds and one.name not in ("self", "cls")]


def callables() -> list[Any]:
    seen: set[int] = set()
    rows: list[Any] = []
    for name, owner, call in public():
        parts = name.split(".")
        exempt = {*parts, ".".join(parts[-2:])} & EXEMPT.keys() and not name.endswith((".fromcache", ".migrate"))
        inner = call.__func__ if isinstance(call, classmethod | staticmethod) else call
        if id(inner) in seen or exempt or isinstance(inner, functools.cached_property):
            continue
        seen.add(id(inner))
        home = getattr(inner, "__module__", None) or getattr(getattr(inner, "__objclass__", None), "__module__", "")
        if (home or "").startswith("flexcache_rs") and named_parameters(inner):
            rows.append(pytest.param(owner, call, id=name))
    return rows


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One object of each class with native methods, or methods that call those."""
    folder: Path = tmp_path_factory.mktemp("suggesting")
    made: dict[str, Any] = {"FlexCache": FlexCache(), "Cache": disk.Cache(folder / "disk")}
    made["FanoutCache"] = disk.FanoutCache(folder / "fanout", shards=2)
    made["FastFanoutCache"] = diskcache_rs.FastFanoutCache(folder / "fast fanout", shards=2)
    made["FastCache"] = diskcache_rs.FastCache(folder / "fast")
    made["sciqlop.Cache"] = sciqlop.Cache(folder / "sciqlop")
    if sys.platform == "linux":
        from flexcache_rs.shared import SharedCache

        made["SharedCache"] = SharedCache(folder / "shared", max_bytes=1 << 20)
    yield made
    for one in made.values():
        one.close()


@pytest.mark.parametrize(("owner", "call"), callables())
def test_an_argument_that_is_not_there(owner: Any, call: Any, instances: dict[str, Any]) -> None:
    inner = call.__func__ if isinstance(call, classmethod | staticmethod) else call
    parameters = named_parameters(inner) or []
    needed = [one for one in parameters if one.default is one.empty]
    given = {one.name: None for one in needed}
    if owner is None:
        bound = inner
    elif isinstance(call, classmethod | staticmethod):
        bound = call.__get__(None, owner)
    else:
        of = next((one for one in instances.values() if isinstance(one, getattr(inner, "__objclass__", owner))), None)
        if of is None:
            # The name is refused before the instance is used, so any object will do.
            assert hasattr(inner, "__code__"), f"no object for a call of {inner.__objclass__}"
            of = object.__new__(type("Nothing", (), {}))
        bound = functools.partial(inner, of)

    def attempt() -> None:
        made = bound(**given, no_such_argument=1)
        if inspect.iscoroutine(made):
            asyncio.run(made)

    with pytest.raises(TypeError, match=r"argument 'no_such_argument'; (the arguments are|did you mean) "):
        attempt()


def test_it_finds_most_of_the_calls() -> None:
    assert len(callables()) > 300


def test_what_a_function_is_stays() -> None:
    from flexcache_rs.sessions import Session
    from flexcache_rs.sessions.sync import Session as SyncSession

    assert inspect.iscoroutinefunction(Session.set)
    assert not inspect.iscoroutinefunction(SyncSession.set)
    assert str(inspect.signature(disk.FanoutCache.touch)).startswith("(self, key")
    assert disk.FanoutCache.touch.__qualname__ == "FanoutCache.touch"
    with pytest.raises(TypeError, match=r"touch\(\) missing 1 required positional argument: 'key'"):
        disk.FanoutCache.touch(None)  # type: ignore[call-arg, arg-type]
    with pytest.raises(TypeError, match="'expired'; did you mean expire="):
        disk.FanoutCache.touch(None, expired=1)  # type: ignore[call-arg, arg-type]


def aliases() -> list[Any]:
    """Public names of functions that have another name too, with the class which has them."""
    found: dict[str, Any] = {}
    for name, owner, call in public():
        inner = call.__func__ if isinstance(call, classmethod | staticmethod) else call
        if owner is not None and getattr(inner, "__suggests__", False) and inner.__name__ != name.split(".")[-1]:
            found[name] = pytest.param(name.split(".")[-1], inner, id=name)
    return list(found.values())


@pytest.mark.parametrize(("name", "call"), aliases())
def test_a_call_of_several_names_is_called_by_the_one_that_was_used(name: str, call: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword argument 'nonsense'"):
        made = call(None, nonsense=1)
        asyncio.run(made)


def test_there_are_calls_of_several_names() -> None:
    names = {one.id for one in aliases()}
    assert {"remote.RemoteCache.set", "remote.RemoteCache.aset"} <= names
