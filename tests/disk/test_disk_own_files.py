"""Disks of programs that write the files of their values themselves, as python-diskcache's do."""

from __future__ import annotations

import io
import pickle
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest

from flexcache_rs.disk import UNKNOWN, Cache, Disk, FanoutCache, JSONDisk
from flexcache_rs.disk.core import MODE_BINARY, MODE_PICKLE


class Encoded(Disk):
    """A disk as programs write them for python-diskcache: it replaces `store` and `fetch`, and writes files itself."""

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, str | None, Any]:
        data = pickle.dumps(value)[::-1]
        if len(data) < self.min_file_size:
            return 0, MODE_PICKLE, None, data
        filename, full_path = self.filename(key, value)
        size = self._write(full_path, io.BytesIO(data), "xb")
        assert size == len(data)
        with pytest.raises(FileExistsError):
            self._write(full_path, [b"other"], "xb")
        return size, MODE_PICKLE, filename, None

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool, /) -> Any:
        return pickle.loads((value if filename is None else Path(self._directory, filename).read_bytes())[::-1])


@pytest.mark.parametrize("class_", [Cache, FanoutCache])
def test_a_disk_that_writes_its_own_files(class_: Any, tmp_path: Path) -> None:
    with class_(tmp_path / "new", disk=Encoded, disk_min_file_size=100) as cache:
        values = ["short", "long" * 100, b"\n" * 1000, {"a": [None]}]
        for number, value in enumerate(values):
            cache[number] = value
        assert [cache[number] for number in range(len(values))] == values
        assert cache.check() == []


class InDirectories(Disk):
    """A disk that keeps each value as a directory of files, as programs do with arrays and tables."""

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, str | None, Any]:
        filename, full_path = self.filename(key, value)
        Path(full_path).mkdir(parents=True)
        for part, content in value.items():
            Path(full_path, part).write_bytes(content)
        return sum(map(len, value.values())), MODE_BINARY, filename, None

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool, /) -> Any:
        assert mode == MODE_BINARY
        assert filename is not None
        return {path.name: path.read_bytes() for path in Path(self._directory, filename).iterdir()}

    def remove(self, file_path: Any, /) -> None:
        shutil.rmtree(Path(self._directory, file_path))


@pytest.mark.parametrize("class_", [Cache, FanoutCache])
def test_a_disk_that_keeps_values_as_directories(class_: Any, tmp_path: Path) -> None:
    def directories() -> int:
        return len(list(tmp_path.rglob("*.val")))

    one, two = {"data": b"1", "meta": b"{}"}, {"data": b"2"}
    with class_(tmp_path / "new", disk=InDirectories) as cache:
        cache["key"] = one
        assert cache["key"] == cache.get("key") == one
        assert not cache.add("key", two)
        cache["key"] = two
        assert (cache["key"], directories()) == (two, 1)
        assert (cache.pop("key"), directories()) == (two, 0)
        cache["key"], cache["other"], cache["empty"] = one, two, {}
    # Also without the object.
    with class_(tmp_path / "new") as cache:
        assert cache.check(fix=True) == []
    with class_(tmp_path / "new", disk=InDirectories) as cache:
        assert [cache["key"], cache["other"], cache["empty"]] == [one, two, {}]
        assert cache.delete("key")
        assert cache.delete("empty")
        assert directories() == 1
        assert cache.clear() == 1
        assert directories() == 0


@pytest.mark.parametrize("part", [1, 2])
def test_a_row_with_the_name_of_a_directory_of_values_is_no_value(part: int, tmp_path: Path) -> None:
    """Only what has the ending of values can be one, so that nobody removes or hides the values of others."""
    with Cache(tmp_path, disk=InDirectories) as cache:
        cache["a"], cache["b"] = {"data": b"1"}, {"data": b"2"}
        (name,) = cache._sql("SELECT filename FROM Cache WHERE key = 'b'").fetchone()
        prefix = "/".join(Path(name).parts[:part])
        cache._sql("UPDATE Cache SET filename = ? WHERE key = 'a'", (prefix,))
        assert cache.get("a") is None
        assert any(prefix in str(found.message) for found in cache.check())
        del cache["a"]
        assert cache["b"] == {"data": b"2"}


def test_a_json_disk_adds_what_was_cut_short(tmp_path: Path) -> None:
    with Cache(tmp_path, disk=JSONDisk, disk_min_file_size=1) as cache:
        assert cache.add("key", "1" * 1000)
        (path,) = tmp_path.rglob("*.val")
        path.write_bytes(path.read_bytes()[:5])
        assert cache.add("key", "2")
        assert cache["key"] == "2"


def test_text_is_written_in_an_encoding(tmp_path: Path) -> None:
    full_path = tmp_path / "a" / "b" / "text"
    assert Disk(str(tmp_path))._write(str(full_path), ["ä", "ö\n"], "x", "latin-1") == 3
    assert full_path.read_bytes() == b"\xe4\xf6\n"


class Compressed(Disk):
    """A disk whose size of a value is that before compression, so that files are shorter than their rows say."""

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, str | None, Any]:
        filename, full_path = self.filename(key, value)
        self._write(full_path, io.BytesIO(zlib.compress(value)), "xb")
        return len(value), MODE_BINARY, filename, None

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool, /) -> Any:
        assert filename is not None
        return zlib.decompress(Path(self._directory, filename).read_bytes())


def test_a_disk_whose_files_have_another_size_than_their_rows(tmp_path: Path) -> None:
    with Cache(tmp_path, disk=Compressed) as cache:
        assert cache.add("key", b"1" * 1000)
        assert not cache.add("key", b"2" * 1000)
        assert cache["key"] == b"1" * 1000
