"""Where the data of a test lie: every backend of sessions."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from flexcache_rs import sessions
from flexcache_rs.sessions import sync

if TYPE_CHECKING:
    from pathlib import Path

BACKENDS = ("memory", "disk")
_numbers = itertools.count()


class Place:
    """Where the data of one test lie."""

    def __init__(self, backend: str, folder: Path) -> None:
        self.backend = backend
        self.url = f"memory://test-{next(_numbers)}" if backend == "memory" else f"{backend}://{folder}"
        self.open = [self.sync()]

    def sync(self, **options: Any) -> sync.Session:
        """A session without await."""
        return sync.connect(self.url, **options)

    def awaited(self, **options: Any) -> sessions.Session:
        """A session to be awaited."""
        return sessions.connect(self.url, **options)
