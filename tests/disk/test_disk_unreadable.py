"""Values that cannot be read, and directories that others can write to."""

from __future__ import annotations

import json
import logging
import pickle
import pickletools
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.disk import (
    Cache,
    Deque,
    FanoutCache,
    FanoutIndex,
    Index,
    JSONSerializer,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A pickle without an end, one of a class that is gone, and one of Python 2 in letters.
DAMAGE = {"cut off": b"\x80\x05K", "no class": b"\x80\x04cgone.module\nClass\n.", "nonsense": b"\xff\xff", "empty": b""}
MAKERS: dict[str, Callable[..., Any]] = {
    "Cache": Cache,
    "FanoutCache": lambda path, **options: FanoutCache(path, shards=1, **options),
}


def damage(cache: Any, key: Any, value: bytes) -> None:
    """Replace what is stored without the library."""
    cache.close()
    (database,) = __import__("pathlib").Path(cache.directory).rglob("cache.db")
    with closing(sqlite3.connect(database)) as connection, connection:
        changed = connection.execute("UPDATE Cache SET value = ?, mode = 4 WHERE key = ?", (value, key)).rowcount
    assert changed == 1


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that makes a cache of each kind."""
    return MAKERS[request.param]


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_raises_stays(make: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    """Removing such a value fails too and leaves it in place."""
    cache = make(tmp_path)
    cache.set("a", [1], expire=1000, tag="t")
    damage(cache, "a", DAMAGE[kind])
    for call in (cache.get, cache.pop, cache.__getitem__, cache.pop):
        with pytest.raises(Exception):
            call("a")
        assert "a" in cache
        assert len(cache) == 1
    assert cache.evict("t") == 1


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_counts_as_missing(
    make: Callable[..., Any], tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and computed again."""
    cache = make(tmp_path, unreadable="missing", statistics=True)
    cache["a"], cache["b"] = [1], [2]
    damage(cache, "a", DAMAGE[kind])
    with caplog.at_level(logging.ERROR, logger="flexcache_rs"):
        assert cache.get("a", "default") == "default"
    assert "counts as missing" in caplog.text
    assert cache.stats() == (0, 1)
    with pytest.raises(KeyError):
        cache["a"]
    copied = pickle.loads(pickle.dumps(cache))
    assert copied.get("a") is None
    copied.close()
    calls: list[int] = []
    cached = cache.memoize(name="f")(lambda: calls.append(1))
    cached()
    damage(cache, pickletools.optimize(pickle.dumps(cached.__cache_key__(), pickle.HIGHEST_PROTOCOL)), DAMAGE[kind])
    cached()
    assert len(calls) == 2
    assert cache.pop("a", "gone") == "gone"
    assert "a" not in cache
    assert cache["b"] == [2]


def test_queues(tmp_path: Path) -> None:
    """An unreadable value at an end of a queue stays, or is skipped."""
    cache = Cache(tmp_path)
    first = cache.push([1])
    cache.push([2])
    damage(cache, first, b"\xff")
    for call in (cache.peek, lambda: cache.peekitem(last=False), cache.pull, cache.peek, cache.pull):
        with pytest.raises(pickle.UnpicklingError):
            call()
        assert len(cache) == 2
    cache.close()
    cache = Cache(tmp_path, unreadable="missing")
    assert cache.peek()[1] == [2]
    assert cache.pull()[1] == [2]
    assert cache.pull() == (None, None)
    cache["a"], cache["b"] = [1], [2]
    damage(cache, "b", b"\xff")
    assert cache.peekitem() == ("a", [1])
    assert len(cache) == 1
    deque = Deque.fromcache(Cache(tmp_path / "deque", eviction_policy="none", unreadable="missing"), [[1], [2], [3]])
    damage(deque.cache, 500_000_000_000_001, b"\xff")
    assert list(deque) == [[1], [3]]
    assert [deque.popleft(), deque.popleft()] == [[1], [3]]


def test_what_was_stored_meanwhile_stays(tmp_path: Path) -> None:
    """A value that is stored while another one is found unreadable is not lost."""
    other = Cache(tmp_path)

    class Late(JSONSerializer):
        def loads(self, data: bytes, /) -> Any:
            if data == b"[1]":
                other_json["a"] = [2]
                raise ValueError("cannot be read")
            return super().loads(data)

    other.close()
    directory = tmp_path / "json"
    other_json = Cache(directory, serializer=JSONSerializer())
    for unreadable in ("raise", "missing"):
        other_json["a"] = [1]
        cache = Cache(directory, serializer=Late(), unreadable=unreadable)  # type: ignore[arg-type]
        if unreadable == "raise":
            with pytest.raises(ValueError, match="cannot be read"):
                cache.pop("a")
            assert other_json["a"] == [2]
        else:
            assert cache.peekitem() == ("a", [2])
        cache.close()


def test_an_interrupt_takes_nothing_away(tmp_path: Path) -> None:
    """A value stays in place if a signal interrupts its removal."""

    class Interrupted(JSONSerializer):
        fails = True

        def loads(self, data: bytes, /) -> Any:
            if self.fails:
                raise KeyboardInterrupt
            return super().loads(data)

    serializer = Interrupted()
    cache = Cache(tmp_path, serializer=serializer, unreadable="missing")
    cache["a"] = {"large": "x" * 50_000}
    with pytest.raises(KeyboardInterrupt):
        cache.pop("a")
    serializer.fails = False
    assert cache.pop("a") == {"large": "x" * 50_000}
    assert cache.check() == []


@pytest.mark.parametrize("unreadable", ["ignore", None, True, "Missing"])
def test_other_ways(make: Callable[..., Any], tmp_path: Path, unreadable: Any) -> None:
    """The option has two values."""
    with pytest.raises(ValueError, match="unreadable must be 'raise' or 'missing'"):
        make(tmp_path / "new", unreadable=unreadable)
    assert not list(tmp_path.iterdir())


def test_files_that_migration_may_read(tmp_path: Path) -> None:
    """A migration reads files of the source only, and no other files of the user."""
    (tmp_path / "secret").write_bytes(b"\x80\x04\x8c\x06SECRET.")
    source = tmp_path / "source"
    source.mkdir()
    (source / "inside").write_bytes(b"\x80\x04\x8c\x06INSIDE.")
    (source / "link").symlink_to(tmp_path / "secret")
    (source / "dir").mkdir()
    names = ["inside", "../secret", str(tmp_path / "secret"), "link", "dir/../../secret", "dir", "", ".", "..", "none"]
    with closing(sqlite3.connect(source / "sciqlop-cache.db")) as connection, connection:
        connection.execute("CREATE TABLE meta (key, value)")
        connection.execute("CREATE TABLE cache (key TEXT, path TEXT, value BLOB, expire REAL, tag TEXT, size INTEGER)")
        connection.executemany(
            "INSERT INTO cache VALUES (?, ?, NULL, NULL, NULL, 10)", [(f"key {name}", name) for name in names]
        )
    command = [sys.executable, "-m", "flexcache_rs", "disk", "migrate", str(source), str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    cache = Cache(tmp_path / "new")
    assert {key: cache[key] for key in cache} == {"key inside": "INSIDE"}


@pytest.mark.parametrize("name", ["deque/jobs", "index/a/b"])
def test_an_import_through_a_link(tmp_path: Path, name: str) -> None:
    """An import does not follow a link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "target"
    Cache(target).close()
    link = target / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    export = tmp_path / "export"
    lines = ({"flexcache_disk_export": 1}, {"cache": name}, {"key": 1, "mode": 1, "value": 1}, {"entries": 1})
    export.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "flexcache_rs", "disk", "import", str(target), str(export)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "link" in done.stderr
    assert not list(outside.iterdir())


@pytest.mark.parametrize("kind", ["Index", "FanoutIndex"])
@pytest.mark.parametrize("what", ["file", "pickle"])
def test_setdefault_over_a_value_that_counts_as_missing(tmp_path: Path, kind: str, what: str) -> None:
    """It stores the default. It must not wait for the value to be gone."""
    cache: Any = Cache(tmp_path, unreadable="missing")
    stored: Any = Index.fromcache(cache)
    if kind == "FanoutIndex":
        stored = FanoutIndex(tmp_path, shards=2)
        cache = stored.cache
        for shard in cache.shards:
            shard._set_unreadable_is_missing(True)
    with stored:
        stored["key"] = [1] * (20_000 if what == "file" else 1)
        if what == "file":
            (path,) = tmp_path.rglob("*.val")
            path.unlink()
        else:
            home = cache if kind == "Index" else cache._flexcache_shard("key")
            damage(home, "key", DAMAGE["nonsense"])
        assert stored.setdefault("key", "default") == "default"
        assert stored.setdefault("key", "other") == stored["key"] == "default"
        assert stored.setdefault("new") is None
        assert dict(stored) == {"key": "default", "new": None}
