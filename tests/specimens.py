"""Policies, values and types that many tests use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from flexcache_rs import FlexCache

POLICIES = ("lru", "fifo", "lfu", "random", "sieve", "s3fifo", "tinylfu", "auto")
ORDERED = POLICIES[:3]
"""The policies whose order of eviction can be told in advance."""


class Sized:
    """A value whose size is whatever was given; an exception is raised."""

    def __init__(self, size: Any) -> None:
        self.size = size
        self.asked = 0

    def item_size(self) -> Any:
        self.asked += 1
        if isinstance(self.size, BaseException):
            raise self.size
        return self.size


class MakeCache(Protocol):
    """Makes a cache, which is recounted when the test ends."""

    def __call__(self, *args: Any, **options: Any) -> FlexCache[Any, Any]: ...
