"""cachetools' `RRCache` on FlexCache, which evicts random entries."""

# mypy: ignore-errors

from __future__ import annotations

import random
from collections.abc import Sequence as _Sequence

from flexcache_rs._arguments import check_callable
from flexcache_rs._core import FlexCache
from flexcache_rs._suggest import suggesting
from flexcache_rs.cachetools.caches import Cache, _assign, _get_item, _length, _peek

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

_key_at, _popitem_at = FlexCache._key_at, FlexCache._popitem_at

# The default `choice` of `RRCache`, and a function that draws an index with the same random numbers.
_choose, _place_below = random.choice, random.randrange


class _Row(_Sequence):
    """A sequence of the keys of a cache, from which `choice` draws a random one."""

    __slots__ = ("_cache",)

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def __len__(self) -> int:
        return _length(self._cache)

    def __getitem__(self, place: Any) -> Any:
        if type(place) is int and place >= 0:
            return _key_at(self._cache, place)
        return list(self)[place]

    def __iter__(self) -> Iterator[Any]:
        return iter(FlexCache._keys_by_rank(self._cache))

    def __repr__(self) -> str:
        return repr(list(self))


@suggesting
class RRCache(Cache):
    """A cache that evicts a random entry.

    Args:
        maxsize: As for `Cache`.
        choice: A function of a sequence of the keys that returns the key to evict. The default is `random.choice`.
        getsizeof: As for `Cache`.
    """

    _cachetools_policy = "listed-random"

    __getitem__ = _get_item

    def __init__(
        self,
        maxsize: float,
        choice: Callable[[Sequence[Any]], Any] = _choose,
        getsizeof: Callable[[Any], float] | None = None,
    ) -> None:
        check_callable("choice", choice)
        _assign(self, "_RRCache__choice", choice)
        Cache.__init__(self, maxsize, getsizeof)

    @property
    def choice(self) -> Callable[[Sequence[Any]], Any]:
        """The function that chooses the key to evict."""
        return self.__choice

    def popitem(self) -> tuple[Any, Any]:
        """Remove a chosen key, and return the key and its value."""
        if self._cachetools_evicts_in_python:
            return self._cachetools_plain_popitem()
        if self.__choice is _choose and self._Cache__sizes is None:
            while count := _length(self):
                try:
                    return _popitem_at(self, _place_below(count))
                except IndexError:  # noqa: PERF203  # Most loops end after one pass.
                    # Another thread has removed an entry meanwhile, so draw again.
                    continue
        elif _length(self):
            key = self.__choice(_Row(self))
            value = _peek(self, key)
            self._cachetools_remove_item(key)
            return key, value
        raise KeyError(f"{type(self).__name__} is empty") from None

    def _cachetools_plain_popitem(self) -> tuple[Any, Any]:
        if not _length(self):
            raise KeyError(f"{type(self).__name__} is empty") from None
        key = self.__choice(_Row(self))
        value = _peek(self, key)
        del self[key]
        return key, value
