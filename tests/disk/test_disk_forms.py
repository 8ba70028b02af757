"""The forms of values in a directory: compressed, in whole files, by msgspec. And keys as pickles."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import flexcache_rs
from flexcache_rs import disk
from flexcache_rs.disk import (
    Cache,
    Disk,
    FanoutCache,
    FanoutIndex,
    MsgspecSerializer,
    NetworkFilesystemWarning,
    network,
)
from flexcache_rs.remote import RemoteCache
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from pathlib import Path

VALUES: dict[str, Any] = {
    "short": "a",
    "text": "häß\r\n" * 20_000,
    "bytes": b"xy" * 50_000,
    "noise": os.urandom(100_000),
    "object": list(range(20_000)),
    "small object": {"a": "b" * 300},
    "number": 42,
}


@pytest.mark.parametrize("kind", [Cache, FanoutCache])
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_values(tmp_path: Path, compression: Any, kind: Any) -> None:
    """Compressed values are smaller. An object that was opened without this option reads them too."""
    with kind(tmp_path / "as they are") as plain, kind(tmp_path / "compressed", compression=compression) as cache:
        for key, value in VALUES.items():
            plain[key] = cache[key] = value
        assert cache.volume() < plain.volume()
    with kind(tmp_path / "compressed") as again:
        assert {key: again[key] for key in again} == VALUES
        assert again.get("bytes", read=True).read() == VALUES["bytes"]
        assert again.check() == []
        assert pickle.loads(pickle.dumps(again))["text"] == VALUES["text"]


def test_another_compression_is_refused(tmp_path: Path) -> None:
    """An unknown compression is refused, and the error names it."""
    Cache(tmp_path, compression="zstd").close()
    with pytest.raises(ValueError, match=r"compression must be.*'zstd'.*'lz4'"):
        Cache(tmp_path, compression="lz4")
    with pytest.raises(ValueError, match=r"compression must be.*'gzip'"):
        Cache(tmp_path / "new", compression="gzip")  # type: ignore[arg-type]


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_damaged_compressed_values(tmp_path: Path, compression: Any) -> None:
    """A damaged value raises an exception, and an impossible length is refused."""
    cache = Cache(tmp_path, compression=compression)
    cache["a"] = VALUES["noise"][:50_000] + bytes(50_000)
    (file,) = tmp_path.rglob("*.val")
    content = file.read_bytes()
    file.write_bytes(b"\xff" * len(content))
    with pytest.raises(ValueError, match="damaged"):
        cache["a"]
    file.write_bytes(b"")
    assert cache.get("a") is None


def test_files_that_are_whole(tmp_path: Path) -> None:
    """On a network file system there is no shared log, files have checksums, and a damaged file is a miss."""
    with Cache(tmp_path, network=True) as cache:
        assert (cache.sqlite_journal_mode, cache.sqlite_mmap_size) == ("delete", 0)
        for key, value in VALUES.items():
            cache[key] = value
        cache.set("stream", io.BytesIO(b"z" * 10), read=True)
        assert cache.check() == []
        assert not list(tmp_path.rglob("*.part"))
    with Cache(tmp_path) as again:
        assert again.network == 1
        assert again.sqlite_journal_mode == "delete"
        assert {key: again[key] for key in VALUES} == VALUES
        with again.read("stream") as stream:
            assert stream.read() == b"z" * 10
        for file in tmp_path.rglob("*.val"):
            with file.open("r+b") as damaged:
                damaged.write(b"!")
        assert again.get("text") is None
        assert again.get("object") is None


def test_a_stream_that_fails_leaves_no_part(tmp_path: Path) -> None:
    """A stream that fails leaves no part of its file."""

    class Broken:
        def read(self, size: int) -> bytes:
            raise LookupError("broken")

    with Cache(tmp_path, network=True) as cache:
        with pytest.raises(LookupError, match="broken"):
            cache.set("a", Broken(), read=True)
        assert cache.check() == []


def test_a_shared_log_on_a_network_is_refused(tmp_path: Path) -> None:
    """The two options exclude each other."""
    with pytest.raises(ValueError, match="sqlite_journal_mode"):
        Cache(tmp_path, network=True, sqlite_journal_mode="wal")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_network_filesystems_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Network file systems are recognized by the system's list of mounts, and a warning names them."""
    mounts = tmp_path / "mounts"
    point = str(tmp_path / "far away").replace(" ", "\\040")
    mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:5 / {point} rw shared:1 - {kind} server:/x rw\n")
    monkeypatch.setattr(network, "_MOUNTS", str(mounts))
    with pytest.warns(NetworkFilesystemWarning, match=kind):
        far = Cache(tmp_path / "far away" / "cache")
    assert far.sqlite_journal_mode == "delete"
    far.close()
    # Now it is known.
    Cache(tmp_path / "far away" / "cache").close()
    near = Cache(tmp_path / "near")
    assert near.sqlite_journal_mode == "wal"
    Cache(tmp_path / "far away" / "but local", network=False).close()


def test_msgspec(tmp_path: Path) -> None:
    """Structures of a declared type are stored, and keys stay as they were."""
    msgspec = pytest.importorskip("msgspec")
    point = msgspec.defstruct("Point", [("x", int), ("y", int)])
    with Cache(tmp_path, serializer=MsgspecSerializer(point)) as cache:
        cache["a", 1] = point(1, 2)
        assert list(cache) == [("a", 1)]
        assert cache["a", 1] == point(1, 2)
        assert pickle.loads(pickle.dumps(MsgspecSerializer(dict[str, int]))).loads(b"\x80") == {}
    with Cache(tmp_path, serializer=MsgspecSerializer(dict[str, str])) as other, pytest.raises(msgspec.ValidationError):
        other["a", 1]


SIMPLE = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.sampled_from(["a", "bb"])
)


class Text(str):
    """A text with a pickle of its own."""

    __slots__ = ()


KEYS = st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(), inner)
        | st.frozensets(SIMPLE)
        | st.tuples(inner, inner).map(lambda pair: (pair[0], pair[0], pair))
    ),
    max_leaves=12,
)


@given(KEYS.map(lambda key: (key,)) | st.lists(SIMPLE, max_size=20).map(tuple), st.sampled_from([2, 4, 5]))
@example(("a" * 255, "b" * 256, "é" * 128, 255, 256, 65_535, 65_536, -1, 2**31, -(2**31), -0.0), 5)
@example(("same", 1, "same"), 5)
@example((1, Text("a text of another class")), 5)
def test_keys_are_the_pickles_that_python_optimizes(key: Any, protocol: int) -> None:
    """Keys are equal byte by byte to Python's optimized pickles, because other libraries find them by these bytes."""
    expected = pickletools.optimize(pickle.dumps(key, protocol))
    assert Disk(".", pickle_protocol=protocol).put(key) == (expected, False)


def test_large_keys() -> None:
    """Large keys need more memo entries than fit one byte, and more than one frame."""
    for key in (tuple(map(str, range(1000))) * 2, ("x" * 100_000, "y" * 70_000), (list(range(300)),) * 300):
        expected = pickletools.optimize(pickle.dumps(key, 5))
        assert Disk(".", pickle_protocol=5).put(key) == (expected, False)


def test_an_index_in_shards(tmp_path: Path) -> None:
    """An index in shards behaves like any other mapping."""
    index = FanoutIndex(tmp_path, shards=3, items={"a": 1, "b": 2})
    index["c"] = 3
    assert index == {"a": 1, "b": 2, "c": 3}
    assert index != {"a": 1}
    assert index.setdefault("a", 9) == 1
    assert index.pop("a") == 1
    with pytest.raises(KeyError):
        index.pop("a")
    assert sorted(pickle.loads(pickle.dumps(index)).items()) == [("b", 2), ("c", 3)]
    taken = dict([index.popitem(), index.popitem()])
    assert taken == {"b": 2, "c": 3}
    with pytest.raises(KeyError):
        index.popitem()
    assert repr(index) == f"FanoutIndex({str(tmp_path)!r}, shards=3)"
    with index.transact():
        index["d"] = 4
    index.cache.close()


def test_the_main_names_are_at_the_top() -> None:
    """The names at the top of the package are the same objects."""
    for name in ("Cache", "Deque", "Disk", "FanoutCache", "FanoutIndex", "Index", "JSONDisk", "Timeout"):
        assert getattr(flexcache_rs, name) is getattr(disk, name)
    assert (flexcache_rs.SharedCache, flexcache_rs.RemoteCache) == (SharedCache, RemoteCache)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = flexcache_rs.nonsense  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="nonsense"):
        _ = disk.nonsense  # type: ignore[attr-defined]
