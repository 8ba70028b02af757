"""Skip these tests if the package was built without the shared cache."""

from __future__ import annotations

from flexcache_rs import _core

collect_ignore_glob = [] if hasattr(_core, "SharedSegment") else ["*.py"]
