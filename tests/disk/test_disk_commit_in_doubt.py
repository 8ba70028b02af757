"""Commits that fail at their very end. Either all of the transaction is stored, or nothing of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from flexcache_rs.disk import Cache

PROGRAM = """
import inspect, os, resource, signal, sqlite3, sys
from flexcache_rs.disk import Cache
# Root may delete everywhere. Where the interpreter lies may be closed to others, so this comes after the imports.
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
directory, way = sys.argv[1:]
cache = Cache(directory)
try:
    with cache.transact():
        for number in range(5):
            cache[number] = "new" * (4 if number % 2 else 5000)
        if way == "the journal cannot be deleted":
            os.chmod(directory, 0o555)
        else:
            size = os.path.getsize(directory + "/cache.db-wal")
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
except (sqlite3.OperationalError, PermissionError) as error:
    print(type(error).__name__)
finally:
    os.chmod(directory, 0o755)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the modes and limits are Unix's")
@pytest.mark.filterwarnings("ignore:the cache directory .* belongs to user 65534")
@pytest.mark.parametrize("way", ["the journal cannot be deleted", "the log cannot grow"])
def test_a_commit_that_fails_at_its_end(way: str) -> None:
    """The commit raises. After that, the entries and their files belong to one state."""
    place = Path(tempfile.mkdtemp())
    try:
        journal = "wal" if way == "the log cannot grow" else "delete"
        with Cache(place, disk_min_file_size=1000, sqlite_journal_mode=journal) as cache:
            for number in range(5):
                cache[number] = "old" * (4 if number % 2 else 5000)
        if os.getuid() == 0:
            for path in (place, *place.glob("**/*")):
                os.chown(path, 65534, 65534)
        command = [sys.executable, "-c", PROGRAM, str(place), way]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout in ("OperationalError\n", "PermissionError\n"), done.stderr
        with Cache(place) as cache:
            found = {cache[number][:3] for number in range(5)}
            assert found in ({"old"}, {"new"})
            assert {len(cache[number]) for number in range(5)} == {12, 15_000}
            # Files that were kept for the other outcome are left over.
            assert {warning.category.__name__ for warning in cache.check()} <= {"UnknownFileWarning", "EmptyDirWarning"}
            cache[0] = "again"
            assert cache[0] == "again"
    finally:
        shutil.rmtree(place)
