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


class Recency:
    """An eviction policy that fails if it is told of anything twice or out of order."""

    def __init__(self) -> None:
        self.order: dict[Any, None] = {}

    def on_insert(self, key: Any) -> None:
        assert key not in self.order
        self.order[key] = None

    def on_access(self, key: Any) -> None:
        self.order[key] = self.order.pop(key)

    def on_remove(self, key: Any) -> None:
        del self.order[key]

    def victim(self) -> Any:
        return next(iter(self.order))


EVERY_POLICY: list[Any] = [*POLICIES, Recency]
"""The built-in policies, and one written in Python."""
