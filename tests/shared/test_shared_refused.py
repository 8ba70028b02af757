"""Arguments of shared caches, their locks and lilcache's functions that are refused, before anything is created."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import flexcache_rs.lilcache as lilcache
from flexcache_rs._shared_files import directory
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class PathOfBytes:
    """A path that is no text."""

    def __fspath__(self) -> bytes:
        return b"/dev/shm/bytes"


LOCKS: dict[str, tuple[Callable[[SharedCache], object], type[Exception], str]] = {
    "no time": (lambda cache: cache.lock("a", ttl=0), ValueError, "ttl must be more than 0"),
    "less than no time": (lambda cache: cache.lock("a", ttl=-1), ValueError, "ttl must be more than 0"),
    "no period": (lambda cache: cache.limiter("a", 1, per=0), ValueError, "per must be more than 0"),
    "a long period": (lambda cache: cache.limiter("a", 1, per=4e9), ValueError, "at most"),
    "no uses": (lambda cache: cache.limiter("a", 0), ValueError, "limit must be from 1"),
}
NAMES: dict[str, tuple[Any, type[Exception], str]] = {
    "a path of bytes": (PathOfBytes(), TypeError, "name must be a path of str"),
    "a lone surrogate": ("\udc80", ValueError, "without lone surrogates"),
    "a missing directory": ("MISSING/cache", FileNotFoundError, "the directory of the cache does not exist"),
}
INIT: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a name of bytes": ({"cache_name": b"name"}, TypeError, "cache_name must be a str"),
    "a path as a name": ({"cache_name": "a/b"}, ValueError, "cache_name must have letters"),
    "a parent": ({"cache_name": ".."}, ValueError, "cache_name must have letters"),
    "no time": ({"expires": 0}, ValueError, "expires must be more than 0"),
    "a missing root": ({"root": "MISSING"}, FileNotFoundError, "root must be a directory"),
    "a number as root": ({"root": 5}, TypeError, "root must be a path"),
    "a number as snapshot": ({"snapshot": 5}, TypeError, "snapshot must be a path"),
    "text as poolsize": ({"poolsize": "10"}, TypeError, "poolsize must be an int"),
}


@pytest.mark.parametrize("case", LOCKS)
def test_locks_and_limiters(cache: SharedCache, case: str) -> None:
    make, error, text = LOCKS[case]
    with pytest.raises(error, match=text):
        make(cache)


@pytest.mark.parametrize("case", NAMES)
def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    name, error, text = NAMES[case]
    with pytest.raises(error, match=text):
        SharedCache(name, max_bytes=1 << 20)
    # Other tests have caches in the same directory.
    assert not [path for path in directory().glob("*") if isinstance(name, str) and name and path.name.startswith(name)]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", INIT)
def test_lilcache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """The cache that was opened before stays in use."""
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o700)
    lilcache.init("refused", root=tmp_path)
    try:
        lilcache.set("key", 1)
        wrong, error, text = INIT[case]
        with pytest.raises(error, match=text):
            lilcache.init(**{"cache_name": "other", "root": tmp_path, **wrong})
        assert lilcache.get("key") == 1
        with pytest.raises(TypeError, match="path must be a str or a path"):
            lilcache.snapshot(5)  # type: ignore[arg-type]
        with pytest.raises(IsADirectoryError, match="path must be that of a file"):
            lilcache.snapshot(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["refused.lil"]
    finally:
        lilcache.destroy()
