"""A directory that another user has written to.

Nothing outside it is opened or removed, and claims allocate nothing.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.disk import Cache, Disk, FanoutCache, JSONDisk, PickleSerializer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = b"S" * 60


class OwnDisk(Disk):
    """A disk of the user's, which opens any file name."""

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool, /) -> Any:
        if filename is not None:
            with open(os.path.join(self._directory, filename), "rb") as file:  # noqa: PTH118, PTH123
                return file.read()
        return super().fetch(mode, filename, value, read)

    def remove(self, file_path: Any, /) -> None:
        with suppress(IsADirectoryError, PermissionError):
            os.remove(os.path.join(self._directory, file_path))  # noqa: PTH107, PTH118


DISKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "restricted": {"serializer": PickleSerializer(allow=[])},
    "own": {"disk": OwnDisk},
    "json": {"disk": JSONDisk},
    "network": {"network": True},
    "compressed": {"compression": "zstd"},
}


def edit(directory: Path, statement: str, *parameters: object) -> None:
    """Change the database as any user with write access can."""
    with closing(sqlite3.connect(directory / "cache.db")) as connection:
        connection.execute(statement, parameters)
        connection.commit()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that does not belong to the cache."""
    path = tmp_path / "outside" / "secret"
    path.parent.mkdir()
    path.write_bytes(SECRET)
    return path


def name_by_parent(directory: Path, secret: Path) -> object:
    return os.path.relpath(secret, directory)


def name_absolute(directory: Path, secret: Path) -> object:
    return str(secret)


def name_by_detour(directory: Path, secret: Path) -> object:
    (directory / "a").mkdir(exist_ok=True)
    return "a/../" + os.path.relpath(secret, directory)


def name_by_linked_directory(directory: Path, secret: Path) -> object:
    (directory / "linked").symlink_to(secret.parent)
    return "linked/secret"


def name_by_link(directory: Path, secret: Path) -> object:
    (directory / "link.val").symlink_to(secret)
    return "link.val"


def name_by_link_in_directory(directory: Path, secret: Path) -> object:
    (directory / "aa").mkdir(exist_ok=True)
    (directory / "aa" / "link.val").symlink_to(secret)
    return "aa/link.val"


def name_of_pipe(directory: Path, secret: Path) -> object:
    os.mkfifo(directory / "pipe")
    return "pipe"


def name_of_directory(directory: Path, secret: Path) -> object:
    (directory / "bb").mkdir(exist_ok=True)
    return "bb"


NAMES: list[Callable[[Path, Path], object]] = [
    name_by_parent,
    name_absolute,
    name_by_detour,
    name_by_linked_directory,
    name_by_link,
    name_by_link_in_directory,
    name_of_pipe,
    name_of_directory,
]
FIXED_NAMES: list[object] = ["", ".", "..", "./", "/", "a/", "cache.db", "cache.db-wal", "sub/cache.db"]
FIXED_NAMES += [b"\xff\xfe", b"secret", 7, "x" * 300, "a/" * 2000 + "a"]

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are other things there")


def use_everything(directory: Path, options: dict[str, Any]) -> list[object]:
    """Return the results of all calls that may follow a row's file name, on copies of a directory."""
    seen: list[object] = []

    def on_copy(use: Callable[[Cache], object]) -> None:
        copy = directory.with_name("copy")
        shutil.copytree(directory, copy, symlinks=True, ignore=shutil.ignore_patterns("pipe"))
        if (directory / "pipe").exists():
            os.mkfifo(copy / "pipe")
        with Cache(copy, **options) as cache:
            seen.append(use(cache))
        shutil.rmtree(copy)

    on_copy(lambda cache: cache.get("a"))
    on_copy(lambda cache: cache.get("a", read=True))
    on_copy(lambda cache: cache.get("a", expire_time=True, tag=True))
    on_copy(lambda cache: "a" in cache)
    on_copy(lambda cache: cache.pop("a"))
    on_copy(lambda cache: cache.delete("a"))
    on_copy(lambda cache: cache.set("a", 1))
    on_copy(lambda cache: cache.add("a", 1))
    on_copy(lambda cache: cache.touch("a", 1))
    on_copy(lambda cache: cache.clear())
    on_copy(lambda cache: cache.evict("t"))
    on_copy(lambda cache: cache.expire(now=1e12))
    on_copy(lambda cache: cache.check().missing_files)
    on_copy(lambda cache: cache.check(fix=True))
    on_copy(lambda cache: list(cache))
    on_copy(lambda cache: cache.volume())

    def culled(cache: Cache) -> object:
        cache.reset("size_limit", 1)
        return cache.cull()

    def pulled(cache: Cache) -> object:
        cache.push(1)
        return cache.pull()

    def last(cache: Cache) -> object:
        try:
            return cache.peekitem()
        except KeyError:
            return None

    on_copy(culled)
    on_copy(pulled)
    on_copy(last)
    return seen


def spoil(directory: Path, options: dict[str, Any], name: object) -> None:
    with Cache(directory, disk_min_file_size=100, **options) as cache:
        cache.set("a", os.urandom(100_000).hex(), expire=1e6, tag="t")
    edit(directory, "UPDATE Cache SET filename = ?, size = 0", name)


@needs_links
@pytest.mark.parametrize("kind", DISKS)
@pytest.mark.parametrize("make", NAMES)
def test_names_that_lead_outside(tmp_path: Path, secret: Path, kind: str, make: Callable[[Path, Path], object]) -> None:
    """No call opens or removes a file outside of the directory."""
    directory = tmp_path / "cache"
    directory.mkdir()
    spoil(directory, DISKS[kind], make(directory, secret))
    seen = use_everything(directory, DISKS[kind])
    assert not any("SSS" in repr(value) for value in seen), seen
    assert seen[0] is None
    assert secret.read_bytes() == SECRET


@pytest.mark.in_turn("name", "kind")
@pytest.mark.parametrize("kind", DISKS)
@pytest.mark.parametrize("name", FIXED_NAMES, ids=lambda name: repr(name)[:20])
def test_names_that_are_none(tmp_path: Path, kind: str, name: object) -> None:
    """Such a row has no value, can be replaced and removed, and `check` reports it."""
    directory = tmp_path / "cache"
    directory.mkdir()
    spoil(directory, DISKS[kind], name)
    seen = use_everything(directory, DISKS[kind])
    assert seen[0] is None
    assert len(seen[12]) == 1, "check reports it"  # type: ignore[arg-type]
    with Cache(directory, **DISKS[kind]) as cache:
        cache.check(fix=True)
        assert cache.check() == []
        assert len(cache) == 0


@needs_links
def test_new_files_go_nowhere_else(tmp_path: Path, secret: Path) -> None:
    """Directories that were replaced by links are not followed either."""
    directory = tmp_path / "cache"
    directory.mkdir()
    for number in range(256):
        (directory / f"{number:02x}").symlink_to(secret.parent)
    with Cache(directory) as cache:
        with pytest.raises(OSError, match="cache"):
            cache["a"] = b"x" * 100_000
        assert "a" not in cache
    assert [path.name for path in secret.parent.iterdir()] == ["secret"]


@needs_links
def test_export_stays_inside(tmp_path: Path, secret: Path) -> None:
    """An export reads no file outside of the directory, nor does any other way to copy entries."""
    directory = tmp_path / "cache"
    directory.mkdir()
    spoil(directory, {}, name_by_parent(directory, secret))
    output = tmp_path / "export.jsonl"
    command = [sys.executable, "-m", "flexcache_rs", "disk", "export", str(directory), str(output)]
    subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert output.exists()
    assert b"SSS" not in output.read_bytes()
    assert b"U1NT" not in output.read_bytes(), "in base64"


def test_export_of_a_name_that_is_no_text(tmp_path: Path) -> None:
    """Its entry is left out, like any other entry whose file is missing."""
    with Cache(tmp_path / "cache") as cache:
        cache["a"], cache["b"] = b"x" * 100_000, 1
    edit(tmp_path / "cache", "UPDATE Cache SET filename = CAST(x'ff' AS TEXT) WHERE key = 'a'")
    output = tmp_path / "export.jsonl"
    command = [sys.executable, "-m", "flexcache_rs", "disk", "export", str(tmp_path / "cache"), str(output)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True)
    assert "Traceback" not in done.stderr
    assert '{"entries":1}' in output.read_text()


@pytest.mark.parametrize("count", [2**62, 2**40, -5])
def test_a_count_that_cannot_be_true(tmp_path: Path, count: int) -> None:
    """A wrong count is ignored. Lists allocate room for as many entries as a cache claims to have."""
    with Cache(tmp_path) as cache:
        cache["a"] = 1
    edit(tmp_path, "UPDATE Settings SET value = ? WHERE key = 'count'", count)
    with Cache(tmp_path) as cache:
        assert len(cache) == 1
        assert list(cache) == ["a"]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are other things there")
@pytest.mark.parametrize("kind", [Cache, FanoutCache])
def test_a_directory_that_others_can_write(tmp_path: Path, kind: type[Cache | FanoutCache]) -> None:
    """It is used, with a warning. A new directory is not open to other users."""
    kind(tmp_path / "new").close()
    assert (tmp_path / "new").stat().st_mode & 0o022 == 0
    for folder in [tmp_path / "new", *(tmp_path / "new").glob("0*")]:
        folder.chmod(0o777)
    with pytest.warns(UserWarning, match=r"new.*can be written by other users.*chmod o-w") as warned:
        kind(tmp_path / "new").close()
    assert [warning.filename for warning in warned] == [__file__]
    for folder in [tmp_path / "new", *(tmp_path / "new").glob("0*")]:
        folder.chmod(0o775)
    kind(tmp_path / "new").close()


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are other things there")
@pytest.mark.parametrize("part", [".", "001", "001/cache.db"])
def test_a_part_that_others_can_write(tmp_path: Path, part: str) -> None:
    """Any shard, and the directory around the shards, in which others could replace a shard."""
    FanoutCache(tmp_path / "new", shards=2).close()
    (tmp_path / "new" / part).chmod(0o777)
    with pytest.warns(UserWarning, match="can be written by other users") as warned:
        FanoutCache(tmp_path / "new", shards=2).close()
    assert len(warned) == 1


def test_a_directory_whose_name_looks_like_a_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a directory is like any other."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("file:rel?mode=memory", "file:x", "file:a#b", ":memory:", "file:%61")):
        if sys.platform == "win32" and number:
            break
        with Cache(name) as cache:
            cache["a"] = number
        assert (tmp_path / name / "cache.db").exists()
        code = f"import flexcache_rs.disk as dc\nprint(dc.Cache({name!r}).get('a'))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == f"{number}\n"
        with FanoutCache(name + "fanout", shards=2) as fanout:
            fanout["a"] = number
            assert fanout["a"] == number


LIMITED = """
import resource, sys
import flexcache_rs.disk as dc
cache = dc.Cache(sys.argv[1], **eval(sys.argv[2]))
limit = 96 << 20
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + limit, used + limit))
for call in (lambda: cache["a"], lambda: cache.get("a"), lambda: cache.peekitem(),
             lambda: cache.get("a", expire_time=True), lambda: cache.pop("a")):
    try:
        call()
    except MemoryError:
        print("MemoryError")
    except ValueError as error:
        print("ValueError", error)
    else:
        print("found")
"""


def with_little_memory(directory: Path, options: dict[str, Any]) -> list[str]:
    command = [sys.executable, "-c", LIMITED, str(directory), repr(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout.splitlines()


needs_limit = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are other things there")


@needs_limit
@pytest.mark.parametrize("where", ["table", "file"])
@pytest.mark.parametrize("kind", ["zstd", "lz4", None])
@pytest.mark.parametrize("value", ["bytes", "text", "pickle"])
def test_values_larger_than_memory(tmp_path: Path, kind: Any, where: str, value: str) -> None:
    """They raise MemoryError, and the process continues."""
    if kind is None and value == "pickle":
        pytest.skip("pickle takes the memory itself")
    size = 128 << 20
    options = {"compression": kind, "disk_min_file_size": 100 if where == "file" else 1 << 30, "size_limit": 1 << 40}
    large = b"\0" * size
    with Cache(tmp_path, **options) as cache:
        cache["a"] = {"bytes": large, "text": "0" * size, "pickle": [large]}[value]
        del large
    assert set(with_little_memory(tmp_path, {"compression": kind})) <= {"MemoryError"}


CLAIMS = {
    # A frame header: one segment, a checksum, and eight bytes of size; or a window of a gigabyte; then an empty block.
    "a size": (18, bytes.fromhex("28b52ffd") + b"\xe4" + (1 << 50).to_bytes(8, "little") + b"\x01\x00\x00" + b"\0" * 4),
    "a window": (18, bytes.fromhex("28b52ffd") + b"\x04" + b"\xa0" + b"\x01\x00\x00" + b"\0" * 4),
    "a length": (34, (0xFFFFFFFF).to_bytes(4, "little") + b"\0" * 90),
    "a possible length": (34, (255 * 90).to_bytes(4, "little") + b"\0" * 90),
}


@needs_limit
@pytest.mark.parametrize("claim", CLAIMS)
def test_values_that_claim_to_be_huge(tmp_path: Path, claim: str) -> None:
    """A claim allocates nothing."""
    mode, stored = CLAIMS[claim]
    with Cache(tmp_path, compression="zstd") as cache:
        cache["a"] = b"x" * 10_000
    edit(tmp_path, "UPDATE Cache SET value = ?, mode = ?", stored, mode)
    assert all(line.startswith("ValueError") for line in with_little_memory(tmp_path, {}))


@pytest.mark.parametrize("where", ["table", "file"])
@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("kind", ["zstd", "lz4"])
def test_each_changed_byte_is_found(tmp_path: Path, kind: Any, where: str, network: bool) -> None:
    """The next read finds the change and returns no wrong value. `check` finds it too, and removes the entry."""
    options = {"compression": kind, "network": network, "disk_min_file_size": 100 if where == "file" else 1 << 20}
    value = bytes(range(256)) * 3 + os.urandom(400)
    with Cache(tmp_path, **options) as cache:
        cache["a"] = value
    files = list(tmp_path.rglob("*.val"))
    assert len(files) == (where == "file")
    with closing(sqlite3.connect(tmp_path / "cache.db")) as connection:
        ((stored,),) = connection.execute("SELECT value FROM Cache")
    stored = files[0].read_bytes() if files else stored
    places = sorted({*range(0, len(stored), 17), *range(12), *range(len(stored) - 10, len(stored))})
    found_by_check = 0
    for place in places:
        flipped = bytearray(stored)
        flipped[place] ^= 1 << (place % 8)
        if files:
            files[0].write_bytes(flipped)
        else:
            edit(tmp_path, "UPDATE Cache SET value = ?", bytes(flipped))
        with Cache(tmp_path) as cache:
            try:
                found = cache.get("a")
            except ValueError:
                found = None
            # A byte that says how much memory to use, for instance, changes nothing of the value.
            assert found in (None, value), place
            report = cache.check()
            assert found == value or not report.ok, place
            assert report.ok or report.damaged_values or report.wrong_sizes
            found_by_check += not report.ok
    assert found_by_check >= len(places) - 2
    with Cache(tmp_path) as cache:
        cache.check(fix=True)
        assert cache.check() == []
        assert "a" not in cache
    assert not list(tmp_path.rglob("*.val"))
