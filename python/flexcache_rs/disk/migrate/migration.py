"""Copies the entries of another library's directory into a new directory."""

from __future__ import annotations

import contextlib
import os
import pickle
import pickletools
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexcache_rs.disk.format import DBNAME, MODE_PICKLE
from flexcache_rs.disk.migrate.plain_values import PROTOCOL, UnreadableError, is_simple
from flexcache_rs.disk.migrate.recognise import holds_cache
from flexcache_rs.disk.raw_directory import Entry, Found, UnusableError, Writer, create

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexcache_rs.disk.migrate.source import Item, Source

SPARE = 1.1
"""The ratio of the new directory's size limit to the size of the values."""


@dataclass
class Summary:
    """The result of a migration."""

    source: str
    total: int
    migrated: int = 0
    skipped: int = 0
    errors: int = 0
    seconds: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict[str, int])

    def note(self, reason: str) -> None:
        """Count an entry that was left out, by the reason."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


def _key(entry: Entry, key: Any) -> None:
    """Set the key of an entry, in the form in which python-diskcache writes it."""
    if is_simple(key):
        entry.key, entry.raw = key, True
    else:
        entry.key, entry.raw = pickletools.optimize(pickle.dumps(key, PROTOCOL)), False


def _check_room(source: Source, directory: Path) -> None:
    there = directory.absolute()
    while not there.exists():
        there = there.parent
    free, needed = shutil.disk_usage(there).free, int(source.size * SPARE)
    if needed > free:
        raise UnusableError(f"{directory}: {free:,} bytes are free there, and about {needed:,} are needed")


def check_target(source: Path, directory: Path) -> None:
    """Raise UnusableError if the target already contains a cache, or if writing to it would change the source."""
    inner, outer = directory.resolve(), source.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise UnusableError(f"{directory}: must not be the source {source}, or inside it, or contain it")
    if holds_cache(directory):
        raise UnusableError(f"{directory}: this directory already has a cache; give a new directory")


def migrate(
    source: Source,
    directory: Path,
    *,
    shards: int | None,
    size_limit: int | None,
    dry_run: bool,
    report: Callable[[int], None],
) -> Summary:
    """Copy all readable entries. Calls `report` with the number of entries processed so far."""
    _check_room(source, directory)
    began = time.monotonic()
    if shards is None:
        shards = len(source.folders) if source.sharded else 0
    summary = Summary(source.name, source.total)
    with contextlib.ExitStack() as stack:
        writer = None
        if not dry_run:
            writer = stack.enter_context(Writer(_made(source, directory, shards, size_limit), replace=True))
        now = time.time()
        for number, item in enumerate(source.items(), 1):
            try:
                if not isinstance(item.expire_time, int | float | None):  # pyright: ignore[reportUnnecessaryIsInstance]
                    raise UnreadableError("an expiry time that is no number")
                if item.expire_time is not None and item.expire_time <= now:
                    summary.skipped += 1
                    summary.note("expired")
                else:
                    _copy(source, item, writer)
                    summary.migrated += 1
            except (UnreadableError, OverflowError) as error:
                summary.errors += 1
                summary.note(str(error))
            report(number)
    summary.seconds = time.monotonic() - began
    return summary


def _copy(source: Source, item: Item, writer: Writer | None) -> None:
    entry = Entry(
        None,
        raw=True,
        mode=MODE_PICKLE,
        expire_time=item.expire_time,
        tag=item.tag,
        store_time=item.store_time,
        access_time=item.store_time,
    )
    _key(entry, source.decode_key(item.key))
    simple, value = source.decode(item.load())
    if writer is None:
        return
    if simple:
        writer.store(entry, value)
    else:
        entry.value = value
        writer.put(entry)


def _made(source: Source, directory: Path, shards: int, size_limit: int | None) -> Found:
    """Create the new directory."""
    if size_limit is None:
        size_limit = source.size_limit or max(2**30, 2 * source.size)
    given: dict[str, Any] = {"size_limit": size_limit / shards if shards else size_limit}
    if not source.evicts:
        given["eviction_policy"] = "none"
    folders = [directory / f"{number:03d}" for number in range(shards)] or [directory]
    for folder in folders:
        create(folder, given)
        if not (folder / DBNAME).exists():
            raise UnusableError(f"{folder}: the database could not be created")
    return Found("", tuple(Path(os.fspath(folder)) for folder in folders), shards or None)
