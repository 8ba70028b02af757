"""`Deque` and `Index`: a sequence and a mapping on disk, from which nothing is evicted."""

from __future__ import annotations

import contextlib
import copy
import math
import operator
from collections import OrderedDict
from collections.abc import (
    Callable,
    Collection,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    Sequence,
    ValuesView,
)

from flexcache_rs._arguments import described, each
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.checks import whole
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.disk.core import Cache, Disk
from flexcache_rs.disk.overridden import OF_MAPPING, follow_overrides

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any, Literal

    from typing_extensions import Self

    from flexcache_rs._core import DiskTransaction
    from flexcache_rs.disk.memoize import Memoizing

_EMPTY: Any = (None, ENOVAL)


def _checked(cache: Any) -> Any:
    """What a deque or a mapping lies in.

    Raises:
        TypeError: It is no cache with transactions.
    """
    if not hasattr(cache, "transact"):
        raise TypeError(f"cache must be a Cache, not {described(cache)}")
    return cache


def _place_of(cache: Any) -> Any:
    """Return the directory, or the cache itself if a plain cache of its directory would not read its values."""
    if not isinstance(cache, Cache):
        return cache
    directory, _, disk, *options = Cache.__getstate__(cache)
    return cache if options or disk is not Disk else directory


def _length(maxlen: float | None) -> float:
    """How many a deque has at most; infinity, as None, is any number."""
    is_unlimited = maxlen is None or (isinstance(maxlen, float) and maxlen == math.inf)
    return math.inf if is_unlimited else whole("maxlen", maxlen, least=0)


@suggesting
class Deque(Sequence["Any"]):
    """A sequence with two ends, in a directory, for any number of threads and processes.

    It evicts nothing, and all calls wait for other writers. Access to the ends is fast. `deque[i]` walks from an end.

    Args:
        iterable: The initial values.
        directory: The directory, which is created if it does not exist. None means a new temporary directory, which
            is not removed.
        maxlen: The largest number of values. Further values remove values from the other end. None means no limit.

    >>> deque = Deque("abc", maxlen=3)
    >>> deque.append("d")
    >>> deque.popleft(), list(deque)
    ('b', ['c', 'd'])
    """

    def __init__(
        self,
        iterable: Iterable[Any] = (),
        directory: str | os.PathLike[str] | None = None,
        maxlen: float | None = None,
    ) -> None:
        self._maxlen = _length(maxlen)
        self._cache = Cache(directory, eviction_policy="none")
        self._extend(iterable)

    @classmethod
    def fromcache(cls, cache: Cache, iterable: Iterable[Any] = (), maxlen: float | None = None) -> Self:
        """Return a deque over a cache. The policy of the cache should be "none".

        >>> Deque.fromcache(Cache(eviction_policy="none"), "ab")[1]
        'b'
        """
        self = cls.__new__(cls)
        self._cache = _checked(cache)
        self._maxlen = _length(maxlen)
        self._extend(iterable)
        return self

    @property
    def cache(self) -> Cache:
        """The cache that stores it."""
        return self._cache

    @property
    def directory(self) -> str:
        """The directory."""
        return self._cache.directory

    @property
    def maxlen(self) -> float:
        """The largest number of values. Infinity means no limit. Setting it removes values from the left."""
        return self._maxlen

    @maxlen.setter
    def maxlen(self, value: float | None) -> None:
        before, length = self._maxlen, _length(value)
        try:
            with self._cache.transact(retry=True):
                with contextlib.suppress(IndexError):
                    while len(self._cache) > length:
                        self._popleft()
                # Before other threads can append again.
                self._maxlen = length
        except BaseException:
            self._maxlen = before
            raise

    def _flexcache_key_at(self, index: int) -> Iterator[Any]:
        """Return the key at an index. None if another process has removed the value meanwhile."""
        length = len(self._cache)
        if not -length <= index < length:
            raise IndexError("deque index out of range")
        steps = index if index >= 0 else -index - 1
        for place, key in enumerate(self._cache.iterkeys(reverse=index < 0)):
            if place >= steps:
                yield key

    def _flexcache_at(self, index: int, call: Callable[[Any], Any]) -> Any:
        for key in self._flexcache_key_at(operator.index(index)):
            with contextlib.suppress(KeyError):
                return call(key)
        raise IndexError("deque index out of range")

    def __getitem__(self, index: Any) -> Any:
        return self._flexcache_at(index, self._cache.__getitem__)

    def __setitem__(self, index: int, value: Any) -> None:
        self._flexcache_at(index, lambda key: self._cache.__setitem__(key, value))

    def __delitem__(self, index: int) -> None:
        self._flexcache_at(index, self._cache.__delitem__)

    def __len__(self) -> int:
        return len(self._cache)

    def _flexcache_values(self, reverse: bool) -> Iterator[Any]:
        for key in self._cache.iterkeys(reverse=reverse):
            with contextlib.suppress(KeyError):
                yield self._cache[key]

    def __iter__(self) -> Iterator[Any]:
        return self._flexcache_values(reverse=False)

    def __reversed__(self) -> Iterator[Any]:
        return self._flexcache_values(reverse=True)

    def _flexcache_compare(self, other: object, compare: Callable[[Any, Any], bool]) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented  # type: ignore[no-any-return]
        sequence: Sequence[Any] = other  # pyright: ignore[reportUnknownVariableType]
        alike = len(self) == len(sequence)
        if not alike and compare in (operator.eq, operator.ne):
            return compare is operator.ne
        for mine, theirs in zip(self, sequence, strict=False):
            if mine != theirs:
                return compare(mine, theirs)
        return compare(len(self), len(sequence))

    def __eq__(self, other: object) -> bool:
        return self._flexcache_compare(other, operator.eq)

    def __ne__(self, other: object) -> bool:
        return self._flexcache_compare(other, operator.ne)

    def __lt__(self, other: object) -> bool:
        return self._flexcache_compare(other, operator.lt)

    def __le__(self, other: object) -> bool:
        return self._flexcache_compare(other, operator.le)

    def __gt__(self, other: object) -> bool:
        return self._flexcache_compare(other, operator.gt)

    def __ge__(self, other: object) -> bool:
        return self._flexcache_compare(other, operator.ge)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(directory={self.directory!r})"

    def __getstate__(self) -> tuple[str | Cache, float]:
        return _place_of(self._cache), self.maxlen

    def __setstate__(self, state: tuple[str | Cache, float]) -> None:
        place, maxlen = state
        if isinstance(place, str):
            self.__init__(directory=place, maxlen=maxlen)  # type: ignore[misc]
        else:
            self._cache, self._maxlen = place, maxlen

    def __iadd__(self, iterable: Iterable[Any]) -> Self:
        self._extend(iterable)
        return self

    def append(self, value: Any) -> None:
        """Add a value at the right end. Beyond `maxlen` the leftmost one is removed.

        >>> deque = Deque()
        >>> deque.append("a")
        >>> deque.appendleft("b")
        >>> list(deque)
        ['b', 'a']
        """
        with self._cache.transact(retry=True):
            self._cache.push(value, retry=True)
            if len(self._cache) > self._maxlen:
                self._popleft()

    def appendleft(self, value: Any) -> None:
        """Add a value at the left end. Beyond `maxlen` the rightmost one is removed."""
        with self._cache.transact(retry=True):
            self._cache.push(value, side="front", retry=True)
            if len(self._cache) > self._maxlen:
                self._pop()

    def extend(self, iterable: Iterable[Any]) -> None:
        """Add each value at the right end."""
        for value in each("iterable", iterable, "an iterable"):
            self._append(value)

    def extendleft(self, iterable: Iterable[Any]) -> None:
        """Add each value at the left end. The values are then in reverse order."""
        for value in each("iterable", iterable, "an iterable"):
            self._appendleft(value)

    def clear(self) -> None:
        """Remove everything."""
        self._cache.clear(retry=True)

    # What the other calls are made of, whatever a subclass overrides.
    _append, _appendleft, _extend, _clear = append, appendleft, extend, clear

    def copy(self) -> Self:
        """Return another object over the same directory."""
        place = _place_of(self._cache)
        if isinstance(place, str):
            return type(self)(directory=place, maxlen=self.maxlen)
        return self.fromcache(copy.copy(place), maxlen=self.maxlen)

    __copy__ = copy

    def count(self, value: Any) -> int:
        """Return how many values are equal to a value.

        >>> Deque("banana").count("a")
        3
        """
        return sum(1 for item in self if item == value)

    def _flexcache_end(self, call: Callable[..., Any], side: str, message: str) -> Any:
        _, value = call(default=_EMPTY, side=side, retry=True)
        if value is ENOVAL:
            raise IndexError(message)
        return value

    def _pop(self) -> Any:
        return self._flexcache_end(self._cache.pull, "back", "pop from an empty deque")

    def _popleft(self) -> Any:
        return self._flexcache_end(self._cache.pull, "front", "pop from an empty deque")

    def pop(self) -> Any:
        """Remove and return the value at the right end.

        Raises:
            IndexError: The deque is empty.
        """
        return self._pop()

    def popleft(self) -> Any:
        """Remove and return the value at the left end.

        Raises:
            IndexError: The deque is empty.
        """
        return self._popleft()

    def peek(self) -> Any:
        """Return the value at the right end.

        Raises:
            IndexError: The deque is empty.
        """
        return self._flexcache_end(self._cache.peek, "back", "peek from an empty deque")

    def peekleft(self) -> Any:
        """Return the value at the left end.

        Raises:
            IndexError: The deque is empty.
        """
        return self._flexcache_end(self._cache.peek, "front", "peek from an empty deque")

    def remove(self, value: Any) -> None:
        """Remove the first value that is equal to a value.

        Raises:
            ValueError: There is no such value.
        """
        for key in self._cache.iterkeys():
            with contextlib.suppress(KeyError):
                if self._cache[key] == value:
                    del self._cache[key]
                    return
        raise ValueError("deque.remove(value): value not in deque")

    def reverse(self) -> None:
        """Reverse the order."""
        with self._cache.transact(retry=True):
            values = list(reversed(self))
            self._clear()
            self._extend(values)

    def rotate(self, steps: Any = 1) -> None:
        """Move this number of values from the right end to the left end.

        A negative number moves them in the other direction.

        Raises:
            TypeError: `steps` is no int.

        >>> deque = Deque("abcd")
        >>> deque.rotate()
        >>> list(deque)
        ['d', 'a', 'b', 'c']
        """
        if not isinstance(steps, int):
            raise TypeError(f"steps must be an int, not {described(steps)}")
        take, give = (self._pop, self._appendleft) if steps >= 0 else (self._popleft, self._append)
        # In one transaction, so that no value is lost between the two ends, and others see all of them.
        with self._cache.transact(retry=True):
            length = len(self._cache)
            # Values whose files are gone are skipped, so there may be fewer.
            with contextlib.suppress(IndexError):
                for _ in range(abs(steps) % length if length else 0):
                    give(take())

    def transact(self) -> DiskTransaction:
        """Begin a transaction of this thread. See `Cache.transact`."""
        return self._cache.transact(retry=True)

    def close(self) -> None:
        """Close the connections of this process. The next call opens them again. The entries stay."""
        self._cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


@suggesting
class StoredMapping(MutableMapping["Any", "Any"]):
    """The common base of the mappings on disk."""

    _cache: Any

    _flexcache_update = MutableMapping["Any", "Any"].update

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        follow_overrides(cls, StoredMapping, OF_MAPPING)

    @property
    def directory(self) -> str:
        """The directory."""
        return str(self._cache.directory)

    def __getitem__(self, key: Any) -> Any:
        return self._cache[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._cache[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._cache[key]

    def __contains__(self, key: object) -> bool:
        return key in self._cache

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cache)

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._cache)  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self._cache)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key. If there is none, store the default first."""
        found = self._cache.get(key, default=ENOVAL, retry=True)
        if found is ENOVAL:
            # Pickle the default without a lock.
            self._cache.add(key, default, retry=True)
            found = self._cache.get(key, default=ENOVAL, retry=True)
        if found is not ENOVAL:
            return found
        # `add` does not replace a value that cannot be read and therefore counts as missing.
        with self._cache.transact(retry=True):
            found = self._cache.get(key, default=ENOVAL, retry=True)
            if found is ENOVAL:
                self._cache.set(key, default, retry=True)
                found = self._cache.get(key, default=default, retry=True)
            return found

    def pop(self, key: Any, default: Any = ENOVAL) -> Any:
        """Remove a key and return its value.

        Raises:
            KeyError: The key has no value, and no default was given.

        >>> index = Index(a=1)
        >>> index.pop("a"), index.pop("a", "gone")
        (1, 'gone')
        """
        value = self._cache.pop(key, default=default, retry=True)
        if value is ENOVAL:
            raise KeyError(key)
        return value

    def clear(self) -> None:
        """Remove everything."""
        self._cache.clear(retry=True)

    def keys(self) -> KeysView[Any]:
        """Return a live view of the keys."""
        return KeysView(self)

    def values(self) -> ValuesView[Any]:
        """Return a live view of the values."""
        return ValuesView(self)

    def items(self) -> ItemsView[Any, Any]:
        """Return a live view of the items."""
        return ItemsView(self)

    def _flexcache_has_items_of(self, other: Mapping[Any, Any]) -> bool:
        return len(self) == len(other) and all(self[key] == other.get(key, ENOVAL) for key in self)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def memoize(self, name: str | None = None, typed: bool = False, ignore: Collection[int | str] = ()) -> Memoizing:
        """The same as `Cache.memoize`, but results never expire."""
        return self._cache.memoize(name, typed, ignore=ignore)  # type: ignore[no-any-return]

    def transact(self) -> DiskTransaction:
        """Begin a transaction of this thread. See `Cache.transact`."""
        begun: DiskTransaction = self._cache.transact(retry=True)
        return begun

    def close(self) -> None:
        """Close the connections of this process. The next call opens them again. The entries stay."""
        self._cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


@suggesting
class Index(StoredMapping):
    """A mapping in a directory, for any number of threads and processes, in the order of insertion.

    It evicts nothing, and all calls wait for other writers.

    Args:
        *args: A directory (str or bytes; None means a new temporary directory, which is not removed), then the
            arguments of `dict`.
        **kwargs: Items.

    >>> index = Index({"a": 1}, b=2)
    >>> index["c"] = 3
    >>> list(index.items())
    [('a', 1), ('b', 2), ('c', 3)]
    """

    _cache: Cache

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        directory: str | None = None
        if args and (args[0] is None or isinstance(args[0], str | bytes)):
            first, *rest = args
            directory = first.decode() if isinstance(first, bytes) else first
            args = tuple(rest)
        self._cache = Cache(directory, eviction_policy="none")
        self._flexcache_update(*args, **kwargs)

    @classmethod
    def fromcache(cls, cache: Cache, *args: Any, **kwargs: Any) -> Self:
        """Return an index over a cache. The policy of the cache should be "none".

        >>> Index.fromcache(Cache(eviction_policy="none"), a=1)["a"]
        1
        """
        self = cls.__new__(cls)
        self._cache = _checked(cache)
        self._flexcache_update(*args, **kwargs)
        return self

    @property
    def cache(self) -> Cache:
        """The cache that stores it."""
        return self._cache

    def peekitem(self, last: bool = True) -> tuple[Any, Any]:
        """Return the item that was stored last, or first.

        Raises:
            KeyError: The mapping is empty.
        """
        item: tuple[Any, Any] = self._cache.peekitem(last, retry=True)
        return item

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        """Remove and return the item that was stored last, or first.

        Raises:
            KeyError: The mapping is empty.
        """
        with self._cache.transact(retry=True):
            key, value = self.peekitem(last)
            del self._cache[key]
        return key, value

    def push(self, value: Any, prefix: str | None = None, side: Literal["front", "back"] = "back") -> Any:
        """Add a value at an end of a queue, see `Cache.push`. Returns its key."""
        return self._cache.push(value, prefix, side, retry=True)

    def pull(
        self, prefix: str | None = None, default: Any = (None, None), side: Literal["front", "back"] = "front"
    ) -> Any:
        """Remove and return a key and value of a queue, see `Cache.pull`."""
        return self._cache.pull(prefix, default, side, retry=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        mapping: Mapping[Any, Any] = other  # pyright: ignore[reportUnknownVariableType]
        if isinstance(mapping, Index | OrderedDict):
            # Both mappings are ordered, so the order matters.
            return len(self) == len(mapping) and list(self.items()) == list(mapping.items())
        return self._flexcache_has_items_of(mapping)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.directory!r})"

    def __getstate__(self) -> Any:
        return _place_of(self._cache)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, str):
            self.__init__(state)  # type: ignore[misc]
        else:
            self._cache = state
