"""Databases that PyCache itself has written become databases of sessions."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import pickle
import sqlite3
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.__main__ import main
from flexcache_rs.disk.serializers import PickleSerializer
from flexcache_rs.pycache import migrate as module
from flexcache_rs.pycache.adapters import SQLite
from flexcache_rs.pycache.migrate import Migrated, migrate, tables_of
from flexcache_rs.pycache.py_cache import PyCache
from flexcache_rs.sessions import SessionError
from flexcache_rs.sessions.sync import connect

if TYPE_CHECKING:
    from pathlib import Path

VALUES: dict[str, Any] = {
    "text": "007",
    "": "the empty key",
    "number": 42,
    "list": [1, "two", None, True, {"a": 1}],
    "map": {"a": {"b": 2}},
    "set": {1, 2},
    "queue": collections.deque([1, 2]),
    "when": [datetime(2030, 1, 1, tzinfo=timezone.utc)],
}


def write(file: Path, values: dict[str, Any], table: str = "kv-store", expires_at: str | None = None) -> None:
    """Write a database as PyCache does."""
    connection = sqlite3.connect(file)
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS `{table}` (`id` INTEGER PRIMARY KEY AUTOINCREMENT, `key` TEXT NOT NULL, "
        "`value` BLOB NOT NULL, `created_at` DATETIME DEFAULT CURRENT_TIMESTAMP, `expires_at` DATETIME NULL)"
    )
    connection.executemany(
        f"INSERT INTO `{table}` (key, value, expires_at) VALUES (?, ?, ?)",
        [(key, pickle.dumps(value), expires_at) for key, value in values.items()],
    )
    connection.commit()
    connection.close()


def stamp(seconds: float) -> str:
    return f"{datetime.now(timezone.utc) + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}"


class Unwanted:
    """A class that is not allowed."""


def test_everything_comes_over_in_place(tmp_path: Path) -> None:
    file = tmp_path / "cache?%.db"
    write(file, VALUES)
    write(file, {"short": 1}, expires_at=stamp(100))
    write(file, {"gone": 1}, expires_at=stamp(-5))
    write(file, {"text": "the later row counts"})
    write(file, {"key": "of another table"}, table="other")
    old = file.read_bytes()
    assert migrate(file) == Migrated(len(VALUES) + 2, 1, {}, tmp_path / "cache?%.db.pycache")
    assert (tmp_path / "cache?%.db.pycache").read_bytes() == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache?%.db", "cache?%.db.pycache"]

    async def look() -> None:
        async with PyCache(SQLite(file)).session() as session, PyCache(SQLite(file, "other")).session() as other:
            expected = VALUES | {"text": "the later row counts", "short": 1}
            found = await session.batch_get(await session.keys())
            assert found == expected
            assert {key: type(value) for key, value in found.items()} == {
                key: type(value) for key, value in expected.items()
            }
            assert 90 < (await session.get_expire("short") or 0) <= 100
            assert await other.batch_get(await other.keys()) == {"key": "of another table"}

    asyncio.run(look())
    with pytest.raises(SessionError, match="no table of PyCache"):
        migrate(file)


def test_into_another_file(tmp_path: Path) -> None:
    file, made = tmp_path / "old.db", tmp_path / "new.db"
    write(file, VALUES)
    old = file.read_bytes()
    assert migrate(file, made).backup is None
    assert file.read_bytes() == old
    with connect(f"sqlite://{made}") as session:
        assert session.get_many(VALUES) == VALUES
    with pytest.raises(FileExistsError):
        migrate(file, made)


def test_an_interrupted_migration_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cache.db"
    write(file, {str(number): number for number in range(25)})
    old = file.read_bytes()
    monkeypatch.setattr(module, "_BATCH", 5)
    loaded: list[int] = []
    loads = PickleSerializer.loads

    def fail(self: PickleSerializer, data: bytes) -> Any:
        value = loads(self, data)
        loaded.append(value)
        if len(loaded) == 12:
            raise KeyboardInterrupt
        return value

    monkeypatch.setattr(PickleSerializer, "loads", fail)
    with pytest.raises(KeyboardInterrupt):
        migrate(file)
    assert file.read_bytes() == old
    assert not (tmp_path / "cache.db.pycache").exists()
    assert migrate(file).keys == 25
    assert loaded[12:] == list(range(10, 25)), "what was committed is not read again"
    with connect(f"sqlite://{file}") as session:
        assert session.count() == 25


def test_what_was_made_of_another_state_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cache.db"
    write(file, {"a": 1, "b": 2})
    replaced = type(file).replace
    monkeypatch.setattr(type(file), "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        migrate(file)
    monkeypatch.setattr(type(file), "replace", replaced)
    connection = sqlite3.connect(file)
    connection.execute("DELETE FROM `kv-store` WHERE key = 'a'")
    connection.commit()
    connection.close()
    assert migrate(file).keys == 1


def test_an_unfinished_copy_of_another_state_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 1)
    file = tmp_path / "cache.db"
    write(file, {"a": 1, "b": Unwanted(), "c": 3})
    with pytest.raises(SessionError, match="'b'"):
        migrate(file)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("DELETE FROM `kv-store` WHERE key != 'c'")
        connection.commit()
    assert migrate(file).keys == 1


def test_a_new_database_that_another_program_uses_is_not_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of it may be in the log beside it, which would be left behind."""
    file = tmp_path / "cache.db"
    write(file, {"a": 1})
    copy = module._Table.copy
    with contextlib.ExitStack() as stack:

        def copy_beside_another(self: Any) -> None:
            stack.enter_context(connect(f"sqlite://{tmp_path}/cache.db.migrating")).get("key")
            copy(self)

        with monkeypatch.context() as patch:
            patch.setattr(module._Table, "copy", copy_beside_another)
            with pytest.raises(SessionError, match="is in use"):
                migrate(file)
    assert migrate(file).keys == 1


def test_what_cannot_be_migrated_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cache.db"
    write(file, {"good": 1, "class": Unwanted(), "inside": [object()]})
    write(file, {"late": 1}, expires_at="some day")
    old = file.read_bytes()
    with pytest.raises(SessionError, match=r"'class' .*Unwanted is not among what may be loaded"):
        migrate(file)
    assert file.read_bytes() == old
    done = migrate(file, skip_unreadable=True)
    assert (done.keys, sorted(done.skipped)) == (1, ["class", "inside", "late"])


def test_files_that_are_in_use_or_not_pycaches(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        migrate(tmp_path / "none.db")
    (tmp_path / "text").write_text("no database")
    assert tables_of(tmp_path / "text") == tables_of(tmp_path / "none.db") == []
    with pytest.raises(SessionError, match="no table of PyCache"):
        migrate(tmp_path / "text")
    file = tmp_path / "cache.db"
    write(file, VALUES)
    backup = tmp_path / "cache.db.pycache"
    backup.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="exists already"):
        migrate(file)
    assert backup.read_bytes() == b"precious"


def test_the_command_and_the_adapter_that_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cache.db"
    write(file, VALUES | {"class": Unwanted()})
    with pytest.raises(SessionError, match=r"was written by PyCache.*flexcache sessions migrate"):
        SQLite(file).now()
    assert main(["sessions", "migrate", str(file)]) == 1
    assert "'class'" in capsys.readouterr().err
    assert main(["sessions", "migrate", str(file), "--skip-unreadable"]) == 0
    shown = capsys.readouterr()
    assert f"{len(VALUES)} keys migrated, 0 had expired, 1 skipped" in shown.out
    assert "skipped 'class'" in shown.err
    assert main(["sessions", "migrate", str(tmp_path / "none")]) == 1


def test_a_key_that_expires_during_the_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at its deadline and its storing, too."""
    file = tmp_path / "cache.db"
    write(file, {"first": 1, "second": 2}, expires_at=stamp(100))
    write(file, {"stays": 3}, expires_at=stamp(10_000))

    class Clock(datetime):
        calls = 0

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            cls.calls += 1
            return datetime.now(tz) + timedelta(seconds=0 if cls.calls == 1 else 200)

    monkeypatch.setattr(module, "datetime", Clock)
    assert migrate(file) == Migrated(1, 2, {}, tmp_path / "cache.db.pycache")
    with connect(f"sqlite://{file}") as session:
        assert (list(session.keys()), session.get("stays")) == (["stays"], 3)


def test_a_deadline_that_is_too_far_away(tmp_path: Path) -> None:
    file = tmp_path / "cache.db"
    write(file, {"key": 1}, expires_at="9999-12-31 23:59:59")
    assert migrate(file).keys == 1
    with connect(f"sqlite://{file}") as session:
        assert (session.get("key"), session.ttl("key")) == (1, None)


class Raises:
    """An object whose pickle calls a function with arguments that raise."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


DAMAGED: dict[str, Any] = {
    "overflow": Raises(timedelta, 10**12),
    "name": Raises(getattr, datetime, "none"),
    "key": Raises(dict.__getitem__, {}, "a"),
    "zero": Raises(divmod, 1, 0),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_pickle_that_raises_anything_is_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / "cache.db"
    write(file, {"good": 1, "bad": DAMAGED[name]})
    allowed = ["builtins.getattr", "builtins.divmod", "builtins.dict"]
    with pytest.raises(SessionError, match="the value of 'bad' in the table 'kv-store' cannot be migrated"):
        migrate(file, allow=allowed)
    migrated = migrate(file, allow=allowed, skip_unreadable=True)
    assert (migrated.keys, list(migrated.skipped)) == (1, ["bad"])


def test_the_value_of_an_expired_key_is_not_loaded(tmp_path: Path) -> None:
    file = tmp_path / "cache.db"
    write(file, {"bad": DAMAGED["overflow"]}, expires_at=stamp(-5))
    write(file, {"good": 1})
    assert migrate(file) == Migrated(1, 1, {}, tmp_path / "cache.db.pycache")


@pytest.mark.parametrize("folder", ["a\tb", "[1]", "a b", "x@y:1", "\udcff"])
def test_files_whose_names_mean_something_in_a_url(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / folder).mkdir()
    file = tmp_path / folder / "cache.db"
    write(file, {"key": 1})
    assert migrate(file).keys == 1
    # With a name that is relative, the part before the first slash is where a URL has its host.
    monkeypatch.chdir(tmp_path)
    for name in (f"{folder}/cache.db", f"{folder}.db", "data\u2100.db", "a\nb.db"):
        adapter = SQLite(name)
        with adapter.now() as session:
            session.set("other", name.encode("utf-8", "surrogateescape"))
        assert (tmp_path / name).is_file()
