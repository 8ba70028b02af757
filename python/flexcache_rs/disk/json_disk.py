"""`JSONDisk`: a cache of JSON."""

from __future__ import annotations

import json
import zlib
from typing import Any, ClassVar

from flexcache_rs._core import Disk
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.checks import check_serializer, whole
from flexcache_rs.disk.constants import UNKNOWN

MOST_BYTES = 2**30
"""The default limit of the bytes of JSON."""


@suggesting
class JSONDisk(Disk):
    """A disk that stores keys and values as compressed JSON.

    Args:
        directory: The directory of the cache.
        compress_level: From 0 (none) to 9. It affects the stored keys, so a cache must always use the same level.
        max_bytes: The largest number of bytes of JSON of a key or a value. A few compressed bytes can expand to a
            thousand times as many. Without a limit, data from another program could take all memory.
        **kwargs: The arguments of `Disk`. A `serializer` is refused, and `pickle_protocol` has no effect, because
            everything is stored as JSON.

    Raises:
        ValueError: A `serializer` is given. Calls that store or read raise it if a key or a value has more than
            `max_bytes`.
        zlib.error: Calls that read raise it if the compressed bytes are damaged.

    >>> from flexcache_rs.disk import Cache, JSONDisk
    >>> cache = Cache(disk=JSONDisk, disk_compress_level=6)
    >>> cache[{"a": 1}.get("a"), "b"] = (1, 2)
    >>> cache[1, "b"]
    [1, 2]
    """

    _uses_serializer: ClassVar[bool] = False

    def __init__(self, directory: str, compress_level: int = 1, max_bytes: int = MOST_BYTES, **kwargs: Any) -> None:
        check_serializer(kwargs.get("serializer"), type(self))
        self.compress_level = compress_level
        self.max_bytes = whole("disk_max_bytes", max_bytes, least=1, most=2**62)
        super().__init__(directory, **kwargs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(compress_level={self.compress_level}, max_bytes={self.max_bytes})"

    def _compress(self, value: Any, what: str) -> bytes:
        text = json.dumps(value).encode()
        if len(text) > self.max_bytes:
            raise ValueError(f"{what} has {len(text):,} bytes of JSON, more than disk_max_bytes={self.max_bytes:,}")
        return zlib.compress(text, self.compress_level)

    def _decompress(self, data: bytes, what: str) -> Any:
        decompressor = zlib.decompressobj()
        try:
            # The buffer grows with the actual output, up to the limit.
            text = decompressor.decompress(data, self.max_bytes + 1)
        except zlib.error as error:
            raise zlib.error(f"{what} is damaged: {error}") from None
        if len(text) > self.max_bytes:
            raise ValueError(f"{what} has more than disk_max_bytes={self.max_bytes:,} bytes of JSON when decompressed")
        if not decompressor.eof:
            raise zlib.error(f"{what} is damaged: the end of its compressed bytes is missing")
        return json.loads(text)

    def put(self, key: Any, /) -> tuple[Any, bool]:
        """Return a key in the form of the table."""
        return super().put(self._compress(key, "the key"))

    def get(self, key: Any, raw: bool, /) -> Any:
        """Return the key for a key of the table."""
        data = super().get(key, raw)
        if not isinstance(data, bytes):
            raise TypeError(f"{data!r:.80} is a key of a queue, which {type(self).__name__} cannot find again")
        return self._decompress(data, f"the key {data[:20]!r}")

    def store(self, value: Any, read: bool = False, key: Any = UNKNOWN) -> tuple[int, int, str | None, Any]:
        """Prepare a value."""
        if not read:
            value = self._compress(value, "the value" if key is UNKNOWN else f"the value of the key {key!r:.100}")
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool = False, /) -> Any:
        """Return the value for a result of `store`."""
        data = super().fetch(mode, filename, value, read)
        if read:
            return data
        return self._decompress(data, "the value" if filename is None else f"the value in the file {filename}")
