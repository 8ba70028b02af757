"""Reaches a limit of the process, and prints the exceptions of calls that need more.

Arguments: the limit, a directory, and a file for a snapshot.
"""

from __future__ import annotations

import os
import resource
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flexcache_rs.lilcache as lilcache
from flexcache_rs import FlexCache
from flexcache_rs.disk import Cache
from flexcache_rs.sessions.sync import connect
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from collections.abc import Callable

place = Path(sys.argv[2])


def attempt(call: Callable[[], Any]) -> None:
    try:
        call()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
    else:
        print("done")


def descriptors() -> None:
    """Take all descriptors."""
    connect(f"disk://{place / 'used'}").set("key", 1)
    assert sqlite3.OperationalError  # the module cannot be imported afterwards
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            os.open(os.devnull, os.O_RDONLY)
    except OSError:
        pass
    attempt(lambda: Cache(place / "cache"))
    attempt(lambda: connect(f"disk://{place / 'sessions'}"))
    attempt(lambda: SharedCache(place / "shared"))
    attempt(lambda: FlexCache(max_items=5, record=place / "trace"))


def length() -> None:
    """Let no file become longer than 100,000 bytes."""
    cache = Cache(place / "cache")
    session = connect(f"disk://{place / 'sessions'}")
    memory = connect("memory://", snapshot=str(place / "snapshots"), snapshot_every=3600)
    lilcache.init("lil", root=place)
    lilcache.set("key", os.urandom(200_000))
    memory.set("key", os.urandom(200_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    attempt(lambda: [cache.set(number, b"v" * 3_000) for number in range(100)])
    attempt(lambda: [session.set(str(number), "v" * 3_000) for number in range(100)])
    attempt(lambda: cache.set("file", b"f" * 200_000))
    attempt(memory.snapshot)
    attempt(lambda: lilcache.snapshot(place / "lilcache"))
    assert cache.get(0) == b"v" * 3_000
    assert session.get("0") == "v" * 3_000
    assert cache.check() == []
    assert [path.name for path in place.rglob("*") if path.suffix == ".val" or "tmp" in path.name] == []
    memory.delete("key")
    lilcache.destroy()


def addresses() -> None:
    """Leave no addresses for a cache of 64 MiB, and for a key of 64 MiB."""
    cache, text = Cache(place / "cache"), "a" * (64 << 20)
    with SharedCache(place / "shared", max_bytes=1 << 20) as shared:
        shared["key"] = 1
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (32 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    attempt(lambda: SharedCache(place / "large", max_bytes=64 << 20))
    with SharedCache(place / "shared", max_bytes=1 << 20) as shared:
        assert shared["key"] == 1
    with suppress(MemoryError):
        cache.get((text, 1))
        raise AssertionError


place.chmod(0o700)
globals()[sys.argv[1]]()
