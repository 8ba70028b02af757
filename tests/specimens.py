"""Policies, values and types that many tests use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from flexcache_rs import FlexCache

POLICIES = ("lru", "fifo", "lfu", "random", "sieve", "s3fifo", "tinylfu", "auto")
ORDERED = POLICIES[:3]
"""The policies whose order of eviction is predictable."""


class Sized:
    """A value whose size is any given object. If that is an exception, it is raised."""

    def __init__(self, size: Any) -> None:
        self.size = size
        self.asked = 0

    def item_size(self) -> Any:
        self.asked += 1
        if isinstance(self.size, BaseException):
            raise self.size
        return self.size


class MakeCache(Protocol):
    """Makes a cache, which is checked when the test ends."""

    def __call__(self, *args: Any, **options: Any) -> FlexCache[Any, Any]: ...


class Recency:
    """An eviction policy that fails if the cache notifies it twice or in a wrong order."""

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
