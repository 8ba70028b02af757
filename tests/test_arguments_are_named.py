"""The error for an argument of a wrong type names the argument. Tests every parameter of every public call."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache, disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

if sys.platform == "linux":
    from flexcache_rs.shared import SharedCache


def objects(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return functions that make an object of each public class."""
    made: dict[str, Callable[[], Any]] = {
        "FlexCache": lambda: FlexCache(max_items=10),
        "Cache": lambda: disk.Cache(folder),
        "FanoutCache": lambda: disk.FanoutCache(folder, shards=1, timeout=1),
        "Deque": lambda: disk.Deque([1], folder),
        "Index": lambda: disk.Index(str(folder), a=1),
    }
    if sys.platform == "linux":
        made["SharedCache"] = lambda: SharedCache(folder / "shared", max_bytes=1 << 20)
    return made


KINDS = ["FlexCache", "Cache", "FanoutCache", "Deque", "Index"] + ["SharedCache"] * (sys.platform == "linux")

TAKES_ANYTHING = frozenset(
    ("key", "value", "default", "other", "name", "state", "memo", "index", "steps", "expected", "new", "obj", "factory")
)
"""Parameters that accept any object, or whose errors are those of the imitated classes of Python."""

FITTING: dict[str, Any] = {
    "keys": ["k"],
    "mapping": {"k": 1},
    "entries": {"k": 1},
    "items": {"k": 1},
    "tag": "t",
    "listener": print,
    "factory": lambda: 1,
    "iterable": (),
    "directory": None,
    "limit": 1,
    "sql": "SELECT 1",
}
"""Valid arguments for the other parameters, if a str is not valid."""

MANY_MEANINGS = {
    # These take the same arguments as Python's own classes.
    ("Deque", "index"),
    ("Deque", "insert"),
    ("FlexCache", "update"),
    # The setting has to exist.
    ("Cache", "reset"),
}


def calls(kind: str, made: Any) -> Iterator[tuple[str, list[inspect.Parameter], inspect.Parameter]]:
    for name in dir(type(made)):
        if (
            name.startswith("_")
            or (kind, name) in MANY_MEANINGS
            or isinstance(inspect.getattr_static(type(made), name), property)
        ):
            continue
        call = getattr(made, name)
        try:
            parameters = list(inspect.signature(call).parameters.values())
        except (TypeError, ValueError):
            continue
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                yield name, parameters, parameter


class Wrong:
    """An object that no parameter accepts."""

    def __repr__(self) -> str:
        return "<wrong>"


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_of_a_wrong_type_are_named(kind: str, tmp_path: Path) -> None:
    made = objects(tmp_path)[kind]()
    looked_at, unnamed = 0, []
    for name, parameters, wanted in calls(kind, made):
        if (
            wanted.name in TAKES_ANYTHING
            or name in ("close", "memoize")
            or inspect.iscoroutinefunction(getattr(made, name))
        ):
            continue
        positional, named = [], {}
        for one in parameters:
            if one.name == wanted.name:
                given: Any = Wrong()
            elif one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
                given = made.cache if one.name == "cache" else FITTING.get(one.name, "k")
            else:
                continue
            if one.kind is one.POSITIONAL_ONLY:
                positional.append(given)
            else:
                named[one.name] = given
        looked_at += 1
        try:
            result = getattr(made, name)(*positional, **named)
        except Exception as error:
            told = " ".join((str(error), *getattr(error, "__notes__", ())))
            if wanted.name not in told and not (isinstance(error, KeyError) and error.args == ("k",)):
                unnamed.append(f"{name}({wanted.name}=): {type(error).__name__}: {error}")
        else:
            if inspect.isawaitable(result) and hasattr(result, "close"):
                result.close()
    assert looked_at
    assert unnamed == []


CALLS: list[tuple[str, Callable[[Any], object], type[Exception], str]] = [
    ("Cache", lambda cache: cache.push(1, prefix=5), TypeError, "^prefix must be a str or None, not int"),
    ("Cache", lambda cache: cache.pull("\ud800"), ValueError, "^prefix must be text without lone surrogates"),
    ("Cache", lambda cache: cache.peek(side="x"), KeyError, "side must be 'front' or 'back', not 'x'"),
    ("FanoutCache", lambda cache: cache.peek(side="x"), KeyError, "side must be 'front' or 'back', not 'x'"),
    *(
        (kind, lambda cache: cache.get_many(5), TypeError, "^keys must be an iterable of keys, not int")
        for kind in ("FlexCache", "Cache", "FanoutCache", "SharedCache")
    ),
    *(
        (kind, lambda cache: cache.delete_many(None), TypeError, "^keys must be an iterable of keys, not NoneType")
        for kind in ("FlexCache", "Cache", "FanoutCache", "SharedCache")
    ),
    *(
        (kind, lambda cache, given=given: cache.set_many(given), TypeError, "must be a mapping or an iterable of pairs")
        for kind in ("FlexCache", "Cache", "FanoutCache", "SharedCache")
        for given in (5, None, "text", b"bytes")
    ),
    *(
        (kind, lambda cache: cache.set_many(["ab"]), ValueError, "must be a mapping or an iterable of pairs")
        for kind in ("Cache", "FanoutCache", "SharedCache")
    ),
    ("FlexCache", lambda cache: cache.evict_tag("\ud800"), ValueError, "tag must be text without lone surrogates"),
    ("SharedCache", lambda cache: cache.incr("a", 2**70), ValueError, r"^by must be from -2\*\*63 to 2\*\*63 - 1"),
    ("SharedCache", lambda cache: cache.incr("a", 1, 2**70), ValueError, r"^initial must be from -2\*\*63"),
    ("SharedCache", lambda cache: cache.incr("a", "1"), TypeError, "^by must be an int, not str"),
    *(
        ("SharedCache", lambda cache, per=per: cache.limiter("a", 5, per), ValueError, "^per must")
        for per in (0, -1, float("nan"), float("inf"), 1e300)
    ),
    ("SharedCache", lambda cache: cache.limiter("a", 5, "x"), TypeError, "^per must be a number of seconds"),
]


@pytest.mark.parametrize(("kind", "call", "kind_of_error", "message"), CALLS)
def test_what_is_said(
    kind: str, call: Callable[[Any], object], kind_of_error: type[Exception], message: str, tmp_path: Path
) -> None:
    made = objects(tmp_path)
    if kind not in made:
        pytest.skip(f"{kind} is not here")
    with pytest.raises(kind_of_error, match=message):
        call(made[kind]())


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory is Linux's")
def test_names_of_shared_caches(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name must be text without lone surrogates"):
        SharedCache("\ud800")
    with pytest.raises(FileNotFoundError, match="the directory of the cache does not exist"):
        SharedCache(tmp_path / "nowhere" / "cache")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory is Linux's")
@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"cache_name": "../x"}, ValueError, "^cache_name must have"),
        ({"cache_name": ".."}, ValueError, "^cache_name must have"),
        ({"cache_name": 5}, TypeError, "^cache_name must be a str"),
        ({"expires": -1}, ValueError, "^expires must be more than 0"),
        ({"expires": float("nan")}, ValueError, "^expires must not be NaN"),
        ({"expires": "long"}, TypeError, "^expires must be a number of seconds"),
        ({"poolsize": "ten"}, TypeError, "^poolsize must be an int"),
        ({"root": 5}, TypeError, "^root must be a path"),
        ({"root": "/nonexistent/directory"}, FileNotFoundError, "root must be a directory"),
        ({"snapshot": 5}, TypeError, "^snapshot must be a path"),
    ],
)
def test_arguments_of_lilcache(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    from flexcache_rs import lilcache

    with pytest.raises(kind, match=message):
        lilcache.init(**arguments)


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory is Linux's")
def test_a_snapshot_is_a_file(tmp_path: Path) -> None:
    from flexcache_rs import lilcache

    lilcache.init("arguments-are-named")
    try:
        with pytest.raises(IsADirectoryError, match="path must be that of a file"):
            lilcache.snapshot(tmp_path)
    finally:
        lilcache.destroy()


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory is Linux's")
@pytest.mark.parametrize("action", ["stats", "clear", "unlink"])
def test_the_command_names_a_file_that_is_no_cache(
    action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from flexcache_rs.__main__ import main

    foreign = tmp_path / "notes"
    foreign.write_text("mine")
    foreign.chmod(0o600)
    assert main(["shared", action, str(foreign)]) == 1
    told = capsys.readouterr().err
    assert str(foreign) in told
    assert "None" not in told
    assert "standard output" not in told
    assert foreign.read_text() == "mine"
