"""Directories that cannot be written, because of permissions or because the file system is mounted read-only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from other_users import printed, readable_directory

from flexcache_rs.disk import Cache, FanoutCache

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not hasattr(os, "setuid"), reason="the modes of files are Unix's")

# Root may write everywhere, so a program of root's becomes somebody else after its imports.
BEGIN = """
import inspect, json, linecache, logging, os, pickle, random, sqlite3, sys, threading, warnings
import flexcache_rs, flexcache_rs.disk, flexcache_rs.disk.recipes
from flexcache_rs import FlexCache
from flexcache_rs.disk import Cache, FanoutCache
if os.getuid() == 0 and "mounted" not in sys.argv:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
directory, kind = sys.argv[1:3]
warnings.simplefilter("ignore")
cache = FanoutCache(directory, 2) if kind == "fanout" else Cache(directory)
"""

READ = """
out = {"read_only": cache.read_only, "a": cache["a"], "large": len(cache["large"]), "in": ["a" in cache, "x" in cache],
       "len": len(cache), "keys": len(list(cache)), "many": cache.get_many(["a", "x"]), "stats": cache.stats(),
       "check": cache.check(), "expire": cache.get("a", expire_time=True)[0], "peek": cache.peek(),
       "default": cache.get("x", 7), "queue": cache.peek("queue")[1]}
if kind != "fanout":
    out["first"], out["last"] = cache.peekitem(last=False)[0], cache.peekitem()[0]
    out["sql"] = cache.query("SELECT COUNT(*) FROM Cache").fetchall()[0][0]
cache.close()
out["reopened"] = cache["a"]
print(json.dumps(out))
"""

WRITE = """
def transact():
    with cache.transact():
        pass
def batch():
    cache.set_many({"x": 1})
def lock():
    cache.lock("l").acquire()
calls = [transact, batch, lock, cache.clear, cache.expire, cache.reset_stats]
calls += [lambda name=name, rest=rest: getattr(cache, name)(*rest) for name, rest in {
    "set": ("x", 1), "add": ("x", 1), "delete": ("a",), "pop": ("a",), "incr": ("n",), "touch": ("a",), "push": (1,),
    "pull": (), "evict": ("t",), "__setitem__": ("x", b"x" * 100_000), "__delitem__": ("a",)}.items()]
if kind != "fanout":
    calls += [lambda: cache.reset("cull_limit", 3), lambda: cache.check(fix=True)]
    calls += [lambda: cache._sql("DELETE FROM Cache")]
said = []
for call in calls:
    try:
        said.append(repr(call()))
    except PermissionError as error:
        said.append([error.filename.startswith(directory), str(error)[:44]])
print(json.dumps(said))
"""

COMPUTE = """
warnings.simplefilter("always")
counts = []
with warnings.catch_warnings(record=True) as caught:
    @cache.memoize(name="f")
    def f(number):
        counts.append(number)
        return "x" * number
    out = [len(f(10)), len(f(10)), len(f(100_000))]
    front = FlexCache(max_items=100, store=cache, coherence="strict")
    out += [front.get("a"), front.get_or_set("y", lambda: 5), front.get_or_set("y", lambda: 6)]
    try:
        front["y"] = 1
    except PermissionError as error:
        out.append(error.filename.startswith(directory))
warned = [str(warning.message) for warning in caught]
print(json.dumps([out, counts, warned]))
"""


def python(program: str, *arguments: object, mounted: bool = False) -> Any:
    """Return what a program printed, as JSON. Root's program may see the directory through a read-only mount."""
    command: list[object] = [sys.executable, "-c", BEGIN + textwrap.dedent(program), *arguments]
    if mounted:
        mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@" mounted'
        command = ["unshare", "-m", "sh", "-c", mount, arguments[0], *command]
    return printed(*command)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may read."""
    with readable_directory() as path:
        yield path / "cache"


def fill(place: Path, kind: str, **settings: Any) -> Any:
    """Fill a cache whose reads would write."""
    if kind == "rollback":
        settings["sqlite_journal_mode"] = "delete"
    settings = {"statistics": 1, "eviction_policy": "least-recently-used", **settings}
    made: Any = FanoutCache(place, 2, **settings) if kind == "fanout" else Cache(place, **settings)
    made.set("a", 1, tag="t")
    made["large"] = b"x" * 50_000
    made.push("first")
    made.push("job", prefix="queue")
    return made


def protect(place: Path) -> None:
    """Let other users read, and only root write."""
    for path in place.glob("**/*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    place.chmod(0o555)


def content(place: Path) -> dict[str, bytes]:
    """Return every file and its content."""
    return {str(path): path.read_bytes() for path in place.glob("**/*") if path.is_file()}


def can_mount() -> bool:
    """Return True if root may mount a file system."""
    if not sys.platform.startswith("linux") or os.getuid() != 0 or shutil.which("unshare") is None:
        return False
    probe = "mount --bind /tmp /tmp && mount -o remount,bind,ro /tmp"
    return subprocess.run(["unshare", "-m", "sh", "-c", probe], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("kind", ["log", "rollback", "fanout"])
@pytest.mark.parametrize("way", ["modes", "mount"])
def test_a_directory_that_cannot_be_written(place: Path, kind: str, way: str) -> None:
    """It can be opened, and reads write nothing.

    Writes raise an exception that names it. Results are computed, with one warning.
    """
    if way == "mount" and not can_mount():
        pytest.skip("nothing can be mounted here")
    fill(place, kind).close()
    if way == "modes":
        protect(place)
    before = content(place)
    mounted = way == "mount"
    found = python(READ, place, kind, mounted=mounted)
    assert (found["read_only"], found["a"], found["large"], found["in"], found["len"]) == (
        True,
        1,
        50_000,
        [True, False],
        4,
    )
    assert (found["many"], found["stats"], found["check"], found["default"]) == ({"a": 1}, [0, 0], [], 7)
    assert (found["reopened"], found["queue"], found["peek"][1]) == (1, "job", "first")
    if kind != "fanout":
        assert (found["sql"], found["first"]) == (4, "a")
    for said in python(WRITE, place, kind, mounted=mounted):
        assert said == [True, "[Errno 13] the cache directory cannot be wri"]
    out, counts, warned = python(COMPUTE, place, kind, mounted=mounted)
    assert out == [10, 10, 100_000, 1, 5, 6, True]
    assert counts == [10, 10, 100_000]
    assert len(warned) == 1
    assert "cannot be written: results are computed and not stored" in warned[0]
    assert content(place) == before


def test_a_directory_without_a_cache(place: Path) -> None:
    """The error says that there is no cache, and the directory stays empty."""
    place.mkdir()
    protect(place)
    if os.getuid() == 0:
        with pytest.raises(AssertionError, match="cannot be written and has no cache in it"):
            python("print(1)", place, "log")
    else:
        with pytest.raises(PermissionError, match="cannot be written and has no cache in it"):
            Cache(place)
    assert content(place) == {}


TALK = """
front = FlexCache(max_items=100, store=cache, coherence="strict")
for line in sys.stdin:
    print(json.dumps([cache["a"], front["a"], cache.read_only]), flush=True)
"""


@pytest.mark.parametrize("kind", ["log", "rollback"])
def test_a_reader_sees_what_a_writer_does(place: Path, kind: str) -> None:
    """The reader sees the changes, also without a log at its opening, and after the writer has closed the cache."""
    fill(place, kind).close()
    protect(place)
    if os.getuid() != 0:
        pytest.skip("the writer is root")
    command = [sys.executable, "-c", BEGIN + TALK, str(place), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin
        assert reader.stdout

        def ask() -> Any:
            print(file=reader.stdin, flush=True)
            return json.loads(reader.stdout.readline())

        assert ask() == [1, 1, True]
        for number in (2, 3, 4):
            with Cache(place) as writer:
                writer["a"] = number
                assert ask() == [number, number, True]
                writer["a"] = number * 10
                assert ask() == [number * 10, number * 10, True]
            assert ask() == [number * 10, number * 10, True]
        reader.stdin.close()
        assert reader.wait(30) == 0


def test_a_log_without_its_index(place: Path) -> None:
    """It cannot be read without writing. The message says what to do."""
    with fill(place.with_name("live"), "log"):
        shutil.copytree(place.with_name("live"), place)
        (place / "cache.db-shm").unlink()
    protect(place)
    if os.getuid() == 0:
        with pytest.raises(AssertionError, match=r"cache\.db-shm that this takes is missing"):
            python("print(1)", place, "log")
    place.chmod(0o755)
    for path in place.glob("cache*"):
        path.chmod(0o644)
    with Cache(place) as cache:
        assert cache["a"] == 1
