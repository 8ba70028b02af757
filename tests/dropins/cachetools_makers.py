"""Makers of the caches of `flexcache_rs.cachetools`, with a clock of their own where they have times."""

from __future__ import annotations

from typing import Any

from flexcache_rs.cachetools import Cache, FIFOCache, LFUCache, LRUCache, RRCache, TLRUCache, TTLCache


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def build(kind: type[Cache[Any, Any]], maxsize: float, **options: Any) -> Any:
    """A cache of a class or a subclass, with the times that it needs."""
    if issubclass(kind, TTLCache):
        options |= {"ttl": 10, "timer": Clock()}
    if issubclass(kind, TLRUCache):
        options |= {"ttu": lambda _key, _value, now: now + 10, "timer": Clock()}
    return kind(maxsize, **options)


def timed(maxsize: float, **options: Any) -> Any:
    return build(TTLCache, maxsize, **options)


def used(maxsize: float, **options: Any) -> Any:
    return build(TLRUCache, maxsize, **options)


MAKERS = [Cache, FIFOCache, LFUCache, LRUCache, RRCache, timed, used]
