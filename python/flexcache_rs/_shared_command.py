"""The command ``shared``: which caches are in shared memory, what is in them, and removing them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexcache_rs._command_group import add_group
from flexcache_rs._terminal import bytes_shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flexcache_rs.shared import SharedCache


def add_to(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
) -> None:
    """Adds the command to the program's."""
    actions = add_group(
        commands,
        "shared",
        summary="list, describe, empty and remove caches in shared memory",
        description="Tools for the caches of flexcache_rs.shared that this user has under /dev/shm.",
    )
    listing = actions.add_parser("list", help="the caches, and which processes have them open", allow_abbrev=False)
    listing.set_defaults(run=_list)
    listing.add_argument("--json", action="store_true", help="for programs")
    for name, run, what in (
        ("stats", _stats, "the sums of a cache"),
        ("clear", _clear, "remove all entries, for all processes"),
        ("unlink", _unlink, "remove a cache; its memory is free when all processes have left"),
    ):
        action = actions.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".", allow_abbrev=False)
        action.add_argument("name", metavar="NAME", help="a name, or the path of a file")
        action.set_defaults(run=run)
        if name == "stats":
            action.add_argument("--json", action="store_true", help="for programs")


def _directory() -> Path:
    return Path("/dev/shm") / f"flexcache-rs-{os.geteuid()}"


def _files() -> list[Path]:
    directory = _directory()
    return sorted(path for path in directory.iterdir() if path.is_file()) if directory.is_dir() else []


def _name_of(path: Path) -> str:
    """The name that a file stands for: layout and namespace follow it."""
    parts = path.name.rsplit(".", 2)
    return parts[0] if len(parts) == 3 else path.name


def _processes_of(path: Path) -> list[int]:
    """The processes that map a file, as far as this user may know."""
    status = path.stat()
    # Not by its path: a file that was made without a name has none in the list of its creator.
    mapped = [f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}", str(status.st_ino)]
    found: list[int] = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                maps = (process / "maps").read_text("utf-8", "replace")
            except OSError:
                continue  # It is another user's, or gone.
            if any(line.split(maxsplit=5)[3:5] == mapped for line in maps.splitlines()):
                found.append(int(process.name))
    return sorted(found)


def _described() -> Iterator[dict[str, Any]]:
    from flexcache_rs.shared import SharedCache

    for path in _files():
        content: dict[str, Any] = {"name": _name_of(path), "path": str(path), "processes": _processes_of(path)}
        try:
            with SharedCache(path) as cache:
                content["stats"] = cache.stats()._asdict()
        except OSError as error:
            content["error"] = str(error)
        yield content


def _list(options: argparse.Namespace) -> int:
    found = list(_described())
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    for content in found:
        processes = ", ".join(map(str, content["processes"])) or "none"
        if "error" in content:
            print(f"{content['name']}: {content['error']}")
            continue
        sums = content["stats"]
        full = sums["live_bytes"] / sums["capacity"]
        print(
            f"{content['name']}: {sums['entries']} entries, {full:.0%} of {bytes_shown(sums['bytes'])}, "
            f"processes: {processes}"
        )
    if not found:
        print(f"no caches in {_directory()}")
    return 0


def _path_of(name: str) -> Path | None:
    """The file of a name. A missing one is said to be so: opening it would create it."""
    paths = [Path(name)] if "/" in name else [path for path in _files() if _name_of(path) == name]
    if not paths or not paths[0].exists():
        print(f"flexcache shared: there is no cache {name!r}; see `flexcache shared list`", file=sys.stderr)
        return None
    return paths[0]


def _with_cache(name: str, use: Callable[[SharedCache], None]) -> int:
    """Does something with the cache of a name. A file that is none is said to be so."""
    from flexcache_rs.shared import SharedCache

    path = _path_of(name)
    if path is None:
        return 1
    try:
        with SharedCache(path) as cache:
            use(cache)
    except OSError as error:
        print(f"flexcache shared: {path}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _stats(options: argparse.Namespace) -> int:
    found: list[dict[str, Any]] = []
    status = _with_cache(options.name, lambda cache: found.append(cache.stats()._asdict()))
    if not found:
        return status
    (sums,) = found
    if options.json:
        print(json.dumps(sums, indent=1))
    else:
        width = max(map(len, sums))
        for name, value in sums.items():
            print(f"{name:<{width}}  {value}")
    return 0


def _clear(options: argparse.Namespace) -> int:
    removed: list[int] = []
    status = _with_cache(options.name, lambda cache: removed.append(cache.clear()))
    for count in removed:
        print(f"{count} entries removed")
    return status


def _unlink(options: argparse.Namespace) -> int:
    def unlink(cache: SharedCache) -> None:
        cache.unlink()

    return _with_cache(options.name, unlink)
