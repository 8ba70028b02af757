"""Bits in memory."""

# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

import sys

from flexcache_rs._arguments import whole_number
from flexcache_rs._suggest import suggesting

__all__ = ["BitArray"]


@suggesting
class BitArray:
    """An array of bits, all of which are 0 at first.

    >>> bits = BitArray(10)
    >>> bits[3] = 1
    >>> bits.toggle_bit(4)
    >>> [bits[i] for i in range(10)]
    [0, 0, 0, 1, 1, 0, 0, 0, 0, 0]

    Args:
        size: How many bits.

    Raises:
        TypeError: `size` is no int.
        ValueError: It is negative.
    """

    def __init__(self, size: int) -> None:
        whole_number("size", size, 0)
        self.size = size
        self._array = bytearray((size + 7) // 8)

    def _place(self, key: int) -> tuple[int, int]:
        if not 0 <= key < self.size:
            message = f"Bit index out of range: {key} is not from 0 to {self.size - 1}"
            raise IndexError(message)
        return key >> 3, 1 << (key & 7)

    def __getitem__(self, key: int) -> int:
        place, mask = self._place(key)
        return int(self._array[place] & mask != 0)

    def __setitem__(self, key: int, value: int = 1) -> None:
        place, mask = self._place(key)
        if value:
            self._array[place] |= mask
        else:
            self._array[place] &= ~mask

    def __delitem__(self, key: int) -> None:
        """Set a bit to 0."""
        self[key] = 0

    def toggle_bit(self, key: int) -> None:
        """Invert a bit."""
        place, mask = self._place(key)
        self._array[place] ^= mask

    def __len__(self) -> int:
        return self.size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BitArray):
            return NotImplemented
        return (self.size, self._array) == (other.size, other._array)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return str(self._array)

    @property
    def value(self) -> bytearray:
        """The bits as bytes. The first bit is the lowest bit of the first byte."""
        return self._array

    @value.setter
    def value(self, new_value: bytes | bytearray) -> None:
        if len(new_value) != len(self._array):
            message = f"value must be {len(self._array)} bytes, not {len(new_value)}"
            raise ValueError(message)
        self._array = bytearray(new_value)


# In PyCache the class is in a module of the same name.
sys.modules[f"{__name__}.BitArray"] = sys.modules[__name__]
