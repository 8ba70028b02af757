"""Durations may be timedeltas, objects with files can be closed, and unreadable values may count as missing."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache, async_lru, cachetools, disk, memoize
from flexcache_rs import diskcache_rs as names_of_diskcache_rs
from flexcache_rs import sciqlop as names_of_sciqlop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MINUTE = timedelta(minutes=1)

CALLS: dict[str, Callable[[Path], object]] = {
    "FlexCache(default_ttl)": lambda _: FlexCache(default_ttl=MINUTE),
    "FlexCache(scan_interval)": lambda _: FlexCache(scan_interval=MINUTE),
    "FlexCache(background_expiry)": lambda _: FlexCache(background_expiry=MINUTE).close(),
    "FlexCache(coherence)": lambda _: FlexCache(store=FlexCache(), coherence=MINUTE),
    "FlexCache(lease)": lambda at: FlexCache(store=disk.Cache(at), lease=MINUTE),
    "FlexCache(lease_wait)": lambda at: FlexCache(store=disk.Cache(at), lease_wait=MINUTE),
    "FlexCache(negative_ttl)": lambda _: FlexCache(store=FlexCache(), negative_ttl=MINUTE),
    "FlexCache.put": lambda _: FlexCache().put("a", 1, ttl=MINUTE),
    "FlexCache.set": lambda _: FlexCache().set("a", 1, ttl=MINUTE),
    "FlexCache.add": lambda _: FlexCache().add("a", 1, ttl=MINUTE),
    "FlexCache.touch": lambda _: FlexCache().touch("a", MINUTE),
    "FlexCache.set_many": lambda _: FlexCache().set_many({"a": 1}, ttl=MINUTE),
    "FlexCache.get_or_set": lambda _: FlexCache().get_or_set("a", int, ttl=MINUTE),
    "memoize(ttl)": lambda _: memoize(ttl=MINUTE)(int)(),
    "memoize(soft_ttl)": lambda _: memoize(soft_ttl=MINUTE)(int)(),
    "memoize(stale_if_error)": lambda _: memoize(ttl=MINUTE, stale_if_error=MINUTE)(int)(),
    "memoize(exception_ttl)": lambda _: memoize(cache_exceptions=True, exception_ttl=MINUTE)(int)(),
    "alru_cache(ttl)": lambda _: async_lru.alru_cache(ttl=MINUTE)(asyncio.sleep),
    "TTLCache": lambda _: cachetools.TTLCache(10, MINUTE, datetime.now),
    "Cache(timeout)": lambda at: disk.Cache(at, timeout=MINUTE),
    "Cache.set": lambda at: disk.Cache(at).set("a", 1, expire=MINUTE),
    "Cache.add": lambda at: disk.Cache(at).add("a", 1, expire=MINUTE),
    "Cache.touch": lambda at: disk.Cache(at).touch("a", MINUTE),
    "Cache.push": lambda at: disk.Cache(at).push("a", expire=MINUTE),
    "Cache.set_many": lambda at: disk.Cache(at).set_many({"a": 1}, expire=MINUTE),
    "Cache.memoize": lambda at: disk.Cache(at).memoize(expire=MINUTE)(int)(),
    "Cache.lock": lambda at: disk.Cache(at).lock("a", expire=MINUTE).acquire(),
    "FanoutCache(timeout)": lambda at: disk.FanoutCache(at, 1, timeout=MINUTE),
    "FanoutCache.set": lambda at: disk.FanoutCache(at, 1).set("a", 1, expire=MINUTE),
    "FanoutCache.add": lambda at: disk.FanoutCache(at, 1).add("a", 1, expire=MINUTE),
    "FanoutCache.touch": lambda at: disk.FanoutCache(at, 1).touch("a", MINUTE),
    "FanoutCache.push": lambda at: disk.FanoutCache(at, 1).push("a", expire=MINUTE),
    "FanoutCache.cache(timeout)": lambda at: disk.FanoutCache(at, 1).cache("a", timeout=MINUTE),
    "Lock": lambda at: disk.Lock(disk.Cache(at), "a", expire=MINUTE).acquire(),
    "RLock": lambda at: disk.RLock(disk.Cache(at), "a", expire=MINUTE).acquire(),
    "BoundedSemaphore": lambda at: disk.BoundedSemaphore(disk.Cache(at), "a", expire=MINUTE).acquire(),
    "Averager": lambda at: disk.Averager(disk.Cache(at), "a", expire=MINUTE).add(1),
    "throttle(seconds)": lambda at: disk.throttle(disk.Cache(at), 1, MINUTE)(int)(),
    "throttle(expire)": lambda at: disk.throttle(disk.Cache(at), 1, 1, expire=MINUTE)(int)(),
    "barrier": lambda at: disk.barrier(disk.Cache(at), disk.Lock, expire=MINUTE)(int)(),
    "memoize_stampede": lambda at: disk.memoize_stampede(disk.Cache(at), MINUTE)(int)(),
    "sciqlop.Cache(timeout)": lambda at: names_of_sciqlop.Cache(at, timeout=MINUTE),
    "sciqlop.Cache.set": lambda at: names_of_sciqlop.Cache(at).set("a", 1, expire=MINUTE),
    "sciqlop.Cache.memoize": lambda at: names_of_sciqlop.Cache(at).memoize(expire=MINUTE)(int)(),
    "diskcache_rs.Cache(timeout)": lambda at: names_of_diskcache_rs.Cache(at, timeout=MINUTE),
    "diskcache_rs.Cache.set": lambda at: names_of_diskcache_rs.Cache(at).set("a", 1, expire=MINUTE),
    "diskcache_rs.FanoutCache(timeout)": lambda at: names_of_diskcache_rs.FanoutCache(at, 1, timeout=MINUTE),
    "diskcache_rs.FastCache": lambda at: names_of_diskcache_rs.FastCache(at, default_ttl_seconds=MINUTE).set("a", 1),
    "diskcache_rs.PickleCache": lambda at: names_of_diskcache_rs.PickleCache(at, None, MINUTE).set("a", 1, MINUTE),
}
if sys.platform == "linux":
    from flexcache_rs.shared import SharedCache

    def shared(at: Path, **options: Any) -> SharedCache:
        return SharedCache(at / "shared", max_bytes=1 << 20, **options)

    CALLS |= {
        "SharedCache(default_ttl)": lambda at: shared(at, default_ttl=MINUTE),
        "SharedCache(lock_timeout)": lambda at: shared(at, lock_timeout=MINUTE),
        "SharedCache.put": lambda at: shared(at).put("a", 1, ttl=MINUTE),
        "SharedCache.add": lambda at: shared(at).add("a", 1, ttl=MINUTE),
        "SharedCache.touch": lambda at: shared(at).touch("a", MINUTE),
        "SharedCache.incr": lambda at: shared(at).incr("a", ttl=MINUTE),
        "SharedCache.set_many": lambda at: shared(at).set_many({"a": 1}, ttl=MINUTE),
        "SharedCache.get_or_set": lambda at: shared(at).get_or_set("a", int, ttl=MINUTE),
        "SharedCache.lock(ttl)": lambda at: shared(at).lock("a", ttl=MINUTE).acquire(),
        "SharedCache.lock(timeout)": lambda at: shared(at).lock("a", timeout=MINUTE).acquire(),
        "SharedLock.acquire": lambda at: shared(at).lock("a").acquire(MINUTE),
        "SharedCache.limiter": lambda at: shared(at).limiter("a", 1, MINUTE).acquire(),
        "SharedLimiter.acquire": lambda at: shared(at).limiter("a", 1).acquire(MINUTE),
    }


@pytest.mark.parametrize("name", CALLS)
def test_seconds_may_be_a_timedelta(name: str, tmp_path: Path) -> None:
    CALLS[name](tmp_path)


@pytest.mark.parametrize(
    "kind", [disk.Cache, disk.FanoutCache, disk.Deque, disk.Index, disk.FanoutIndex], ids=lambda kind: kind.__name__
)
def test_what_has_files_can_be_closed(kind: Any, tmp_path: Path) -> None:
    options = {"directory": tmp_path} if kind is disk.Deque else {}
    arguments = () if kind is disk.Deque else (str(tmp_path),)
    with kind(*arguments, **options) as opened:
        if kind is disk.Deque:
            opened.append(1)
        else:
            opened["a"] = 1
    opened.close()
    # The next call opens the directory again.
    assert len(opened) == 1
    opened.close()


class Vanishing:
    """A value whose class no longer exists when it is read."""


@pytest.mark.parametrize("kind", [disk.Cache, disk.FanoutCache], ids=lambda kind: kind.__name__)
def test_what_cannot_be_read_may_be_missing(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with kind(tmp_path) as cache:
        cache["a"] = Vanishing()
    monkeypatch.delattr(sys.modules[__name__], "Vanishing")
    with kind(tmp_path) as strict, pytest.raises(AttributeError):
        strict.get("a")
    with kind(tmp_path, unreadable="missing") as lenient:
        assert lenient.get("a", 5) == 5
        assert lenient.get_many(["a"]) == {}
    assert caplog.records
