"""`FanoutIndex`: a mapping on disk in several shards, from which nothing is evicted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.disk.deque_index import StoredMapping
from flexcache_rs.disk.fanout import FanoutCache

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any


@suggesting
class FanoutIndex(StoredMapping):
    """A mapping in a directory, in several shards: those who write to different ones do not wait for each other.

    Nothing is evicted, and all calls wait for other writers. Keys are in no particular order.

    Args:
        directory: Made if it is not there; None is a new temporary one, which stays.
        shards: Their number. It must be the same every time.
        items: What `dict` takes, to begin with.

    Raises:
        ValueError: `shards` is less than 1.

    >>> index = FanoutIndex(shards=2, items={"a": 1})
    >>> index["b"] = 2
    >>> sorted(index.items())
    [('a', 1), ('b', 2)]
    """

    _cache: FanoutCache

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        shards: int = 8,
        items: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (),
    ) -> None:
        self._shards = shards
        self._cache = FanoutCache(directory, shards, eviction_policy="none")
        self._update(items)

    @property
    def cache(self) -> FanoutCache:
        """The cache it is kept in."""
        return self._cache

    def popitem(self) -> tuple[Any, Any]:
        """Remove and return any item.

        Raises:
            KeyError: There is none.
        """
        for key in self:
            value = self._cache.pop(key, default=ENOVAL, retry=True)
            if value is not ENOVAL:
                return key, value
        raise KeyError("dictionary is empty")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        mapping: Mapping[Any, Any] = other  # pyright: ignore[reportUnknownVariableType]
        return self._has_items_of(mapping)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.directory!r}, shards={self._shards})"

    def __getstate__(self) -> tuple[str, int]:
        return self.directory, self._shards

    def __setstate__(self, state: tuple[str, int]) -> None:
        self.__init__(*state)  # type: ignore[misc]
