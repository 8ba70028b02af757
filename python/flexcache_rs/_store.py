"""`Store`: what `FlexCache(store=...)` takes."""

from __future__ import annotations

from typing import Any, Protocol


class Store(Protocol):
    """What lasts, behind a cache in memory: any object with these methods.

    Several threads may call them at a time, and never while the cache is locked. What they raise goes to the caller of
    the cache, and memory then has nothing under the key. Awaited calls of the cache call them from a thread.

    Caches in front of one object see each other's writes at once. Writes that overlap, of keys that share one of 64
    stripes, leave nothing in memory, since nothing tells in which order the store took them.

    A store may have more methods, which are used where they are there:

    * `add(key, value, ttl, tags) -> bool` stores where there is no entry, and says whether it did;
    * `pop(key)` is `load` and `remove` in one;
    * `contains(key) -> bool`;
    * `touch(key, ttl) -> bool` gives an entry another time to live, and says whether there is one;
    * `evict_tag(tag) -> int` removes the entries with a tag, and says how many;
    * `transact()` is a context manager around many writes. The result of a computation is stored inside it, too: where
      other writers wait meanwhile, none of them is overwritten by a value that was computed before;
    * `version() -> int` is another number, from 0 to 2**64 - 1, after each write of anybody, and better one more than
      the one before. `coherence="strict"` needs it, and asks for it at each hit. A write of the cache that returned
      False or None must not have changed it.

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
        """Value, seconds left to live (None is for ever) and tags of a live entry; None where there is none."""
        ...

    def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> object:
        """Stores or replaces an entry."""
        ...

    def remove(self, key: Any) -> bool:
        """Removes an entry; whether it was there."""
        ...

    def clear(self) -> object:
        """Removes all entries."""
        ...
