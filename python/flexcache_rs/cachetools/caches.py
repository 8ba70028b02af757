"""cachetools' classes on FlexCache: `Cache`, `FIFOCache`, `LFUCache` and `LRUCache`.

Lookups and writes are FlexCache's own, natively, as long as nothing has to run in Python: `getsizeof`, a
`choice`, or what a subclass overrides. Then `_cachetools_store_item` and `_cachetools_remove_item` are called instead.
`__init_subclass__` finds out what a subclass overrides. The calls that are made of others (`get`, `pop` and
`setdefault`) then have the form that uses them, `_cachetools_plain_get` and so on.
"""

# mypy: ignore-errors

from __future__ import annotations

from collections.abc import MutableMapping

from flexcache_rs._absent import hide, present_names, show_assignable
from flexcache_rs._arguments import check_callable, described
from flexcache_rs._bases import classes_beside
from flexcache_rs._core import FlexCache, _show_once
from flexcache_rs._suggest import _VAR_KEYWORD, _VAR_POSITIONAL, suggesting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ABSENT: Any = object()

# The methods as plain functions, so that overrides in a user's subclass do not affect them.
_get, _peek, _put = FlexCache.get, FlexCache.peek, FlexCache.put
_delete, _pop, _popitem = FlexCache.delete, FlexCache.pop, FlexCache.popitem
_contains, _length = FlexCache.__contains__, FlexCache.__len__
_get_item, _set_item, _delete_item = FlexCache.__getitem__, FlexCache.__setitem__, FlexCache.__delitem__
_limit_of = FlexCache.max_items.__get__

# Faster than `Cache.__setattr__`, for attributes of this package. Where there are several, the dict is faster.
_assign = object.__setattr__

_LEAST_UNLIMITED = 2**63
"""A size from which on a cache has no limit."""


_REASSIGNED = frozenset({"popitem", "expire"})
"""The methods that others call, and that a program may assign to one cache, for example to be told of evictions."""


class _Sizes(dict):
    """The size of each value by its key, and the sum of the sizes.

    The sum is no attribute of the cache, because `Cache.__setattr__` would make each assignment slower.
    """

    # There is no `__init__`, because it would make creating a cache slower.
    __slots__ = ("total",)
    total: float

    def __reduce__(self) -> Any:
        return _sizes, (dict(self), self.total)


def _sizes(sizes: dict[Any, float], total: float) -> _Sizes:
    made = _Sizes(sizes)
    made.total = total
    return made


def _shown_entries(cache: FlexCache) -> str:
    return repr(dict(FlexCache.entries(cache)))


class _Allocated(FlexCache):
    """Creates the native part of a cache.

    `inspect.signature` shows the first `__new__` or `__init__` that it finds, which is therefore `Cache.__init__`.
    """

    _cachetools_policy = "listed"
    # Whether `get`, `pop` and `setdefault` call in Python what a user's subclass overrides.
    _cachetools_composes = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Create the cache. `__init__` sets its size."""
        # In most cases the size is known here, so that memory can be allocated for it.
        size = args[0] if args else kwargs.get("maxsize")
        most = size if type(size) is int and 0 < size < _LEAST_UNLIMITED else 0
        cache = FlexCache.__new__(cls, cls._cachetools_policy, max_items=most)
        if cls._cachetools_composes:
            FlexCache._compose_in_python(cache, True)
        return cache


@suggesting
class Cache(_Allocated):
    """A mapping of limited size, which is the base of the others. If it is full, the oldest entry is evicted.

    Args:
        maxsize: The largest size of the cache. `math.inf` means no limit, and 0 stores nothing.
        getsizeof: A function of a value that returns its size. Without it, each value has size 1.

    Raises:
        ValueError: If `maxsize` is negative. From `cache[key] = value`, if the value is larger than the cache.

    With `getsizeof`, in a subclass that overrides calls, and in caches with times, several threads need a lock.

    >>> from flexcache_rs.cachetools import LRUCache
    >>> cache = LRUCache(maxsize=2)
    >>> cache["a"], cache["b"] = 1, 2
    >>> cache["a"]
    1
    >>> cache["c"] = 3
    >>> cache
    LRUCache({'a': 1, 'c': 3}, maxsize=2, currsize=2)
    """

    _cachetools_evicts_in_python = False
    # Whether a user's subclass overrides operators.
    _cachetools_overrides = False
    # None before the first call of `__init__`.
    __flexcache_limit: Any = None
    __sizes: _Sizes | None

    def __init__(self, maxsize: float, getsizeof: Callable[[Any], float] | None = None) -> None:
        try:
            is_size = maxsize >= 0
        except TypeError:
            raise TypeError(f"maxsize must be a number, not {described(maxsize)}") from None
        if not is_size:
            raise ValueError(f"maxsize must be non-negative, not {maxsize!r}")
        if getsizeof is not None:
            check_callable("getsizeof", getsizeof)
            self.getsizeof = getsizeof
        if self.__flexcache_limit is not None:
            # Called again, for example because `__new__` of a subclass returns the same object again.
            FlexCache.clear(self)
        sizes = None
        if self.getsizeof is not Cache.getsizeof:
            sizes = _Sizes()
            sizes.total = 0
        attributes = self.__dict__
        attributes["_Cache__sizes"], attributes["_Cache__flexcache_limit"] = sizes, maxsize
        self._cachetools_set_limit()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if _is_ours(cls):
            return
        show_assignable(cls)
        base, overridden = _overridden(cls, (*_REPLACED, "__contains__", "__iter__", "popitem"))
        # `popitem` of `Cache` itself calls more of the others than that of the caches which derive from it.
        if overridden & ({"__delitem__", "popitem"} | ({"__getitem__", "__iter__"} if base is Cache else set())):
            cls._cachetools_evicts_in_python = True
        if overridden & {*_REPLACED, "__contains__"}:
            cls._cachetools_composes = cls._cachetools_overrides = True
            _add_bases(cls, {name for name in overridden if _takes_more(getattr(cls, name), name)})
        elif not set(_COMPOSED.values()).isdisjoint(cls.__mro__):
            _add_bases(cls, set())

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _REASSIGNED or self.__flexcache_limit is None:
            super().__setattr__(name, value)
            return
        # First, so that the method is called also if a signal interrupts here.
        self._cachetools_call_assigned()
        try:
            super().__setattr__(name, value)
        finally:
            self._cachetools_set_limit()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name in _REASSIGNED and self.__flexcache_limit is not None:
            self._cachetools_set_limit()

    def _cachetools_call_assigned(self) -> None:
        """Call the methods of this object, which may have been assigned to it."""
        FlexCache._choose_in_python(self, True)

    def _cachetools_set_limit(self) -> None:
        """Let the native code store entries and enforce the limit, or Python code if necessary."""
        size = self.__flexcache_limit
        natively = self.__sizes is None and not self._cachetools_evicts_in_python
        natively = natively and isinstance(size, (int, float)) and size >= 1
        # If there are already more entries, they stay until another one is stored.
        natively = natively and _length(self) <= size
        FlexCache._store_in_python(self, not natively)
        # The native code then calls `popitem` of this object until there is room.
        FlexCache._choose_in_python(self, self._cachetools_policy == "listed-random" or "popitem" in self.__dict__)
        limit = int(size) if natively and size < _LEAST_UNLIMITED else 0
        if _limit_of(self) != limit:
            FlexCache.resize(self, max_items=limit)

    def _cachetools_store_item(self, key: Any, value: Any) -> None:
        """Store an entry. Calls `popitem` first until the entry fits."""
        sizes, most = self.__sizes, self.__flexcache_limit
        if sizes is None:
            if most < 1:
                raise ValueError("value too large")
            if not _contains(self, key):
                while _length(self) + 1 > most:
                    self.popitem()
            _put(self, key, value)
            return
        size = self.getsizeof(value)
        if size > most:
            raise ValueError("value too large")
        if size < 0:
            raise ValueError("value size must be non-negative")
        grown = sizes.total + size - sizes.get(key, 0)
        if grown > most:
            if len(sizes) != _length(self):
                self._cachetools_count_sizes()
            while sizes.total + size - sizes.get(key, 0) > most:
                self.popitem()
            grown = sizes.total + size - sizes.get(key, 0)
        _put(self, key, value)
        sizes.total = grown
        sizes[key] = size

    def _cachetools_remove_item(self, key: Any) -> None:
        """Remove an entry, and subtract its size from the total."""
        if not _delete(self, key):
            raise KeyError(key)
        sizes = self.__sizes
        if sizes is not None:
            sizes.total -= sizes.pop(key, 0)

    def _cachetools_get_through(self, key: Any, cache_getitem: Callable[[Any, Any], Any]) -> Any:
        """Return the value of a key, which another function looks up."""
        return cache_getitem(self, key)

    def _cachetools_set_through(self, key: Any, value: Any, cache_setitem: Callable[[Any, Any, Any], Any]) -> None:
        """Let another function store an entry."""
        cache_setitem(self, key, value)

    def _cachetools_delete_through(self, key: Any, cache_delitem: Callable[[Any, Any], Any]) -> None:
        """Let another function remove an entry."""
        cache_delitem(self, key)

    def _cachetools_count_sizes(self) -> None:
        """Measure all values again, after a call was interrupted between storing an entry and recording its size."""
        measured = {key: self.getsizeof(value) for key, value in FlexCache.entries(self)}
        sizes = self.__sizes
        if sizes is not None:
            sizes.clear()
            sizes.update(measured)
            sizes.total = sum(measured.values())

    def __missing__(self, key: Any) -> Any:
        """Return the value of `cache[key]` for an absent key. A subclass may compute and store it."""
        raise KeyError(key)

    def __repr__(self) -> str:
        # A cache that contains itself is shown as "{...}", like a dict.
        entries = _show_once(self, _shown_entries)
        # As in cachetools, the size is not that of a subclass that overrides `currsize`.
        size = _length(self) if self.__sizes is None else self.__sizes.total
        return f"{type(self).__name__}({entries}, maxsize={self.__flexcache_limit!r}, currsize={size!r})"

    # The other classes have FlexCache's own, which counts as a use. Programs call this one to look at a value that
    # they do not use, as in `Cache.__getitem__(cache, key)`.
    __getitem__ = FlexCache._peek_item
    __dir__ = present_names
    __eq__ = MutableMapping.__eq__
    __hash__ = None
    __reversed__ = None
    keys = MutableMapping.keys
    values = MutableMapping.values
    items = MutableMapping.items
    update = MutableMapping.update

    # Iterates over a snapshot of the keys in order of insertion.
    __iter__ = FlexCache._iter_listed

    get = FlexCache._get_item_or

    def _cachetools_plain_get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401

    def pop(self, key: Any, default: Any = _ABSENT) -> Any:
        """Remove an entry and return its value, or the default if the key is absent."""
        if self._cachetools_composes:
            return self._cachetools_plain_pop(key, default)
        value = _pop(self, key, _ABSENT)
        if value is _ABSENT:
            if default is _ABSENT:
                raise KeyError(key)
            return default
        sizes = self.__sizes
        if sizes is not None:
            sizes.total -= sizes.pop(key, 0)
        return value

    def _cachetools_plain_pop(self, key: Any, default: Any = _ABSENT) -> Any:
        if key in self:
            value = self[key]
            del self[key]
            return value
        if default is _ABSENT:
            raise KeyError(key)
        return default

    setdefault = FlexCache._get_or_store

    def _cachetools_plain_setdefault(self, key: Any, default: Any = None) -> Any:
        if key in self:
            return self[key]
        self[key] = default
        return default

    def popitem(self) -> tuple[Any, Any]:
        """Remove and return the key and value that were stored first."""
        if self._cachetools_evicts_in_python or self._cachetools_policy != Cache._cachetools_policy:
            return MutableMapping.popitem(self)
        try:
            key, value = _popitem(self)
        except KeyError:
            raise KeyError from None
        sizes = self.__sizes
        if sizes is not None:
            sizes.total -= sizes.pop(key, 0)
        return key, value

    def clear(self) -> None:
        """Remove every entry."""
        FlexCache.clear(self)
        sizes = self.__sizes
        if sizes is not None:
            sizes.clear()
            sizes.total = 0

    @property
    def maxsize(self) -> float:
        """The largest size of the cache."""
        return self.__flexcache_limit

    @property
    def __maxsize(self) -> float:
        return self.__flexcache_limit

    @__maxsize.setter
    def __maxsize(self, maxsize: float) -> None:
        # cachetools has no call that changes the size, so programs assign to `_Cache__maxsize`.
        _assign(self, "_Cache__flexcache_limit", maxsize)
        self._cachetools_set_limit()

    @property
    def currsize(self) -> float:
        """The sum of the sizes of all values."""
        return _length(self) if self.__sizes is None else self.__sizes.total

    @staticmethod
    def getsizeof(value: Any) -> float:  # noqa: ARG004
        """Return the size of a value: 1."""
        return 1

    def _cachetools_state(self) -> tuple[dict[str, Any], list[tuple[Any, Any]], list[tuple[Any, int]]]:
        attributes = dict(self.__dict__)
        if self.__sizes is not None:
            attributes["_Cache__sizes"] = _sizes(self.__sizes, self.__sizes.total)
        # Through an iterator, because list() would call `__len__`, which a subclass may override.
        return attributes, list(iter(FlexCache.entries(self))), FlexCache._next_victims(self)

    def __copy__(self) -> Any:
        # A shallow copy: attributes are shared, but the entries of the cache are its own.
        copy = Cache.__new__(type(self), self.__flexcache_limit)
        Cache.__setstate__(copy, self._cachetools_state())
        return copy

    def __reduce__(self) -> Any:
        class_, state = type(self), self._cachetools_state()
        getstate, setstate = getattr(class_, "__getstate__", None), class_.__setstate__
        base = _base_of(class_)
        if getstate is getattr(base, "__getstate__", None) and setstate is base.__setstate__:
            return _made_again, (class_, self.__flexcache_limit), state
        # The subclass decides about its attributes, for example to leave out a lock. Entries are no attributes here.
        attributes, *entries = state
        ours = {name: value for name, value in attributes.items() if name.startswith(_OWN_ATTRIBUTES)}
        kept = attributes if getstate is getattr(base, "__getstate__", None) else self.__getstate__()
        return _made_again, (class_, self.__flexcache_limit, (ours, *entries)), kept

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return self.__reduce__()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            # What a subclass keeps of its attributes. The entries are already there.
            self.__dict__.update(state)
            if self.__flexcache_limit is not None:
                # A method that is called by others may be among them.
                self._cachetools_set_limit()
            return
        attributes, entries, victims = state
        self.__dict__.update(attributes)
        FlexCache.resize(self, max_items=0)
        FlexCache.set_many(self, entries)
        for key, uses in victims:
            FlexCache._restore_use(self, key, uses)
        self._cachetools_set_limit()

    def __or__(self, _other: object) -> Any:
        # FlexCache's operator would return a copy without limits. cachetools has neither `|` nor `|=`.
        return NotImplemented

    __ror__ = __ior__ = __or__


# Hide methods that cachetools does not have. They would bypass the sizes and times that Python code keeps.
hide(Cache, ("put", "set", "add", "touch", "ttl", "tags", "delete", "resize", "copy", "close", "aclose", "scan"))
hide(Cache, ("get_or_set", "aget_or_set", "set_many", "get_many", "delete_many", "evict_tag", "memoize", "listen"))
hide(Cache, ("unlisten", "entries", "peek", "bytes", "stats", "reset_stats", "max_items", "max_bytes"))
hide(Cache, ("eviction_policy", "name", "store", "describe"))
# Hide private names of FlexCache, so that a subclass and its further base classes may have them.
hide(Cache, [name for name in vars(FlexCache) if name.startswith("_") and not name.startswith("__")])


def _is_ours(one: type) -> bool:
    """Whether a class is a cache of this package."""
    return issubclass(one, Cache) and one.__module__.startswith(__package__ or "")


def _base_of(cls: type) -> type:
    """Return the class of this package that a user's class derives from, or the class itself if it is one."""
    return next(one for one in cls.__mro__ if _is_ours(one))


def _overridden(cls: type, names: tuple[str, ...]) -> tuple[type, set[str]]:
    """Return the class of this package that a user's class derives from, and the methods that the user overrides."""
    base = _base_of(cls)
    return base, {name for name in names if getattr(cls, name) not in (getattr(base, name), _REPLACED.get(name))}


# What programs that override a method pass on.
_peek_item = Cache.__getitem__


class _Reads:
    __slots__ = ()

    def __getitem__(self, key: Any, cache_getitem: Callable[[Any, Any], Any] = _peek_item) -> Any:
        if cache_getitem is _peek_item:
            return super().__getitem__(key)
        return self._cachetools_get_through(key, cache_getitem)


class _Writes:
    __slots__ = ()

    def __setitem__(self, key: Any, value: Any, cache_setitem: Callable[[Any, Any, Any], Any] = _set_item) -> None:
        if cache_setitem is _set_item:
            super().__setitem__(key, value)
        else:
            self._cachetools_set_through(key, value, cache_setitem)


class _Deletions:
    __slots__ = ()

    def __delitem__(self, key: Any, cache_delitem: Callable[[Any, Any], Any] = _delete_item) -> None:
        if cache_delitem is _delete_item:
            super().__delitem__(key)
        else:
            self._cachetools_delete_through(key, cache_delitem)


_REPLACEABLE = {"__getitem__": _Reads, "__setitem__": _Writes, "__delitem__": _Deletions}
_REPLACED = {name: vars(kind)[name] for name, kind in _REPLACEABLE.items()}


def _takes_more(method: Any, name: str) -> bool:
    """Whether an overriding method takes or names an argument `cache_getitem` or the like, and so may pass it on.

    It may also name `Cache`, of whose methods one is passed by position.
    """
    if name not in _REPLACED:
        return False
    code, replaced = getattr(method, "__code__", None), _REPLACED[name].__code__
    argument = replaced.co_varnames[replaced.co_argcount - 1]
    return (
        code is None
        or code.co_argcount + code.co_kwonlyargcount >= replaced.co_argcount
        or bool(code.co_flags & (_VAR_POSITIONAL | _VAR_KEYWORD))
        or "Cache" in (*code.co_names, *code.co_freevars)
        or any(argument in names for names in code.co_consts if type(names) is tuple)
    )


_COMPOSED: dict[type, type] = {}


def _composed(base: type) -> type:
    """Return a class with the calls of a cache that are made of those which a subclass overrides.

    `Cache.get` finds them as well, but more slowly.
    """
    if base not in _COMPOSED:
        calls = {name: getattr(base, f"_cachetools_plain_{name}") for name in ("get", "pop", "setdefault")}
        _COMPOSED.setdefault(base, type("_Composed", (), {"__slots__": (), **calls}))
    return _COMPOSED[base]


def _add_bases(cls: type, replacing: set[str]) -> None:
    """Give a user's class the calls in Python that use what it overrides, and that `super()` finds in it.

    The methods named in `replacing` are those whose overrides may pass `cache_getitem` and so on to `super()`, as in
    `super().__setitem__(key, value, cache_setitem)`. FlexCache's methods do not take these arguments, and methods in
    Python would slow down all caches. So the methods that take them become further bases.

    Each class with which a user's class is combined also gets them. Otherwise, they would come before its own methods.
    """
    waiting = list(cls.__mro__)
    while waiting:
        one = waiting.pop()
        bases = one.__bases__
        place = next((place for place, base in enumerate(bases) if _is_ours(base)), None)
        if place is None or _is_ours(one):
            continue
        # Always in this order directly before the class of this package, so that every order of bases is consistent.
        wanted = [_REPLACEABLE[name] for name in _REPLACEABLE if name in replacing or _REPLACEABLE[name] in bases]
        added = [_composed(bases[place]), *wanted]
        if any(base not in bases for base in added):
            one.__bases__ = (*(base for base in bases[:place] if base not in added), *added, *bases[place:])
            waiting += classes_beside(one)


_OWN_ATTRIBUTES = ("_Cache__", "_RRCache__", "_TTLCache__", "_TLRUCache__", "_cachetools_", "getsizeof")
"""How the names of the attributes begin that the classes of this package set."""


def _made_again(class_: type[Cache], maxsize: float, state: Any = None) -> Cache:
    """Make a cache for unpickling, without calling `__new__` and `__init__` of a subclass."""
    cache = Cache.__new__(class_, maxsize)
    if state is not None:
        Cache.__setstate__(cache, state)
    return cache


MutableMapping.register(Cache)


class _Evicting(Cache):
    """The common base of the caches with an order of eviction of their own."""

    __getitem__ = _get_item

    def _cachetools_get_through(self, key: Any, cache_getitem: Callable[[Any, Any], Any]) -> Any:
        value = cache_getitem(self, key)
        # It is a use of the entry, also if the other function does not look into the cache.
        _get(self, key)
        return value

    def popitem(self) -> tuple[Any, Any]:
        """Remove and return the key and value that would be evicted next."""
        if self._cachetools_evicts_in_python:
            return self._cachetools_plain_popitem()
        try:
            key, value = _popitem(self)
        except KeyError:
            raise KeyError(f"{type(self).__name__} is empty") from None
        sizes = self._Cache__sizes
        if sizes is not None:
            sizes.total -= sizes.pop(key, 0)
        return key, value

    def _cachetools_plain_popitem(self) -> tuple[Any, Any]:
        try:
            key = FlexCache._next_victim(self)
        except KeyError:
            raise KeyError(f"{type(self).__name__} is empty") from None
        value = _peek(self, key)
        del self[key]
        return key, value


class FIFOCache(_Evicting):
    """A cache that evicts entries in the order in which they were stored. Storing another value renews an entry."""

    _cachetools_policy = "listed-fifo"


class LFUCache(_Evicting):
    """A cache that evicts the least often used entry.

    Among equals, it evicts the one that has been so for the longest time.
    """

    _cachetools_policy = "listed-lfu"


class LRUCache(_Evicting):
    """A cache that evicts the least recently used entry."""

    _cachetools_policy = "listed-lru"
