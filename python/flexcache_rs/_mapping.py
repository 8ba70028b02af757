"""The methods that make a `FlexCache` a `MutableMapping`, in addition to its native methods.

Types are in the stub.
"""

# mypy: ignore-errors

from _collections_abc import ItemsView, KeysView, Mapping, MutableMapping, Set, ValuesView

from flexcache_rs import _core
from flexcache_rs._suggest import suggesting

_ABSENT = object()


class EntryCount(int):
    """A number of entries, which returns the entries when it is called.

    `FlexCache.items` is one: `cache.items` is the number of entries, and `cache.items()` a view of the pairs of key and
    value, as of other mappings. It is an int in every other way. It keeps its cache alive.
    """

    def __call__(self):
        """Return a view of the pairs of key and value, as of now. O(1)."""
        return self._cache.entries()

    def __reduce__(self):
        return int, (int(self),)

    def __copy__(self):
        return int(self)

    def __deepcopy__(self, memo):
        return int(self)


def _items(self):
    """The number of entries, the same as len(cache). The call items() returns a view of the pairs of key and value.

    O(1), and O(1) more for each entry that has expired.

    >>> from flexcache_rs import FlexCache
    >>> cache = FlexCache()
    >>> cache["a"], cache["b"] = 1, 2
    >>> cache.items, list(cache.items())
    (2, [('a', 1), ('b', 2)])
    """
    count = EntryCount(len(self))
    count._cache = self
    return count


@suggesting
def setdefault(self, key, default=None):
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
    while (value := self.get(key, _ABSENT)) is _ABSENT:
        if self.add(key, default):
            return default
    return value


def update(self, other=(), /, **entries):
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
    if isinstance(other, _core.FlexCache):
        # Not by lookups, which would count as hits and could miss an entry that has just been removed.
        other = list(_core.FlexCache.entries(other))
    if entries:
        other = [*(dict(other).items() if hasattr(other, "keys") else other), *entries.items()]
    self.set_many(other)


def _dict_of(mapping):
    if isinstance(mapping, _core.FlexCache):
        return dict(_core.FlexCache.entries(mapping))
    return mapping if isinstance(mapping, dict) else dict(mapping.items())


def _eq(self, other):
    """Whether another mapping has equal keys with equal values. Order and limits do not matter. O(n)."""
    if self is other:
        return True
    if not isinstance(other, Mapping):
        return NotImplemented
    return _dict_of(self) == _dict_of(other)


def _or(self, other):
    """Return a copy of the cache, updated with the entries of a mapping. O(n)."""
    if not isinstance(other, Mapping):
        return NotImplemented
    copy = self.copy()
    copy.update(other)
    return copy


def _ror(self, other):
    """Return a dict of a mapping's entries, updated with those of the cache. O(n)."""
    if not isinstance(other, Mapping):
        return NotImplemented
    return {**_dict_of(other), **_dict_of(self)}


def _ior(self, other):
    """Store or replace the entries of a mapping or an iterable of pairs, as update() does. O(1) for each entry."""
    self.update(other)
    return self


def make_mapping():
    """Add the methods to FlexCache and its views."""
    cache = _core.FlexCache
    for call in (setdefault, update):
        call.__qualname__ = f"FlexCache.{call.__name__}"
        setattr(cache, call.__name__, call)
    for name, call in (("__eq__", _eq), ("__or__", _or), ("__ror__", _ror), ("__ior__", _ior)):
        call.__name__, call.__qualname__ = name, f"FlexCache.{name}"
        setattr(cache, name, call)
    # Hash by identity although caches compare by content: programs keep caches in sets and in keys.
    cache.__hash__ = object.__hash__
    cache.items = property(_items)
    MutableMapping.register(cache)
    # Give the key and item views the operations of a set.
    for view in (_core.CacheKeysView, _core.CacheItemsView):
        for name, call in vars(Set).items():
            if name.startswith("__") and callable(call) and name not in {"__subclasshook__", "__class_getitem__"}:
                setattr(view, name, call)
        view.isdisjoint = Set.isdisjoint
        view._from_iterable = classmethod(lambda _, elements: set(elements))
        view.__hash__ = None
    KeysView.register(_core.CacheKeysView)
    ValuesView.register(_core.CacheValuesView)
    ItemsView.register(_core.CacheItemsView)
