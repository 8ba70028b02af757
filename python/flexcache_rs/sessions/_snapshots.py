"""Snapshots of what is in memory: files that a later process loads.

A file has blocks, each with its length and CRC-32, and at its end the number of entries and a CRC-32 of all. It is
written under another name, synced, and renamed, so that a file with its own name is whole.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import contextlib
import errno
import logging
import os
import struct
import tempfile
import threading
import time
import warnings
import weakref
import zlib
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from flexcache_rs._naming import naming
from flexcache_rs._suggest import suggesting
from flexcache_rs._threads import AutoResetEvent, ForkSafeRLock, start
from flexcache_rs.sessions._errors import Unavailable, UnsupportedError

try:
    import fcntl
except ImportError:  # pragma: no cover - other systems
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexcache_rs._core import MemoryKeys

_MAGIC = b"fxsnap1\n"
_BLOCK = struct.Struct("<III")
_TRAILER = struct.Struct("<QI")
_BLOCK_SIZE = 1 << 20
_SUFFIX = ".snapshot"
_POLL = 0.25
_PAUSE_AFTER_FAILURE = 5.0

_log = logging.getLogger("flexcache_rs")

_used_here: dict[str, Snapshots] = {}
"""The directories in use, and who uses them. Each change is one call without a lock, because the garbage collector may
end a store at any point of a thread."""


class SnapshotOptions(NamedTuple):
    """The directory and the times of snapshots."""

    directory: Path
    every: float
    """The seconds after which a snapshot is taken if there was a change. Infinity means never."""
    after: int
    """The number of changes after which a snapshot is taken. 0 means that their number does not matter."""
    keep: int
    """The largest number of files."""


def write_file(file: BinaryIO, blocks: list[bytes], count: int) -> None:
    """Write a snapshot of `count` entries."""
    crc = 0

    def put(data: bytes) -> None:
        nonlocal crc
        crc = zlib.crc32(data, crc)
        file.write(data)

    put(_MAGIC)
    for block in blocks:
        packed = zlib.compress(block, 1)
        put(_BLOCK.pack(len(block), len(packed), zlib.crc32(packed)))
        put(packed)
    put(_BLOCK.pack(0, 0, 0))
    put(struct.pack("<Q", count))
    file.write(struct.pack("<I", crc))


def read_file(data: bytes) -> tuple[list[bytes], int]:
    """Return the blocks of a snapshot and the number of entries.

    Raises:
        ValueError: The data is damaged, or not a snapshot.
    """
    end = len(data) - _TRAILER.size
    if not data.startswith(_MAGIC) or end < len(_MAGIC) + _BLOCK.size:
        raise ValueError("the file is no snapshot, or it is incomplete")
    count, crc = _TRAILER.unpack_from(data, end)
    if zlib.crc32(memoryview(data)[:-4]) != crc:
        raise ValueError("the checksum of the file is wrong")
    return list(_blocks(data, end)), count


def _blocks(data: bytes, end: int) -> Iterator[bytes]:
    place = len(_MAGIC)
    while place + _BLOCK.size <= end:
        length, packed_length, crc = _BLOCK.unpack_from(data, place)
        place += _BLOCK.size
        if not packed_length and place == end:
            return
        packed = data[place : place + packed_length]
        place += packed_length
        if place > end or zlib.crc32(packed) != crc:
            break
        # Limit the output to the recorded length, so that damaged data cannot take all memory.
        try:
            block = zlib.decompressobj().decompress(packed, length + 1)
        except zlib.error:
            break
        if len(block) != length:
            break
        yield block
    raise ValueError("a block of the file is damaged")


def files(directory: Path) -> list[Path]:
    """Return the snapshots of a directory, the newest first."""
    return sorted(directory.glob(f"*{_SUFFIX}"), key=_number, reverse=True)


def _number(path: Path) -> int:
    first = path.name.partition("-")[0]
    return int(first) if first.isascii() and first.isdigit() else -1


@suggesting
class Snapshots:
    """Takes the snapshots of one store in memory: periodically in a thread, on request, and when the store ends."""

    def __init__(self, place: MemoryPlace, keys: MemoryKeys, options: SnapshotOptions) -> None:
        self._keys = keys
        self._options = options
        self._process = os.getpid()
        # Reentrant, because the garbage collector may end a store at any point of a thread.
        self._taking = ForkSafeRLock()
        self._ends = AutoResetEvent()
        self._ends.set_at_end_of(place)
        self._lock_file: BinaryIO | None = None
        options.directory.mkdir(0o700, parents=True, exist_ok=True)
        self._place = str(options.directory.resolve())
        self._saved = 0
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Load the newest snapshot, and take others from now on.

        Raises:
            Unavailable: Another store uses the directory.
        """
        try:
            if _used_here.setdefault(self._place, self) is not self:
                raise Unavailable(f"{self._place} has the snapshots of another store of this process")
            self._lock()
            self._load()
            self._saved = self._keys.writes
            thread = threading.Thread(target=self._run, name="flexcache snapshots", daemon=True)
            start(thread)
            self._thread = thread
        except BaseException:
            self.end()
            raise

    def _lock(self) -> None:
        self._lock_file = (self._options.directory / "lock").open("ab")
        if fcntl is not None:
            try:
                fcntl.lockf(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                # With any other number the system could not lock this file.
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise Unavailable(f"{self._place} has the snapshots of another process") from None
                raise Unavailable(f"{self._lock_file.name} cannot be locked: {error}") from error

    def _unlock(self) -> None:
        if self._lock_file is not None:
            self._lock_file.close()
        if _used_here.get(self._place) is self:
            del _used_here[self._place]

    def _load(self) -> None:
        """Load the newest complete snapshot."""
        for leftover in self._options.directory.glob("*.tmp"):
            leftover.unlink(missing_ok=True)
        for path in files(self._options.directory):
            try:
                blocks, _ = read_file(path.read_bytes())
                self._keys.restore(blocks)
            except ValueError as damage:
                warnings.warn(f"the snapshot {path} is damaged: {damage}", RuntimeWarning, stacklevel=2)
                continue
            return

    def take(self) -> Path:
        """Write a snapshot of all live entries as of one moment. Returns the file.

        Raises:
            OSError: The file cannot be written. Earlier snapshots are kept.
            UnsupportedError: The store belongs to a parent process.
        """
        if self._process != os.getpid():
            raise UnsupportedError("the snapshots belong to the parent process: open a session in this process")
        directory = self._options.directory
        with self._taking:
            blocks, count, writes = self._keys.image(_BLOCK_SIZE)
            older = files(directory)
            number = max(map(_number, older), default=0) + 1
            path = directory / f"{number:09d}-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}{_SUFFIX}"
            handle, name = tempfile.mkstemp(".tmp", dir=directory)
            try:
                with naming(path), os.fdopen(handle, "wb") as file:
                    write_file(file, blocks, count)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
                raise
            _sync_directory(directory)
            self._saved = writes
            for old in older[self._options.keep - 1 :]:
                old.unlink(missing_ok=True)
        return path

    def save(self) -> bool:
        """Take a snapshot if there was a change since the last one. Returns False if it failed, which is logged."""
        if self._keys.writes != self._saved:
            try:
                self.take()
            except Exception as error:  # noqa: BLE001 - it is tried again
                _log.warning("a snapshot could not be written to %s: %s", self._place, error)
                return False
        return True

    def _run(self) -> None:
        options = self._options
        poll = _POLL if options.after else min(_POLL * 4, options.every)
        last = time.monotonic()
        while not self._ends.wait(poll):
            changes = self._keys.writes - self._saved
            if not changes:
                continue
            now = time.monotonic()
            if (options.after and changes >= options.after) or now - last >= options.every:
                last = now
                if not self.save() and self._ends.wait(_PAUSE_AFTER_FAILURE):
                    break
        # This thread does it, because a signal handler that raises in the thread that ends the store would skip it.
        try:
            self.save()
        finally:
            self._unlock()

    def end(self) -> None:
        """Take the last snapshot, and release the directory."""
        if self._process != os.getpid():
            return
        self._ends.set()
        if self._thread is None:
            self._unlock()
        elif threading.current_thread() is not self._thread:
            self._thread.join()


def _sync_directory(directory: Path) -> None:
    if os.name == "posix":
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@suggesting
class MemoryPlace:
    """A store in memory and its snapshots. It ends with its last session, or with the process."""

    def __init__(self, keys: MemoryKeys, options: SnapshotOptions | None) -> None:
        self.keys = keys
        self.snapshots: Snapshots | None = None
        if options is not None:
            self.snapshots = Snapshots(self, keys, options)
            # This waits for the last snapshot, also at the end of the process.
            weakref.finalize(self, self.snapshots.end)
            self.snapshots.begin()
