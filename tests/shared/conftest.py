"""A cache for each test. Skip the tests if the package was built without the shared cache."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from flexcache_rs import _core

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexcache_rs.shared import SharedCache

collect_ignore_glob = [] if hasattr(_core, "SharedSegment") else ["*.py"]

NUMBERS = itertools.count()


@pytest.fixture
def cache() -> Iterator[SharedCache]:
    """A cache that only this test uses. It is recounted at the end."""
    from flexcache_rs.shared import SharedCache

    with SharedCache(f"test-{os.getpid()}-{next(NUMBERS)}", max_bytes=1 << 20) as cache:
        yield cache
        cache._check()
        cache.unlink()
