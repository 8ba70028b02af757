"""Makes every kind of call on a cache many times, for a program that watches the memory."""

import contextlib
import gc
import pickle
from typing import Any

from flexcache_rs import FlexCache, cache, lru_cache, memoize
from flexcache_rs.testing import advance, check

ROUNDS = 60


class Closes:
    """A value with hooks."""

    def item_size(self) -> int:
        """Returns a size."""
        return 2

    def close(self) -> None:
        """Closes nothing."""


class Slow:
    """A key that only Python can compare."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return self.number % 3

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slow) and other.number == self.number


def told(*event: object) -> None:
    """Listen to removals."""


def drive(policy: str, **options: Any) -> None:
    """Make every call on one cache."""
    kept: FlexCache[Any, Any] = FlexCache(policy, on_evict=told, **options)
    for number in range(ROUNDS):
        for key in (number % 17, f"key {number}", (number, "tuple"), 1.5 * number, Slow(number), b"bytes"):
            kept[key] = key
            kept.put(key, Closes() if number % 2 else number)
            kept.put(key, number, ttl=0.5 if number % 3 else 100, tags=("one", f"tag {number % 5}"))
            kept.get(key), kept.get(key, None), kept.peek(key), key in kept, kept.tags(key)
            kept.add(key, 1), kept.touch(key, 50), kept.ttl(key)
            kept.get_or_set(f"computed {number}", lambda: 1)
            with contextlib.suppress(KeyError):
                kept[f"absent {number}"], kept.set(key, 1)
        kept.set_many({f"many {number}": 1, "b": [2]}, ttl=10)
        kept.get_many(["b", "absent"]), kept.delete_many(["b", "absent"])
        list(kept), list(kept.entries()), list(kept.values()), len(kept), repr(kept), kept.stats()
        kept.pop(f"many {number}", None), kept.delete("absent")
        if number % 10 == 0:
            kept.evict_tag("one"), kept.scan()
            if len(kept):
                kept.popitem()
            pickle.loads(pickle.dumps(kept)), kept.copy()
            kept.resize(max_items=5)
            kept.resize(max_items=20)
            advance(1)
            check(kept)
    kept.clear()
    kept.close()


@memoize(max_items=10)
def memoized(one: int, other: int = 2) -> int:
    """A function of two numbers."""
    return one + other


@lru_cache(maxsize=10)
def as_in_functools(one: int, other: int = 2) -> int:
    """The same."""
    return one + other


@cache
def without_end(one: int) -> int:
    """Of one number."""
    return one


for policy in ("lru", "fifo", "lfu", "random", "sieve", "s3fifo", "tinylfu", "auto"):
    drive(policy, max_items=20)
drive("lru", max_bytes=50, shards=2, default_ttl=5)
for number in range(ROUNDS):
    memoized(number % 20), memoized(number % 20, other=3), memoized(number, 4)
    as_in_functools(number % 20), as_in_functools(number, other=3)
    without_end(number % 7)
gc.collect()
print("done")
