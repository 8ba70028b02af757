"""lilcache's functions over shared memory: `import flexcache_rs.lilcache as lilcache` is the only change to a program.

There is no socket and no process that owns the cache. Values are any objects that can be pickled, including arbitrary
bytes.

>>> import flexcache_rs.lilcache as lilcache
>>> lilcache.init("example-lilcache")
>>> lilcache.set("foo", "bar")
True
>>> lilcache.get("foo"), lilcache.pop("foo"), lilcache.get("foo")
('bar', 'bar', None)
>>> lilcache.destroy()
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import pickle
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexcache_rs._arguments import described, whole_number
from flexcache_rs._naming import naming
from flexcache_rs._seconds import seconds_in
from flexcache_rs._suggest import suggesting
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["delete", "destroy", "get", "init", "pop", "set", "snapshot"]

_MAGIC = b"flexcache-lil\x02"
_opened: SharedCache | None = None


@suggesting
def init(
    cache_name: str | None = None,
    root: str | os.PathLike[str] | None = None,
    snapshot: str | os.PathLike[str] | None = None,
    expires: float | timedelta | None = None,
    poolsize: int = 10,
) -> None:
    """Open the cache of a name, and create it if there is none. All processes that do so share its entries.

    Args:
        cache_name: The name. None means "lilcache".
        root: The directory of the file of the cache, which only the user may access. None means one in memory.
        snapshot: A file that `snapshot()` wrote. If the cache is empty, it gets the entries of that file. It is no
            error if the file does not exist.
        expires: The time to live of the entries in seconds. None means for ever.
        poolsize: Accepted without effect, because there are no connections.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: The snapshot is damaged. `expires` is not more than 0. The name has other characters
            than letters, digits, "_", "-" and ".".
        OSError: See `SharedCache`.
    """
    global _opened
    given: Any = cache_name
    if given is not None and not isinstance(given, str):
        message = f"cache_name must be a str or None, not {type(given).__name__}"
        raise TypeError(message)
    name = cache_name or "lilcache"
    if name in (".", "..") or not all(letter.isascii() and (letter.isalnum() or letter in "_-.") for letter in name):
        message = f"cache_name must have letters, digits, '_', '-' and '.' alone, not {name!r}"
        raise ValueError(message)
    if expires is not None and seconds_in("expires", expires) <= 0:
        message = f"expires must be more than 0 seconds, or None, not {expires!r}"
        raise ValueError(message)
    whole_number("poolsize", poolsize)
    for argument, path in (("root", root), ("snapshot", snapshot)):
        if path is not None and not isinstance(path, (str, os.PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
            message = f"{argument} must be a path or None, not {type(path).__name__}"
            raise TypeError(message)
    if root is not None and not Path(root).is_dir():
        raise FileNotFoundError(errno.ENOENT, "root must be a directory that exists", str(root))
    place = name if root is None else Path(root) / f"{name}.lil"
    cache = SharedCache(place, default_ttl=expires)
    if snapshot is not None and not cache.keys() and Path(snapshot).exists():
        for key, value, deadline in _load(Path(snapshot)):
            cache.add(key, value, float("inf") if deadline is None else deadline - time.time())
    _opened = cache


def _cache() -> SharedCache:
    if _opened is None:
        message = "call init() first"
        raise RuntimeError(message)
    return _opened


def get(key: str) -> Any:
    """Return the value of a key, or None if there is none."""
    return _cache().get(key)


def set(key: str, value: Any) -> bool:  # noqa: A001
    """Store or replace a value. Returns True."""
    _cache().put(key, value)
    return True


def pop(key: str) -> Any:
    """Remove a key and return its value, or None if there is none. Exactly one of several processes gets it."""
    return _cache().pop(key, None)


def delete(key: str) -> bool:
    """Remove a key. Returns True if it had a value."""
    return _cache().delete(key)


def destroy() -> None:
    """Remove the cache and all its entries, for all processes. `init` creates it again."""
    global _opened
    cache = _cache()
    _opened = None
    cache.unlink()
    cache.close()


@suggesting
def snapshot(path: str | os.PathLike[str]) -> int:
    """Write all entries to a file, for `init(snapshot=path)` after a reboot. Returns the number of entries.

    The file appears under its name when it is complete, and replaces an earlier one. It has a checksum. Entries that
    are written during the call may or may not be in it. Entries expire when they would have without it, by the
    system's wall clock. Values are pickles: only load files that nobody else can write.

    Raises:
        OSError: The file cannot be written. An earlier one stays as it is.
    """
    if not isinstance(path, (str, os.PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"path must be a str or a path, not {described(path)}"
        raise TypeError(message)
    cache = _cache()
    entries: list[tuple[Any, Any, float | None]] = []
    for key, value in cache.items():
        # The entry may have been removed meanwhile.
        with contextlib.suppress(KeyError):
            left = cache.ttl(key)
            # Store the deadline in seconds since 1970, so that time in the file counts.
            entries.append((key, value, None if left is None else time.time() + left))
    body = pickle.dumps(entries, 5)
    place = Path(path)
    if place.is_dir():
        raise IsADirectoryError(errno.EISDIR, "path must be that of a file, and is a directory", str(place))
    with naming(place), tempfile.NamedTemporaryFile(dir=place.parent, prefix=f".{place.name}-", delete=False) as file:
        try:
            file.write(_MAGIC + hashlib.sha256(body).digest() + body)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(place)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return len(entries)


def _load(path: Path) -> list[tuple[Any, Any, float | None]]:
    stored = io.BytesIO(path.read_bytes())
    magic, digest, body = stored.read(len(_MAGIC)), stored.read(32), stored.read()
    if magic != _MAGIC or hashlib.sha256(body).digest() != digest:
        message = f"snapshot: {str(path)!r} is no snapshot, or is damaged"
        raise ValueError(message)
    entries: list[tuple[Any, Any, float | None]] = pickle.loads(body)
    return entries
