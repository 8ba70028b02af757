"""The directories of processes that died. Every call that returned took effect, and there is no damage."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from drivers import PROGRAMS

from flexcache_rs.disk import Cache

if TYPE_CHECKING:
    from pathlib import Path

SCALE = float(os.environ.get("FLEXCACHE_TEST_SCALE", "0.1"))
"""Which part of the random trials to run: 1 is all of them, which takes minutes."""

KILLS = max(20, round(500 * SCALE))

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

EXIT_AFTER_A_SPILL = """
import os, sys
from flexcache_rs.disk import Cache
cache, count = Cache(sys.argv[1], sqlite_cache_size=10), int(sys.argv[2])
cache["before"] = 1
with cache.transact():
    for number in range(count):
        cache[number] = bytes([number % 256]) * 3000
    for number in range(0, count, 3):
        cache[number] = b"y" * 2999
cache["after"] = 1
os._exit(0)
"""


@pytest.mark.parametrize("synchronous", [1, 2])
@pytest.mark.parametrize("count", [60, 61, 63, 201])
def test_a_transaction_that_spilled_survives_an_exit(tmp_path: Path, count: int, synchronous: int) -> None:
    """A transaction that spilled survives an exit, and so do the entries that were stored after it."""
    Cache(tmp_path, sqlite_synchronous=synchronous).close()
    subprocess.run([sys.executable, "-c", EXIT_AFTER_A_SPILL, tmp_path, str(count)], check=True, timeout=60)
    with Cache(tmp_path) as cache:
        expected = {number: bytes([number % 256]) * 3000 if number % 3 else b"y" * 2999 for number in range(count)}
        assert {key: cache[key] for key in cache} == {"before": 1, "after": 1} | expected
        assert cache.check() == []


@needs_fork
@pytest.mark.timeout(300 + 2 * KILLS)
def test_kills_in_transactions_that_spill(tmp_path: Path) -> None:
    """No call that returned is lost, and nothing is damaged. Some of the kills did hit a transaction."""
    seed = random.randrange(10**6)
    print("seed", seed)
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", str(PROGRAMS / "disk_killed_spills.py")]
    command += [str(tmp_path), str(KILLS), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50 + 2 * KILLS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.match(r"done: (\d+) transactions, (\d+) of (\d+) kills", done.stdout)
    assert told, done.stdout
    assert int(told[2]) > 0, "no kill hit a transaction: nothing was tested"
