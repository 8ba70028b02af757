"""The command ``disk``: checks, repairs, describes, copies and migrates cache directories."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import math
import secrets
import sqlite3
import sys
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexcache_rs import __version__
from flexcache_rs._command_group import add_group
from flexcache_rs._terminal import Progress, bytes_shown, complain, printable, tell
from flexcache_rs.disk.format import MOST_SHARDS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import IO, TextIO

    from flexcache_rs.disk.migrate.migration import Summary
    from flexcache_rs.disk.raw_directory import Found

DAMAGED = """\
  The database is damaged. A cache can start empty: stop the programs that use it, move the directory away, for example
    mv {0} {0}.damaged
  and start them again. `flexcache disk export {0}.damaged FILE` saves the entries that can still be read."""


def add_to(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
) -> None:
    """Add the command to the program's."""
    actions = add_group(
        commands,
        "disk",
        summary="check, describe, export, import and migrate cache directories",
        description="Tools for the directories of flexcache_rs.disk and python-diskcache.",
    )

    def add(name: str, run: Callable[[argparse.Namespace], int], description: str) -> argparse.ArgumentParser:
        action = actions.add_parser(
            name, help=description, description=description[0].upper() + description[1:] + ".", allow_abbrev=False
        )
        action.set_defaults(run=partial(_guarded, run))
        return action

    check = add("check", _check, "compare entries, files and counters of every cache in a directory")
    check.add_argument("directory", type=Path, metavar="DIR")
    check.add_argument(
        "--fix", action="store_true", help="repair the findings, while no other program uses the directory"
    )

    stats = add("stats", _stats, "describe the caches in a directory")
    stats.add_argument("directory", type=Path, metavar="DIR")
    stats.add_argument("--json", action="store_true", help="print JSON")

    export = add("export", _export, "write the live entries of a directory to a file, or to standard output (-)")
    export.add_argument("directory", type=Path, metavar="DIR")
    export.add_argument("file", metavar="FILE")

    into = add("import", _import, "read an exported file, or standard input (-), into a directory")
    into.add_argument("directory", type=Path, metavar="DIR")
    into.add_argument("file", metavar="FILE")
    which = into.add_mutually_exclusive_group()
    which.add_argument("--keep", action="store_true", help="keep existing entries (the default)")
    which.add_argument("--replace", action="store_true", help="replace existing entries")
    _add_shards(into, "the export's")

    migrate = add("migrate", _migrate, "copy a directory of SciQLop-cache or diskcache_rs into a new one")
    migrate.add_argument("source", type=Path, metavar="SOURCE")
    migrate.add_argument("directory", type=Path, metavar="DIR")
    _add_shards(migrate, "the source's")
    migrate.add_argument(
        "--size-limit",
        type=_from_to(1, 2**63 - 1),
        metavar="BYTES",
        help="default: that of the source, or enough for its data",
    )
    migrate.add_argument("--dry-run", action="store_true", help="read everything, write nothing")
    migrate.add_argument("--trust", action="store_true", help="load pickled keys of any class, which can run code")
    for action in (export, into, migrate):
        action.add_argument("--no-progress", action="store_true", help="no progress bar on standard error")


def _add_shards(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--shards",
        type=_from_to(0, MOST_SHARDS),
        metavar="N",
        help=f"for FanoutCache(shards=N); 0 for a Cache (default: {default})",
    )


def _from_to(least: int, most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r:.60} is not an integer from {least} to {most}")
        return value

    return convert


def _guarded(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run an action. An expected error becomes a line on standard error and exit status 1."""
    from flexcache_rs.disk.raw_directory import UnusableError

    try:
        return run(options)
    except UnusableError as error:
        text = str(error)
    except sqlite3.OperationalError as error:
        text = f"{options.directory}: {error}"
    except sqlite3.DatabaseError as error:
        text = f"{options.directory}: {error}\n{DAMAGED.format(options.directory)}"
    except RuntimeError as error:
        # The directory is open in this process.
        text = str(error)
    complain(f"flexcache: {text}")
    return 1


def _progress(options: argparse.Namespace, total: int, what: str) -> tuple[Progress, Callable[[int], None]]:
    progress = Progress(shown=not options.no_progress)
    return progress, lambda done: progress.show(done / max(total, 1), what)


# check ----------------------------------------------------------------------------------------------------------------

_MENDED = {
    "missing_file": "entry deleted",
    "damaged_value": "entry deleted",
    "wrong_size": "entry corrected",
    "unknown_file": "file deleted",
    "empty_directory": "directory deleted",
    "wrong_counter": "corrected",
}


def _check(options: argparse.Namespace) -> int:
    from flexcache_rs.disk.raw_directory import find

    found = find(options.directory)
    left = 0
    for cache in found:
        for folder in cache.databases:
            inside = [other for of in found for other in of.databases if other != folder and folder in other.parents]
            left += _check_one(options, folder, inside)
    return 1 if left else 0


def _check_one(options: argparse.Namespace, folder: Path, inside: list[Path]) -> int:
    """Check one database and its files. Returns the number of findings that remain."""
    from flexcache_rs.disk.core import Cache, Timeout

    # Never fix if other caches are inside the folder: their files would count as unknown, and be deleted.
    fix = options.fix and not inside
    # Bypass the constructor, so that the settings of the directory stay as they are.
    cache = Cache.__new__(Cache)
    try:
        # The check loads no pickle, so it does not matter who can write them.
        cache._connect(str(folder.absolute()), 60.0)
        findings: list[tuple[str, str]] = cache._check(fix, False)
    except Timeout:
        tell(f"{folder}: not checked: the write lock was not acquired within a minute")
        return 1
    except sqlite3.OperationalError as error:
        tell(f"{folder}: not checked: {error}")
        return 1
    except sqlite3.DatabaseError as error:
        tell(f"{folder}: damaged: {error}\n{DAMAGED.format(folder)}")
        return 1
    finally:
        cache.close()
    findings = [(kind, text) for kind, text in findings if not any(str(other.absolute()) in text for other in inside)]
    left = 0
    for kind, text in findings:
        mended = _MENDED.get(kind) if fix else None
        left += mended is None
        tell(printable(f"{folder}: {kind.replace('_', ' ')}: {text}{f' ({mended})' if mended else ''}"))
    if any(kind == "damaged" for kind, _ in findings):
        tell(DAMAGED.format(folder))
    if options.fix and left and inside:
        tell(f"{folder}: not repaired: there are other caches inside this one")
    if not findings:
        tell(f"{folder}: ok")
    return left


# stats ----------------------------------------------------------------------------------------------------------------

# SQLite stores anything in any column, so whatever is no number of a kind is left out. `SUM` fails beyond 64 bits.
_VALUES = """
SELECT mode, filename IS NOT NULL AS in_file, COUNT(*), CAST(TOTAL(bytes) AS INTEGER), MAX(bytes) FROM (
  SELECT
    CASE WHEN TYPEOF(mode) = 'integer' THEN mode ELSE -1 END AS mode,
    filename,
    CASE
      WHEN filename IS NULL THEN LENGTH(CAST(value AS BLOB)) WHEN TYPEOF(size) = 'integer' THEN size
    END AS bytes
  FROM Cache
) GROUP BY mode, in_file
"""
_MOMENTS = """
SELECT
  COUNT(*),
  SUM(TYPEOF(expire_time) IN ('integer', 'real') AND expire_time <= :now),
  MIN(CASE WHEN TYPEOF(store_time) IN ('integer', 'real') THEN store_time END),
  MAX(CASE WHEN TYPEOF(store_time) IN ('integer', 'real') THEN store_time END),
  MIN(CASE WHEN TYPEOF(expire_time) IN ('integer', 'real') AND expire_time > :now THEN expire_time END)
FROM Cache
"""
_MODES = {1: "as it is", 2: "bytes", 3: "text", 4: "pickle"}
_TAGS = 10


def _stats(options: argparse.Namespace) -> int:
    from flexcache_rs.disk.raw_directory import find

    described = [_described(found) for found in find(options.directory)]
    if options.json:
        document = {"flexcache_rs": __version__, "directory": str(options.directory.absolute()), "caches": described}
        tell(json.dumps(document, indent=1))
    else:
        tell("\n\n".join("\n".join(_lines(content)) for content in described))
    return 0


def _stored_as(mode: int) -> str:
    from flexcache_rs.disk.format import COMPRESSED

    if mode < 0:
        return "damaged"
    compressed = COMPRESSED.get(mode & ~15)
    return _MODES.get(mode & 15, str(mode)) + (f", {compressed}" if compressed else "")


def _described(found: Found) -> dict[str, Any]:
    """Return the statistics of a cache, summed over its shards."""
    from flexcache_rs.disk.format import DBNAME, METADATA
    from flexcache_rs.disk.raw_directory import reading, settings, volume

    now = time.time()
    first: dict[str, Any] = {}
    sums: dict[str, float] = dict.fromkeys(("entries", "expired", "volume", "size_limit", "hits", "misses"), 0)
    oldest: list[float] = []
    newest: list[float] = []
    next_expiry: list[float] = []
    values: dict[tuple[str, bool], list[int]] = {}
    tags: dict[Any, int] = {}
    for folder in found.databases:
        with reading(folder / DBNAME) as connection:
            recorded = settings(connection)
            first = first or recorded
            ((entries, expired, *found_moments),) = connection.execute(_MOMENTS, {"now": now})
            of_shard = recorded | {"entries": entries, "expired": expired, "volume": volume(connection)}
            for name in sums:
                value = of_shard.get(name)
                sums[name] += value if isinstance(value, int | float) and math.isfinite(value) else 0
            for moments, moment in zip((oldest, newest, next_expiry), found_moments, strict=True):
                if moment is not None and math.isfinite(moment):
                    moments.append(moment)
            for mode, in_file, count, size, largest in connection.execute(_VALUES):
                sum_of = values.setdefault((_stored_as(mode), bool(in_file)), [0, 0, 0])
                sum_of[:] = sum_of[0] + count, sum_of[1] + (size or 0), max(sum_of[2], largest or 0)
            for tag, count in connection.execute("SELECT tag, COUNT(*) FROM Cache WHERE tag IS NOT NULL GROUP BY tag"):
                tags[tag] = tags.get(tag, 0) + count
    most = sorted(tags.items(), key=lambda item: -item[1])[:_TAGS]
    return {
        "name": found.name,
        "shards": found.shards,
        **sums,
        "eviction_policy": _as_json(first.get("eviction_policy")),
        "statistics": bool(first.get("statistics")),
        "oldest": min(oldest, default=None),
        "newest": max(newest, default=None),
        "next_expiry": min(next_expiry, default=None),
        "values": [
            {"stored": stored, "in_file": in_file, "count": count, "bytes": size, "largest": largest}
            for (stored, in_file), (count, size, largest) in sorted(values.items())
        ],
        "tags": len(tags),
        "most_used_tags": {tag.hex() if isinstance(tag, bytes) else str(tag): count for tag, count in most},
        "settings": {
            key: _as_json(value)
            for key, value in first.items()
            if key not in METADATA and key not in ("statistics", "eviction_policy", "size_limit")
        },
    }


def _as_json(value: Any) -> Any:
    """Return a value of SQLite in a form that JSON has: bytes in hexadecimal, and null for infinity."""
    if isinstance(value, bytes):
        return value.hex()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _moment(seconds: float | None) -> str:
    try:
        return "-" if seconds is None else datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
    except (OverflowError, OSError, ValueError):
        return str(seconds)


def _lines(content: dict[str, Any]) -> Iterator[str]:
    """Format the statistics as lines for people."""
    name = content["name"] or "."
    yield f"{name}: " + (f"FanoutCache of {content['shards']} shards" if content["shards"] else "Cache")
    lookups = content["hits"] + content["misses"]
    part = content["volume"] / content["size_limit"] if content["size_limit"] else 0
    hits = f" ({content['hits'] / lookups:.1%})" if lookups else ""
    counted = "" if content["statistics"] else ", not counted now"
    rows = [
        ("entries", f"{content['entries']:,}"),
        ("expired", f"{content['expired']:,} of them, not yet removed"),
        ("volume", f"{bytes_shown(content['volume'])} of {bytes_shown(content['size_limit'])} ({part:.0%})"),
        ("policy", printable(str(content["eviction_policy"]))),
        ("hits", f"{content['hits']:,}{hits}{counted}"),
        ("misses", f"{content['misses']:,}"),
        ("oldest", _moment(content["oldest"])),
        ("newest", _moment(content["newest"])),
        ("next expiry", _moment(content["next_expiry"])),
    ]
    for value in content["values"]:
        stored = value["stored"] + (", in files" if value["in_file"] else "")
        mean = value["bytes"] / value["count"]
        sizes = f"{bytes_shown(value['bytes'])}, mean {bytes_shown(mean)}, largest {bytes_shown(value['largest'])}"
        rows.append(("values", f"{value['count']:,} {stored}: {sizes}"))
    shown = ", ".join(f"{printable(tag)} ({count:,})" for tag, count in content["most_used_tags"].items())
    more = ", …" if content["tags"] > _TAGS else ""
    rows.append(("tags", f"{content['tags']:,}{': ' if shown else ''}{shown}{more}"))
    for label, text in rows:
        yield f"  {label:12} {text}"


# export and import ----------------------------------------------------------------------------------------------------


def _standard(stream: TextIO | None, name: str) -> IO[bytes]:
    """Return the byte stream of standard input or output. A closed stream is None, which raises OSError."""
    if stream is None:
        raise OSError(errno.EBADF, "it is closed", name)
    return stream.buffer


@contextlib.contextmanager
def _output(name: str) -> Generator[IO[bytes]]:
    """Open a file that appears only when it is complete, or standard output."""
    from flexcache_rs._naming import naming

    if name == "-":
        yield _standard(sys.stdout, "standard output")
        return
    path = Path(name)
    if path.exists() and not path.is_file():
        # A device or a pipe must not be replaced by a file.
        with naming(path), path.open("wb") as file:
            yield file
        return
    # A new file: in a directory that everybody can write, another user's link might have any name that can be guessed.
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}.unfinished")
    try:
        with naming(path), unfinished.open("xb") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _export(options: argparse.Namespace) -> int:
    from flexcache_rs.disk.transfer import Exporter

    exporter = Exporter(options.directory)
    progress, report = _progress(options, exporter.total, "export")
    with _output(options.file) as file:
        try:
            exporter.write(file, report)
        finally:
            progress.clear()
    _say(
        f"{exporter.written:,} entries exported, {exporter.expired:,} expired left out"
        + (f", {exporter.missing:,} unreadable left out" if exporter.missing else "")
    )
    if exporter.damaged:
        _say(f"{options.directory}: the database is damaged; the export has what could be read")
        return 1
    return 0


def _import(options: argparse.Namespace) -> int:
    from flexcache_rs.disk.transfer import Importer

    with contextlib.ExitStack() as stack:
        is_piped = options.file == "-"
        file = (
            _standard(sys.stdin, "standard input") if is_piped else stack.enter_context(Path(options.file).open("rb"))
        )
        importer = Importer(options.directory, file, replace=options.replace, shards=options.shards)
        # The number of entries comes at the end of the file, so show the progress in bytes.
        size = 0 if is_piped else Path(options.file).stat().st_size
        progress, report = _progress(options, size, "import")
        try:
            importer.read(lambda count: report(file.tell()) if size and count % 100 == 0 else None)
        finally:
            progress.clear()
    _say(
        f"{importer.written:,} entries imported, {importer.kept:,} kept as they were, "
        f"{importer.expired:,} expired left out"
    )
    _warn_of_limits(options.directory)
    return 0


def _warn_of_limits(directory: Path) -> None:
    """Print a warning if the next write to a cache will evict."""
    from flexcache_rs.disk.format import DBNAME
    from flexcache_rs.disk.raw_directory import find, reading, settings, volume

    for found in find(directory):
        for folder in found.databases:
            with reading(folder / DBNAME) as connection:
                recorded, size = settings(connection), volume(connection)
            limit = recorded.get("size_limit")
            if isinstance(limit, int | float) and size > limit and recorded.get("eviction_policy") != "none":
                over = f"{bytes_shown(size)} are more than its size_limit, {bytes_shown(limit)}"
                _say(f"{folder}: {over}: writes will evict")


def _say(text: str) -> None:
    complain(f"flexcache: {text}")


# migrate --------------------------------------------------------------------------------------------------------------


def _migrate(options: argparse.Namespace) -> int:
    from flexcache_rs.disk.migrate.migration import check_target, migrate
    from flexcache_rs.disk.migrate.recognise import recognise

    check_target(options.source, options.directory)
    source = recognise(options.source, trust=options.trust)
    progress, report = _progress(options, source.total, "migrate")
    try:
        summary = migrate(
            source,
            options.directory,
            shards=options.shards,
            size_limit=options.size_limit,
            dry_run=options.dry_run,
            report=report,
        )
    finally:
        progress.clear()
    _print_summary(summary, dry_run=options.dry_run)
    return 0


def _print_summary(summary: Summary, *, dry_run: bool) -> None:
    tell(f"{summary.source}: {summary.total:,} entries{' (dry run: nothing was written)' if dry_run else ''}")
    tell(f"  migrated  {summary.migrated:,}")
    tell(f"  skipped   {summary.skipped:,}")
    tell(f"  errors    {summary.errors:,}")
    tell(f"  seconds   {summary.seconds:.1f}")
    for reason, count in sorted(summary.reasons.items()):
        _say(f"left out: {reason}: {count:,}")
