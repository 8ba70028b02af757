"""The constants of python-diskcache's format: names, modes, settings, and the SQL of its eviction policies."""

from __future__ import annotations

from flexcache_rs._core import _DISK_EVICTION_POLICIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DBNAME = "cache.db"

MOST_SHARDS = 1000
"""The largest number of shards of a directory. The names of their directories have three digits."""

MODE_NONE = 0
MODE_RAW = 1
MODE_BINARY = 2
MODE_TEXT = 3
MODE_PICKLE = 4

COMPRESSED = {16: "zstd", 32: "lz4", 64: "lz4"}
"""Flags that are added to the mode of a compressed value. 64 is LZ4 followed by a checksum, and 32 LZ4 without one."""

MODES = frozenset(mode + added for mode in range(5) for added in (0, *COMPRESSED))

HIGHEST_PICKLE_PROTOCOL = 5
"""`pickle.HIGHEST_PROTOCOL`, copied because `pickle` takes longer to import than the rest of the package."""

DEFAULT_SETTINGS: dict[str, Any] = {
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "least-recently-stored",
    "size_limit": 2**30,
    "cull_limit": 10,
    "sqlite_auto_vacuum": 1,
    "sqlite_cache_size": 2**13,
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 2**26,
    "sqlite_synchronous": 1,
    "disk_min_file_size": 2**15,
    "disk_pickle_protocol": HIGHEST_PICKLE_PROTOCOL,
}
"""The settings of a new directory."""

METADATA = {"count": 0, "size": 0, "hits": 0, "misses": 0}
"""Counters, which are stored beside the settings."""


EVICTION_POLICY: dict[str, dict[str, str | None]] = _DISK_EVICTION_POLICIES
"""The eviction policies in SQL. Programs may add more. `init` creates an index, `get` is the SET clause of a read, and
`cull` selects `{fields}` of at most `?` victims. `{now}` is the time of the call."""
