"""Copies the directories of other libraries for the classes with SciQLop-cache's names.

`python -m flexcache_rs.sciqlop.migrate SOURCE DIR`, with `--drop`, `--shards` and `--type`. A source may be
python-diskcache's, SciQLop-cache's own or diskcache_rs's, or one of these classes with any serializer. For a directory
of python-diskcache there is no need to: these classes use it as it is.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexcache_rs import _terminal
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.disk.format import DBNAME
from flexcache_rs.sciqlop.directory import Shard
from flexcache_rs.sciqlop.indexes import FanoutIndex, Index
from flexcache_rs.sciqlop.stores import Cache, FanoutCache

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from flexcache_rs.disk.migrate.source import Source

SPARE = 1.2
"""The free space that the new directory needs, as a multiple of the size of the source."""


class InsufficientDiskSpaceError(OSError):
    """The disk has too little free space for the copy."""


def _sizes(directory: Path) -> list[int]:
    return [file.stat().st_size for file in directory.rglob("*") if file.is_file()]


def _check_room(source: Path, directory: Path, *, drop: bool) -> None:
    sizes = _sizes(source)
    # With `drop`, each copied entry is removed from the source.
    needed = SPARE * (max(sizes, default=0) if drop else sum(sizes))
    there = directory.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < needed:
        raise InsufficientDiskSpaceError(
            f"{directory}: {free:,.0f} bytes are free there, and about {needed:,.0f} are needed"
        )


class _Entries:
    """The entries of a source: (key, value, seconds to live, tag). ENOVAL stands for an unreadable value."""

    shards: int | None

    def __iter__(self) -> Iterator[tuple[Any, Any, float | None, Any]]:
        raise NotImplementedError

    def remove(self, key: Any) -> None:
        """Remove an entry from the source."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the source."""


class _OfDiskcache(_Entries):
    def __init__(self, directory: Path) -> None:
        databases = [] if (directory / DBNAME).is_file() else sorted(directory.glob(f"[0-9][0-9][0-9]/{DBNAME}"))
        self.shards = len(databases) or None
        # The source may be a directory of these classes, which has its own serializer.
        self._caches = [Shard(database.parent) for database in databases] or [Shard(directory)]

    def __iter__(self) -> Iterator[tuple[Any, Any, float | None, Any]]:
        for cache in self._caches:
            for key in list(cache):
                self._current = cache
                try:
                    value, expires, tag = cache.get(key, ENOVAL, expire_time=True, tag=True)
                except Exception as error:  # noqa: BLE001  # Whatever its class raises.
                    _terminal.complain(f"  {key!r} cannot be read: {error}")
                    yield key, ENOVAL, None, None
                    continue
                if value is not ENOVAL:
                    yield key, value, None if expires is None else expires - time.time(), tag

    def remove(self, key: Any) -> None:
        self._current.delete(key, retry=True)

    def close(self) -> None:
        for cache in self._caches:
            cache.close()


class _OfOthers(_Entries):
    def __init__(self, source: Source) -> None:
        self._source = source
        self.shards = len(source.folders) if source.sharded else None

    def __iter__(self) -> Iterator[tuple[Any, Any, float | None, Any]]:
        import pickle

        from flexcache_rs.disk.migrate.plain_values import UnreadableError

        for item in self._source.items():
            if item.expire_time is not None and item.expire_time <= time.time():
                continue
            try:
                key = self._source.decode_key(item.key)
                simple, value = self._source.decode(item.load())
                value = value if simple else pickle.loads(value)
            except UnreadableError as error:
                _terminal.complain(f"  {item.key!r} cannot be read: {error}")
                yield item.key, ENOVAL, None, None
            except Exception as error:  # noqa: BLE001  # Whatever its class raises.
                _terminal.complain(f"  {item.key!r} cannot be loaded: {error}")
                yield item.key, ENOVAL, None, None
            else:
                yield key, value, None if item.expire_time is None else item.expire_time - time.time(), item.tag


def _entries_of(source: Path, *, drop: bool) -> _Entries:
    if (source / DBNAME).is_file() or any(source.glob(f"[0-9][0-9][0-9]/{DBNAME}")):
        return _OfDiskcache(source)
    from flexcache_rs.disk.migrate.recognise import recognise
    from flexcache_rs.disk.raw_directory import UnusableError

    try:
        others = recognise(source, trust=True)
    except UnusableError as error:
        raise ValueError(str(error)) from error
    if drop:
        raise ValueError(f"drop=True removes from directories of python-diskcache only; {source} is {others.name}'s")
    return _OfOthers(others)


@suggesting
def migrate(
    src_path: str | os.PathLike[str],
    dst_path: str | os.PathLike[str],
    *,
    drop: bool = False,
    shard_count: int | None = None,
    store_type: str = "cache",
) -> dict[str, Any]:
    """Copy the entries of another library's directory into a new one.

    Entries that cannot be read are left out and named on standard error. Pickles are loaded, which can run code.
    Migrate only directories to which only you can write.

    Args:
        src_path: The directory of python-diskcache, SciQLop-cache, diskcache_rs or these classes.
        dst_path: The new one.
        drop: Whether each entry is removed from the source when it is copied. Only for a source of python-diskcache or
            of these classes.
        shard_count: How many databases the new one has; None is as the source, which may have a single one.
        store_type: "cache", or "index": without times to live and tags.

    Returns:
        A dict with the numbers `migrated`, `skipped` and `errors`, and `elapsed_secs`.

    Raises:
        InsufficientDiskSpaceError: There is too little room. Nothing is written.
        ValueError: `store_type` is another word; or the source is no such directory.
    """
    if store_type not in ("cache", "index"):
        raise ValueError(f"store_type must be 'cache' or 'index', not {store_type!r}")
    source, directory = Path(src_path), Path(dst_path)
    if not source.is_dir():
        raise ValueError(f"src_path must be a directory, and {source} is none")
    if source.resolve() == directory.resolve():
        raise ValueError(f"dst_path must be another directory than the source {source}")
    _check_room(source, directory, drop=drop)
    began = time.monotonic()
    entries = _entries_of(source, drop=drop)
    shards = entries.shards if shard_count is None else shard_count
    store: Cache | FanoutCache | Index | FanoutIndex
    if store_type == "index":
        store = Index(directory) if shards is None else FanoutIndex(directory, shard_count=shards)
        put: Callable[..., object] = store.set
    else:
        store = Cache(directory) if shards is None else FanoutCache(directory, shard_count=shards)
        put = store.set
    counts = {"migrated": 0, "skipped": 0, "errors": 0}
    try:
        for key, value, seconds, tag in entries:
            if value is ENOVAL:
                counts["skipped"] += 1
                continue
            terms: dict[str, Any] = {"expire": seconds, "tag": tag} if store_type == "cache" else {}
            try:
                put(key, value, **{name: term for name, term in terms.items() if term is not None})
                if drop:
                    entries.remove(key)
            except Exception as error:  # noqa: BLE001  # It is counted and named.
                _terminal.complain(f"  {key!r} cannot be stored: {error}")
                counts["errors"] += 1
            else:
                counts["migrated"] += 1
    finally:
        entries.close()
        store.close()
    return {**counts, "elapsed_secs": round(time.monotonic() - began, 2)}


@suggesting
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. The exit status is 1 if an entry could not be stored, and 2 if nothing could be done."""
    parser = argparse.ArgumentParser(
        prog="python -m flexcache_rs.sciqlop.migrate", description="Copy another library's cache directory."
    )
    parser.add_argument("src", metavar="SOURCE")
    parser.add_argument("dst", metavar="DIR")
    parser.add_argument("--drop", action="store_true", help="remove each entry from the source when it is copied")
    parser.add_argument("--shards", type=int, metavar="N", help="databases of the new directory; default: the source's")
    parser.add_argument("--type", choices=("cache", "index"), default="cache", help="default: cache")
    options = parser.parse_args(arguments)
    try:
        result = migrate(
            options.src, options.dst, drop=options.drop, shard_count=options.shards, store_type=options.type
        )
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    print(
        f"Done: {result['migrated']} migrated, {result['skipped']} skipped, {result['errors']} errors "
        f"in {result['elapsed_secs']}s"
    )
    if result["errors"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
