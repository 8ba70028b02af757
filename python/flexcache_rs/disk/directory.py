"""Where a cache lies."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any


def shown(value: Any) -> str:
    """How to show a value in a message: itself where it is short, else its type."""
    simple = value is None or type(value) in (str, int, float, bool, bytes)
    return f"{value!r:.100}" if simple else str(type(value).__name__)


def path_of(directory: Any) -> str:
    """The path of a directory, with `~` and `$VARIABLES` in it replaced.

    Raises:
        TypeError: It is neither text nor a path.
    """
    is_path = hasattr(directory, "__fspath__")
    path: Any = directory.__fspath__() if is_path else directory
    if not isinstance(path, str):
        raise TypeError(f"directory must be a str or a path, not {shown(directory)}")
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111


class WritableByAllWarning(UserWarning):
    """A directory in which everybody can put pickles."""


def warn_if_writable_by_all(directory: str) -> None:
    """Warns where everybody may write: what is unpickled there runs what they have written.

    Directories that are made are private; one that exists stays as it is.
    """
    if os.name != "nt" and os.stat(directory).st_mode & stat.S_IWOTH:  # noqa: PTH116
        import warnings

        message = (
            f"everybody can write to {directory}, and a pickle that is loaded from there can run any code: "
            "take the right away (chmod o-w), or give a serializer, see flexcache_rs.disk.serializers"
        )
        warnings.warn(message, WritableByAllWarning, stacklevel=3)


def prepare_directory(directory: str | os.PathLike[str] | None) -> str:
    """The directory to use: made, with `~` and `$VARIABLES` in it replaced; a temporary one for None.

    A directory that is made is private to its owner.
    """
    if directory is None:
        import tempfile

        return tempfile.mkdtemp(prefix="diskcache-")
    expanded = path_of(directory)
    if not os.path.isdir(expanded):  # noqa: PTH112
        try:
            os.makedirs(expanded, 0o700)  # noqa: PTH103
        except OSError as error:
            if error.errno != errno.EEXIST:
                message = f"the cache directory {expanded!r} does not exist and cannot be made: {error.strerror}"
                raise OSError(error.errno, message) from error
    return expanded
