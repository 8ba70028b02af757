"""`flexcache disk migrate` from directories of other libraries."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import files, flexcache, program

from flexcache_rs.disk.migrate.diskcache_rs import decompressed

needs_sciqlop = pytest.mark.skipif(find_spec("pysciqlop_cache") is None, reason="pysciqlop-cache is not installed")
needs_diskcache_rs = pytest.mark.skipif(find_spec("diskcache_rs") is None, reason="diskcache_rs is not installed")


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
    """Keys, values, deadlines, tags and limits are migrated, and the source is unchanged."""
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
    """Unreadable entries are counted and named, and the others are migrated. No code of the source runs."""
    program(SCIQLOP, tmp_path / "one", tmp_path / "fanned", tmp_path / "index")
    with sqlite3.connect(tmp_path / "one" / "sciqlop-cache.db") as connection:
        connection.execute("UPDATE cache SET value = x'80054b' WHERE key = 'text'")
        connection.execute("UPDATE cache SET expire = 1.0 WHERE key = 'tagged'")
        # posix.system("exit"), as a key.
        key = "\0pY3Bvc2l4CnN5c3RlbQooUydleGl0Jwp0Ui4="
        connection.execute("UPDATE cache SET key = ? WHERE key = 'bytes'", (key,))
    connection.close()
    files = (path for path in (tmp_path / "one").rglob("*-*-*") if path.is_file())
    next(path for path in files if not path.name.startswith("sciqlop-cache.db")).unlink()
    done = flexcache("migrate", tmp_path / "one", tmp_path / "new", "--shards", 2)
    assert "migrated  6\n  skipped   1\n  errors    3\n" in done.stdout
    for reason in ("damaged pickle: 1", "a key that needs a class; --trust", "of a value is missing", "expired: 1"):
        assert reason in done.stderr
    assert json.loads(flexcache("stats", tmp_path / "new", "--json").stdout)["caches"][0]["shards"] == 2
    flexcache("check", tmp_path / "new")


@needs_sciqlop
def test_migrate_values_of_another_serializer(tmp_path: Path) -> None:
    """The package that wrote the values reads them. If it is missing, the message says what to install."""
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
    """Values in the table and in files are migrated, compressed or not.

    The directory may have had another name when they were written.
    """
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
    """A cache is not overwritten, the source cannot be the target, and some directories need no migration."""
    program(DISKCACHE_RS, tmp_path / "x", tmp_path / "y", tmp_path / "z")
    for source, target, complaint in (
        (tmp_path / "x", cache, "already has a cache"),
        (tmp_path / "x", tmp_path / "x" / "new", "must not be the source"),
        (tmp_path / "x", tmp_path / "x", "must not be the source"),
        (cache, tmp_path / "new", "use export and import"),
        (tmp_path / "absent", tmp_path / "new", "no such directory"),
    ):
        assert complaint in flexcache("migrate", source, target, status=1).stderr
    assert not (tmp_path / "new").exists()


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
    """Blocks of LZ4 are decompressed, and damaged blocks are detected."""
    if result is None:
        with pytest.raises(Exception, match="damaged"):
            decompressed(data)
    else:
        assert decompressed(data) == result
