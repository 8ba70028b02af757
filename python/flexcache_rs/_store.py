"""`Store`, the protocol of the objects that `FlexCache(store=...)` accepts."""

from __future__ import annotations

from typing import Any, Protocol


class Store(Protocol):
    """The store behind a cache in memory: any object with these methods.

    Several threads may call the methods at the same time, and never while the cache is locked. If a method raises an
    exception, the caller of the cache gets it, and memory then has no entry under the key. Awaited calls of the cache
    call the methods from a thread.

    Caches in front of one object see each other's writes at once. A cache does not see what you commit yourself: if you
    call it inside a transaction of your store, other threads may keep what the transaction replaces. Overlapping writes
    to keys of the same stripe leave no copy in memory, because the order in which the store made them is unknown.

    A store may have more methods, which the cache uses if they exist:

    * `add(key, value, ttl, tags) -> bool` stores only if absent, and returns True if it stored;
    * `pop(key)` is `load` and `remove` in one;
    * `contains(key) -> bool`;
    * `touch(key, ttl) -> bool` gives an entry another time to live, and returns True if it exists;
    * `evict_tag(tag) -> int` removes the entries with a tag, and returns how many;
    * `transact()` is a context manager around several writes. The result of a computation is also stored inside it.
      If other writers have to wait for it, a result that was computed before does not overwrite their writes;
    * `version() -> int` returns a number from 0 to 2**64 - 1 that changes with each write of any program, preferably
      by one. `coherence="strict"` needs it, and calls it at each hit. A write of the cache that returned False or
      None must not change it.

    >>> class Dictionary:
    ...     def __init__(self):
    ...         self.entries = {}
    ...
    ...     def load(self, key):
    ...         return self.entries.get(key)
    ...
    ...     def save(self, key, value, ttl, tags):
    ...         self.entries[key] = value, ttl, tags
    ...
    ...     def remove(self, key):
    ...         return self.entries.pop(key, None) is not None
    ...
    ...     def clear(self):
    ...         self.entries.clear()
    >>> from flexcache_rs import FlexCache
    >>> store = Dictionary()
    >>> cache = FlexCache(max_items=1, store=store, coherence=None)
    >>> cache["a"], cache["b"] = 1, 2
    >>> cache["a"], list(cache), list(store.entries)
    (1, ['a'], ['a', 'b'])
    """

    def load(self, key: Any) -> tuple[Any, float | None, tuple[str, ...]] | None:
        """Return value, seconds left (None means for ever) and tags of a live entry, or None if there is none."""
        ...

    def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> object:
        """Store or replace an entry."""
        ...

    def remove(self, key: Any) -> bool:
        """Remove an entry. Returns True if it was present."""
        ...

    def clear(self) -> object:
        """Remove all entries."""
        ...
