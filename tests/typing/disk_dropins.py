"""Programs that use python-diskcache, SciQLop-cache and diskcache_rs with the import changed, for the type checkers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

from flexcache_rs import disk as diskcache
from flexcache_rs import diskcache_rs, sciqlop

with sciqlop.Cache("directory", size_limit=1 << 30) as cache:
    assert_type(cache, sciqlop.Cache)
    assert_type(cache.set("a", 1, expire=60, tag="t"), bool)
    assert_type(cache.set("a", 1, expire=timedelta(minutes=1)), bool)
    assert_type(cache.add("a", 1), bool)
    assert_type(cache.delete("a"), bool)
    assert_type(cache.incr("a"), Any)
    assert_type("a" in cache, bool)
    assert_type(len(cache), int)
    cache.set("a", 1, expire="60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cache.set("a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

index = sciqlop.Index("directory")
index["a"] = 1
assert_type(len(index), int)
assert_type(sciqlop.FanoutCache("directory", 4).set("a", 1), bool)


@cache.memoize(expire=60)
def double(number: int) -> int:
    """Double it."""
    return 2 * number


assert_type(double(1), int)
double("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

with diskcache_rs.Cache("directory", max_size=1 << 30, max_entries=10) as other:
    assert_type(other, diskcache_rs.Cache)
    assert_type(other.directory, Path)
    assert_type(other.set("a", 1, expire=60), bool)
    assert_type(other.touch("a", timedelta(minutes=1)), bool)
    assert_type(other.exists("a"), bool)
    assert_type(other.keys(), list[Any])
    assert_type(other.items(), list[tuple[Any, Any]])
    assert_type(other.stats().hits, int)
    assert_type(other.set_many({"a": 1}), int)
    other.set("a", 1, side="back")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

shards = diskcache_rs.FanoutCache("directory", shards=4)
assert_type(shards.set("a", 1), bool)
assert_type(shards.get("a", 0), Any)
assert_type(shards.delete("a"), bool)
assert_type(shards.cache("below"), diskcache_rs.Cache)
assert_type(shards.deque("below"), diskcache_rs.Deque)
assert_type(shards.index("below"), diskcache_rs.Index)


@other.memoize(tag="t")
def triple(number: int) -> int:
    """Triple it."""
    return 3 * number


assert_type(triple(1), int)
triple("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

fast = diskcache_rs.FastCache("directory")
assert_type(fast.exists("a"), bool)


results = diskcache.Cache("directory", statistics=True)
with diskcache.Lock(results, "lock", expire=60), diskcache.BoundedSemaphore(results, "few", value=2):
    diskcache.Averager(results, "seconds").add(1.5)


class Service:
    """Has methods whose results are stored."""

    @results.memoize(expire=60)
    def load(self, number: int) -> str:
        """Load something."""
        return str(number)

    @classmethod
    @results.memoize()
    def of_class(cls, number: int) -> str:
        """Is asked for on the class and on an instance."""
        return str(number)

    @diskcache.memoize_stampede(results, expire=60)
    def slow(self, number: int) -> str:
        """Take a while."""
        return str(number)

    @diskcache.throttle(results, 1, 1)
    def seldom(self, number: int) -> str:
        """Be called once a second."""
        return str(number)


assert_type(Service().load(1), str)
assert_type(Service.load(Service(), 1), str)
assert_type(Service().of_class(1), str)
assert_type(Service.of_class(1), str)
assert_type(Service().slow(1), str)
assert_type(Service().seldom(1), str)
Service().load("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Reversing(diskcache.Disk):
    """A disk as python-diskcache's documentation writes one."""

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        """Store a value."""
        return super().store(value if read else value[::-1], read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """Read it."""
        found = super().fetch(mode, filename, value, read)
        return found if read else found[::-1]


diskcache.Cache("directory", disk=Reversing)
