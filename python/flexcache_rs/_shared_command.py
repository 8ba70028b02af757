"""The command ``shared``: lists, describes, empties and removes caches in shared memory."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexcache_rs._command_group import add_group
from flexcache_rs._shared_files import directory, files, has_separator, name_of, processes_of, remove_left
from flexcache_rs._terminal import bytes_shown, complain, printable, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flexcache_rs.shared import SharedCache


def add_to(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
) -> None:
    """Add the command to the program's."""
    actions = add_group(
        commands,
        "shared",
        summary="list, describe, empty and remove caches in shared memory",
        description="Tools for the caches of flexcache_rs.shared that this user has on this machine.",
    )
    listing = actions.add_parser(
        "list", help="list the caches and the processes that have them open", allow_abbrev=False
    )
    listing.set_defaults(run=_where_there_is_one(_list))
    listing.add_argument("--json", action="store_true", help="print JSON")
    watching = actions.add_parser(
        "watch",
        help="show the activity of the caches repeatedly, until Ctrl-C",
        description="Show the activity of the caches repeatedly, until Ctrl-C. A process adds its hits and misses "
        "to the sums after 256 of a kind, and when it closes the cache.",
        allow_abbrev=False,
    )
    watching.add_argument("name", metavar="NAME", nargs="?", help="show only this cache")
    watching.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="SECONDS", help="seconds between two reports (1)"
    )
    watching.add_argument("--count", type=_count, metavar="N", help="number of reports (default: no limit)")
    watching.add_argument("--json", action="store_true", help="print JSON, one line for each report")
    watching.set_defaults(run=_where_there_is_one(_watch))
    for name, run, what in (
        ("stats", _stats, "show the statistics of a cache, summed over all processes"),
        ("clear", _clear, "remove all entries, for all processes"),
        ("unlink", _unlink, "remove a cache; its memory is freed when all processes have closed it"),
    ):
        action = actions.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".", allow_abbrev=False)
        action.add_argument("name", metavar="NAME", help="a name, or the path of a file")
        action.set_defaults(run=_where_there_is_one(run))
        if name == "stats":
            action.add_argument("--json", action="store_true", help="print JSON")


def _where_there_is_one(
    run: Callable[[argparse.Namespace], int],
) -> Callable[[argparse.Namespace], int]:
    """Wrap an action. On a system without shared caches it prints that there are none."""

    def checked(options: argparse.Namespace) -> int:
        try:
            import flexcache_rs.shared as shared
        except ImportError as error:
            complain(f"flexcache shared: {error}")
            return 1
        del shared
        return run(options)

    return checked


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        message = f"must be from 0 to 86400 seconds, not {text}"
        raise argparse.ArgumentTypeError(message)
    return seconds


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        message = f"must be an integer of at least 1, not {text}"
        raise argparse.ArgumentTypeError(message)
    return count


def _watch(options: argparse.Namespace) -> int:
    from flexcache_rs._shared_watch import watch

    return watch(options)


def _described() -> Iterator[dict[str, Any]]:
    from flexcache_rs.shared import SharedCache

    for path, processes in processes_of(files()).items():
        content: dict[str, Any] = {"name": name_of(path), "path": str(path), "processes": processes}
        try:
            # create=False: looking at a cache that is gone must not create it.
            with SharedCache(path, create=False) as cache:
                content["stats"] = cache.stats()._asdict()
        except OSError as error:
            if not path.exists():
                continue
            content["error"] = _reason(error)
        yield content


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is being removed, or was left by a process that died while it removed it"
    return str(error)


def _list(options: argparse.Namespace) -> int:
    found = list(_described())
    if options.json:
        tell(json.dumps(found, indent=1))
        return 0
    for content in found:
        processes = ", ".join(map(str, content["processes"])) or "none"
        if "error" in content:
            tell(printable(f"{content['name']}: {content['error']}"))
            continue
        sums = content["stats"]
        full = sums["live_bytes"] / sums["capacity"]
        tell(
            f"{printable(content['name'])}: {sums['entries']} entries, {full:.0%} of {bytes_shown(sums['bytes'])}, "
            f"processes: {processes}"
        )
    if not found:
        tell(f"no caches in {directory()}")
    return 0


def _path_of(name: str) -> Path | None:
    """Return the file of a name. A missing file is an error, because opening it would create it."""
    paths = [Path(name)] if has_separator(name) else [path for path in files() if name_of(path) == name]
    if not paths or not paths[0].name or not paths[0].exists():
        complain(f"flexcache shared: there is no cache {name!r}; see `flexcache shared list`")
        return None
    return paths[0] if len(paths) == 1 else _of_this_version(paths)


def _of_this_version(paths: list[Path]) -> Path:
    """Return the file that this process can open. The others of the name are of other versions or containers."""
    from flexcache_rs.shared import SharedCache

    for path in paths:
        with contextlib.suppress(OSError), SharedCache(path, create=False):
            return path
    return paths[0]


def _with_file(name: str, use: Callable[[Path], None]) -> int:
    """Call `use` with the file of a name, and print why if it fails."""
    path = _path_of(name)
    if path is None:
        return 1
    try:
        use(path)
    except OSError as error:
        why = error.strerror or str(error)
        complain(f"flexcache shared: {why if str(path) in why else f'{path}: {why}'}")
        return 1
    return 0


def _with_cache(name: str, use: Callable[[SharedCache], None]) -> int:
    """Call `use` with the open cache of a name, and print why if it fails."""
    from flexcache_rs.shared import SharedCache

    def opened(path: Path) -> None:
        with SharedCache(path, create=False) as cache:
            use(cache)

    return _with_file(name, opened)


def _stats(options: argparse.Namespace) -> int:
    found: list[dict[str, Any]] = []
    status = _with_cache(options.name, lambda cache: found.append(cache.stats()._asdict()))
    if not found:
        return status
    (sums,) = found
    if options.json:
        tell(json.dumps(sums, indent=1))
    else:
        width = max(map(len, sums))
        for name, value in sums.items():
            tell(f"{name:<{width}}  {value}")
    return 0


def _clear(options: argparse.Namespace) -> int:
    removed: list[int] = []
    status = _with_cache(options.name, lambda cache: removed.append(cache.clear()))
    for count in removed:
        tell(f"{count} entries removed")
    return status


def _unlink(options: argparse.Namespace) -> int:
    from flexcache_rs.shared import SharedCache

    def remove(path: Path) -> None:
        try:
            with SharedCache(path, create=False) as cache:
                cache.unlink()
        except OSError:
            # The file is of another version or pid namespace, damaged, or half removed.
            if not remove_left(path):
                raise

    return _with_file(options.name, remove)
