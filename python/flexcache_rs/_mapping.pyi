from typing import Any, Generic, TypeVar

from flexcache_rs._core import CacheItemsView

_K = TypeVar("_K")
_V = TypeVar("_V")

class EntryCount(int, Generic[_K, _V]):
    """A number of entries that returns the entries where it is called.

    `FlexCache.items` is one: `cache.items` is the number of entries, and `cache.items()` a view of the pairs of key and
    value, as of other mappings. It is an int in every other way. It keeps its cache alive.
    """

    def __call__(self) -> CacheItemsView[_K, _V]: ...
    def __copy__(self) -> int: ...
    def __deepcopy__(self, memo: object) -> int: ...

def setdefault(self: Any, key: Any, default: Any = None) -> Any:
    """Return the value of a key. If it is absent, store and return the default.

    In one step: of several threads one stores its default, and all get that one. get_or_set() computes a value
    only where it is needed.

    Args:
        self: the cache.
        key: any hashable.
        default: what to store where the key is absent.

    Raises:
        TypeError, ValueError: as for :meth:`add`.

    Counts as an access. O(1).

    >>> from flexcache_rs import FlexCache
    >>> cache = FlexCache()
    >>> cache.setdefault("a", 1), cache.setdefault("a", 2)
    (1, 1)
    """

def update(self: Any, other: Any = (), /, **entries: Any) -> None:
    """Store or replace the entries of a mapping, of an iterable of pairs, and of keyword arguments.

    Args:
        self: the cache.
        other: a mapping, another cache, or an iterable of pairs of key and value.
        **entries: more of them, with str keys.

    Raises:
        TypeError, ValueError: as for :meth:`put`, before anything is stored.

    The same as set_many(), which takes a ttl and tags. O(1) for each entry.

    >>> from flexcache_rs import FlexCache
    >>> cache = FlexCache()
    >>> cache.update({"a": 1}, b=2)
    >>> dict(cache)
    {'a': 1, 'b': 2}
    """

def make_mapping() -> None:
    """Give FlexCache and its views what completes them."""
