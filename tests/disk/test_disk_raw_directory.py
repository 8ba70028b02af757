"""Directories that the command line reads and writes: rows that nobody should have stored, and writes that fail."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from flexcache_rs.disk import Cache, raw_directory
from flexcache_rs.disk.raw_directory import Entry, Reader, Writer, create, find, reading, settings, usable_settings
from flexcache_rs.disk.transfer import Exporter, Importer


def execute(directory: Path, statement: str, *values: Any) -> None:
    """Change a directory without the library."""
    with contextlib.closing(sqlite3.connect(directory / "cache.db")) as database, database:
        database.execute(statement, values)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("key", None),
        ("mode", "text"),
        ("mode", None),
        ("mode", 99),
        ("access_count", "text"),
        ("access_count", b"bytes"),
        ("expire_time", "text"),
        ("store_time", b"bytes"),
        ("filename", b"bytes"),
        ("filename", 5),
        ("filename", "\udcff"),
        ("filename", "../outside"),
    ],
)
def test_a_row_that_nobody_should_have_stored_is_left_out(tmp_path: Path, column: str, value: Any) -> None:
    directory = tmp_path / "cache"
    with Cache(directory) as cache:
        cache["good"], cache["bad"] = 1, 2
    (tmp_path / "outside").write_text("secret", encoding="utf-8")
    if value == "\udcff":
        execute(directory, f"UPDATE Cache SET {column} = CAST(x'ff' AS TEXT) WHERE key = 'bad'")
    else:
        execute(directory, f"UPDATE Cache SET {column} = ? WHERE key = 'bad'", value)
    stream = io.BytesIO()
    Exporter(directory).write(stream, lambda _: None)
    stream.seek(0)
    Importer(tmp_path / "copy", stream, replace=False, shards=None).read(lambda _: None)
    with Cache(tmp_path / "copy") as copy:
        assert list(copy) == ["good"]


def test_a_size_of_files_that_is_no_number_is_the_default(tmp_path: Path) -> None:
    with Cache(tmp_path):
        pass
    execute(tmp_path, "UPDATE Settings SET value = 'text' WHERE key = 'disk_min_file_size'")
    with Writer(find(tmp_path)[0], replace=False) as writer:
        writer.put(Entry("key", True, 2, b"small"))
        writer.put(Entry("other", True, 2, b"x" * 50_000))
    assert writer.written == 2
    assert len(list(tmp_path.rglob("*.val"))) == 1


@pytest.mark.parametrize("network", [0, 1])
def test_files_of_a_network_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: int) -> None:
    """Other machines see a file only after it is synced, and must not see its row before."""
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with Cache(tmp_path):
        pass
    execute(tmp_path, "INSERT OR REPLACE INTO Settings VALUES ('network', ?)", network)
    with Writer(find(tmp_path)[0], replace=False) as writer:
        writer.put(Entry("key", True, 2, b"x" * 50_000))
    assert len(synced) == network


def test_a_writer_that_fails_leaves_no_files(tmp_path: Path) -> None:
    """The rows of these files were not written."""
    with Cache(tmp_path):
        pass
    with pytest.raises(KeyError), Writer(find(tmp_path)[0], replace=False) as writer:
        writer.put(Entry("key", True, 2, b"x" * 50_000))
        raise KeyError
    assert not list(tmp_path.rglob("*.val"))


def test_an_expired_entry_is_replaced(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache["key"] = "old"
    execute(tmp_path, "UPDATE Cache SET expire_time = 1")
    with Writer(find(tmp_path)[0], replace=False) as writer:
        writer.put(Entry("key", True, 1, "new"))
    assert (writer.written, writer.kept) == (1, 0)
    with Cache(tmp_path) as cache:
        assert cache["key"] == "new"


def test_large_bytes_that_a_row_holds_stay_in_it(tmp_path: Path) -> None:
    """The mode says where a value is."""
    with Cache(tmp_path):
        pass
    with Writer(find(tmp_path)[0], replace=False) as writer:
        writer.put(Entry("key", True, 1, b"x" * 50_000))
    assert not list(tmp_path.rglob("*.val"))
    with Cache(tmp_path) as cache:
        assert cache["key"] == b"x" * 50_000


@pytest.mark.parametrize("change", ["UPDATE Cache SET filename = NULL, mode = 1, value = 'new'", "DELETE FROM Cache"])
def test_an_entry_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """A writer removes the file of the row that was read. The row is read again, and is no missing one."""
    with Cache(tmp_path) as cache:
        cache["key"] = "x" * 50_000

    def removed(*_: object) -> None:
        execute(tmp_path, change)

    monkeypatch.setattr(raw_directory, "disk_open_value", removed)
    reader = Reader(tmp_path, 0.0)
    assert [entry.value for entry in reader.entries()] == (["new"] if change.startswith("UPDATE") else [])
    assert reader.missing == 0


def test_settings_of_an_unknown_policy_and_of_strange_names(tmp_path: Path) -> None:
    """A program may have registered the policy. python-diskcache puts names of pragmas into SQL."""
    given = {"eviction_policy": "mine", "a b": 1, "sqlite_temp_store_directory": "x", "mine": 5}
    create(tmp_path, usable_settings(given))
    with reading(tmp_path / "cache.db") as connection:
        recorded = settings(connection)
    assert (recorded["eviction_policy"], recorded["mine"]) == ("mine", 5)
    assert not {"a b", "sqlite_temp_store_directory"} & set(recorded)
