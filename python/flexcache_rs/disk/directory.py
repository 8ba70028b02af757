"""The location of a cache."""

from __future__ import annotations

import errno
import os

from flexcache_rs._arguments import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def path_of(directory: Any) -> str:
    """Return the path of a directory, with `~` and `$VARIABLES` replaced.

    Raises:
        TypeError: It is neither text nor a path.
    """
    is_path = hasattr(directory, "__fspath__")
    path: Any = directory.__fspath__() if is_path else directory
    if not isinstance(path, str):
        raise TypeError(f"directory must be a str or a path, not {shown(directory)}")
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111


def prepare_directory(directory: str | os.PathLike[str] | None) -> str:
    """Create a directory if needed, and return its path with `~` and `$VARIABLES` replaced. None makes a temporary one.

    A new directory is private to its owner. The path is absolute, so that the cache stays there if the program changes
    its working directory.
    """
    if directory is None:
        import tempfile

        return tempfile.mkdtemp(prefix="diskcache-")
    expanded = path_of(directory)
    if not os.path.isdir(expanded):  # noqa: PTH112
        try:
            os.makedirs(expanded, 0o700)  # noqa: PTH103
        except OSError as error:
            if error.errno == errno.EEXIST:
                # Another process may have made it in the meantime.
                if not os.path.isdir(expanded):  # noqa: PTH112
                    message = "the cache directory is a file"
                    raise NotADirectoryError(errno.ENOTDIR, message, expanded) from error
            else:
                message = f"the cache directory does not exist and cannot be made: {error.strerror}"
                raise OSError(error.errno, message, expanded) from error
    # `abspath` would follow ".." without regard to links.
    return expanded if os.path.isabs(expanded) else os.path.join(os.getcwd(), expanded)  # noqa: PTH109, PTH117, PTH118


_ATTEMPTS = 10


def write_file(self: Any, full_path: str, iterator: Iterable[Any], mode: str, encoding: str | None = None) -> int:
    """Write parts of bytes or text to a file, and create its directories. Returns how many bytes or characters."""
    del self
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            os.makedirs(os.path.dirname(full_path), exist_ok=True)  # noqa: PTH103, PTH120
            writer = open(full_path, mode, encoding=encoding)  # noqa: PTH123, SIM115
        except FileNotFoundError:
            # Another process has removed the directory, because it was empty.
            if attempt == _ATTEMPTS:
                raise
            continue
        with writer:
            return sum(writer.write(part) for part in iterator)
    raise AssertionError("unreachable")
