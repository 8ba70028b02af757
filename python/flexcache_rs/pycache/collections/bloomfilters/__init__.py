"""Bloom filters in memory. `exists` is True for each key that was added, and seldom for another key."""

# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

import math
import sys
from hashlib import blake2b

from flexcache_rs._arguments import whole_number
from flexcache_rs._suggest import suggesting
from flexcache_rs.pycache.collections.bitarray import BitArray

__all__ = ["BloomFilter", "RationalBloomFilter", "ScalableBloomFilter"]


def _hashes(key: str) -> tuple[int, int, int]:
    """Return two hashes that determine the bits of a key, and an independent third. They are equal in every process."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=24).digest()
    first, step, third = (int.from_bytes(digest[start : start + 8], "little") for start in (0, 8, 16))
    return first, step | 1, third


@suggesting
class BloomFilter:
    """A filter of one size.

    >>> seen = BloomFilter(1000, 0.01)
    >>> seen.add("a"), seen.add("a"), seen.exists("a"), len(seen)
    (True, False, True, 1)

    Args:
        number_of_elements: The number of elements for which the rate holds.
        false_positive_rate: The share of keys that were never added for which `exists` may return True. With a rate of
            0 or less, there is one bit for each element.

    Raises:
        TypeError: An argument is of another type.
        ValueError: There is no element, or the rate is not less than 1.
    """

    def __init__(self, number_of_elements: int, false_positive_rate: float) -> None:
        whole_number("number_of_elements", number_of_elements, 1)
        if not isinstance(false_positive_rate, (int, float)):
            message = f"false_positive_rate must be a number, not {type(false_positive_rate).__name__}"
            raise TypeError(message)
        if not false_positive_rate < 1:
            message = f"false_positive_rate must be less than 1, not {false_positive_rate}"
            raise ValueError(message)
        self.number_of_elements = number_of_elements
        self.false_positive_rate = false_positive_rate
        bits = number_of_elements
        if false_positive_rate > 0:
            bits = math.ceil(-number_of_elements * math.log(false_positive_rate) / math.log(2) ** 2)
        # The number of bits of each key, which is not a whole number in a rational filter.
        self._rational_hashes = bits / number_of_elements * math.log(2)
        self._bit_array = BitArray(bits)
        self._added = 0

    def _places(self, key: str) -> list[int]:
        first, step, _ = _hashes(key)
        return [(first + i * step) % self.size for i in range(max(1, round(self._rational_hashes)))]

    def add(self, key: str) -> bool:
        """Add a key. Returns True if it was certainly new."""
        bits = self._bit_array
        new = [place for place in self._places(key) if not bits[place]]
        for place in new:
            bits[place] = 1
        self._added += bool(new)
        return bool(new)

    def exists(self, key: str) -> bool:
        """Whether a key was probably added."""
        bits = self._bit_array
        return all(bits[place] for place in self._places(key))

    def __len__(self) -> int:
        """How many keys were added that were surely new."""
        return self._added

    @property
    def size(self) -> int:
        """The number of bits."""
        return self._bit_array.size

    @property
    def value(self) -> bytearray:
        """The bytes of the bits."""
        return self._bit_array.value

    @value.setter
    def value(self, new_value: bytes | bytearray) -> None:
        self._bit_array.value = new_value

    @property
    def chains(self) -> int:
        """The number of filters."""
        return 1

    @property
    def active(self) -> BloomFilter:
        """The filter to which keys are added."""
        return self


class RationalBloomFilter(BloomFilter):
    """A filter in which the number of bits differs from key to key, so that their mean is exactly the best number."""

    @property
    def floor_k(self) -> int:
        """The least number of bits of a key."""
        return math.floor(self._rational_hashes)

    def _places(self, key: str) -> list[int]:
        first, step, third = _hashes(key)
        more = third / 2**64 < self._rational_hashes - self.floor_k
        return [(first + i * step) % self.size for i in range(max(1, self.floor_k + more))]


@suggesting
class ScalableBloomFilter(BloomFilter):
    """A chain of filters for any number of keys. Each is larger and has a smaller error rate than the one before.

    >>> seen = ScalableBloomFilter(10, 0.01)
    >>> sum(seen.add(str(number)) for number in range(100)) > 95, seen.chains
    (True, 4)

    Args:
        expected_number_of_elements: For how many elements the first filter is made.
        false_positive_rate: Its rate. All of them together have at most twice as much.
        tightening: By how much the rate of the next one is multiplied.
        growth: By how much its elements are multiplied.

    Raises:
        ValueError: `tightening` is not between 0 and 1, or `growth` is less than 1.
    """

    TIGHTENING = 0.5
    GROWTH = 2

    def __init__(
        self,
        expected_number_of_elements: int,
        false_positive_rate: float,
        tightening: float = TIGHTENING,
        growth: int = GROWTH,
    ) -> None:
        if not 0 < tightening < 1:
            message = f"tightening must be between 0 and 1, not {tightening!r}"
            raise ValueError(message)
        if isinstance(growth, bool) or not isinstance(growth, int) or growth < 1:
            message = f"growth must be an int of at least 1, not {growth!r}"
            raise ValueError(message)
        self._filters = [BloomFilter(expected_number_of_elements, false_positive_rate)]
        self.tightening = tightening
        self.growth = growth
        self._added = 0

    def add(self, key: str) -> bool:  # noqa: D102
        if self.exists(key):
            return False
        if not self.check_size(self.active):
            last = self.active
            self._filters.append(
                BloomFilter(last.number_of_elements * self.growth, last.false_positive_rate * self.tightening)
            )
        self.active.add(key)
        self._added += 1
        return True

    def exists(self, key: str) -> bool:  # noqa: D102
        return any(filter_.exists(key) for filter_ in self._filters)

    def check_size(self, filter: BloomFilter) -> bool:  # noqa: A002
        """Whether the filter has room for another key."""
        return len(filter) < filter.number_of_elements

    @property
    def number_of_elements(self) -> int:  # type: ignore[override]
        """The number of elements for which there is room."""
        return sum(filter_.number_of_elements for filter_ in self._filters)

    @property
    def size(self) -> int:  # noqa: D102
        return sum(filter_.size for filter_ in self._filters)

    @property
    def value(self) -> bytearray:
        """Raise NotImplementedError, because a chain of filters has no bits of its own.

        Raises:
            NotImplementedError: Each call raises it.
        """
        message = "a ScalableBloomFilter has several filters; see `active`"
        raise NotImplementedError(message)

    @value.setter
    def value(self, new_value: bytes | bytearray) -> None:
        message = "a ScalableBloomFilter has several filters; see `active`"
        raise NotImplementedError(message)

    @property
    def chains(self) -> int:  # noqa: D102
        return len(self._filters)

    @property
    def active(self) -> BloomFilter:  # noqa: D102
        return self._filters[-1]


# In PyCache each class is in a module of the same name.
for _name in __all__:
    sys.modules[f"{__name__}.{_name}"] = sys.modules[__name__]
