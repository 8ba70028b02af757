"""Bits and Bloom filters as values of a session, and back. No other datatype is stored as a tuple."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections import deque
from typing import Any

from flexcache_rs.pycache.collections.bitarray import BitArray
from flexcache_rs.pycache.collections.bloomfilters import BloomFilter, RationalBloomFilter, ScalableBloomFilter

_BITS = "flexcache_rs.pycache bits"
_FILTER = "flexcache_rs.pycache filter"
_CHAIN = "flexcache_rs.pycache chain"
_PLAIN = frozenset((str, int, float, list, dict, set, deque))


def _state(filter_: BloomFilter) -> tuple[Any, ...]:
    is_rational = isinstance(filter_, RationalBloomFilter)
    return (
        is_rational,
        filter_.number_of_elements,
        filter_.false_positive_rate,
        filter_._added,
        bytes(filter_._bit_array.value),
    )


def _made(state: tuple[Any, ...]) -> BloomFilter:
    is_rational, elements, rate, added, value = state
    filter_ = (RationalBloomFilter if is_rational else BloomFilter)(elements, rate)
    filter_.value = value
    filter_._added = added
    return filter_


def stored(value: Any) -> Any:
    """Convert a value to the form in which a session stores it."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, BitArray):
        return (_BITS, value.size, bytes(value.value))
    if isinstance(value, ScalableBloomFilter):
        return (_CHAIN, value.tightening, value.growth, value._added, tuple(map(_state, value._filters)))
    return (_FILTER, _state(value)) if isinstance(value, BloomFilter) else value


def loaded(value: Any) -> Any:
    """Convert the stored form back to the value."""
    if not isinstance(value, tuple):
        return value
    parts: tuple[Any, ...] = value  # pyright: ignore[reportUnknownVariableType]
    if parts[:1] == (_BITS,):
        bits = BitArray(parts[1])
        bits.value = parts[2]
        return bits
    if parts[:1] == (_FILTER,):
        return _made(parts[1])
    if parts[:1] == (_CHAIN,):
        _, tightening, growth, added, states = parts
        first = states[0]
        chain = ScalableBloomFilter(first[1], first[2], tightening, growth)
        chain._filters = [_made(state) for state in states]
        chain._added = added
        return chain
    return parts
