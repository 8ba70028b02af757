"""`Index` and `FanoutIndex` with SciQLop-cache's names: mappings on disk from which nothing is removed."""

from __future__ import annotations

import itertools
from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any

from flexcache_rs._core import DiskTransaction
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.sciqlop.base import StoreBase, plain_key
from flexcache_rs.sciqlop.directory import open_shards

if TYPE_CHECKING:
    import os

    from flexcache_rs.sciqlop.serializers import Serializer


@suggesting
class IndexBase(StoreBase, MutableMapping[Any, Any]):
    """The common base of both."""

    def _flexcache_fill(self, mappings: Iterable[Mapping[Any, Any]], items: dict[str, Any]) -> None:
        for mapping in (*mappings, items):
            self.update(mapping)

    def set(self, key: Any, value: Any, retry: bool = False) -> None:
        """Store or replace a value."""
        del retry
        key = plain_key(key)
        self.shard_of(key).set(key, value)

    def __setitem__(self, key: Any, value: Any) -> None:
        IndexBase.set(self, key, value)

    def get(  # type: ignore[override]
        self, key: Any, default: Any = None, retry: bool = False
    ) -> Any:
        """Return the value of a key, or the default."""
        del retry
        key = plain_key(key)
        return self.shard_of(key).get(key, default)

    def add(self, key: Any, value: Any, retry: bool = False) -> bool:
        """Store a value only if the key has none, in one step. Returns True if it was stored."""
        del retry
        key = plain_key(key)
        return self.shard_of(key).add(key, value)

    def pop(self, key: Any, default: Any = ENOVAL, retry: bool = False) -> Any:
        """Remove a key and return its value.

        Raises:
            KeyError: There is none, and no default.
        """
        del retry
        stored = plain_key(key)
        value = self.shard_of(stored).pop(stored, default)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def items(self) -> ItemsView[Any, Any]:
        """Return a live view of the pairs."""
        return ItemsView(self)

    def values(self) -> ValuesView[Any]:
        """Return a live view of the values."""
        return ValuesView(self)

    def _flexcache_from_end(self, last: bool) -> Iterator[Any]:
        shards = reversed(self._flexcache_shards) if last else self._flexcache_shards
        return itertools.chain.from_iterable(shard.iterkeys(reverse=last) for shard in shards)

    def peekitem(self, last: bool = True) -> tuple[Any, Any]:
        """Return the item with the last or the first key, in the order of keys and not of insertion.

        Raises:
            KeyError: There is none.
        """
        for key in self._flexcache_from_end(last):
            value = self.shard_of(key).get(key, ENOVAL)
            # Another process may have removed it meanwhile.
            if value is not ENOVAL:
                return key, value
        raise KeyError("the index is empty")

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        """Remove and return the item with the last or the first key.

        Raises:
            KeyError: There is none.
        """
        for key in self._flexcache_from_end(last):
            value = self.shard_of(key).pop(key, ENOVAL)
            if value is not ENOVAL:
                return key, value
        raise KeyError("the index is empty")

    __hash__ = None  # type: ignore[assignment]


@suggesting
class Index(IndexBase):
    """A mapping in a directory, for any number of threads and processes.

    Args:
        directory: The directory, which is created if it does not exist. None means `.index/`.
        *mappings: Items to store.
        serializer: As for `Cache`.
        path: Another name for `directory`.
        **items: Items to store.

    >>> import tempfile
    >>> index = Index(tempfile.mkdtemp(), {"b": 2}, a=1)
    >>> index.peekitem(), index.keys()
    (('b', 2), ['a', 'b'])
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *mappings: Mapping[Any, Any],
        serializer: Serializer | None = None,
        path: str | os.PathLike[str] | None = None,
        **items: Any,
    ) -> None:
        self._flexcache_open(
            open_shards(directory or path or ".index/", shards=None, serializer=serializer, timeout=None, max_size=None)
        )
        self._flexcache_fill(mappings, items)

    def transact(self, retry: bool = False) -> DiskTransaction:
        """Begin a transaction of this thread, for `with`. All of its writes take effect, or none. It may be nested."""
        del retry
        return DiskTransaction(self._flexcache_shards, False, self)

    def __repr__(self) -> str:
        return f"Index({self._flexcache_path!r}, count={len(self)})"


@suggesting
class FanoutIndex(IndexBase):
    """An `Index` in several databases, so that several processes can write at the same time.

    Args:
        directory: As for `Index`.
        *mappings: Items to store.
        shard_count: The number of databases. It must be the same each time.
        serializer: As for `Cache`.
        path: Another name for `directory`.
        shards: Another name for `shard_count`.
        **items: Items to store.

    >>> import tempfile
    >>> index = FanoutIndex(tempfile.mkdtemp(), {"b": 2}, a=1, shard_count=2)
    >>> sorted(index.items())
    [('a', 1), ('b', 2)]
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *mappings: Mapping[Any, Any],
        shard_count: int = 8,
        serializer: Serializer | None = None,
        path: str | os.PathLike[str] | None = None,
        shards: int | None = None,
        **items: Any,
    ) -> None:
        self._flexcache_open(
            open_shards(
                directory or path or ".index/",
                shards=shard_count if shards is None else shards,
                serializer=serializer,
                timeout=None,
                max_size=None,
            )
        )
        self._flexcache_fill(mappings, items)

    def shard_count(self) -> int:
        """The number of databases."""
        return len(self._flexcache_shards)

    def transact(self, key: Any, retry: bool = False) -> DiskTransaction:
        """Begin a transaction of this thread on the shard of a key, for `with`.

        There are no transactions across shards.
        """
        del retry
        return DiskTransaction((self.shard_of(plain_key(key)),), False, self)

    def __repr__(self) -> str:
        return f"FanoutIndex({self._flexcache_path!r}, shards={self.shard_count()}, count={len(self)})"
