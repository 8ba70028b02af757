"""New databases have the properties that were requested."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.disk import Cache
from flexcache_rs.sessions import sync

if TYPE_CHECKING:
    from pathlib import Path


def auto_vacuum(file: Path) -> int:
    """Return when the file shrinks: 0 for never, 1 for after every transaction, 2 for on request."""
    with closing(sqlite3.connect(file)) as connection:
        (found,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize("asked", [0, 1, 2, None])
def test_a_new_directory_shrinks_as_it_was_asked_to(tmp_path: Path, asked: int | None) -> None:
    """By default, the database shrinks after every transaction, as in python-diskcache."""
    options = {} if asked is None else {"sqlite_auto_vacuum": asked}
    with Cache(tmp_path, **options) as cache:
        cache["a"] = 1
    assert auto_vacuum(tmp_path / "cache.db") == (1 if asked is None else asked)


def test_other_databases_do_not_shrink(tmp_path: Path) -> None:
    """The databases of leases and sessions never shrink."""
    with Cache(tmp_path) as cache:
        assert FlexCache(store=cache).get_or_set("a", lambda: 1) == 1
    assert auto_vacuum(tmp_path / "cache.db-gates") == 0
    with sync.connect(f"disk://{tmp_path}") as session:
        session.set("a", 1)
    assert auto_vacuum(tmp_path / "sessions.db") == 0
