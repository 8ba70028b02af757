"""Compressed bytes that expand to far more than they claim, or are damaged."""

from __future__ import annotations

import gzip
import json
import sqlite3
import subprocess
import sys
import textwrap
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest

from flexcache_rs.disk import Cache, FanoutCache, JSONDisk

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 10_000


@pytest.mark.parametrize("where", ["row", "file", "key"])
def test_json_that_is_larger_than_the_limit(tmp_path: Path, where: str) -> None:
    """It is refused when it is stored. If it is stored already, it is refused before memory is allocated for it."""
    size = {"disk_min_file_size": 10 if where == "file" else 10**6}
    long = "x" * 20_000_000
    key, value = (long, 1) if where == "key" else ("key", long)
    with Cache(tmp_path, disk=JSONDisk, **size) as cache:
        cache[key] = value
    with Cache(tmp_path, disk=JSONDisk, disk_max_bytes=LIMIT) as cache:
        assert cache.disk_max_bytes == LIMIT
        with pytest.raises(ValueError, match=r"has 20,000,002 bytes of JSON, more than disk_max_bytes=10,000"):
            cache[key] = value
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="disk_max_bytes=10,000") as raised:
                assert list(cache) if where == "key" else cache["key"]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 2_000_000
        if where == "file":
            assert ".val" in str(raised.value)
        if where != "key" and sys.version_info >= (3, 11):
            (note,) = raised.value.__notes__
            assert str(tmp_path) in note
    with Cache(tmp_path, disk=JSONDisk, unreadable="missing") as cache:
        assert where == "key" or "key" in cache
        assert where == "key" or cache.get("key") is None


@pytest.mark.parametrize("damage", ["cut", "flipped"])
@pytest.mark.parametrize("kind", [Cache, FanoutCache])
def test_json_that_is_damaged(tmp_path: Path, damage: str, kind: type) -> None:
    """The message names the damaged value."""
    with kind(tmp_path, disk=JSONDisk, disk_min_file_size=100) as cache:
        cache["a"] = list(range(1000))
        (path,) = tmp_path.rglob("*.val")
        content = bytearray(path.read_bytes())
        if damage == "cut":
            # The row says how long the file is, and a file of another length is no such file.
            content[-200:] = content[:200]
        else:
            content[100] ^= 255
        path.write_bytes(content)
        with pytest.raises(zlib.error, match=r"the value in the file .*\.val is damaged"):
            cache.get("a")


def test_json_without_its_end(tmp_path: Path) -> None:
    """Truncated JSON does not count as a value."""
    with Cache(tmp_path, disk=JSONDisk) as cache:
        cache["a"] = list(range(1000))
    connection = sqlite3.connect(tmp_path / "cache.db")
    connection.execute("UPDATE Cache SET value = substr(value, 1, length(value) - 10)")
    connection.commit()
    connection.close()
    with Cache(tmp_path, disk=JSONDisk) as cache, pytest.raises(zlib.error, match="end of its compressed bytes"):
        cache.get("a")


def test_the_limit_is_what_json_may_have(tmp_path: Path) -> None:
    """A value of exactly the limit is stored and read."""
    with Cache(tmp_path, disk=JSONDisk, disk_max_bytes=100) as cache:
        for count in (97, 98):
            cache["a"] = "x" * count
            assert cache["a"] == "x" * count
        with pytest.raises(ValueError, match="the value of the key 'a' has 101 bytes"):
            cache["a"] = "x" * 99
        assert len(json.dumps(cache["a"])) == 100
    for wrong in (0, 1.5, "many"):
        with pytest.raises((TypeError, ValueError), match="disk_max_bytes must be"):
            Cache(tmp_path / "other", disk=JSONDisk, disk_max_bytes=wrong)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it limits the memory of a process")
def test_a_trace_that_is_larger_than_the_memory(tmp_path: Path) -> None:
    """The command says that the memory does not suffice, and names the file."""
    path = tmp_path / "small.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(300):
            file.write(b"key\n" * 2**18)
    program = textwrap.dedent("""
        import resource, sys
        from flexcache_rs.replay.trace import TraceError, read
        resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))
        try:
            read(sys.argv[1])
        except TraceError as error:
            print(error)
    """)
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert done.stdout == f"{path}: there is not enough memory for what it holds\n", done.stderr[-2000:]
