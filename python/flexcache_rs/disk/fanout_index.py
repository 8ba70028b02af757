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
    """A mapping in several shards of a directory. Writers of different shards do not wait for each other.

    It evicts nothing, and all calls wait for other writers. Keys are in no particular order.

    Args:
        directory: The directory, which is created if it does not exist. None means a new temporary directory, which
            is not removed.
        shards: The number of shards. It must be the same each time.
        items: The initial items, as for `dict`.

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
        self._flexcache_update(items)

    @property
    def cache(self) -> FanoutCache:
        """The cache that stores it."""
        return self._cache

    def popitem(self) -> tuple[Any, Any]:
        """Remove and return any item.

        Raises:
            KeyError: The mapping is empty.
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
        return self._flexcache_has_items_of(mapping)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.directory!r}, shards={self._shards})"

    def __getstate__(self) -> tuple[str, int]:
        return self.directory, self._shards

    def __setstate__(self, state: tuple[str, int]) -> None:
        self.__init__(*state)  # type: ignore[misc]
