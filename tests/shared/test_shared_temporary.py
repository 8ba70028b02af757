"""Temporary caches are shared with children and through pickles. The last process that has one open removes it."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.__main__ import main
from flexcache_rs._shared_files import directory, files
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLDS = """
import pickle, sys
from flexcache_rs.shared import SharedCache
cache = pickle.loads(bytes.fromhex(sys.argv[1])) if sys.argv[1:] else SharedCache(None, max_bytes=1 << 20)
cache["seen"] = cache.get("seen", 0) + 1
print(cache.path, pickle.dumps(cache).hex(), flush=True)
sys.stdin.read()
"""


class Holder:
    """Another process that has a temporary cache open."""

    def __init__(self, cache: bytes | None = None) -> None:
        command = [sys.executable, "-c", HOLDS, *([] if cache is None else [cache.hex()])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        path, pickled = self.process.stdout.readline().split()
        self.path, self.pickled = Path(path), bytes.fromhex(pickled)

    def kill(self) -> None:
        """Kill the process at once."""
        self.process.kill()
        self.end()

    def end(self) -> None:
        """Wait until the process has ended."""
        self.process.communicate(timeout=60)


@pytest.fixture
def temporary() -> Iterator[SharedCache]:
    with SharedCache(None, max_bytes=1 << 20) as cache:
        yield cache


def add(cache: SharedCache, number: int) -> None:
    cache.incr("sum", number)


def test_it_is_shared_with_children_and_through_pickles(temporary: SharedCache) -> None:
    """Each process has the same cache."""
    for method in ("fork", "spawn"):
        context: Any = multiprocessing.get_context(method)
        children = [context.Process(target=add, args=(temporary, number)) for number in (1, 2)]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
            assert child.exitcode == 0
    assert temporary["sum"] == 6
    assert pickle.loads(pickle.dumps(temporary))["sum"] == 6
    assert SharedCache(temporary.path, create=False)["sum"] == 6


def test_each_is_another(temporary: SharedCache) -> None:
    """The name of a temporary cache says where it is, and that it is temporary."""
    with SharedCache(None, max_bytes=1 << 20) as other:
        other["k"] = 1
        assert "k" not in temporary
        assert other.name != temporary.name
        assert other.name.startswith("~")
        assert Path(other.path).parent == directory()
        with pytest.raises(ValueError, match="name"):
            SharedCache(other.name)


@pytest.mark.parametrize("how", ["close", "del", "end of the program"])
def test_the_last_one_removes_it(how: str) -> None:
    """The last process removes the cache, however it ends, unless it is killed."""
    if how == "end of the program":
        holder = Holder()
        path = holder.path
        assert path.exists()
        holder.end()
        assert not path.exists()
        return
    cache = SharedCache(None, max_bytes=1 << 20)
    path = Path(cache.path)
    with SharedCache(path) as other:
        if how == "close":
            cache.close()
        else:
            del cache
        assert path.exists(), "another one has it open"
        other["k"] = 1
    assert not path.exists()


def test_a_forked_child_keeps_it(temporary: SharedCache) -> None:
    """A forked child has its own lock on the file."""
    path = Path(temporary.path)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        # It is still there under its name, and the last one to leave removes it.
        there = path.exists()
        temporary["k"] = 1
        temporary.close()
        os._exit(0 if there and not path.exists() else 1)
    temporary.close()
    try:
        assert path.exists()
    finally:
        os.close(write)
        os.close(read)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("finder", ["opening", "temporary", "list"])
def test_what_a_killed_program_left_is_removed(finder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The next program that opens or lists caches removes it, unless another process has it open."""
    first = Holder()
    path = first.path
    second = Holder(first.pickled)
    first.kill()

    def find() -> None:
        if finder == "list":
            assert main(["shared", "list", "--json"]) == 0
            listed = json.loads(capsys.readouterr().out)
            assert path.exists() == any(content["path"] == str(path) for content in listed)
        else:
            name = None if finder == "temporary" else f"test-temporary-{os.getpid()}"
            with SharedCache(name, max_bytes=1 << 20) as cache:
                cache.unlink()

    find()
    assert path.exists(), "a process has it open"
    with SharedCache(path, create=False) as cache:
        assert cache["seen"] == 2
    second.kill()
    find()
    assert not path.exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the processes cannot be listed here")
@pytest.mark.parametrize("command", [["list"], ["watch", "--count", "1"]], ids=" ".join)
def test_the_processes_are_listed_once_for_all_caches(
    temporary: SharedCache, monkeypatch: pytest.MonkeyPatch, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    read_text, seen = Path.read_text, Counter[Path]()

    def counted(path: Path, *options: Any) -> str:
        seen[path] += path.name == "maps"
        return read_text(path, *options)

    with SharedCache(None, max_bytes=1 << 20) as other:
        monkeypatch.setattr(Path, "read_text", counted)
        assert main(["shared", *command]) == 0
        monkeypatch.undo()
        listed = capsys.readouterr().out
        for cache in (temporary, other):
            assert cache.path.name.split(".")[0] in listed
    assert seen[Path(f"/proc/{os.getpid()}/maps")] == 1


def test_looking_needs_no_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Listing does not need the directory, and does not create it."""
    monkeypatch.setattr("flexcache_rs._shared_files.directory", lambda: tmp_path / "none")
    assert files() == []
    assert not (tmp_path / "none").exists()
