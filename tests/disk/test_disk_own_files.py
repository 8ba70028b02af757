"""Disks of programs that write the files of their values themselves, as python-diskcache's do."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import pytest

from flexcache_rs.disk import UNKNOWN, Cache, Disk, FanoutCache
from flexcache_rs.disk.core import MODE_PICKLE


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


def test_text_is_written_in_an_encoding(tmp_path: Path) -> None:
    full_path = tmp_path / "a" / "b" / "text"
    assert Disk(str(tmp_path))._write(str(full_path), ["ä", "ö\n"], "x", "latin-1") == 3
    assert full_path.read_bytes() == b"\xe4\xf6\n"
