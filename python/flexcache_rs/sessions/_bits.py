"""Handles: the calls on bits and on Bloom filters. scripts/make_sync.py generates `_sync_bits.py` from this file."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from flexcache_rs._suggest import suggesting
from flexcache_rs.sessions import _arguments as arguments
from flexcache_rs.sessions._arguments import KEPT
from flexcache_rs.sessions._containers import Handle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexcache_rs.sessions._arguments import Ttl
    from flexcache_rs.sessions._protocol import Owner


_MOST_BITS = 2**63 - 1


@suggesting
class Bits(Handle):
    """Bits, which are all 0 at first. Only pages of 4 KiB with a bit that was set take space.

    >>> import asyncio
    >>> from flexcache_rs.sessions import connect
    >>> async def main():
    ...     async with connect("memory://") as session:
    ...         seen = session.bits("seen")
    ...         print(await seen.set(7), await seen.get(7), await seen.count())
    >>> asyncio.run(main())
    False True 1
    """

    _kind = "bits"

    async def get(self, i: int) -> bool:
        """Return a bit."""
        bit: bool = await self._act(KEPT, "bits_get", arguments.whole_number("i", i))
        return bit

    async def set(self, i: int, value: bool = True, *, ttl: Ttl = None, ttl_if_new: Ttl = None) -> bool:
        """Set a bit. Returns its old value."""
        touch = arguments.touch_of_write(ttl, ttl_if_new)
        bit: bool = await self._act(touch, "bits_set", arguments.whole_number("i", i), bool(value))
        return bit

    async def toggle(self, i: int, *, ttl: Ttl = None, ttl_if_new: Ttl = None) -> bool:
        """Invert a bit. Returns its new value."""
        touch = arguments.touch_of_write(ttl, ttl_if_new)
        bit: bool = await self._act(touch, "bits_toggle", arguments.whole_number("i", i))
        return bit

    async def count(self) -> int:
        """Return the number of bits that are 1."""
        count: int = await self._act(KEPT, "bits_count")
        return count


@suggesting
class Bloom(Handle):
    """A Bloom filter. `has` never returns False for an added item, and seldom returns True for another item.

    >>> import asyncio
    >>> from flexcache_rs.sessions import connect
    >>> async def main():
    ...     async with connect("memory://") as session:
    ...         known = session.bloom("known", capacity=1000)
    ...         print(await known.add("ann"), await known.has("ann"), await known.has("bob"))
    >>> asyncio.run(main())
    1 True False
    """

    _kind = "bloom"

    def __init__(self, owner: Owner, key: str, capacity: int, error_rate: float) -> None:
        super().__init__(owner, key)
        items = arguments.whole_number("capacity", capacity, 1)
        if isinstance(error_rate, bool) or not isinstance(error_rate, (int, float)) or not 0 < error_rate < 1:
            raise ValueError(f"error_rate must be between 0 and 1, not {error_rate!r}")
        self._bits = max(64, math.ceil(-items * math.log(error_rate) / math.log(2) ** 2))
        if self._bits > _MOST_BITS:
            raise ValueError(f"capacity must be smaller, not {capacity}: the filter would have more than 2**63 bits")
        self._hashes = max(1, min(64, round(self._bits / items * math.log(2))))

    async def add(self, *items: Any, ttl: Ttl = None, ttl_if_new: Ttl = None) -> int:
        """Add items. Returns how many were certainly new.

        Raises:
            ValueError: The filter was created with another capacity or error rate.
        """
        touch = arguments.touch_of_write(ttl, ttl_if_new)
        added: int = await self._act(touch, "bloom_add", items, self._bits, self._hashes)
        return added

    async def has(self, item: Any) -> bool:
        """Return whether an item was probably added."""
        found: list[bool] = await self._act(KEPT, "bloom_has", (item,), self._bits, self._hashes)
        return found[0]

    async def has_many(self, items: Iterable[Any]) -> list[bool]:
        """Return for each of several items whether it was probably added."""
        several = arguments.several("items", items)
        found: list[bool] = await self._act(KEPT, "bloom_has", several, self._bits, self._hashes)
        return found
