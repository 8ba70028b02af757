"""The command `flexcache disk`, run as a program of its own: directories belong to one library at a time."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexcache_rs.disk.migrating import decompress
from flexcache_rs.disk.table import shard_of
from flexcache_rs.disk.transfer import decode, encode

needs_sciqlop = pytest.mark.skipif(find_spec("pysciqlop_cache") is None, reason="pysciqlop-cache is not installed")
needs_diskcache_rs = pytest.mark.skipif(find_spec("diskcache_rs") is None, reason="diskcache_rs is not installed")


def flexcache(*arguments: object, status: int = 0, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Runs `flexcache disk` with arguments."""
    options = {"text": True, **options}
    command = [sys.executable, "-m", "flexcache_rs", "disk", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, **options)
    assert done.returncode == status, (done.stdout, done.stderr)
    return done


def program(text: str, *arguments: object, **options: Any) -> str:
    """Runs a program; `sys.argv[1:]` are the arguments. What it printed."""
    command = [sys.executable, "-c", "import sys, os\n" + textwrap.dedent(text), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, **options).stdout


FILLED = """
from flexcache_rs.disk import Cache, FanoutCache
fanned = len(sys.argv) > 2
cache = FanoutCache(sys.argv[1], shards=4) if fanned else Cache(sys.argv[1], disk_min_file_size=1000)
cache["text"], cache["bytes"], cache[1], cache[2.5] = "ä\\0b", b"\\0\\1", 10, float("inf")
cache[b"key"], cache[("a", None)], cache[2**80] = {"x": [1]}, None, 2**70
cache["long"], cache["large"], cache["pickled"] = "ä\\r\\n" * 9000, os.urandom(3_000_000), list(range(40_000))
cache.set("tagged", 1, expire=1000, tag="t")
# An expired one would be gone at once.
cache.reset("cull_limit", 0)
cache.set("gone", 1, expire=-1)
cache.reset("cull_limit", 10)
if fanned:
    cache.deque("jobs/first").append("job")
    cache.index("names")["a"] = 1
cache.close()
"""

CONTENT = """
import hashlib
from flexcache_rs.disk import Cache, FanoutCache
cache = FanoutCache(sys.argv[1], shards=int(sys.argv[2])) if len(sys.argv) > 2 else Cache(sys.argv[1])
for key in sorted(cache, key=repr):
    value, expires, tag = cache.get(key, "GONE", expire_time=True, tag=True)
    if value != "GONE":
        print(repr(key), hashlib.sha256(repr(value).encode()).hexdigest(), expires, tag)
if len(sys.argv) > 2:
    print(list(cache.deque("jobs/first")), dict(cache.index("names")))
print([str(warning.message) for warning in cache.check()])
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A directory of a Cache."""
    program(FILLED, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def fanout(tmp_path: Path) -> Path:
    """A directory of a FanoutCache with 4 shards."""
    program(FILLED, tmp_path / "fanout", "fanned")
    return tmp_path / "fanout"


def content(*arguments: object) -> str:
    """What a directory holds, as a text to compare."""
    return program(CONTENT, *arguments)


def files(directory: Path) -> dict[str, bytes]:
    """Every file, and what is in it."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_check_of_what_is_well(cache: Path, fanout: Path) -> None:
    """Every database has a line, and nothing changes."""
    before = files(cache)
    assert flexcache("check", cache).stdout == f"{cache}: ok\n"
    assert files(cache) == before
    lines = flexcache("check", fanout).stdout.splitlines()
    inside = ["000", "001", "002", "003", "deque/jobs/first", "index/names"]
    assert lines == [f"{fanout / name}: ok" for name in inside]


def test_check_finds_and_mends(cache: Path) -> None:
    """Each finding is named; the exit status says whether something is left."""
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
    """The files of a cache inside another one are not stray ones."""
    program(FILLED, tmp_path)
    program(FILLED, tmp_path / "cache" / "inner")
    (tmp_path / "stray").write_bytes(b"")
    before = content(tmp_path / "cache" / "inner")
    done = flexcache("check", tmp_path, "--fix", status=1)
    assert "unknown file" in done.stdout
    assert f"{tmp_path}: not mended: other caches lie inside this one" in done.stdout
    assert content(tmp_path / "cache" / "inner") == before


@pytest.mark.parametrize("action", ["check", "stats", "export"])
def test_a_damaged_database(cache: Path, action: str) -> None:
    """Said, with the way out; exit status 1."""
    (cache / "cache.db").write_bytes(b"no database at all" * 1000)
    done = flexcache(action, cache, *(["-"] if action == "export" else []), status=1)
    text = done.stdout + done.stderr
    assert "damaged" in text
    assert f"mv {cache} {cache}.damaged" in text
    assert "Traceback" not in text


def test_what_can_be_saved(tmp_path: Path) -> None:
    """Export goes on behind the damage."""
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
    """Serializers, classes of disks and policies of a program's own do not matter."""
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
    """For people and as JSON; shards are summed, and nothing changes."""
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
    """A directory on a read-only disk can be looked at."""
    for path in (cache, cache / "cache.db"):
        path.chmod(path.stat().st_mode & 0o555)
    try:
        assert "entries      12" in flexcache("stats", cache).stdout
    finally:
        for path in (cache, cache / "cache.db"):
            path.chmod(path.stat().st_mode | 0o200)


def test_export_and_import(cache: Path, tmp_path: Path) -> None:
    """Everything that is live comes back as it was, with its expiry and its tag."""
    before = files(cache)
    done = flexcache("export", cache, tmp_path / "export")
    assert done.stderr == "flexcache: 11 entries exported, 1 expired left out\n"
    assert files(cache) == before
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "export"}
    done = flexcache("import", tmp_path / "copy", tmp_path / "export")
    assert "11 entries imported, 0 kept" in done.stderr
    assert content(tmp_path / "copy") == content(cache)
    flexcache("check", tmp_path / "copy")


def test_through_a_pipe(fanout: Path, tmp_path: Path) -> None:
    """With shards and all caches inside; another number of shards where it is asked for."""
    exported = flexcache("export", fanout, "-", text=False).stdout
    flexcache("import", tmp_path / "same", "-", text=False, input=exported)
    assert content(tmp_path / "same", 4) == content(fanout, 4)
    flexcache("import", tmp_path / "more", "-", "--shards", 7, text=False, input=exported)
    assert content(tmp_path / "more", 7) == content(fanout, 4)
    flexcache("import", tmp_path / "one", "-", "--shards", 0, text=False, input=exported)
    assert "'tagged'" in content(tmp_path / "one")
    done = flexcache("import", tmp_path / "one", "-", "--shards", 3, text=False, input=exported, status=1)
    assert b"leave --shards out" in done.stderr


@pytest.mark.parametrize("option", ["--keep", "--replace", None])
def test_into_a_cache_that_is_there(cache: Path, tmp_path: Path, option: str | None) -> None:
    """What is there stays, or goes; what has expired there always goes."""
    flexcache("export", cache, tmp_path / "export")
    program(
        """
        from flexcache_rs.disk import Cache
        cache = Cache(sys.argv[1], size_limit=10**9)
        cache["text"], cache["large"], cache["new"] = "other", "y" * 50_000, "new"
        cache.set("bytes", 0, expire=-1)
        cache.close()
        """,
        tmp_path / "copy",
    )
    done = flexcache("import", tmp_path / "copy", tmp_path / "export", *([option] if option else []))
    assert f"{0 if option == '--replace' else 2} kept" in done.stderr
    shown = program(
        """
        from flexcache_rs.disk import Cache
        cache = Cache(sys.argv[1])
        print([cache["text"], cache["bytes"], len(cache["large"]), cache["new"], cache.size_limit, len(cache)])
        """,
        tmp_path / "copy",
    )
    text, large = ("ä\0b", 3_000_000) if option == "--replace" else ("other", 50_000)
    assert shown.strip() == repr([text, b"\0\1", large, "new", 10**9, 12])
    flexcache("check", tmp_path / "copy")


def test_an_import_beyond_the_limit(cache: Path, tmp_path: Path) -> None:
    """Nothing is evicted meanwhile, and it is said what will be."""
    flexcache("export", cache, tmp_path / "export")
    program("from flexcache_rs.disk import Cache\nCache(sys.argv[1], size_limit=10_000)", tmp_path / "small")
    done = flexcache("import", tmp_path / "small", tmp_path / "export")
    assert "11 entries imported" in done.stderr
    assert "more than its size_limit" in done.stderr


def test_expired_on_the_way(tmp_path: Path) -> None:
    """An entry whose time ended between export and import is left out."""
    export = tmp_path / "export"
    entry = '{"key":"a","mode":2,"bytes":2,"expire_time":5}\n{"data":"AAA="}\n{"key":"b","mode":1,"value":1}\n'
    export.write_text('{"flexcache_disk_export":1}\n{"cache":""}\n' + entry + '{"entries":2}\n', encoding="utf-8")
    assert "1 entries imported, 0 kept as they were, 1 expired" in flexcache("import", tmp_path / "c", export).stderr
    assert content(tmp_path / "c").startswith("'b' ")


HEAD = '{"flexcache_disk_export":1}\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no export"),
        ("key,value\n", "line 1 of the export: not a JSON object"),
        ('{"a":1}\n', "is no export"),
        ('{"flexcache_disk_export":2}\n', "version 2; this flexcache-rs reads version 1"),
        (HEAD, "ends too early"),
        (HEAD + '{"cache":""}\n{"key":"a","mode":1,"value":1}\n', "ends too early, after 1 entries"),
        (HEAD + '{"cache":"../outside"}\n', "line 2 of the export: '../outside' is no name"),
        (HEAD + '{"cache":"cache/../../outside"}\n', "is no name of a cache"),
        (HEAD + '{"cache":"/etc"}\n', "is no name of a cache"),
        (HEAD + '{"cache":"","shards":-1}\n', "wrong shards"),
        (HEAD + '{"cache":""}\n{"key":"a","mode":1}\n', "line 3 of the export: a wrong entry: 'value' is missing"),
        (HEAD + '{"cache":""}\n{"key":{"base64":"?"},"mode":1,"value":1}\n', "a wrong entry"),
        (HEAD + '{"cache":""}\n{"key":18446744073709551616,"mode":1,"value":1}\n', "beyond 64 bits"),
        (HEAD + '{"cache":""}\n{"key":"a","mode":2,"bytes":9}\n{"data":"AAAA"}\n{"entries":1}\n', "is damaged"),
        (HEAD + '{"cache":""}\n{"key":"a","mode":1,"value":1}\n{"entries":7}\n', "was expected"),
    ],
)
def test_a_wrong_export(tmp_path: Path, text: str, complaint: str) -> None:
    """One line that names the line; nothing outside of the directory is touched."""
    (tmp_path / "export").write_text(text, encoding="utf-8")
    done = flexcache("import", tmp_path / "inside" / "copy", tmp_path / "export", status=1)
    assert complaint in done.stderr
    assert (done.stderr.count("\n"), done.stdout) == (1, "")
    assert {path.name for path in tmp_path.iterdir()} <= {"export", "inside"}
    assert not list(tmp_path.rglob("*.val"))


def test_settings_of_an_export_are_not_believed(tmp_path: Path) -> None:
    """Settings that libraries put into SQL are what they can be, or left out."""
    given = {"sqlite_cache_size": "1; DROP TABLE Cache", "sqlite_x; y": 1, "count": 7, "size_limit": 5000, "hello": "x"}
    given |= {"sqlite_journal_mode": "off", "sqlite_mmap_size": 7, "network": 1}
    lines = [{"flexcache_disk_export": 1}, {"cache": "", "settings": given}, {"entries": 0}]
    (tmp_path / "export").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    flexcache("import", tmp_path / "copy", tmp_path / "export")
    (described,) = json.loads(flexcache("stats", tmp_path / "copy", "--json").stdout)["caches"]
    assert (described["entries"], described["size_limit"], described["settings"]["hello"]) == (0, 5000, "x")
    assert (described["settings"]["sqlite_mmap_size"], described["settings"]["sqlite_cache_size"]) == (2**26, 2**13)
    assert described["settings"]["sqlite_journal_mode"] == "wal"
    assert not {"sqlite_x; y", "network"} & set(described["settings"])


def test_an_export_that_fails_leaves_no_file(cache: Path, tmp_path: Path) -> None:
    """Neither half of one, nor the loss of the one before."""
    (tmp_path / "export").write_text("before", encoding="utf-8")
    (cache / "cache.db").write_bytes(b"no database at all" * 1000)
    flexcache("export", cache, tmp_path / "export", status=1)
    assert (tmp_path / "export").read_text(encoding="utf-8") == "before"
    flexcache("export", tmp_path / "absent", tmp_path / "export", status=1)
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "export"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk(cache: Path) -> None:
    """The file that could not be written is named, and a device is not replaced."""
    assert flexcache("export", cache, "/dev/full", status=1).stderr.startswith("flexcache: /dev/full: No space left")
    assert Path("/dev/full").is_char_device()


def test_an_export_while_others_write(cache: Path, tmp_path: Path) -> None:
    """Entries that are replaced meanwhile are there as they were or as they are."""
    writing = """
import os, sys, time
from flexcache_rs.disk import Cache
cache = Cache(sys.argv[1])
print("ready", flush=True)
while True:
    for number in range(50):
        cache[number] = os.urandom(50_000)
"""
    command = [sys.executable, "-c", writing, str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.3)
            for number in range(3):
                flexcache("export", cache, tmp_path / "export")
                done = flexcache("import", tmp_path / f"copy {number}", tmp_path / "export")
                assert "entries imported, 0 kept" in done.stderr
                assert flexcache("check", tmp_path / f"copy {number}").stdout.endswith(": ok\n")
        finally:
            writer.kill()


@pytest.mark.skipif(find_spec("diskcache") is None, reason="diskcache is not installed")
@pytest.mark.parametrize("name", ["Cache", "FanoutCache"])
def test_with_directories_of_python_diskcache(tmp_path: Path, name: str) -> None:
    """What it wrote is exported, and what was imported it reads."""
    fill = """
        import diskcache
        cache = getattr(diskcache, sys.argv[1])(sys.argv[2])
        cache["a"], cache[1], cache[("t", None)], cache["large"] = [1, 2], 2.5, "tuple", b"x" * 100_000
        cache.set("e", None, expire=1000, tag="tag")
        """
    program(fill, name, tmp_path / "old")
    flexcache("export", tmp_path / "old", tmp_path / "export")
    flexcache("import", tmp_path / "new", tmp_path / "export")
    read = """
        import diskcache
        old, new = (getattr(diskcache, sys.argv[1])(directory) for directory in sys.argv[2:])
        assert list(new) == list(old) and len(new) == 5
        for key in new:
            assert new.get(key, expire_time=True, tag=True) == old.get(key, expire_time=True, tag=True)
        new["more"] = 1
        print(new.check(), new.volume() > 100_000)
        """
    assert program(read, name, tmp_path / "old", tmp_path / "new") == "[] True\n"


def test_compressed_values_and_serializers(tmp_path: Path) -> None:
    """They are copied as they are; a directory with another serializer does not get them."""
    program(
        """
        from flexcache_rs.disk import Cache, JSONSerializer
        with Cache(sys.argv[1] + "/small", compression="zstd") as cache:
            cache["text"], cache["list"], cache["large"] = "a" * 1000, list(range(1000)), b"b" * 10**6
        Cache(sys.argv[1] + "/json", serializer=JSONSerializer())["a"] = [1]
        """,
        tmp_path,
    )
    flexcache("export", tmp_path / "small", tmp_path / "export")
    flexcache("import", tmp_path / "copy", tmp_path / "export")
    assert content(tmp_path / "copy") == content(tmp_path / "small")
    (described,) = json.loads(flexcache("stats", tmp_path / "copy", "--json").stdout)["caches"]
    assert {value["stored"] for value in described["values"]} == {"text, zstd", "pickle, zstd", "bytes, zstd"}
    done = flexcache("import", tmp_path / "json", tmp_path / "export", status=1)
    assert "has the serializer 'json', and the export 'pickle'" in done.stderr


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
    """Argparse's usage, exit status 2."""
    assert "usage: " in flexcache(*arguments, status=2).stderr


def test_help() -> None:
    """Without an action there is help."""
    assert "migrate" in flexcache().stdout
    assert "--dry-run" in flexcache("migrate", "--help").stdout


@pytest.mark.parametrize("action", ["check", "stats"])
def test_no_cache_there(tmp_path: Path, action: str) -> None:
    """One line, and none is made."""
    assert "no such directory" in flexcache(action, tmp_path / "absent", status=1).stderr
    assert "no cache in it" in flexcache(action, tmp_path, status=1).stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [[], ["--no-progress"]])
def test_the_progress_bar(cache: Path, tmp_path: Path, options: list[str]) -> None:
    """On a terminal only, and not if it was refused."""
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
import flexcache_rs.replay.report as report, sys
report.BEFORE_BAR = 0
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


SCIQLOP = """
import pysciqlop_cache as peer
cache = peer.Cache(sys.argv[1], max_size=5 * 2**30)
cache["text"], cache["bytes"], cache[1], cache[2.5], cache[b"key"] = "ä", b"b", 10, None, [1]
cache[("a", None)], cache[2**80] = "tuple", 2**70
cache["large"] = os.urandom(1_000_000)
cache.set("tagged", {"x": 1}, expire=1000, tag="t")
import collections
cache["class"] = collections.OrderedDict(a=1)
cache.close()
fanned = peer.FanoutCache(sys.argv[2], shard_count=3)
for number in range(50):
    fanned[f"key {number}"] = number
fanned.close()
index = peer.Index(sys.argv[3])
index["a"] = [1]
index.close()
"""


@needs_sciqlop
def test_migrate_from_sciqlop(tmp_path: Path) -> None:
    """Keys, values, expiry, tags and limits come along, and the source is as it was."""
    sources = [tmp_path / "one", tmp_path / "fanned", tmp_path / "index"]
    program(SCIQLOP, *sources)
    before = files(tmp_path)
    assert "dry run: nothing was written" in flexcache("migrate", sources[0], tmp_path / "dry", "--dry-run").stdout
    done = [flexcache("migrate", source, tmp_path / f"{source.name}-new") for source in sources]
    assert "migrated  10\n  skipped   0\n  errors    0\n" in done[0].stdout
    assert {name: data for name, data in files(tmp_path).items() if "-new/" not in name} == before
    shown = program(
        """
        from flexcache_rs.disk import Cache, FanoutCache
        cache = Cache(sys.argv[1])
        print([cache["text"], cache["bytes"], cache[1], cache[2.5], cache[b"key"], cache["a", None]])
        value, expires, tag = cache.get("tagged", expire_time=True, tag=True)
        import time
        assert cache[2**80] == 2**70
        print(value, 900 < expires - time.time() < 1001, tag, len(cache["large"]), cache["class"], cache.size_limit)
        print(cache.incr(1), cache.check())
        fanned = FanoutCache(sys.argv[2], shards=3)
        print(sum(fanned[f"key {number}"] == number for number in range(50)))
        index = Cache(sys.argv[3])
        print(index["a"], index.eviction_policy)
        """,
        *(tmp_path / f"{source.name}-new" for source in sources),
    )
    assert shown.splitlines() == [
        "['ä', b'b', 10, None, [1], 'tuple']",
        f"{{'x': 1}} True t 1000000 OrderedDict({{'a': 1}}) {5 * 2**30}"
        if sys.version_info >= (3, 12)
        else f"{{'x': 1}} True t 1000000 OrderedDict([('a', 1)]) {5 * 2**30}",
        "11 []",
        "50",
        "[1] none",
    ]


@needs_sciqlop
def test_migrate_what_cannot_be_read(tmp_path: Path) -> None:
    """Counted and named, the rest comes along; nothing of the source is run."""
    program(SCIQLOP, tmp_path / "one", tmp_path / "fanned", tmp_path / "index")
    with sqlite3.connect(tmp_path / "one" / "sciqlop-cache.db") as connection:
        connection.execute("UPDATE cache SET value = x'80054b' WHERE key = 'text'")
        connection.execute("UPDATE cache SET expire = 1.0 WHERE key = 'tagged'")
        # posix.system("exit"), as a key.
        key = "\0pY3Bvc2l4CnN5c3RlbQooUydleGl0Jwp0Ui4="
        connection.execute("UPDATE cache SET key = ? WHERE key = 'bytes'", (key,))
    connection.close()
    next(path for path in (tmp_path / "one").rglob("*-*-*") if path.is_file() and "db" not in path.name).unlink()
    done = flexcache("migrate", tmp_path / "one", tmp_path / "new", "--shards", 2)
    assert "migrated  6\n  skipped   1\n  errors    3\n" in done.stdout
    for reason in ("damaged pickle: 1", "a key that needs a class; --trust", "No such file", "expired: 1"):
        assert reason in done.stderr
    assert json.loads(flexcache("stats", tmp_path / "new", "--json").stdout)["caches"][0]["shards"] == 2
    flexcache("check", tmp_path / "new")


@needs_sciqlop
def test_migrate_values_of_another_serializer(tmp_path: Path) -> None:
    """Read by the package that wrote them; without it, it is said what to install."""
    program(
        """
        import pysciqlop_cache as peer
        cache = peer.Cache(sys.argv[1], serializer=peer.PickleOOBSerializer())
        cache["a"], cache["b"] = [1, 2], "text"
        cache.close()
        """,
        tmp_path / "oob",
    )
    assert "migrated  2" in flexcache("migrate", tmp_path / "oob", tmp_path / "new").stdout
    assert "['a', 'b'] [1, 2] text" in program(
        "from flexcache_rs.disk import Cache\nc = Cache(sys.argv[1])\nprint(sorted(c), c['a'], c['b'])",
        tmp_path / "new",
    )
    without = """
import sys
sys.modules["pysciqlop_cache"] = None
from flexcache_rs.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", without, "disk", "migrate", str(tmp_path / "oob"), str(tmp_path / "other")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "pip install pysciqlop-cache" in done.stderr) == (1, True)
    assert not (tmp_path / "other").exists()


DISKCACHE_RS = """
import diskcache_rs as peer
cache = peer.Cache(sys.argv[1])
values = {"text": "ä", "int": 10, "none": None, "list": list(range(1000)), "bytes": b"b"}
values |= {"zeros": b"\\0" * 300_000, "pattern": "abcde" * 50_000, "random": os.urandom(300_000)}
values["mixed"] = b"".join(os.urandom(1000) + b"x" * 1000 for _ in range(200))
for key, value in values.items():
    assert cache.set(key, value)
import hashlib
for key in sorted(values):
    print(key, hashlib.sha256(repr(values[key]).encode()).hexdigest())
cache.close()
fanned = peer.FanoutCache(sys.argv[2], shards=3)
for number in range(50):
    fanned.set(f"key {number}", number)
fanned.close()
fast = peer.PickleCache(sys.argv[3])
fast.set("a", [1], 1000)
"""


@needs_diskcache_rs
def test_migrate_from_diskcache_rs(tmp_path: Path) -> None:
    """Values in the table and in files, compressed or not, whatever the folder was called when they were written."""
    program(DISKCACHE_RS, "a", "b", "c", cwd=tmp_path)
    (tmp_path / "a").rename(tmp_path / "renamed")
    wanted = program(DISKCACHE_RS, "x", "y", "z", cwd=tmp_path)
    assert any(path.read_bytes()[:4] == (300_020).to_bytes(4, "little") for path in (tmp_path / "x").rglob("*.dat"))
    before = files(tmp_path)
    for name in ("x", "y", "z", "renamed"):
        assert "errors    0" in flexcache("migrate", tmp_path / name, tmp_path / f"{name}-new").stdout
    assert {name: data for name, data in files(tmp_path).items() if "-new/" not in name} == before
    shown = program(
        """
        import hashlib, time
        from flexcache_rs.disk import Cache, FanoutCache
        cache = Cache(sys.argv[1])
        for key in sorted(cache):
            print(key, hashlib.sha256(repr(cache[key]).encode()).hexdigest())
        fanned = FanoutCache(sys.argv[2], shards=3)
        assert all(fanned[f"key {number}"] == number for number in range(50))
        value, expires = Cache(sys.argv[3]).get("a", expire_time=True)
        assert value == [1] and 900 < expires - time.time() < 1001
        assert len(Cache(sys.argv[4])) == 9 and cache.check() == []
        """,
        *(tmp_path / f"{name}-new" for name in ("x", "y", "z", "renamed")),
    )
    assert shown.splitlines()[:8] == wanted.splitlines()[:8]


@needs_diskcache_rs
def test_migrate_to_where_it_cannot_be(cache: Path, tmp_path: Path) -> None:
    """Neither over a cache, nor into the source, nor from a directory that needs no migration."""
    program(DISKCACHE_RS, tmp_path / "x", tmp_path / "y", tmp_path / "z")
    for source, target, complaint in (
        (tmp_path / "x", cache, "there is a cache already"),
        (tmp_path / "x", tmp_path / "x" / "new", "must be apart"),
        (tmp_path / "x", tmp_path / "x", "must be apart"),
        (cache, tmp_path / "new", "use export and import"),
        (tmp_path / "absent", tmp_path / "new", "no such directory"),
    ):
        assert complaint in flexcache("migrate", source, target, status=1).stderr
    assert not (tmp_path / "new").exists()


@given(st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary())
def test_what_is_exported_comes_back(datum: Any) -> None:
    """With its type, through JSON."""
    back = decode(json.loads(json.dumps(encode(datum), allow_nan=False)))
    assert (type(back), repr(back)) == (type(datum), repr(datum))


def test_shards_are_those_of_python_diskcache() -> None:
    """Where a FanoutCache of 2**32 shards would keep keys."""
    known = {0: 0, 1: 1, -1: 4294967294, 2**32 - 1: 0, 2**63 - 1: 2147483647, 1.5: 147325240, "": 1, "key": 42402122}
    for key, shard in known.items():
        assert shard_of(key, 2**32) == shard
    assert shard_of(bytes.fromhex("80054e2e"), 2**32) == 48038146


@pytest.mark.parametrize(
    ("data", "result"),
    [
        (b"\x05\0\0\0\x50hello", b"hello"),
        (b"\x0d\0\0\0\x14a\x01\0\x50bcdef"[:6] + b"", None),
        (b"\x0e\0\0\0\x14a\x01\0\x50bcdef", b"a" * 9 + b"bcdef"),
        (b"\x0f\0\0\0\x14a\x01\0\x50bcdef", None),
        (b"\x0e\0\0\0\x14a\x02\0\x50bcdef", None),
        (b"\x05\0\0\0\xf0hello", None),
        (b"\x05\0", None),
    ],
)
def test_decompression(data: bytes, result: bytes | None) -> None:
    """LZ4's blocks; damaged ones are found out."""
    if result is None:
        with pytest.raises(Exception, match="damaged"):
            decompress(data)
    else:
        assert decompress(data) == result
