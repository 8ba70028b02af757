"""The base class of the four kinds of store."""

from __future__ import annotations

import atexit
import itertools
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flexcache_rs import disk
from flexcache_rs._core import DiskShards
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.sciqlop.directory import UNLIMITED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from flexcache_rs.sciqlop.directory import Shard, Shards
    from flexcache_rs.sciqlop.serializers import Serializer

_opened: weakref.WeakValueDictionary[int, StoreBase] = weakref.WeakValueDictionary()

_META = "sciqlop_meta_"
"""The prefix of a program's own metadata among the settings of a directory."""


@atexit.register
def _close_all() -> None:
    # A program that embeds Python may keep a store longer than the interpreter lives, so close all stores at exit.
    for reference in _opened.valuerefs():
        store = reference()
        if store is not None:
            store.close()


@dataclass(frozen=True)
class CheckResult:
    """The findings of `check`."""

    ok: bool
    """Whether all is as it should be."""

    orphaned_files: int
    """Files that no entry knows."""

    dangling_rows: int
    """Entries whose file is gone."""

    size_mismatches: int
    """Entries whose file has another size."""

    counters_consistent: bool
    """Whether the counters agree with the entries."""

    sqlite_integrity_ok: bool
    """Whether SQLite finds no damage."""


def plain_key(key: Any) -> Any:
    """Return the stored form of a key. True and 1 are one key."""
    return int(key) if isinstance(key, bool) else key


@suggesting
class StoreBase(DiskShards):
    """The common methods of all four kinds of store."""

    _flexcache_files: Any  # A Shard if `_flexcache_is_one`, else Shards.
    _flexcache_is_one: bool
    _flexcache_shards: tuple[Shard, ...]

    def _flexcache_open(self, opened: Shard | Shards) -> None:
        self._flexcache_path = opened.directory
        shards: Any = opened.shards if isinstance(opened, disk.FanoutCache) else (opened,)
        self._flexcache_shards = shards
        DiskShards._set_shards(self, shards)
        self._flexcache_files = opened
        self._flexcache_is_one = isinstance(opened, disk.Cache)
        _opened[id(self)] = self

    def __getattr__(self, name: str) -> Any:
        if name in ("_flexcache_files", "_flexcache_shards"):
            raise RuntimeError(f"the {type(self).__name__} is closed: {self.__dict__.get('_flexcache_path', '')}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def shard_of(self, key: Any) -> Shard:
        """The database of a key."""
        files = self._flexcache_files
        return files if self._flexcache_is_one else files._flexcache_shard(key)  # type: ignore[no-any-return]

    @property
    def serializer(self) -> Serializer:
        """The serializer in use, which the directory records."""
        return self._flexcache_shards[0].values_serializer

    def path(self) -> str:
        """The directory."""
        return self._flexcache_path

    def close(self) -> None:
        """Close the store permanently. Later calls raise RuntimeError. The end of a `with` block does not close it."""
        DiskShards._close_reads(self)
        files = self.__dict__.pop("_flexcache_files", None)
        self.__dict__.pop("_flexcache_shards", None)
        if files is not None:
            files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def __len__(self) -> int:
        return sum(map(len, self._flexcache_shards))

    def count(self) -> int:
        """Return the number of entries, as `len` does. Expired entries count until they are removed."""
        return StoreBase.__len__(self)

    def exists(self, key: Any) -> bool:
        """Return whether a key has a live value."""
        # Not `key in self`, because a subclass may call this method there.
        return DiskShards.__contains__(self, key)

    def __getitem__(self, key: Any) -> Any:
        stored = plain_key(key)
        value = self.shard_of(stored).get(stored, ENOVAL)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def __delitem__(self, key: Any) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def delete(self, key: Any, retry: bool = False) -> bool:
        """Remove a key.

        Args:
            key: The key.
            retry: Accepted without effect. Every call waits for other writers for `timeout` seconds.

        Returns:
            True if it was present.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.
        """
        del retry
        key = plain_key(key)
        return self.shard_of(key).delete(key)

    def incr(self, key: Any, delta: int = 1, default: int = 0, retry: bool = False) -> Any:
        """Add to a number, in one step.

        Args:
            key: The key.
            delta: The number to add.
            default: The initial value of an absent key.
            retry: Accepted without effect.

        Returns:
            The sum.

        Raises:
            TypeError: The value is no number.
        """
        del retry
        key = plain_key(key)
        return self.shard_of(key).incr(key, delta, default)

    def decr(self, key: Any, delta: int = 1, default: int = 0, retry: bool = False) -> Any:
        """Subtract from a number, in one step. As `incr`."""
        return self.incr(key, -delta, default, retry)

    def iterkeys(self) -> Iterator[Any]:
        """The keys, one after another, in the order of each database's keys."""
        return itertools.chain.from_iterable(shard.iterkeys() for shard in self._flexcache_shards)

    def __iter__(self) -> Iterator[Any]:
        return self.iterkeys()

    def keys(self) -> Any:
        """The keys, as a list."""
        return list(self.iterkeys())

    def clear(self, retry: bool = False) -> None:
        """Remove every entry."""
        del retry
        for shard in self._flexcache_shards:
            shard.clear()

    def check(self, fix: bool = False, retry: bool = False) -> CheckResult:
        """Compare database, files and counters.

        Args:
            fix: Whether to repair the findings.
            retry: Accepted without effect.
        """
        del retry
        reports = [shard.check(fix) for shard in self._flexcache_shards]

        def total(kind: str) -> int:
            return sum(len(getattr(report, kind)) for report in reports)

        # A folder without files is not an error here.
        found = sum(len(report) - len(report.empty_directories) for report in reports)
        return CheckResult(
            ok=not found,
            orphaned_files=total("unknown_files"),
            dangling_rows=total("missing_files"),
            size_mismatches=total("wrong_sizes"),
            counters_consistent=not total("wrong_counters"),
            sqlite_integrity_ok=not total("damaged"),
        )

    def volume(self) -> int:
        """Bytes on disk, the database's own included."""
        return sum(shard.volume() for shard in self._flexcache_shards)

    def size(self) -> int:
        """Return the bytes on disk, which `max_size` limits. The same as `volume`."""
        return self.volume()

    def get_meta(self, key: str) -> str | None:
        """Return metadata of the directory: a value of `set_meta`, "serializer" or "max_size", or None."""
        first = self._flexcache_shards[0]
        if key == "serializer":
            return self.serializer.name
        if key == "max_size":
            limit = int(first.size_limit)
            return "0" if limit == UNLIMITED else str(limit)
        found = first._setting(_META + key)
        return None if found is None else str(found)

    def set_meta(self, key: str, value: str) -> None:
        """Store metadata of the directory.

        Raises:
            TypeError: One of the two is no str.
            ValueError: The name is "serializer" or "max_size", which the store sets itself.
        """
        for name, given in (("key", key), ("value", value)):
            told: Any = given
            if not isinstance(told, str):
                raise TypeError(f"{name} must be a str, not {type(told).__name__}")
        if key in ("serializer", "max_size"):
            raise ValueError(f"key must be a name of your own, not {key!r}, which the store sets itself")
        self._flexcache_shards[0]._create({_META + key: value}, None)
