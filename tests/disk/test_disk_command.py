"""`flexcache disk`: options, check and stats, each in a process of its own."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import FILLED, content, files, flexcache, program


def test_check_of_what_is_well(cache: Path, fanout: Path) -> None:
    """Each database without findings has one line, and nothing changes."""
    before = files(cache)
    assert flexcache("check", cache).stdout == f"{cache}: ok\n"
    assert files(cache) == before
    lines = flexcache("check", fanout).stdout.splitlines()
    inside = ["000", "001", "002", "003", "deque/jobs/first", "index/names"]
    assert lines == [f"{fanout / name}: ok" for name in inside]


def test_check_finds_and_mends(cache: Path) -> None:
    """Each finding is printed. The exit status says whether a finding remains."""
    value = next(path for path in cache.rglob("*.val") if path.stat().st_size == 3_000_000)
    value.unlink()
    other = next(path for path in cache.rglob("*.val"))
    other.write_bytes(other.read_bytes() + b"more")
    (cache / "stray").write_bytes(b"")
    (cache / "empty").mkdir()
    with sqlite3.connect(cache / "cache.db") as connection:
        connection.execute("UPDATE Settings SET value = 99 WHERE key = 'count'")
    connection.close()
    found = flexcache("check", cache, status=1).stdout
    for kind in ("missing file", "wrong size", "unknown file", "empty directory", "wrong counter"):
        assert f"{cache}: {kind}: " in found
    assert "deleted" not in found
    mended = flexcache("check", cache, "--fix").stdout
    assert "(entry deleted)" in mended
    assert flexcache("check", cache).stdout == f"{cache}: ok\n"
    assert "'text'" in content(cache)


def test_check_spares_caches_inside(tmp_path: Path) -> None:
    """The files of a cache inside another cache do not count as unknown files."""
    program(FILLED, tmp_path)
    program(FILLED, tmp_path / "cache" / "inner")
    (tmp_path / "stray").write_bytes(b"")
    before = content(tmp_path / "cache" / "inner")
    done = flexcache("check", tmp_path, "--fix", status=1)
    assert "unknown file" in done.stdout
    assert f"{tmp_path}: not repaired: there are other caches inside this one" in done.stdout
    assert content(tmp_path / "cache" / "inner") == before


@pytest.mark.parametrize("action", ["check", "stats", "export"])
def test_a_damaged_database(cache: Path, action: str) -> None:
    """The command reports the damage and what to do. The exit status is 1."""
    (cache / "cache.db").write_bytes(b"no database at all" * 1000)
    done = flexcache(action, cache, *(["-"] if action == "export" else []), status=1)
    text = done.stdout + done.stderr
    assert "damaged" in text
    assert f"mv {cache} {cache}.damaged" in text
    assert "Traceback" not in text


def test_what_can_be_saved(tmp_path: Path) -> None:
    """An export continues after the damaged part."""
    program(
        """
        from flexcache_rs.disk import Cache
        with Cache(sys.argv[1]) as cache, cache.transact():
            for number in range(5_000):
                cache[number] = str(number) * 200
        """,
        tmp_path / "cache",
    )
    database = tmp_path / "cache" / "cache.db"
    data = bytearray(database.read_bytes())
    # Five whole pages: SQLite does not see what happens within a value.
    first = len(data) // 2 // 4096 * 4096
    data[first : first + 20_480] = b"harm" * 5_120
    database.write_bytes(data)
    assert "damaged" in flexcache("check", tmp_path / "cache", status=1).stdout
    done = flexcache("export", tmp_path / "cache", tmp_path / "export", status=1)
    assert "unreadable left out" in done.stderr
    assert "the database is damaged; the export has what could be read" in done.stderr
    flexcache("import", tmp_path / "saved", tmp_path / "export")
    saved = program(
        """
        from flexcache_rs.disk import Cache
        cache = Cache(sys.argv[1])
        assert all(cache[number] == str(number) * 200 for number in cache)
        print(len(cache), 4_999 in cache)
        """,
        tmp_path / "saved",
    )
    count, last = saved.split()
    assert 4_800 < int(count) < 5_000
    assert last == "True"


def test_check_of_a_directory_with_settings_of_its_own(tmp_path: Path) -> None:
    """A check needs no serializer, disk class or policy of the program."""
    program(
        """
        from flexcache_rs.disk import *
        Cache(sys.argv[1] + "/json", serializer=JSONSerializer())["a"] = [1]
        Cache(sys.argv[1] + "/disk", disk=JSONDisk, disk_compress_level=6)["a"] = [1]
        EVICTION_POLICY["mine"] = EVICTION_POLICY["none"]
        Cache(sys.argv[1] + "/policy", eviction_policy="mine")["a"] = [1]
        """,
        tmp_path,
    )
    for name in ("json", "disk", "policy"):
        before = files(tmp_path / name)["cache.db"]
        assert "ok" in flexcache("check", tmp_path / name).stdout
        flexcache("export", tmp_path / name, tmp_path / f"{name}.export")
        flexcache("import", tmp_path / f"{name}-copy", tmp_path / f"{name}.export")
        assert files(tmp_path / name)["cache.db"] == before
    program(
        """
        from flexcache_rs.disk import *
        assert Cache(sys.argv[1] + "/json-copy", serializer=JSONSerializer())["a"] == [1]
        cache = Cache(sys.argv[1] + "/disk-copy", disk=JSONDisk)
        assert (cache["a"], cache.disk_compress_level) == ([1], 6)
        EVICTION_POLICY["mine"] = EVICTION_POLICY["none"]
        cache = Cache(sys.argv[1] + "/policy-copy")
        assert (cache["a"], cache.eviction_policy) == ([1], "mine")
        """,
        tmp_path,
    )


def test_stats(cache: Path, fanout: Path) -> None:
    """The output is text or JSON. It sums the shards, and nothing changes."""
    before = files(cache)
    text = flexcache("stats", cache).stdout
    assert text.startswith(".: Cache\n  entries      12\n  expired      1 of them")
    (described,) = json.loads(flexcache("stats", cache, "--json").stdout)["caches"]
    assert (described["entries"], described["expired"], described["shards"]) == (12, 1, None)
    assert described["most_used_tags"] == {"t": 1}
    assert described["eviction_policy"] == "least-recently-stored"
    assert described["oldest"] <= described["newest"] <= time.time() < described["next_expiry"]
    assert sum(value["count"] for value in described["values"]) == 12
    assert {"stored": "bytes", "in_file": True, "count": 1, "bytes": 3_000_000, "largest": 3_000_000} in described[
        "values"
    ]
    assert files(cache) == before
    own, *others = json.loads(flexcache("stats", fanout, "--json").stdout)["caches"]
    assert (own["entries"], own["shards"], own["size_limit"]) == (12, 4, 2**30)
    assert [other["name"] for other in others] == ["deque/jobs/first", "index/names"]


def test_stats_of_what_nobody_may_write(cache: Path) -> None:
    """The command can describe a directory on a read-only file system."""
    for path in (cache, cache / "cache.db"):
        path.chmod(path.stat().st_mode & 0o555)
    try:
        assert "entries      12" in flexcache("stats", cache).stdout
    finally:
        for path in (cache, cache / "cache.db"):
            path.chmod(path.stat().st_mode | 0o200)


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["import", "a", "b", "--keep", "--replace"],
        ["import", "a", "b", "--shards", "-1"],
        ["migrate", "a"],
        ["migrate", "a", "b", "--size-limit", "none"],
        ["mend", "a"],
    ],
)
def test_options_that_make_no_sense(arguments: list[str]) -> None:
    """Invalid options print argparse's usage. The exit status is 2."""
    assert "usage: " in flexcache(*arguments, status=2).stderr


@pytest.mark.skipif(os.name != "posix", reason="closes streams as a shell does")
def test_standard_streams_that_are_closed(cache: Path, tmp_path: Path) -> None:
    """If a needed standard stream is closed, one line is printed to standard error."""
    shell = ["/bin/sh", "-c", '"$0" -m flexcache_rs "$@" >&- <&-', sys.executable]
    for arguments, status, error in (
        (("disk", "export", cache, "-"), 1, "flexcache: standard output: it is closed\n"),
        (("disk", "import", tmp_path / "new", "-"), 1, "flexcache: standard input: it is closed\n"),
        (("disk", "check", cache), 0, ""),
        (("replay", tmp_path / "trace"), 0, ""),
    ):
        (tmp_path / "trace").write_text("a\nb\na\n")
        done = subprocess.run(
            [*shell, *map(str, arguments)], stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (status, error), arguments


def test_help() -> None:
    """Without an action, the help is printed."""
    assert "migrate" in flexcache().stdout
    assert "--dry-run" in flexcache("migrate", "--help").stdout


@pytest.mark.parametrize("action", ["check", "stats"])
def test_no_cache_there(tmp_path: Path, action: str) -> None:
    """If there is no cache, one line is printed and no cache is created."""
    assert "no such directory" in flexcache(action, tmp_path / "absent", status=1).stderr
    assert "this directory has no cache" in flexcache(action, tmp_path, status=1).stderr
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    assert "not a directory" in flexcache(action, tmp_path / "file", status=1).stderr


@pytest.mark.parametrize("options", [[], ["--no-progress"]])
def test_the_progress_bar(cache: Path, tmp_path: Path, options: list[str]) -> None:
    """The progress bar is shown only on a terminal, and not with --no-progress."""
    pty = pytest.importorskip("pty")
    program(
        """
        from flexcache_rs.disk import Cache
        cache = Cache(sys.argv[1])
        with cache.transact():
            for number in range(2_000):
                cache[number] = "x" * 2000
        """,
        cache,
    )
    impatient = """
import flexcache_rs._terminal as _terminal, sys
_terminal.BEFORE_BAR = 0
from flexcache_rs.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
    leader, follower = pty.openpty()
    arguments = ["disk", "export", str(cache), str(tmp_path / "export"), *options]
    with subprocess.Popen([sys.executable, "-c", impatient, *arguments], stderr=follower) as running:
        os.close(follower)
        shown = b""
        while True:
            try:
                data = os.read(leader, 10_000)
            except OSError:
                break
            shown += data
            if not data:
                break
        assert running.wait(60) == 0
    os.close(leader)
    assert (b"%  export" in shown) == (not options)
    assert b"entries exported" in shown
