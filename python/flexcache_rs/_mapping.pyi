from typing import Any, Generic, TypeVar

from flexcache_rs._core import CacheItemsView

_K = TypeVar("_K")
_V = TypeVar("_V")

class EntryCount(int, Generic[_K, _V]):
    """A number of entries, which returns the entries when it is called.

    `FlexCache.items` is one: `cache.items` is the number of entries, and `cache.items()` a view of the pairs of key and
    value, as of other mappings. It is an int in every other way. It keeps its cache alive.
    """

    def __call__(self) -> CacheItemsView[_K, _V]: ...
    def __copy__(self) -> int: ...
    def __deepcopy__(self, memo: object) -> int: ...

def setdefault(self: Any, key: Any, default: Any = None) -> Any:
    """Return the value of a key. If it is absent, store and return the default.

    The call is atomic. If several threads do this, one stores its default, and all get it. get_or_set() computes a
    value only if it is needed.

    Args:
        self: The cache.
        key: Any hashable object.
        default: The value to store if the key is absent.

    Raises:
        TypeError, ValueError: As for :meth:`add`.

    Counts as an access. O(1).

    >>> from flexcache_rs import FlexCache
    >>> cache = FlexCache()
    >>> cache.setdefault("a", 1), cache.setdefault("a", 2)
    (1, 1)
    """

def update(self: Any, other: Any = (), /, **entries: Any) -> None:
    """Store or replace the entries of a mapping, of an iterable of pairs, and of keyword arguments.

    Args:
        self: The cache.
        other: A mapping, another cache, or an iterable of pairs of key and value.
        **entries: More entries, with str keys.

    Raises:
        TypeError, ValueError: As for :meth:`put`. Nothing was stored.

    The same as set_many(), which takes a ttl and tags. O(1) for each entry.

    >>> from flexcache_rs import FlexCache
    >>> cache = FlexCache()
    >>> cache.update({"a": 1}, b=2)
    >>> dict(cache)
    {'a': 1, 'b': 2}
    """

def make_mapping() -> None:
    """Add the methods to FlexCache and its views."""
