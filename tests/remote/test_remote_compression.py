"""Compressed values of a `RemoteCache`. Every cache reads them, and damage is detected."""

from __future__ import annotations

import os
from typing import Any

import pytest

from flexcache_rs.remote import RemoteValueError

Make = "Callable[..., Any]"


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_values(make: Make, raw: Any, compression: str) -> None:
    """Every cache reads them. Values that would not become smaller are not compressed."""
    cache, other = make(compression=compression), make()
    values = {
        "text": "flex" * 1000,
        "bytes": b"cache" * 1000,
        "list": list(range(1000)),
        "short": "x" * 100,
        "random": os.urandom(1000),
        "int": 10**400,
        "none": None,
    }
    for key, value in values.items():
        cache.put(key, value, tags=("tag",))
    assert other.get_many(values) == values
    assert raw.strlen("test:{text}") < 200
    assert raw.strlen("test:{random}") > 1000
    other.put("text", "flex" * 1000)
    assert cache.compare_and_set("text", "flex" * 1000, "other" * 1000)
    assert other.fresh("text") == "other" * 1000
    cache.evict_tag("tag")
    assert other.fresh("list") is None


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_damaged_compressed_values(make: Make, raw: Any, compression: str) -> None:
    """Each changed or missing byte is detected. The error names the key, and get_or_set computes."""
    cache = make(compression=compression)
    cache["key"] = "flex" * 200
    data = raw.get("test:{key}")
    for number in range(len(data) - 22):
        at = 22 + number
        damaged = data[:at] if number % 2 else data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        raw.set("test:{key}", damaged)
        with pytest.raises(RemoteValueError, match="'key'"):
            cache.fresh("key")
    assert cache.get_or_set("key", lambda: "anew") == "anew"
