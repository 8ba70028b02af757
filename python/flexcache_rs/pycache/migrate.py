"""Migration of databases that PyCache itself has written.

Its values are pickles. Only plain values, and classes that are allowed by name, are loaded from them. The migration
first writes a new database beside the old one. When the new one is complete, it takes the place of the old one. An
interrupted migration continues where it was.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flexcache_rs import _urls
from flexcache_rs.disk.serializers import PickleSerializer
from flexcache_rs.sessions import CodecError, SessionError
from flexcache_rs.sessions.sync import connect

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from flexcache_rs.sessions.sync import Session

__all__ = ["Migrated", "migrate", "tables_of"]

_PLAIN = (
    "collections.deque",
    "datetime.date",
    "datetime.datetime",
    "datetime.time",
    "datetime.timedelta",
    "datetime.timezone",
    "decimal.Decimal",
    "uuid.UUID",
)
_BATCH = 1000
_LONGEST = timedelta(days=100_000)
"""Keys that live longer have no deadline."""
_DEFAULT_TABLE = "kv-store"
# The key of the progress of the migration in the new database. It is removed at the end.
_PROGRESS = "\0flexcache_rs migration"
_LEFTOVERS = ("-journal", "-wal")


class Migrated(NamedTuple):
    """The result of a migration."""

    keys: int
    """How many keys are in the new database."""
    expired: int
    """How many were left behind because they had expired."""
    skipped: dict[str, str]
    """Keys whose values cannot be stored, and why."""
    backup: Path | None
    """The old database, if the new one has taken its place."""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def tables_of(file: str | os.PathLike[str]) -> list[str]:
    """Return the tables of a database that look like PyCache's. The file is not changed."""
    path = Path(file)
    if not path.is_file():
        return []
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return [name for name in names if {"key", "value", "expires_at"} <= _columns(connection, name)]
    except sqlite3.Error:
        return []


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({_quoted(table)})")}


def _deadline(text: Any) -> datetime | None:
    """Return the deadline of a row. PyCache writes it in UTC."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"expires_at must be text, not {text!r}")
    found = datetime.fromisoformat(text.strip())
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)


def migrate(
    file: str | os.PathLike[str],
    to: str | os.PathLike[str] | None = None,
    *,
    allow: Iterable[str] = (),
    skip_unreadable: bool = False,
) -> Migrated:
    """Convert a database that PyCache has written to a database of sessions.

    While it runs, others can read the old database but not write. If it is interrupted, nothing has changed, and the
    next call continues at the same place. Each table becomes a namespace with its name, and "kv-store" becomes the
    namespace without a name.

    Args:
        file: The database of PyCache.
        to: The path of the new database. By default it takes the place of the old one, which is kept as "*.pycache".
        allow: Full names of classes, other than those of plain values, that pickles may use. Sessions of the new
            database need a `serializer=` for them. By default none.
        skip_unreadable: Leave out keys whose values cannot be loaded or stored, instead of raising.

    Raises:
        FileNotFoundError: There is no such file.
        FileExistsError: The new file, or the backup of the old one, already exists.
        SessionError: The file was not written by PyCache, or is in use, or a value cannot be loaded or stored.
    """
    source = Path(file)
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    tables = tables_of(source)
    if not tables:
        raise SessionError(f"{source} has no table of PyCache")
    target = source if to is None else Path(to)
    backup = source.with_name(source.name + ".pycache") if to is None else None
    if backup is None and target.exists():
        raise FileExistsError(f"{target} exists already")
    # If the backup is the same file, an earlier migration was interrupted at its very end.
    if backup is not None and backup.exists() and not backup.samefile(source):
        raise FileExistsError(f"{backup} exists already, and the old database would get this name")
    made = target.with_name(target.name + ".migrating")
    serializer = PickleSerializer([*_PLAIN, *allow])
    with _locked(source) as connection:
        keys, expired, skipped = _copy(connection, source, tables, made, serializer, skip_unreadable)
        if backup is None:
            os.link(made, target)
            made.unlink()
        else:
            if not backup.exists():
                _keep(source, backup)
            made.replace(source)
    return Migrated(keys, expired, skipped, backup)


@contextlib.contextmanager
def _locked(source: Path) -> Generator[sqlite3.Connection]:
    """Open a connection to the old database, and lock it against writers meanwhile."""
    with contextlib.closing(sqlite3.connect(source, timeout=30, isolation_level=None)) as connection:
        try:
            # Without a write-ahead log, because SQLite would mistake a log beside the file for the new database's.
            (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise SessionError(f"{source} cannot be locked: {error}") from error
        if mode != "delete":
            raise SessionError(f"{source} is in use by another program")
        yield connection


def _keep(source: Path, backup: Path) -> None:
    try:
        os.link(source, backup)
    except OSError:
        shutil.copy2(source, backup)


def _copy(
    connection: sqlite3.Connection,
    source: Path,
    tables: list[str],
    made: Path,
    serializer: PickleSerializer,
    skip_unreadable: bool,
) -> tuple[int, int, dict[str, str]]:
    """Make the new database. Returns the number of its keys, the number of expired ones, and the skipped ones."""
    state = source.stat()
    origin = (state.st_size, state.st_mtime_ns, state.st_ino)
    keys = expired = 0
    skipped: dict[str, str] = {}
    for table in tables:
        with _open(made, table, origin) as session:
            step = _Table(connection, table, session, serializer, skip_unreadable, origin)
            step.copy()
            expired += step.expired
            skipped |= step.skipped
    for table in tables:
        with _open(made, table, origin) as session:
            session.delete(_PROGRESS)
            keys += session.count()
    if any(Path(f"{made}{end}").exists() for end in _LEFTOVERS):
        raise SessionError(f"{made} is in use")
    with made.open("rb+") as whole:
        os.fsync(whole.fileno())
    return keys, expired, skipped


def _open(made: Path, table: str, origin: tuple[int, ...]) -> Session:
    """Return the session of a table. Removes copies that were made of an earlier state of the old database."""
    name = _urls.quoted_path(str(made.absolute()))
    namespace = "" if table == _DEFAULT_TABLE else table
    session = connect(f"sqlite://{name}", namespace=namespace, timeout=30)
    progress = session.get(_PROGRESS)
    if progress is None or tuple(progress["origin"]) != origin:
        session.clear()
    return session


class _Table:
    """A table of PyCache, and the progress of its migration."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        table: str,
        session: Session,
        serializer: PickleSerializer,
        skip_unreadable: bool,
        origin: tuple[int, ...],
    ) -> None:
        self._connection = connection
        self._table = table
        self._session = session
        self._serializer = serializer
        self._skip_unreadable = skip_unreadable
        self._origin = origin
        self.expired = 0
        self.skipped: dict[str, str] = {}

    def copy(self) -> None:
        """Copy the rows that were not copied yet."""
        begun: dict[str, Any] = {"after": -1, "expired": 0, "skipped": {}}
        progress: dict[str, Any] = self._session.get(_PROGRESS) or begun
        after, self.expired, self.skipped = progress["after"], progress["expired"], dict(progress["skipped"])
        while rows := self._rows(after):
            after = rows[-1][0]
            with self._session.transaction() as transaction:
                for key, value, deadline in self._entries(rows):
                    self._set(key, value, deadline)
                told = {"after": after, "expired": self.expired, "skipped": self.skipped, "origin": self._origin}
                transaction.set(_PROGRESS, told)

    def _set(self, key: str, value: Any, deadline: datetime | None) -> None:
        left = None if deadline is None else deadline - datetime.now(timezone.utc)
        if left is not None and left <= timedelta():
            # An expired row also replaces an earlier row of the key.
            self._session.delete(key)
            self.expired += 1
            return
        try:
            self._session.set(key, value, ttl=None if left is None or left > _LONGEST else left)
        except (CodecError, ValueError) as error:
            if isinstance(error, SessionError) and type(error) is not CodecError:
                raise
            self._refuse(key, error)

    def _rows(self, after: int) -> list[tuple[int, Any, Any, Any]]:
        select = (
            f"SELECT rowid, key, value, expires_at FROM {_quoted(self._table)} WHERE rowid > ? ORDER BY rowid LIMIT ?"
        )
        return self._connection.execute(select, (after, _BATCH)).fetchall()

    def _entries(self, rows: list[tuple[int, Any, Any, Any]]) -> Iterator[tuple[str, Any, datetime | None]]:
        for _, key, value, expires_at in rows:
            try:
                deadline = _deadline(expires_at)
                is_over = deadline is not None and deadline <= datetime.now(timezone.utc)
                # The value of an expired row is not loaded.
                found = self._serializer.loads(value) if isinstance(value, bytes) and not is_over else value
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - a damaged pickle, or a class that it calls, may raise any
                self._refuse(key, error)
                continue
            yield str(key), found, deadline

    def _refuse(self, key: Any, error: Exception) -> None:
        if not self._skip_unreadable:
            message = (
                f"the value of {key!r} in the table {self._table!r} cannot be migrated: {error}; "
                "skip_unreadable leaves such keys out"
            )
            raise SessionError(message) from error
        self.skipped[str(key)] = str(error)
