"""The functions of lilcache, and the command `shared`."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from own_names import own_names
from waiting import until

from flexcache_rs import lilcache
from flexcache_rs.__main__ import main
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from pathlib import Path

NAME = f"lilcache-test-{os.getpid()}"


def test_calls(tmp_path: Path) -> None:
    """The calls behave as in lilcache, and other processes see the entries."""
    lilcache.init(NAME, root=tmp_path, poolsize=3)
    try:
        value = b"any <<->> bytes <<=>>\0\xff"
        assert lilcache.set("foo", value) is True
        assert (lilcache.get("foo"), lilcache.get("bar"), lilcache.pop("bar")) == (value, None, None)
        program = f"from flexcache_rs import lilcache as l; l.init({NAME!r}, {str(tmp_path)!r}); print(l.pop('foo'))"
        printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert printed.strip() == repr(value)
        lilcache.set("k", [1])
        assert (lilcache.delete("k"), lilcache.delete("k")) == (True, False)
    finally:
        lilcache.destroy()
    with pytest.raises(RuntimeError, match="init"):
        lilcache.get("foo")
    assert list(tmp_path.glob("*.lil")) == []


def test_snapshots(tmp_path: Path) -> None:
    """Snapshots are loaded into an empty cache, with the times to live that were left. Damaged files are refused."""
    path = tmp_path / "snapshot"
    lilcache.init(NAME, snapshot=path, expires=100)
    lilcache.set("a", b"\xff")
    lilcache.set("b", {"x": 1})
    assert lilcache.snapshot(path) == 2
    lilcache.destroy()
    lilcache.init(NAME, snapshot=path)
    assert (lilcache.get("a"), lilcache.get("b")) == (b"\xff", {"x": 1})
    with SharedCache(NAME) as cache:
        left = cache.ttl("a")
        assert left is not None
        assert 0 < left <= 100
    lilcache.set("a", "later")
    lilcache.init(NAME, snapshot=path)
    assert lilcache.get("a") == "later", "the cache was not empty"
    lilcache.destroy()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="snapshot"):
        lilcache.init(NAME, snapshot=path)
    with SharedCache(NAME) as cache:
        cache.unlink()
    assert [file.name for file in tmp_path.iterdir()] == ["snapshot"]


def test_entries_expire_while_they_are_in_a_snapshot(tmp_path: Path) -> None:
    """The time between writing and loading the file counts."""
    path = tmp_path / "snapshot"
    lilcache.init(NAME, expires=0.2)
    lilcache.set("a", 1)
    assert lilcache.snapshot(path) == 1
    until(lambda: lilcache.get("a") is None)
    lilcache.destroy()
    lilcache.init(NAME, snapshot=path)
    try:
        assert lilcache.get("a") is None
    finally:
        lilcache.destroy()


def test_examples() -> None:
    """The examples of the module work."""
    for test in doctest.DocTestFinder().find(lilcache):
        test.examples = doctest.DocTestParser().get_examples(own_names(test.docstring or ""))
        assert doctest.DocTestRunner().run(test).failed == 0


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The command lists, describes, empties and removes caches."""
    with SharedCache(NAME, max_bytes=1 << 20) as cache:
        cache["a"] = 1
        assert main(["shared", "list"]) == 0
        assert f"{NAME}: 1 entries" in capsys.readouterr().out
        assert main(["shared", "list", "--json"]) == 0
        listed = {found["name"]: found for found in json.loads(capsys.readouterr().out)}
        assert os.getpid() in listed[NAME]["processes"]
        assert listed[NAME]["stats"]["entries"] == 1
        assert main(["shared", "stats", NAME]) == 0
        assert "largest_item" in capsys.readouterr().out
        assert main(["shared", "stats", NAME, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["entries"] == 1
        assert main(["shared", "clear", NAME]) == 0
        assert "1 entries removed" in capsys.readouterr().out
        assert "a" not in cache
        path = cache.path
        assert main(["shared", "unlink", NAME]) == 0
        assert not path.exists()
        for action in ("stats", "clear", "unlink"):
            assert main(["shared", action, NAME]) == 1
            assert NAME in capsys.readouterr().err
        assert not path.exists(), "looking for it does not create it"
