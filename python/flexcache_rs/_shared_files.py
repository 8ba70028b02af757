"""The files of this user's caches in shared memory, and the processes that map them."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def directory() -> Path:
    """Return the directory of caches that are opened by name."""
    from flexcache_rs._core import SharedSegment

    return SharedSegment._directory()


def files() -> list[Path]:
    """Return the files of that directory. Removes temporary caches first that no process has open."""
    from flexcache_rs._core import SharedSegment

    place = directory()
    if not os.path.lexists(place):
        return []
    SharedSegment._remove_left()
    return sorted(path for path in place.iterdir() if path.is_file())


def name_of(path: Path) -> str:
    """Return the name of the cache in a file. In the file's name, layout and pid namespace follow it."""
    parts = path.name.rsplit(".", 2)
    return parts[0] if len(parts) == 3 else path.name


def remove_left(path: Path) -> bool:
    """Remove a file that cannot be opened as a cache, if no process has it open. Returns True if it was removed.

    This is safe for files of other versions and pid namespaces, because every process locks a file that it has open.
    Only files in the caches' own directory are removed.
    """
    import fcntl

    if path.parent.resolve() != directory().resolve():
        return False
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # As long as this lock is held, no process gives the name to another file.
        fcntl.flock(folder, fcntl.LOCK_EX)
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
    finally:
        os.close(folder)
    return True


def processes_of(paths: Iterable[Path]) -> dict[Path, list[int]]:
    """Return the processes that map each file, as far as this user may see them in /proc. A missing file has none.

    The maps of a process are read once for all files, because that takes long on a busy machine.
    """
    found: dict[Path, list[int]] = {path: [] for path in paths}
    # Compare device and inode, because a file created without a name has no path in the list of its creator.
    places: dict[tuple[str, ...], Path] = {}
    for path in found:
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            places[f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}", str(status.st_ino)] = path
    processes = Path("/proc")
    for process in processes.iterdir() if processes.is_dir() else ():
        if process.name.isdigit():
            try:
                maps = (process / "maps").read_text("utf-8", "replace")
            except OSError:
                continue  # The process is another user's, or gone.
            for place in {tuple(line.split(maxsplit=5)[3:5]) for line in maps.splitlines()} & places.keys():
                found[places[place]].append(int(process.name))
    return {path: sorted(numbers) for path, numbers in found.items()}


def checked_place(name: str | os.PathLike[str]) -> tuple[str, bool]:
    """Return the path of a name, and whether the name is itself a path."""
    if not isinstance(name, (str, os.PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"name must be a str, a path or None, not {type(name).__name__}"
        raise TypeError(message)
    place = os.fspath(name)
    if not isinstance(place, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"name must be a path of str, not of {type(place).__name__}"
        raise TypeError(message)
    if any("\ud800" <= letter <= "\udfff" for letter in place) and os.sep not in place:
        message = f"name must be text without lone surrogates, not {place!r}"
        raise ValueError(message)
    is_path = isinstance(name, os.PathLike) or "/" in place
    parent = os.path.dirname(place)  # noqa: PTH120
    if is_path and parent and not os.path.isdir(parent):  # noqa: PTH112
        raise FileNotFoundError(errno.ENOENT, "the directory of the cache does not exist", parent)
    return place, is_path
