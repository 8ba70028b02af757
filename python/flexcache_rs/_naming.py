"""Errors of files that say which file."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Generator


@contextlib.contextmanager
def naming(path: os.PathLike[str]) -> Generator[None]:
    """Add the path to errors of writing, which lack it."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
