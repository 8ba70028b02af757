"""The raw contents of cache directories, for the command line. Nothing is unpickled.

This reads and writes the directories through Python's own SQLite. They must not be open elsewhere in this process,
because two copies of SQLite in one process do not see each other's locks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexcache_rs._core import disk_open_value, disk_remove_value
from flexcache_rs._naming import naming
from flexcache_rs.disk.checks import checked_setting
from flexcache_rs.disk.core import Cache, Disk
from flexcache_rs.disk.format import (
    COMPRESSED,
    DBNAME,
    DEFAULT_SETTINGS,
    EVICTION_POLICY,
    METADATA,
    MODE_BINARY,
    MODE_RAW,
    MODE_TEXT,
    MODES,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from typing_extensions import Self

Datum = int | float | str | bytes | None
"""A value of a column in SQLite."""

KINDS = ("cache", "deque", "index")
"""Subfolders of a FanoutCache that contain separate caches."""

CHUNK = 2**20
"""The number of bytes of a file that are in memory at a time."""

BATCH = 100
"""Entries per transaction. Other writers wait until it ends."""

TIMEOUT = 60.0
"""Seconds to wait for other writers."""


class UnusableError(Exception):
    """An error whose message becomes a line on standard error."""


@dataclass(frozen=True)
class Found:
    """A cache found in a directory or in one of its subfolders.

    `name` is "" for the directory's own cache, else the subfolder. `databases` are the folders of its shards, or its
    single folder. `shards` is None for a `Cache`.
    """

    name: str
    databases: tuple[Path, ...]
    shards: int | None

    @property
    def title(self) -> str:
        """Return the name to show."""
        return self.name or "."


@dataclass
class Entry:
    """An entry in raw form. `length` is the length of its file, and `chunks` reads it. Without a file both are None."""

    key: Datum
    raw: bool
    mode: int
    value: Datum = None
    length: int | None = None
    chunks: Iterable[bytes] | None = None
    expire_time: float | None = None
    tag: Datum = None
    store_time: float | None = None
    access_time: float | None = None
    access_count: int = 0


def check_is_directory(directory: Path) -> None:
    """Raise UnusableError if there is no directory of this name."""
    if not directory.is_dir():
        raise UnusableError(f"{directory}: {'not a directory' if directory.exists() else 'no such directory'}")


def find(directory: Path) -> list[Found]:
    """Return the caches in a directory, its own first. Raises UnusableError if there are none."""
    check_is_directory(directory)
    found: list[Found] = []
    if (directory / DBNAME).exists():
        found.append(Found("", (directory,), None))
    shards = _shards(directory)
    if shards:
        found.append(Found("", tuple(shards), len(shards)))
    for kind in KINDS:
        for folder, _, files in sorted(os.walk(directory / kind)):
            if DBNAME in files:
                path = Path(folder)
                found.append(Found(path.relative_to(directory).as_posix(), (path,), None))
    if not found:
        raise UnusableError(f"{directory}: this directory has no cache (no {DBNAME} here or in 000)")
    return found


def _shards(directory: Path) -> list[Path]:
    shards: list[Path] = []
    while (shard := directory / f"{len(shards):03d}" / DBNAME).exists():
        shards.append(shard.parent)
    return shards


def connect(database: Path, *, write: bool = False) -> sqlite3.Connection:
    """Open a database. Without `write` it is neither created nor changed."""
    try:
        return _connect(database, write)
    except sqlite3.OperationalError as error:
        # SQLite does not say which file must not be read.
        for path in (database.with_name(database.name + end) for end in ("", "-wal", "-shm")):
            with contextlib.suppress(FileNotFoundError):
                path.stat()
                if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from error
        raise


def _connect(database: Path, write: bool) -> sqlite3.Connection:
    uri = database.absolute().as_uri()
    if write:
        connection = sqlite3.connect(f"{uri}?mode=rw", uri=True, timeout=TIMEOUT, isolation_level=None)
        connection.execute("PRAGMA synchronous = 1")
        return connection
    log = database.with_name(database.name + "-wal")
    is_empty = not log.exists() or log.stat().st_size == 0
    if is_empty and os.access(database.parent, os.W_OK) and os.access(database, os.W_OK):
        # A read-only connection would leave its write-ahead log behind. This one removes it.
        modes = ["mode=rw"]
    else:
        # Read-only, so that the log of another process stays as it is.
        modes = ["mode=ro"]
        if is_empty:
            # A database that this process cannot write, and that has no log, does not change.
            modes.append("immutable=1")
    for mode in modes[:-1]:
        with contextlib.suppress(sqlite3.OperationalError):
            return _connect_to_read(f"{uri}?{mode}")
    return _connect_to_read(f"{uri}?{modes[-1]}")


def _connect_to_read(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=TIMEOUT, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only = 1")
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    connection.text_factory = _decode
    return connection


def _decode(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


@contextlib.contextmanager
def reading(database: Path) -> Generator[sqlite3.Connection]:
    """Open a connection for reading, and close it at the end."""
    with contextlib.closing(connect(database)) as connection:
        yield connection


def settings(connection: sqlite3.Connection) -> dict[str, Datum]:
    """Return the settings and counters of a directory."""
    return dict(connection.execute("SELECT key, value FROM Settings"))


_INDEXES = ("Cache_key_raw", "Cache_store_time", "Cache_access_time", "Cache_access_count", "Cache_expire_time")
"""Indexes that a directory may have. SQLite refuses the one on expire_time if it lacks the rows that never expire."""

_COLUMNS = "key, raw, mode, value, filename, expire_time, tag, store_time, access_time, COALESCE(access_count, 0)"


@dataclass
class Reader:
    """Reads the live entries of a folder, and counts the unreadable ones."""

    folder: Path
    now: float
    expired: int = 0
    missing: int = 0
    damaged: bool = False
    _last: int = -(2**63)

    def entries(self) -> Iterator[Entry]:
        """Yield the entries in order of insertion. Entries that change meanwhile may be left out or be newer."""
        with reading(self.folder / DBNAME) as connection:
            try:
                yield from self._in_pages(connection)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                self.damaged = True
                yield from self._one_by_one(connection)

    def _in_pages(self, connection: sqlite3.Connection) -> Iterator[Entry]:
        while True:
            rows = connection.execute(
                f"SELECT rowid, {_COLUMNS} FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT {BATCH}", (self._last,)
            ).fetchall()
            if not rows:
                return
            for rowid, *row in rows:
                self._last = rowid
                yield from self._live(connection, rowid, row)

    def _one_by_one(self, connection: sqlite3.Connection) -> Iterator[Entry]:
        """Yield the readable entries after the damage. The indexes tell which rows exist."""
        rowids: set[int] = set()
        for index in _INDEXES:
            # An index may be damaged too. Take the part that can be read.
            with contextlib.suppress(sqlite3.DatabaseError):
                for (rowid,) in connection.execute(f"SELECT rowid FROM Cache INDEXED BY {index}"):
                    rowids.add(rowid)
        for rowid in sorted(rowids):
            if rowid > self._last:
                try:
                    row = connection.execute(f"SELECT {_COLUMNS} FROM Cache WHERE rowid = ?", (rowid,)).fetchone()
                except sqlite3.DatabaseError:
                    row = None
                if row is None:
                    self.missing += 1
                else:
                    yield from self._live(connection, rowid, row)

    def _live(self, connection: sqlite3.Connection, rowid: int, row: list[Any]) -> Iterator[Entry]:
        if row[0] is None:
            # The key was NaN, which no library finds again.
            return
        if not _is_sound(row):
            self.missing += 1
            return
        if row[5] is not None and row[5] <= self.now:
            self.expired += 1
            return
        yield from self._entry(connection, rowid, row)

    def _entry(self, connection: sqlite3.Connection, rowid: int, row: Iterable[Any]) -> Iterator[Entry]:
        # A writer may have replaced the row and removed its file since the row was read. Then read the row again, once.
        for attempt in range(2):
            key, raw, mode, value, filename, expire_time, tag, store_time, access_time, access_count = row
            entry = Entry(
                key,
                bool(raw),
                mode,
                value,
                expire_time=expire_time,
                tag=tag,
                store_time=store_time,
                access_time=access_time,
                access_count=access_count,
            )
            if filename is None:
                yield entry
                return
            # A damaged row may hold any file name. disk_open_value accepts only files inside the folder.
            file = disk_open_value(self.folder, filename) if _is_text(filename) else None
            if file is not None:
                with file:
                    entry.length = os.fstat(file.fileno()).st_size
                    entry.chunks = _chunks(file, entry.length)
                    yield entry
                return
            if attempt == 0:
                again = connection.execute(f"SELECT {_COLUMNS} FROM Cache WHERE rowid = ?", (rowid,)).fetchone()
                if again is None:
                    return
                row = again
        self.missing += 1


def _is_sound(row: Sequence[Any]) -> bool:
    """Whether a row has numbers where it must. SQLite itself stores anything in any column."""
    _, _, mode, _, _, expire_time, _, store_time, access_time, access_count = row
    moments = (expire_time, store_time, access_time)
    return (
        mode in MODES
        and type(access_count) is int
        and all(moment is None or isinstance(moment, (int, float)) for moment in moments)
    )


def _is_text(name: Any) -> bool:
    return isinstance(name, str) and not any("\udc80" <= char <= "\udcff" for char in name)


def _chunks(file: Any, length: int) -> Iterator[bytes]:
    """Yield a file of exactly `length` bytes in chunks."""
    while length > 0:
        chunk: bytes = file.read(min(CHUNK, length))
        if not chunk:
            raise UnusableError(f"{file.name}: became shorter while it was read")
        length -= len(chunk)
        yield chunk


_DISK = Disk(".")
"""Only used to convert keys. It has no files."""


def shard_of(key: Datum, shards: int) -> int:
    """Return the number of the shard in which a FanoutCache stores a key, given in the form of the table."""
    return _DISK.hash(b"" if key is None else key) % shards


_OF_A_PLACE = frozenset(("network", "sqlite_journal_mode", "sqlite_mmap_size"))
"""Settings that depend on the filesystem of a directory."""


def usable_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return settings of another directory, without invalid ones and those that belong to one directory only."""
    usable: dict[str, Any] = {}
    for key, value in given.items():
        if key in METADATA or key in _OF_A_PLACE or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", key):
            continue
        if key == "compression":
            fits = value in COMPRESSED.values()
        elif key.startswith("sqlite_"):
            # Libraries insert the value into a statement without quoting.
            fits = key in DEFAULT_SETTINGS and isinstance(value, int)
        elif key in DEFAULT_SETTINGS and isinstance(DEFAULT_SETTINGS[key], int):
            fits = isinstance(value, int | float)
        else:
            fits = isinstance(value, int | float | str)
        if fits and _is_in_range(key, value):
            usable[key] = value
    return usable


def _is_in_range(key: str, value: Any) -> bool:
    """Whether a cache accepts a setting. python-diskcache records whatever it gets."""
    if key == "eviction_policy" or key not in DEFAULT_SETTINGS:
        # A program may have registered the policy, or have its own disk class.
        return key != "eviction_policy" or isinstance(value, str)
    try:
        checked_setting(key, value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def create(folder: Path, given: dict[str, Any]) -> None:
    """Create a cache in a folder with settings. Settings that only another disk class knows are recorded too."""
    known = {key: value for key, value in given.items() if key in DEFAULT_SETTINGS}
    policy = known.get("eviction_policy")
    if isinstance(policy, str) and policy not in EVICTION_POLICY:
        # A policy that a program has registered is unknown here. It is recorded below.
        del known["eviction_policy"]
    Cache(folder, **known).close()
    with contextlib.closing(connect(folder / DBNAME, write=True)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR REPLACE INTO Settings (key, value) VALUES (?, ?)", given.items())
        connection.execute("COMMIT")


class Writer:
    """Writes entries into a cache's folders.

    Use it in a `with` block. After an exception the entries written so far stay. It evicts nothing.
    """

    def __init__(self, found: Found, *, replace: bool) -> None:
        self._folders = found.databases
        self._replace = replace
        self._connections = [connect(folder / DBNAME, write=True) for folder in self._folders]
        self._waiting: list[list[tuple[Entry, str | None]]] = [[] for _ in self._folders]
        recorded = settings(self._connections[0])
        min_file_size = recorded.get("disk_min_file_size")
        if not isinstance(min_file_size, int):
            min_file_size = DEFAULT_SETTINGS["disk_min_file_size"]
        self._min_file_size: int = min_file_size
        synchronous = recorded.get("sqlite_synchronous")
        if isinstance(synchronous, int):
            for connection in self._connections:
                connection.execute(f"PRAGMA synchronous = {synchronous}")
        # On a network, other machines see a file only after it is synced. Its row must not be visible before.
        self._sync = bool(recorded.get("network"))
        self.written = 0
        self.kept = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *raised: object) -> None:
        try:
            if kind is None:
                for shard in range(len(self._folders)):
                    self._flush(shard)
        finally:
            for shard, waiting in enumerate(self._waiting):
                for _, filename in waiting:
                    self._remove(shard, filename)
            for connection in self._connections:
                connection.close()

    def put(self, entry: Entry) -> None:
        """Write an entry. Large values go to a file, according to the settings of the directory."""
        shard = shard_of(entry.key, len(self._folders)) if len(self._folders) > 1 else 0
        filename = None
        if entry.chunks is not None:
            filename, entry.length = self._write_file(shard, entry.chunks)
            entry.chunks = entry.value = None
        elif entry.mode != MODE_RAW and isinstance(entry.value, bytes) and len(entry.value) >= self._min_file_size:
            filename, entry.length = self._write_file(shard, (entry.value,))
            entry.value = None
        self._waiting[shard].append((entry, filename))
        if len(self._waiting[shard]) >= BATCH:
            self._flush(shard)

    def store(self, entry: Entry, value: Any) -> None:
        """Write an entry whose value is a str, bytes, int or float, in the form that the settings ask for."""
        if isinstance(value, str | bytes) and len(value) >= self._min_file_size:
            entry.mode = MODE_TEXT if isinstance(value, str) else MODE_BINARY
            entry.chunks = (value.encode() if isinstance(value, str) else value,)
        else:
            entry.mode = MODE_RAW
            entry.value = value
        self.put(entry)

    def _write_file(self, shard: int, chunks: Iterable[bytes]) -> tuple[str, int]:
        name = secrets.token_hex(16)
        filename = os.path.join(name[:2], name[2:4], name[4:] + ".val")  # noqa: PTH118 - the form the table has
        path = self._folders[shard] / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        length = 0
        try:
            with naming(path), path.open("xb") as file:
                for chunk in chunks:
                    file.write(chunk)
                    length += len(chunk)
                if self._sync:
                    file.flush()
                    os.fsync(file.fileno())
        except BaseException:
            self._remove(shard, filename)
            raise
        return filename, length

    def _remove(self, shard: int, filename: str | None) -> None:
        if isinstance(filename, str):
            disk_remove_value(self._folders[shard], filename)

    def _flush(self, shard: int) -> None:
        waiting, connection = self._waiting[shard], self._connections[shard]
        if not waiting:
            return
        now = time.time()
        unneeded: list[str | None] = []
        written = kept = 0
        connection.execute("BEGIN IMMEDIATE")
        try:
            for entry, filename in waiting:
                if self._write_row(connection, entry, filename, now, unneeded.append):
                    written += 1
                else:
                    kept += 1
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        self.written += written
        self.kept += kept
        self._waiting[shard] = []
        for filename in unneeded:
            self._remove(shard, filename)

    def _write_row(
        self,
        connection: sqlite3.Connection,
        entry: Entry,
        filename: str | None,
        now: float,
        unneeded: Callable[[str | None], None],
    ) -> bool:
        there = connection.execute(
            "SELECT rowid, expire_time, filename FROM Cache WHERE key = ? AND raw = ?", (entry.key, int(entry.raw))
        ).fetchone()
        if there is not None and not self._replace and (there[1] is None or there[1] > now):
            unneeded(filename)
            return False
        values: tuple[Datum, ...] = (
            now if entry.store_time is None else entry.store_time,
            entry.expire_time,
            now if entry.access_time is None else entry.access_time,
            entry.access_count,
            entry.tag,
            entry.length if filename is not None else 0,
            entry.mode,
            filename,
            entry.value,
        )
        if there is None:
            connection.execute(
                "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, access_count, tag, size, mode,"
                " filename, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (entry.key, int(entry.raw), *values),
            )
        else:
            connection.execute(
                "UPDATE Cache SET store_time = ?, expire_time = ?, access_time = ?, access_count = ?, tag = ?,"
                " size = ?, mode = ?, filename = ?, value = ? WHERE rowid = ?",
                (*values, there[0]),
            )
            unneeded(there[2])
        return True


def volume(connection: sqlite3.Connection) -> int:
    """Return the bytes on disk of the database and the files."""
    ((page_size,),) = connection.execute("PRAGMA page_size")
    ((pages,),) = connection.execute("PRAGMA page_count")
    ((size,),) = connection.execute("SELECT COALESCE(SUM(value), 0) FROM Settings WHERE key = 'size'")
    total: int = page_size * pages + size
    return total
