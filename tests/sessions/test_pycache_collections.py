"""PyCache's bits and Bloom filters, in memory and stored."""

from __future__ import annotations

import asyncio
import doctest
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.pycache import datatypes
from flexcache_rs.pycache.adapters import InMemory, SQLite
from flexcache_rs.pycache.collections import bitarray, bloomfilters
from flexcache_rs.pycache.collections.bitarray.BitArray import BitArray
from flexcache_rs.pycache.collections.bloomfilters import BloomFilter, RationalBloomFilter, ScalableBloomFilter
from flexcache_rs.pycache.py_cache import PyCache
from flexcache_rs.sessions import KindError

if TYPE_CHECKING:
    from pathlib import Path

KINDS = [BloomFilter, RationalBloomFilter, ScalableBloomFilter]


def test_the_modules_of_the_original() -> None:
    from flexcache_rs.pycache.collections.bloomfilters.ScalableBloomFilter import ScalableBloomFilter as Same
    from flexcache_rs.pycache.datatypes.BitArray import BitArray as Stored
    from flexcache_rs.pycache.datatypes.List import List

    assert (Same, Stored, List) == (ScalableBloomFilter, datatypes.BitArray, datatypes.List)
    assert BitArray is bitarray.BitArray


def test_bits() -> None:
    bits = BitArray(13)
    bits[0] = bits[12] = 1
    bits.toggle_bit(3)
    del bits[0]
    assert [i for i in range(13) if bits[i]] == [3, 12]
    assert (len(bits), bytes(bits.value)) == (13, b"\x08\x10")
    for wrong in (-1, 13):
        with pytest.raises(IndexError, match="out of range"):
            bits[wrong]
        with pytest.raises(IndexError, match="out of range"):
            bits[wrong] = 1
    for size, kind in ((-1, ValueError), (True, TypeError), ("8", TypeError)):
        with pytest.raises(kind, match="size"):
            BitArray(size)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_forgets_nothing_and_seldom_lies(kind: Any) -> None:
    seen = kind(500, 0.01)
    added = [str(number) for number in range(500)]
    assert sum(seen.add(key) for key in added) == len(seen) > 480
    assert all(seen.exists(key) for key in added)
    assert not any(seen.add(key) for key in added)
    assert sum(seen.exists(f"other {number}") for number in range(5000)) < 150
    for key in ("", "🚀", "a" * 1000, "\ud800"):
        seen.add(key)
        assert seen.exists(key)


def test_a_chain_grows_by_what_it_holds() -> None:
    seen = ScalableBloomFilter(10, 0.1)
    assert (seen.chains, seen.active.number_of_elements) == (1, 10)
    for number in range(100):
        seen.add(str(number))
    assert seen.chains == 4, "10, 20, 40 and 80 elements"
    assert seen.active.false_positive_rate == pytest.approx(0.0125)
    with pytest.raises(NotImplementedError):
        _ = seen.value


def test_bad_filters() -> None:
    for arguments in ((0, 0.1), (10, 1), (10, float("nan"))):
        with pytest.raises(ValueError, match="must be"):
            BloomFilter(*arguments)
    for arguments in ((1.5, 0.1), (10, "1")):
        with pytest.raises(TypeError, match="must be"):
            BloomFilter(*arguments)
    for options in ({"tightening": 1}, {"growth": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            ScalableBloomFilter(10, 0.1, **options)  # type: ignore[arg-type]
    assert BloomFilter(100, -0.1).size == BloomFilter(100, 0).size == 100


def test_they_are_the_same_in_every_process() -> None:
    program = (
        "from flexcache_rs.pycache.collections.bloomfilters import BloomFilter as B\n"
        "b = B(100, 0.01); b.add('key'); print(b.value.hex())"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seen = BloomFilter(100, 0.01)
    seen.add("key")
    assert other.stdout.strip() == seen.value.hex()


@pytest.mark.parametrize("adapter", ["InMemory", "SQLite"])
def test_they_come_back_as_what_they_were(adapter: str, tmp_path: Path) -> None:
    async def main() -> None:
        cache = PyCache(InMemory() if adapter == "InMemory" else SQLite(tmp_path / "cache.db"))
        async with cache.session() as session:
            bits = BitArray(9)
            bits[8] = 1
            await session.set("bits", datatypes.BitArray(bits))
            bits[0] = 1
            found = await session.get("bits", datatypes.BitArray)
            assert (type(found), found[8], found[0]) == (BitArray, 1, 0), "what was stored is a copy"
            for kind in KINDS:
                seen = kind(5, 0.01)
                for key in "abcdefgh":
                    seen.add(key)
                await session.batch_set({"filter": datatypes.BloomFilter(seen)})
                found = await session.get("filter")
                assert (type(found), len(found), found.size, found.chains) == (kind, len(seen), seen.size, seen.chains)
                assert all(found.exists(key) for key in "abcdefgh")
                assert not found.add("a")
                with pytest.raises(KindError):
                    await session.get("filter", datatypes.BitArray)
            await session.set("map", datatypes.Map({"tuple": (1, 2)}))
            assert await session.get("map") == {"tuple": (1, 2)}

    asyncio.run(main())
    for wrong in (datatypes.BitArray, datatypes.BloomFilter):
        with pytest.raises(TypeError, match="Invalid type"):
            wrong(b"")


@pytest.mark.usefixtures("temporary_files")
@pytest.mark.parametrize("module", [bitarray, bloomfilters], ids=lambda module: module.__name__)
def test_examples_in_docstrings(module: Any) -> None:
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed
