"""PyCache's snapshots: when an `InMemory` adapter takes them, and the contents of a file."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, BinaryIO

from flexcache_rs._core import MemoryKeys
from flexcache_rs.pycache._cells import loaded
from flexcache_rs.sessions._arguments import number
from flexcache_rs.sessions._backends import MemoryBackend
from flexcache_rs.sessions._snapshots import MemoryPlace, read_file
from flexcache_rs.sessions._terms import Terms
from flexcache_rs.sessions.sync import Session

__all__ = ["Reader", "SnapshotConfig", "default_config"]


@dataclass
class SnapshotConfig:
    """The directory and the times of snapshots.

    Attributes: dir: The directory, which is created if it does not exist. min_changes: The number of changes after
        which a snapshot is taken. interval_hours: The number of hours after which a snapshot is taken if there was a
        change. 0 means never. auto: Whether snapshots are also taken before the end of a session. max_snapshots: The
        largest number of files.
    """

    dir: str = "./snapshot"
    min_changes: int = 1
    interval_hours: float = 1
    auto: bool = True
    max_snapshots: int = 4

    def options(self) -> dict[str, Any]:
        """The same as options of `flexcache_rs.sessions.connect`."""
        return {
            "snapshot": self.dir,
            "snapshot_every": number("interval_hours", self.interval_hours) * 3600 if self.auto else 0,
            "snapshot_after": self.min_changes if self.auto else 0,
            "keep": self.max_snapshots,
        }


default_config = SnapshotConfig(min_changes=100, interval_hours=1)


class Reader:
    """The entries of a snapshot.

    Args:
        source_buffer: The file, open for reading bytes.
        tablename: The table of the adapter that had them.
    """

    def __init__(self, source_buffer: BinaryIO, tablename: str = "kv-store") -> None:
        self.buffer = source_buffer
        self._namespace = "" if tablename == "kv-store" else tablename
        self.data: dict[str, Any] = {}

    def load(self) -> dict[str, Any]:
        """Return the values by key, without expired ones.

        Raises:
            ValueError: The file is damaged, or it is no snapshot.
        """
        blocks, _ = read_file(self.buffer.read())
        keys = MemoryKeys(0, 0, "lru")
        keys.restore(blocks)
        with Session(MemoryBackend(MemoryPlace(keys, None), Terms(self._namespace, None, 1.0))) as session:
            self.data = {key: loaded(value) for key, value in session.get_many(session.keys()).items()}
        return self.data


# In PyCache each class is in a module of the same name.
for _name in ("Snapshot", "Reader"):
    sys.modules[f"{__name__}.{_name}"] = sys.modules[__name__]
