"""`JSONDisk`: a cache of JSON."""

from __future__ import annotations

import json
import zlib
from typing import Any

from flexcache_rs._core import Disk
from flexcache_rs.disk.constants import UNKNOWN


class JSONDisk(Disk):
    """Stores keys and values as compressed JSON.

    Args:
        directory: The cache's directory.
        compress_level: From 0 (none) to 9; part of the keys, so a cache must keep to one.
        **kwargs: What `Disk` takes.

    >>> from flexcache_rs.disk import Cache, JSONDisk
    >>> cache = Cache(disk=JSONDisk, disk_compress_level=6)
    >>> cache[{"a": 1}.get("a"), "b"] = (1, 2)
    >>> cache[1, "b"]
    [1, 2]
    """

    def __init__(self, directory: str, compress_level: int = 1, **kwargs: Any) -> None:
        self.compress_level = compress_level
        super().__init__(directory, **kwargs)

    def _compress(self, value: Any) -> bytes:
        return zlib.compress(json.dumps(value).encode(), self.compress_level)

    def put(self, key: Any, /) -> tuple[Any, bool]:
        """A key as the table has it."""
        return super().put(self._compress(key))

    def get(self, key: Any, raw: bool, /) -> Any:
        """A key from what the table has."""
        return json.loads(zlib.decompress(super().get(key, raw)))

    def store(self, value: Any, read: bool = False, key: Any = UNKNOWN) -> tuple[int, int, str | None, Any]:
        """Prepares a value."""
        return super().store(value if read else self._compress(value), read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool = False, /) -> Any:
        """A value from what `store` returned."""
        data = super().fetch(mode, filename, value, read)
        return data if read else json.loads(zlib.decompress(data))
