"""Tests of the tests: with a rule of the tracker switched off, the test of that rule must fail.

Builds with the cargo feature `negative-controls` read `FLEXCACHE_DISABLE_RULE`. Other builds have no such switch.

| rule | what is switched off |
| --- | --- |
| own_commits | whether a commit was ours is not checked: a foreign one passes for it |
| incarnation | a reopened store keeps the identity of its version |
| epoch_before_commit | the keys of a write are not invalidated before its commit |
| epoch_after_commit | nor, for the second rule, after it |
| no_stamp_in_flight | what is read during a write gets a stamp |
| transactions | memory is not bypassed in a transaction of the own thread |
| equality | memory compares keys as Python does, whatever the store does |
| batch_stamp | the keys of a batch are not invalidated |
| fill_stamp | the stamp of what a read brings is taken after the read |
| leases | a load computes without asking for a lease |
| landing_lease | a load is stored whether its lease is there or not |
| absence | that a key is absent is believed whatever its stamp |
| recorded_reads | without a GIL, what threads read at once from a shard is not applied |
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from scale import may_skip

from flexcache_rs import _core

HERE = Path(__file__).parent
RULES = "test_store_rules.py"
COMMITS = "test_store_commits.py"
LEASES = "test_store_leases.py"
LOADS = "test_store_loads.py"
RACES = "test_store_races.py"
NOTHING = f"{RULES}::test_a_write_that_wrote_nothing_does_not_hide_another_process"

TESTS: dict[str, tuple[str, ...]] = {
    "own_commits": (
        f"{NOTHING}[disk-wal-set_many-empty]",
        f"{RULES}::test_an_own_write_does_not_hide_another_process[disk-wal]",
    ),
    "incarnation": (f"{RULES}::test_a_store_that_was_closed_and_reopened[disk-wal-the kind's]",),
    "epoch_before_commit": (f"{COMMITS}::test_the_old_value_is_not_served_after_the_commit[minimal-second-cache-put]",),
    "epoch_after_commit": (f"{COMMITS}::test_what_was_read_before_a_commit_is_not_kept[minimal-second-cache-put]",),
    "no_stamp_in_flight": (
        f"{COMMITS}::test_what_was_read_before_a_commit_is_not_served_after_it[minimal-second-cache-put]",
    ),
    "transactions": (f"{RULES}::test_own_writes_in_an_own_transaction[disk-wal]",),
    "equality": (f"{RULES}::test_equal_numbers_of_different_types[disk-wal]",),
    "batch_stamp": (f"{RACES}::test_writes_of_many_keys_beside_readers[disk-wal-set_many]",),
    "absence": (
        "test_store_absent_keys.py::test_a_write_ends_an_absence[disk-wal-put]",
        "test_store_absent_keys.py::test_another_process_ends_an_absence[disk-wal]",
    ),
    "fill_stamp": (f"{COMMITS}::test_a_write_of_the_users_during_a_read[get]",),
    "leases": (f"{LEASES}::test_a_caller_gets_what_another_process_computes[disk-wal-get_or_set]",),
    "landing_lease": (
        f"{LOADS}::test_a_write_of_another_process_outlives_a_computation[disk-wal]",
        f"{LOADS}::test_a_write_from_elsewhere_outlives_a_computation[user-complete-second cache]",
    ),
}
"""The tests that must fail with a rule switched off."""

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    # The other rules of the lock are controlled in its model under loom: without them, threads would meet in memory.
    TESTS["recorded_reads"] = tuple(
        f"../test_threads.py::test_reads_at_once_count_and_reach_the_policy[{name}]" for name in ("lru-4", "sieve-1")
    )

pytestmark = pytest.mark.skipif(
    may_skip("negative-controls", _core._has_negative_controls()),
    reason="this build has no switches for rules (cargo feature negative-controls)",
)


@pytest.mark.parametrize("rule", [None, *TESTS])
def test_a_rule_that_is_switched_off_is_missed(rule: str | None) -> None:
    """Every one of its tests fails; with all rules in place every one of them passes."""
    tests = [test for each in TESTS if rule in (each, None) for test in TESTS[each]]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "FLEXCACHE_DISABLE"))
    }
    if rule is not None:
        environment["FLEXCACHE_DISABLE_RULE"] = rule
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(HERE / test) for test in tests)]
    run = subprocess.run(command, cwd=HERE.parent.parent, env=environment, capture_output=True, text=True, timeout=110)
    failed = sum(map(int, re.findall(r"(\d+) failed", run.stdout)))
    passed = sum(map(int, re.findall(r"(\d+) passed", run.stdout)))
    assert (failed, passed) == ((0, len(tests)) if rule is None else (len(tests), 0)), run.stdout


def test_the_background_thread_survives_a_panic() -> None:
    """The bug is logged, and what is handed to the thread afterwards is done."""
    program = """
import flexcache_rs
from flexcache_rs import _core

class Awaited:
    async def aclose(self):
        print("closed", flush=True)

_core._panic_in_background()
with flexcache_rs.FlexCache() as cache:
    cache["key"] = Awaited()
print("panics", _core._panics())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == ["closed", "panics", "1"], run.stderr
    assert "a panic on purpose" in run.stderr
