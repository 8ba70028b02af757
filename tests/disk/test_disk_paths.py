"""Paths of directories: relative ones, and those with unusual bytes."""

from __future__ import annotations

import copy
import os
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.disk import Cache, Deque, Disk, FanoutCache, FanoutIndex, Index

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = "value" * 10_000


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another directory than the working directory, which is `tmp_path / "here"`."""
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "elsewhere"


@pytest.mark.parametrize("kind", [Cache, FanoutCache, Index, FanoutIndex])
@pytest.mark.parametrize("path", ["cache", "./a/cache"])
def test_a_cache_stays_where_it_is(elsewhere: Path, kind: Callable[..., Any], path: str) -> None:
    """The program changes its working directory: afterwards the relative path would lead to another directory."""
    with kind(path) as cache:
        cache["before"] = LARGE
        assert Path(cache.directory) == Path.cwd() / path
        os.chdir(elsewhere)
        cache["after"] = LARGE
        cache.close()
        for same in (cache, copy.copy(cache) if kind is not FanoutIndex else cache, pickle.loads(pickle.dumps(cache))):
            assert (same["before"], same["after"]) == (LARGE, LARGE)
        if isinstance(cache, Cache):
            assert cache.check() == []
    assert not list(elsewhere.iterdir())


def test_parts_stay_where_they_are(elsewhere: Path) -> None:
    """Those of a FanoutCache, and the copy of a deque."""
    with FanoutCache("fanout") as fanout, Deque([1], "deque") as deque:
        os.chdir(elsewhere)
        fanout.cache("a")["b"] = 1
        fanout.deque("a").append(1)
        fanout.index("a")["b"] = 1
        deque.append(2)
        assert list(deque.copy()) == [1, 2]
    assert not list(elsewhere.iterdir())


def test_links_in_a_relative_path_are_followed(elsewhere: Path) -> None:
    """A ".." after a link leads to the parent of the directory that the link points to."""
    (elsewhere / "target").mkdir()
    Path("link").symlink_to(elsewhere / "target")
    with Cache("link/../cache") as cache:
        cache["a"] = 1
    assert (elsewhere / "cache" / "cache.db").exists()


class Recording(Disk):
    """A disk with its own method to remove files."""

    removed: list[str] = []  # noqa: RUF012

    def remove(self, file_path: str, /) -> None:
        """Note the path."""
        self.removed.append(file_path)
        super().remove(file_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse these bytes, or have text as paths")
def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    """Its bytes are not lost on the way through Python."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9")
    Recording.removed.clear()
    with Cache(path, disk=Recording) as cache:
        assert cache.directory == path
        cache["a"] = LARGE
        (file,) = Path(path).rglob("*.val")
        assert pickle.loads(pickle.dumps(cache))["a"] == LARGE
        name, full = cache.disk.filename()
        assert full == os.path.join(path, name)  # noqa: PTH118
        del cache["a"]
        assert (Recording.removed, file.exists()) == ([str(file)], False)
    with Deque([1], path + "deque") as deque:
        assert list(deque.copy()) == [1]
    assert {os.fsencode(found.name) for found in tmp_path.iterdir()} == {b"\xff\xe9", b"\xff\xe9deque"}
