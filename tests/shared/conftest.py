"""Where the package is built without the shared cache, these tests are not collected."""

from __future__ import annotations

from flexcache_rs import _core

collect_ignore_glob = [] if hasattr(_core, "SharedSegment") else ["*.py"]
