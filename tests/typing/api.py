"""Uses every public name the way users do; checked by the type checkers, never run."""

from __future__ import annotations

from collections.abc import MutableMapping
from datetime import datetime, timedelta, timezone
from typing import Any

from typing_extensions import assert_type

import flexcache_rs
from flexcache import FlexCache as Alias
from flexcache_rs import CacheStats, FlexCache
from flexcache_rs.testing import advance, check


class Recency:
    """An eviction policy."""

    def on_insert(self, key: str) -> None: ...
    def on_access(self, key: str) -> None: ...
    def on_remove(self, key: str) -> None: ...
    def victim(self) -> str:
        return ""


def left(key: str, value: int, reason: str) -> None: ...


cache: FlexCache[str, int] = FlexCache("lru", 0.0, 10, 100, default_ttl=timedelta(seconds=1), on_evict=left)
FlexCache[str, int](eviction_policy=Recency(), name="mine", thread_safe=False)
FlexCache[str, int](shards=4, background_expiry=True, scan_interval=timedelta(seconds=1))
FlexCache[str, int](background_expiry=0.5)
Alias[str, int]("fifo")

assert_type(cache.get("a"), int | None)
assert_type(cache.get("a", 0), int)
assert_type(cache.get("a", "none"), int | str)
assert_type(cache.peek("a"), int | None)
assert_type(cache.peek("a", 0), int)
assert_type(cache["a"], int)
cache["a"] = 1
del cache["a"]
assert_type("a" in cache, bool)
cache.put("a", 1)
cache.put("a", 1, 1.5)
cache.put("a", 1, ttl=timedelta(1))
cache.set("a", 1, ttl=datetime.now(timezone.utc))
assert_type(cache.add("a", 1, 3), bool)
cache.put("a", 1, tags=("user:1",))
cache.set("a", 1, tags=["user:1"])
assert_type(cache.add("a", 1, tags={"user:1"}), bool)
assert_type(cache.evict_tag("user:1"), int)
assert_type(cache.tags("a"), tuple[str, ...])
assert_type(cache.delete("a"), bool)
assert_type(cache.pop("a"), int)
assert_type(cache.pop("a", 0), int)
assert_type(cache.pop("a", None), int | None)
assert_type(cache.popitem(), tuple[str, int])
assert_type(cache.touch("a", None), bool)
assert_type(cache.ttl("a"), float | None)
cache.set_many({"a": 1}, ttl=1)
cache.set_many([("a", 1)], tags=iter(["user:1"]))
assert_type(cache.get_many(["a"]), dict[str, int])
assert_type(cache.delete_many({"a"}), int)
assert_type(cache.scan(), int)
cache.resize(max_items=1)
cache.resize(max_bytes=1)
assert_type(cache.copy(), FlexCache[str, int])
entry_count: int = cache.items
assert_type(cache.items + 1, int)
assert_type(list(cache.items()), list[tuple[str, int]])
assert_type(cache.setdefault("a", 1), int)
cache.update({"a": 1})
cache.update([("a", 1)], b=2)
cache.update(b=2)
assert_type(cache | {"b": 2}, FlexCache[str, int])
assert_type({"b": 2} | cache, dict[str, int])
cache |= {"b": 2}
assert_type(cache.keys() & {"a"}, set[str])


def of_mapping(mapping: MutableMapping[str, int]) -> int:
    return sum(value for _, value in mapping.items())


assert_type(of_mapping(cache), int)


class Limited(FlexCache[str, int]):
    def __init__(self, size: int, seconds: float) -> None:
        super().__init__(max_items=size, default_ttl=seconds)


assert_type(Limited(10, 60)["a"], int)
assert_type(cache.bytes, int)
assert_type(len(cache), int)
assert_type(list(cache), list[str])
assert_type(list(cache.keys()), list[str])
assert_type(list(cache.values()), list[int])
assert_type(list(cache.entries()), list[tuple[str, int]])
assert_type(len(cache.keys()), int)
assert_type(cache.stats(), CacheStats)
assert_type(cache.stats().hits, int)
assert_type(cache.stats().hit_ratio, float)
cache.reset_stats()
cache.clear()
cache.close()
assert_type(cache.max_items, int)
assert_type(cache.max_bytes, int)
assert_type(cache.name, str | None)
assert_type(flexcache_rs.__version__, str)
flexcache_rs.reset_logging()
advance(1.5)
advance(timedelta(minutes=1))
check(cache)

with FlexCache[str, int]() as entered:
    assert_type(entered, FlexCache[str, int])


async def asynchronous() -> Any:
    async with FlexCache[str, int]() as entered:
        assert_type(entered, FlexCache[str, int])
    await entered.aclose()


# The type checkers must report these.
FlexCache(eviction_policy="lur")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FlexCache(eviction_policy=object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cache.put("a", "b")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cache.put(1, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cache.put("a", 1, ttl="1 s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
