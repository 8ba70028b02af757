"""The files of this user's caches in shared memory, and the processes that map them."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def directory() -> Path:
    """Where caches lie that are opened by a name."""
    from flexcache_rs._core import SharedSegment

    return SharedSegment._directory()


def files() -> list[Path]:
    """The files there. Temporary caches that nobody has open any more are removed first."""
    from flexcache_rs._core import SharedSegment

    place = directory()
    if not place.is_dir():
        return []
    SharedSegment._remove_left()
    return sorted(path for path in place.iterdir() if path.is_file())


def name_of(path: Path) -> str:
    """The name that a file stands for: layout and namespace follow it."""
    parts = path.name.rsplit(".", 2)
    return parts[0] if len(parts) == 3 else path.name


def remove_left(path: Path) -> bool:
    """Removes a file that cannot be opened as a cache, if no process has it open. Returns whether it did.

    It may be of another version or another pid namespace: all lock it while they have it open. Only files in the
    caches' own directory are removed.
    """
    import fcntl

    if path.parent.resolve() != directory().resolve():
        return False
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def processes_of(path: Path) -> list[int]:
    """The processes that map a file, as far as this user may know, which needs /proc. None map one that is gone."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return []
    # Not by its path: a file that was made without a name has none in the list of its creator.
    mapped = [f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}", str(status.st_ino)]
    found: list[int] = []
    processes = Path("/proc")
    for process in processes.iterdir() if processes.is_dir() else ():
        if process.name.isdigit():
            try:
                maps = (process / "maps").read_text("utf-8", "replace")
            except OSError:
                continue  # It is another user's, or gone.
            if any(line.split(maxsplit=5)[3:5] == mapped for line in maps.splitlines()):
                found.append(int(process.name))
    return sorted(found)


def checked_place(name: str | os.PathLike[str]) -> tuple[str, bool]:
    """The place that a name stands for, and whether it is a path."""
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
