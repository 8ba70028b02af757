"""`flexcache disk export` and `import`."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from commands import content, files, flexcache, program
from hypothesis import given
from hypothesis import strategies as st

from flexcache_rs.disk import Cache, FanoutCache
from flexcache_rs.disk.raw_directory import UnusableError, shard_of
from flexcache_rs.disk.transfer import Exporter, Importer, decode, encode


def test_export_and_import(cache: Path, tmp_path: Path) -> None:
    """All live entries return unchanged, with their deadlines and tags."""
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
    """An export with shards and all inner caches passes through a pipe.

    The import may have another number of shards.
    """
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
    """Existing entries stay or are replaced, as requested. Existing expired entries are always replaced."""
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
    """Nothing is evicted during the import, and the command says what will be evicted."""
    flexcache("export", cache, tmp_path / "export")
    program("from flexcache_rs.disk import Cache\nCache(sys.argv[1], size_limit=10_000)", tmp_path / "small")
    done = flexcache("import", tmp_path / "small", tmp_path / "export")
    assert "11 entries imported" in done.stderr
    assert "more than its size_limit" in done.stderr


def test_expired_on_the_way(tmp_path: Path) -> None:
    """An entry that expired between export and import is left out."""
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
        (HEAD + '{"cache":""}\n{"key":18446744073709551616,"mode":1,"value":1}\n', "does not fit 64 bits"),
        (HEAD + '{"cache":""}\n{"key":"a","mode":2,"bytes":9}\n{"data":"AAAA"}\n{"entries":1}\n', "is damaged"),
        (HEAD + '{"cache":""}\n{"key":"a","mode":1,"value":1}\n{"entries":7}\n', "was expected"),
        (HEAD + '{"cache":"","shards":true}\n', "wrong shards"),
        (HEAD + '{"cache":"cache/\\ud800"}\n', "is no name of a cache"),
        # On Windows, these lead out of the directory.
        (HEAD + '{"cache":"cache/..\\\\..\\\\outside"}\n', "is no name of a cache"),
        (HEAD + '{"cache":"cache/C:outside"}\n', "is no name of a cache"),
        (HEAD + "[" * 200_000 + "\n", "line 2 of the export: not a JSON object"),
        *(
            (HEAD + '{"cache":""}\n{"key":"a","mode":1,"value":1,' + wrong + "}\n", "line 3 of the export: a wrong")
            for wrong in (
                '"mode":1e999',
                '"bytes":1e999',
                '"bytes":-5',
                '"access_count":1e999',
                f'"access_count":{10**30}',
                '"expire_time":NaN',
                '"key":NaN',
                '"key":true',
                '"key":"\\ud800"',
            )
        ),
        (HEAD + '{"cache":""}\n{"key":"a","mode":2,"bytes":3}\n{"data":"AA?AA"}\n{"entries":1}\n', "is damaged"),
        (HEAD + '{"cache":""}\n{"key":"a","mode":2,"bytes":2}\n{"data":"AAAA"}\n{"entries":1}\n', "is damaged"),
        (HEAD + '{"cache":""}\n{"key":"a","mode":2,"bytes":2}\n{"data":""}\n{"entries":1}\n', "is damaged"),
        (HEAD + '{"cache":""}\n{"key":"a","mode":9,"value":1}\n{"entries":1}\n', "a wrong entry: no entry"),
        (HEAD + '{"cache":"","settings":[]}\n', "wrong shards or settings"),
        (HEAD + '{"cache":""}\n{"key":"a","mode":2,"bytes":9}\n{"data":"\u00e9"}\n{"entries":1}\n', "is damaged"),
    ],
)
def test_a_wrong_export(tmp_path: Path, text: str, complaint: str) -> None:
    """The error is one line that names the wrong line. Nothing outside of the directory is touched."""
    (tmp_path / "export").write_text(text, encoding="utf-8")
    done = flexcache("import", tmp_path / "inside" / "copy", tmp_path / "export", status=1)
    assert complaint in done.stderr
    assert (done.stderr.count("\n"), done.stdout) == (1, "")
    assert {path.name for path in tmp_path.iterdir()} <= {"export", "inside"}
    assert not list(tmp_path.rglob("*.val"))


def test_settings_of_an_export_are_not_believed(tmp_path: Path) -> None:
    """Settings that libraries put into SQL are checked, or left out."""
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size_limit", "NaN"),
        ("size_limit", "-1"),
        ("cull_limit", "1.5"),
        ("statistics", "7"),
        ("eviction_policy", "7"),
        ("disk_pickle_protocol", "99"),
        ("disk_min_file_size", "-1"),
    ],
)
def test_settings_that_a_cache_refuses_are_left_out(tmp_path: Path, name: str, value: str) -> None:
    """python-diskcache records whatever it gets."""
    cache = f'{{"cache":"","shards":2,"settings":{{"{name}":{value}}}}}\n'
    entry = '{"key":"a","mode":1,"value":1}\n{"entries":1}\n'
    (tmp_path / "export").write_text(HEAD + cache + entry, encoding="utf-8")
    flexcache("import", tmp_path / "copy", tmp_path / "export")
    with FanoutCache(tmp_path / "copy", shards=2) as cache:
        assert cache["a"] == 1


def exported(directory: Path) -> bytes:
    """Export a directory in this process."""
    stream = io.BytesIO()
    Exporter(directory).write(stream, lambda _: None)
    return stream.getvalue()


def imported(directory: Path, export: bytes, shards: int | None = None) -> None:
    """Import an export in this process."""
    Importer(directory, io.BytesIO(export), replace=False, shards=shards).read(lambda _: None)


def limits(directory: Path, shards: int) -> list[Any]:
    """Return the recorded limits of the shards."""
    with FanoutCache(directory, shards=shards) as cache:
        return [shard.size_limit for shard in cache.shards]


def test_the_limit_is_divided_among_the_new_shards(tmp_path: Path) -> None:
    FanoutCache(tmp_path / "four", shards=4, size_limit=40_000).close()
    imported(tmp_path / "two", exported(tmp_path / "four"), shards=2)
    assert limits(tmp_path / "two", 2) == [20_000, 20_000]


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "copy" / "cache").symlink_to(tmp_path / "outside")
    with pytest.raises(UnusableError, match="is a link out of the directory"):
        imported(tmp_path / "copy", HEAD.encode() + b'{"cache":"cache/name"}\n{"entries":0}\n')
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("shards", [None, 2])
def test_rows_with_values_of_wrong_types_are_exported(tmp_path: Path, shards: int | None) -> None:
    """SQLite stores any value in any column. What cannot be exported is left out, and the rest is exported."""
    with FanoutCache(tmp_path / "cache", shards=2) if shards else Cache(tmp_path / "cache") as cache:
        cache.set("key", 1, tag=0)
    for folder in (tmp_path / "cache").glob("**/cache.db"):
        with contextlib.closing(sqlite3.connect(folder)) as database, database:
            database.execute("UPDATE Settings SET value = 'text' WHERE key IN ('count', 'size_limit')")
            row = "CAST(x'ff' AS TEXT), 1, 1, 1, 1, 1"
            database.execute(f"INSERT INTO Cache (key, raw, store_time, access_time, mode, value) VALUES ({row})")
    imported(tmp_path / "copy", exported(tmp_path / "cache"))
    with FanoutCache(tmp_path / "copy", shards=2) if shards else Cache(tmp_path / "copy") as copy:
        assert list(copy) == ["key"]
        assert copy.get("key", tag=True) == (1, 0)


def test_an_export_that_fails_leaves_no_file(cache: Path, tmp_path: Path) -> None:
    """It leaves no partial file, and an older export stays."""
    (tmp_path / "export").write_text("before", encoding="utf-8")
    (cache / "cache.db").write_bytes(b"no database at all" * 1000)
    flexcache("export", cache, tmp_path / "export", status=1)
    assert (tmp_path / "export").read_text(encoding="utf-8") == "before"
    flexcache("export", tmp_path / "absent", tmp_path / "export", status=1)
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "export"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk(cache: Path) -> None:
    """The message names the file that could not be written. A device is not replaced by a file."""
    assert flexcache("export", cache, "/dev/full", status=1).stderr.startswith("flexcache: /dev/full: No space left")
    assert Path("/dev/full").is_char_device()


def test_an_export_while_others_write(cache: Path, tmp_path: Path) -> None:
    """Entries that are replaced during the export have their old or their new value."""
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
    """Entries of python-diskcache are exported, and python-diskcache reads imported entries."""
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
    """Values are copied as they are. A directory with another serializer refuses them."""
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


@given(st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary())
def test_what_is_exported_comes_back(datum: Any) -> None:
    """Values return with their type through JSON."""
    back = decode(json.loads(json.dumps(encode(datum), allow_nan=False)))
    assert (type(back), repr(back)) == (type(datum), repr(datum))


def test_shards_are_those_of_python_diskcache() -> None:
    """Keys are where a FanoutCache of 2**32 shards would store them."""
    known = {0: 0, 1: 1, -1: 4294967294, 2**32 - 1: 0, 2**63 - 1: 2147483647, 1.5: 147325240, "": 1, "key": 42402122}
    for key, shard in known.items():
        assert shard_of(key, 2**32) == shard
    assert shard_of(bytes.fromhex("80054e2e"), 2**32) == 48038146
