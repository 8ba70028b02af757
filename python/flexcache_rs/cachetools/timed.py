"""cachetools' classes with times on FlexCache: `TTLCache` and `TLRUCache`.

Values lie in the FlexCache, in order of their use; the times at which they expire lie beside it, by key. A time is
whatever the timer returns and can be compared. An entry is there while it has a time. The time is noted after the value
was stored, and is removed before the value. So a call that is interrupted leaves at most a value that nobody
sees, until it is overwritten or evicted.
"""

# mypy: ignore-errors

from __future__ import annotations

import heapq
import time
from collections import OrderedDict

from flexcache_rs._arguments import check_callable, described
from flexcache_rs._core import FlexCache, StandingTime
from flexcache_rs._suggest import suggesting
from flexcache_rs.cachetools.caches import (
    _ABSENT,
    Cache,
    _assign,
    _Evicting,
    _get,
    _is_ours,
    _length,
    _overridden,
    _peek,
    _popitem,
    _put,
    _set_item,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


_ALWAYS: Any = ...
"""The timer has gone back, so every call looks at the first entry. Copies and pickles are the same object."""


class _Timer(StandingTime):
    """The timer of a cache. A call returns the time. Inside a `with` block the time stands still."""

    def __call__(self) -> Any:
        return self._time()

    def __copy__(self) -> _Timer:
        return _Timer(self._clock)

    def __deepcopy__(self, memo: Any) -> _Timer:
        from copy import deepcopy  # Not imported before it is used.

        return _Timer(deepcopy(self._clock, memo))

    def __reduce__(self) -> Any:
        return _Timer, (self._clock,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)


@suggesting
class _TimedCache(_Evicting):
    """The common base of `TTLCache` and `TLRUCache`."""

    _cachetools_policy = "listed-lru"
    _cachetools_evicts_in_python = _cachetools_composes = True
    # Whether no user's subclass overrides `__delitem__`, `popitem` or `expire`.
    _cachetools_is_plain = True

    def __init__(
        self, maxsize: float, timer: Callable[[], Any], getsizeof: Callable[[Any], float] | None = None
    ) -> None:
        check_callable("timer", timer)
        Cache.__init__(self, maxsize, getsizeof)
        _assign(self, "_cachetools_timer", _Timer(timer))

    def _cachetools_set_limit(self) -> None:
        Cache._cachetools_set_limit(self)
        # Whether the fast path applies: all entries have size 1, there is room for one, and no method is overridden.
        attributes = self.__dict__
        attributes["_cachetools_simple"] = (
            self._cachetools_is_plain
            and self.getsizeof is Cache.getsizeof
            and self._Cache__flexcache_limit >= 1
            and "popitem" not in attributes
            and "expire" not in attributes
        )

    def _cachetools_call_assigned(self) -> None:
        Cache._cachetools_call_assigned(self)
        _assign(self, "_cachetools_simple", False)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The classes of this package set these attributes in their bodies.
        if not _is_ours(cls):
            cls._cachetools_is_plain = not _overridden(cls, ("__delitem__", "popitem", "expire"))[1]

    @property
    def timer(self) -> Any:
        """The timer of the cache."""
        return self._cachetools_timer

    def expire(self, time: Any = None) -> list[tuple[Any, Any]]:
        """Remove expired entries."""
        raise NotImplementedError

    def __repr__(self) -> str:
        with self._cachetools_timer as now:
            self.expire(now)
            return Cache.__repr__(self)

    @property
    def currsize(self) -> float:
        """The sum of the sizes of all values that have not expired."""
        with self._cachetools_timer as now:
            self.expire(now)
            return Cache.currsize.fget(self)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key, or the default if it is absent or has expired."""
        with self._cachetools_timer:
            return self[key] if key in self else default  # noqa: SIM401

    def pop(self, key: Any, default: Any = _ABSENT) -> Any:
        """Remove an entry and return its value, or the default if the key is absent or has expired."""
        with self._cachetools_timer:
            return Cache._cachetools_plain_pop(self, key, default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key. If it is absent or has expired, store the default."""
        with self._cachetools_timer:
            return Cache._cachetools_plain_setdefault(self, key, default)

    _cachetools_plain_get, _cachetools_plain_pop, _cachetools_plain_setdefault = get, pop, setdefault

    def _cachetools_get_through(self, key: Any, cache_getitem: Callable[[Any, Any], Any]) -> Any:
        # It is a use of the entry, also if the other function does not look into the cache.
        if _get(self, key, _ABSENT) is not _ABSENT and not self._cachetools_is_live(key):
            # An expired entry is still in the FlexCache.
            return self.__missing__(key)
        return cache_getitem(self, key)

    def _cachetools_delete_through(self, key: Any, cache_delitem: Callable[[Any, Any], Any]) -> None:
        live = self._cachetools_is_live(key)
        cache_delitem(self, key)
        self._cachetools_forget_end(key)
        if not live:
            raise KeyError(key)

    def _cachetools_remove_expired(self, key: Any) -> tuple[Any, Any] | None:
        """Remove an expired entry. Returns its key and value."""
        value = _peek(self, key, _ABSENT)
        if value is _ABSENT:
            return None
        Cache._cachetools_remove_item(self, key)
        return key, value


class _Ends(OrderedDict):
    """The time of expiry of each key, in the order in which the values were stored.

    `next` is a time that is not later than the earliest of them, or `_ALWAYS`, or None if there are none. `last` is the
    time that was added last. It is set before `next`. Neither is an attribute of the cache, because `Cache.__setattr__`
    would make each assignment slower.
    """

    __slots__ = ("last", "next")
    last: Any
    next: Any

    def __reduce__(self) -> Any:
        return _ends, (list(self.items()), self.next, self.last)


def _ends(ends: Any, following: Any, last: Any) -> _Ends:
    made = _Ends(ends)
    made.next, made.last = following, last
    return made


class _NumberedEnds(dict):
    """The time of expiry of each key with a number that tells equal times apart, and the key.

    `number` is the last number. It is no attribute of the cache for the same reason.
    """

    __slots__ = ("number",)
    number: int

    def __reduce__(self) -> Any:
        return _numbered_ends, (dict(self), self.number)


def _numbered_ends(ends: Any, number: int) -> _NumberedEnds:
    made = _NumberedEnds(ends)
    made.number = number
    return made


@suggesting
class TTLCache(_TimedCache):
    """A cache whose entries have a time to live. It evicts the least recently used entry.

    Args:
        maxsize: As for `Cache`.
        ttl: The time to live of an entry, which is added to the time of the timer.
        timer: A function without arguments that returns the time. The default is `time.monotonic`.
        getsizeof: As for `Cache`.

    >>> from flexcache_rs.cachetools import TTLCache
    >>> cache = TTLCache(maxsize=10, ttl=60)
    >>> cache["a"] = 1
    >>> "a" in cache, cache.ttl
    (True, 60)
    """

    class _Link:
        """An entry of a linked list in order of expiry, with cachetools' name.

        This cache has no such list. Programs use the class for lists of their own, MLflow for example.
        """

        __slots__ = ("expires", "key", "next", "prev")

        def __init__(self, key: Any = None, expires: Any = None) -> None:
            self.key, self.expires = key, expires

        def __reduce__(self) -> Any:
            return type(self), (self.key, self.expires)

        def insert(self, following: Any) -> None:
            """Insert this entry before another one."""
            self.next, self.prev = following, following.prev
            self.prev.next = following.prev = self

        def unlink(self) -> None:
            """Take this entry out of its list."""
            self.prev.next, self.next.prev = self.next, self.prev

    def __init__(
        self,
        maxsize: float,
        ttl: Any,
        timer: Callable[[], Any] = time.monotonic,
        getsizeof: Callable[[Any], float] | None = None,
    ) -> None:
        if timer is time.monotonic:
            try:
                0.0 + ttl
            except TypeError:
                raise TypeError(f"ttl must be a number of seconds, not {described(ttl)}") from None
        _TimedCache.__init__(self, maxsize, timer, getsizeof)
        # If the timer does not go back, the earliest is the first. As in cachetools, an entry does not expire before
        # those in front of it.
        ends = _Ends()
        ends.next = ends.last = None
        attributes = self.__dict__
        attributes["_TTLCache__ttl"], attributes["_TTLCache__ends"] = ttl, ends

    @property
    def ttl(self) -> Any:
        """The time to live of an entry."""
        return self.__ttl

    def __contains__(self, key: object) -> bool:
        end = self.__ends.get(key, _ABSENT)
        if end is _ABSENT:
            return False
        return self._cachetools_timer._time() < end

    _cachetools_is_live = __contains__

    def __len__(self) -> int:
        now, earliest = self._cachetools_timer._time(), self.__ends.next
        # A subclass may override `expire`, which cachetools calls.
        if not self._cachetools_simple or (earliest is not None and (earliest is _ALWAYS or not now < earliest)):
            self.expire(now)
        return _length(self)

    def _cachetools_forget_end(self, key: Any) -> None:
        del self.__ends[key]

    def __getitem__(self, key: Any) -> Any:
        end = self.__ends.get(key, _ABSENT)
        if end is not _ABSENT and self._cachetools_timer._time() < end:
            value = _get(self, key, _ABSENT)
            if value is not _ABSENT:
                return value
        return self.__missing__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key, or the default if it is absent or has expired."""
        if self._cachetools_overrides:
            return self._cachetools_plain_get(key, default)
        end = self.__ends.get(key, _ABSENT)
        if end is not _ABSENT and self._cachetools_timer._time() < end:
            return _get(self, key, default)
        return default

    def __setitem__(self, key: Any, value: Any) -> None:
        timer, ends = self._cachetools_timer, self.__ends
        if self._cachetools_simple:
            now = timer._time()
            end = now + self.__ttl
            earliest = ends.next
            if earliest is not None and (earliest is _ALWAYS or not now < earliest):
                self.expire(now)
            if ends.next is None:
                ends.last = ends.next = end
            elif end < ends.last:
                ends.next = _ALWAYS
            ends.last = end
            if key in ends:
                ends.move_to_end(key)
            elif len(ends) + 1 > self._Cache__flexcache_limit:
                self._cachetools_make_room()
            _put(self, key, value)
            ends[key] = end
        else:
            self._cachetools_set_through(key, value, Cache._cachetools_store_item)

    def _cachetools_set_through(self, key: Any, value: Any, cache_setitem: Callable[[Any, Any, Any], Any]) -> None:
        ends = self.__ends
        with self._cachetools_timer as now:
            end = now + self.__ttl
            self.expire(now)
            cache_setitem(self, key, value)
        # Set `next` first. If a signal interrupts here, the end must not be recorded without it.
        if ends.next is None:
            ends.last = ends.next = end
        elif end < ends.last:
            ends.next = _ALWAYS
        ends.last = end
        ends[key] = end
        ends.move_to_end(key)

    def _cachetools_make_room(self) -> None:
        """Evict until one more entry fits."""
        while _length(self) + 1 > self._Cache__flexcache_limit:
            victim, _ = _popitem(self)
            self.__ends.pop(victim, None)

    def __delitem__(self, key: Any) -> None:
        end = self.__ends.pop(key, _ABSENT)
        Cache._cachetools_remove_item(self, key)
        if end is _ABSENT or not self._cachetools_timer._time() < end:
            raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        # Iterate over a snapshot of the keys in order of insertion.
        timer, ends = self._cachetools_timer, self.__ends
        for key in FlexCache._listed_keys(self):
            end = ends.get(key, _ABSENT)
            if end is _ABSENT:
                continue
            with timer as now:
                if now < end:
                    yield key

    def expire(self, time: Any = None) -> list[tuple[Any, Any]]:
        """Remove the entries that have expired at a time or now, and return their keys and values."""
        if time is None:
            time = self._cachetools_timer()
        ends, expired = self.__ends, []
        earliest = ends.next
        if earliest is None or (earliest is not _ALWAYS and time < earliest):
            return expired
        while ends:
            key = next(iter(ends))
            end = ends[key]
            if time < end:
                if earliest is not _ALWAYS:
                    ends.next = end
                return expired
            del ends[key]
            entry = self._cachetools_remove_expired(key)
            if entry is not None:
                expired.append(entry)
        ends.next = None
        return expired

    def popitem(self) -> tuple[Any, Any]:
        """Remove and return the least recently used key that has not expired, and its value."""
        timer = self._cachetools_timer
        if not self._cachetools_simple:
            with timer as now:
                self.expire(now)
                return self._cachetools_plain_popitem()
        self.expire(timer._time())
        key, value = _Evicting.popitem(self)
        self.__ends.pop(key, None)
        return key, value

    def clear(self) -> None:
        """Remove every entry."""
        Cache.clear(self)
        self.__ends.clear()
        self.__ends.next = None

    def _cachetools_state(self) -> Any:
        attributes, entries, victims = Cache._cachetools_state(self)
        attributes["_cachetools_timer"] = self._cachetools_timer.__copy__()
        attributes["_TTLCache__ends"] = _ends(self.__ends, self.__ends.next, self.__ends.last)
        return attributes, entries, victims

    def __setstate__(self, state: Any) -> None:
        Cache.__setstate__(self, state)
        self.expire()


@suggesting
class TLRUCache(_TimedCache):
    """A cache in which each entry has its own time of expiry. It evicts the least recently used entry.

    Args:
        maxsize: As for `Cache`.
        ttu: A function of key, value and time that returns the time of expiry.
        timer: A function without arguments that returns the time. The default is `time.monotonic`.
        getsizeof: As for `Cache`.

    >>> from flexcache_rs.cachetools import TLRUCache
    >>> cache = TLRUCache(maxsize=10, ttu=lambda key, value, now: now + value)
    >>> cache["a"] = 60
    >>> cache["b"] = 0
    >>> list(cache)
    ['a']
    """

    def __init__(
        self,
        maxsize: float,
        ttu: Callable[[Any, Any, Any], Any],
        timer: Callable[[], Any] = time.monotonic,
        getsizeof: Callable[[Any], float] | None = None,
    ) -> None:
        check_callable("ttu", ttu)
        _TimedCache.__init__(self, maxsize, timer, getsizeof)
        ends = _NumberedEnds()
        ends.number = 0
        # The heap has the same tuples. It may also contain outdated ones, which are no longer in `ends`.
        attributes = self.__dict__
        attributes["_TLRUCache__ttu"], attributes["_TLRUCache__ends"], attributes["_TLRUCache__heap"] = ttu, ends, []

    @property
    def ttu(self) -> Callable[[Any, Any, Any], Any]:
        """The function that returns the time of expiry."""
        return self.__ttu

    def __contains__(self, key: object) -> bool:
        end = self.__ends.get(key)
        if end is None:
            return False
        return self._cachetools_timer._time() < end[0]

    _cachetools_is_live = __contains__

    def __len__(self) -> int:
        now, heap = self._cachetools_timer._time(), self.__heap
        if not self._cachetools_simple or (heap and not now < heap[0][0]):
            self.expire(now)
        return _length(self)

    def _cachetools_forget_end(self, key: Any) -> None:
        del self.__ends[key]

    def __getitem__(self, key: Any) -> Any:
        end = self.__ends.get(key)
        if end is not None and self._cachetools_timer._time() < end[0]:
            value = _get(self, key, _ABSENT)
            if value is not _ABSENT:
                return value
        return self.__missing__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key, or the default if it is absent or has expired."""
        if self._cachetools_overrides:
            return self._cachetools_plain_get(key, default)
        end = self.__ends.get(key)
        if end is not None and self._cachetools_timer._time() < end[0]:
            return _get(self, key, default)
        return default

    def __setitem__(self, key: Any, value: Any) -> None:
        self._cachetools_set_through(key, value, _set_item)

    def _cachetools_set_through(self, key: Any, value: Any, cache_setitem: Callable[[Any, Any, Any], Any]) -> None:
        timer, ends = self._cachetools_timer, self.__ends
        with timer as now:
            heap = self.__heap
            # A subclass may override `expire`, which cachetools calls for each write.
            if not self._cachetools_simple or (heap and (len(heap) > 2 * len(ends) + 8 or not now < heap[0][0])):
                self.expire(now)
            expires = self.__ttu(key, value, now)
            if not now < expires:
                # The new value has expired already, so remove the old one.
                # Test first: pop() of an empty dict does not hash the key, and so would not refuse unhashable keys.
                if key in ends:
                    del ends[key]
                    Cache._cachetools_remove_item(self, key)
                return
            if not self._cachetools_simple or cache_setitem is not _set_item:
                cache_setitem(self, key, value)
            else:
                if key not in ends and len(ends) + 1 > self._Cache__flexcache_limit:
                    self._cachetools_make_room()
                _put(self, key, value)
            ends.number += 1
            end = (expires, ends.number, key)
            ends[key] = end
            heapq.heappush(self.__heap, end)

    def _cachetools_make_room(self) -> None:
        """Evict until one more entry fits."""
        while _length(self) + 1 > self._Cache__flexcache_limit:
            victim, _ = _popitem(self)
            self.__ends.pop(victim, None)

    def __delitem__(self, key: Any) -> None:
        end = self.__ends.pop(key, None)
        Cache._cachetools_remove_item(self, key)
        if end is None or not self._cachetools_timer._time() < end[0]:
            raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        # Iterate over a snapshot of the keys in order of insertion.
        timer, ends = self._cachetools_timer, self.__ends
        for key in FlexCache._listed_keys(self):
            end = ends.get(key)
            if end is None:
                continue
            with timer as now:
                if now < end[0]:
                    yield key

    def expire(self, time: Any = None) -> list[tuple[Any, Any]]:
        """Remove the entries that have expired at a time or now, and return their keys and values."""
        if time is None:
            time = self._cachetools_timer()
        ends, heap, expired = self.__ends, self.__heap, []
        if len(heap) > 2 * len(ends) + 8:
            heap[:] = [end for end in heap if ends.get(end[2]) is end]
            heapq.heapify(heap)
        while heap and not time < heap[0][0]:
            end = heap[0]
            if ends.get(end[2]) is end:
                ends.pop(end[2], None)
                entry = self._cachetools_remove_expired(end[2])
                if entry is not None:
                    expired.append(entry)
            heapq.heappop(heap)
        return expired

    def popitem(self) -> tuple[Any, Any]:
        """Remove and return the least recently used key that has not expired, and its value."""
        timer = self._cachetools_timer
        if not self._cachetools_simple:
            with timer as now:
                self.expire(now)
                return self._cachetools_plain_popitem()
        self.expire(timer._time())
        key, value = _Evicting.popitem(self)
        self.__ends.pop(key, None)
        return key, value

    def clear(self) -> None:
        """Remove every entry."""
        Cache.clear(self)
        self.__ends.clear()
        self.__heap.clear()

    def _cachetools_state(self) -> Any:
        attributes, entries, victims = Cache._cachetools_state(self)
        numbered = self.__ends
        ends = _numbered_ends({key: numbered[key] for key, _ in entries if key in numbered}, numbered.number)
        attributes["_cachetools_timer"] = self._cachetools_timer.__copy__()
        attributes["_TLRUCache__ends"] = ends
        attributes["_TLRUCache__heap"] = sorted(ends.values(), key=lambda end: end[:2])
        return attributes, entries, victims
