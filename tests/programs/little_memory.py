"""Uses a cache under a memory limit: `little_memory.py POLICY`.

Each call must succeed or raise MemoryError, and leave an intact cache.
"""

import pickle
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flexcache_rs import FlexCache
from flexcache_rs.testing import check

POLICY = sys.argv[1]
MANY = 200_000
KEYS = list(range(MANY))
TAGS = [(f"tag {key % 1000}", f"own {key}") for key in range(MANY // 4)]
BLOCK = 1 << 16
SPARE = 16
"""The number of spare blocks."""


@contextmanager
def little_memory() -> Iterator[None]:
    """Limit the process to a little more memory.

    The allocator keeps some freed memory. The amount depends on what ran out before, so all of it is allocated first.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    taken: list[bytearray] = []
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPARE * BLOCK, hard))
    try:
        with suppress(MemoryError):
            while True:
                taken.append(bytearray(BLOCK))
        del taken[-SPARE:]
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def runs_out(name: str, cache: FlexCache[Any, Any], call: Callable[[], object]) -> None:
    """Make a call that needs more memory than is available."""
    before = len(cache)
    with little_memory():
        try:
            call()
        except MemoryError:
            pass
        else:
            sys.exit(f"{name}: there was enough memory")
    check(cache)
    cache["another"] = 1
    if cache["another"] != 1 or not cache.delete("another"):
        sys.exit(f"{name}: the cache cannot be used any more")
    if name in {"copy", "pickle", "list", "set_many"} and len(cache) != before:
        sys.exit(f"{name}: {before} entries were {len(cache)} afterwards")
    check(cache)


def put_all(cache: FlexCache[Any, Any], **options: Any) -> None:
    """Store entries one by one until the memory runs out."""
    for key in KEYS:
        cache.put(key, None, **options)


def tag_all(cache: FlexCache[Any, Any]) -> None:
    """Store entries with tags, many of them new."""
    for key, tags in enumerate(TAGS):
        cache.put(key, None, tags=tags)


def assign_all(cache: FlexCache[Any, Any]) -> None:
    """Store entries on the fast path."""
    for key in KEYS:
        cache[key] = None


def expire_all(cache: FlexCache[Any, Any]) -> None:
    """Give every entry a deadline."""
    for key in KEYS:
        cache.touch(key, 60)


def maker(**limits: Any) -> Any:
    """Make caches with these limits."""
    return lambda: FlexCache(POLICY, **limits)


for limits in ({}, {"max_items": 2**62}, {"max_items": MANY * 3 // 4}):
    fresh = maker(**limits)
    cache = fresh()
    runs_out("assignment", cache, lambda: assign_all(cache))
    cache = fresh()
    runs_out("put", cache, lambda: put_all(cache))
    cache = fresh()
    runs_out("ttl", cache, lambda: put_all(cache, ttl=60))
    cache = fresh()
    runs_out("tags", cache, lambda: tag_all(cache))
    cache = fresh()
    mapping = dict.fromkeys(KEYS)
    runs_out("set_many", cache, lambda: cache.set_many(mapping))
    cache = fresh()
    assign_all(cache)
    runs_out("expire", cache, lambda: expire_all(cache))
    runs_out("copy", cache, cache.copy)
    pickled = pickle.dumps(cache)
    runs_out("pickle", cache, lambda: pickle.dumps(cache))
    runs_out("unpickle", cache, lambda: pickle.loads(pickled))
    runs_out("list", cache, lambda: list(cache.entries()))
    with little_memory():
        # No limit allocates memory.
        cache.resize(max_items=2**40)
        cache.resize(max_items=1000)
        cache.clear()
    check(cache)
print("done")
