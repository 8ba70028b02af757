"""diskcache_rs's own tests, run with `flexcache_rs.diskcache_rs` under its name.

The tests that fail are listed, each with what it touches that is no part of the other library's interface. The
list may only shrink: one that is listed and passes fails the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from upstream import TIMEOUT, Distribution, run

if TYPE_CHECKING:
    from pathlib import Path

DISKCACHE_RS = Distribution(
    "diskcache-rs",
    "0.4.10",
    "7eca3923717ac69197143ec6452a8a65d388c70497e463bc30fc92495b6d1385",
    "diskcache-rs-suite",
    backend="maturin",
)

SHIMS = {
    "diskcache_rs": """
import sys
from importlib import import_module

sys.modules["diskcache_rs"] = import_module("flexcache_rs.diskcache_rs")
for name in ("cache", "constants", "disk", "fast_cache", "recipes"):
    sys.modules[f"diskcache_rs.{name}"] = import_module(f"flexcache_rs.diskcache_rs.{name}")
""",
    # One process cannot have a directory open with two copies of SQLite.
    "diskcache": """
import sys

import flexcache_rs.disk

sys.modules["diskcache"] = flexcache_rs.disk
""",
}

NOT_RUN = {
    # They compare times, or want Docker.
    *("benchmark_official.py", "test_ci_benchmark.py", "test_docker_network.py", "test_performance.py"),
    # The switch between two ways to pickle is inside.
    "test_rust_pickle_performance.py",
}

EXPECTED_FAILURES = {
    # Files of the directory are looked for, by the names that they have there.
    "test_batch_operations.TestBatchOperations.test_overwrite_large_value_with_small_value_removes_stale_disk_file",
    "test_batch_operations.TestBatchOperations.test_set_many_overwrite_removes_stale_disk_file",
    "test_issue_125_djangocache_multiprocess.test_cache_upgrades_legacy_sqlite_index_schema",
    "test_issue_17_configurable_threshold.test_disk_write_threshold_custom_large",
    "test_issue_17_configurable_threshold.test_disk_write_threshold_custom_zero",
    "test_issue_17_configurable_threshold.test_disk_write_threshold_default",
    "test_version_and_disk_threshold.TestDiskFileVisibility.test_cache_persistence_across_instances",
    "test_version_and_disk_threshold.TestDiskWriteThreshold.test_medium_data_stays_inline",
    "test_version_and_disk_threshold.TestDiskWriteThreshold.test_multiple_entries_disk_persistence",
    # The stand-in for a disk that a cache has there is used; here it is python-diskcache's.
    "test_full_api_compatibility.TestCacheDiskProperty.test_disk_fetch",
    "test_full_api_compatibility.TestCacheDiskProperty.test_disk_store",
    "test_recipes_and_constants.TestDisk.test_disk_init",
    "test_recipes_and_constants.TestDisk.test_disk_store_bytes",
    "test_recipes_and_constants.TestJSONDisk.test_jsondisk_init",
    # The private `_get_shard` is called.
    "test_issue_73_deterministic_hashing.TestDeterministicShardAssignment.test_fanout_cache_shard_consistency",
    *(
        f"test_issue_73_deterministic_hashing.TestDeterministicShardAssignment.test_{name}"
        for name in (
            "fanout_cache_shard_does_not_use_builtin_hash",
            "fast_fanout_cache_shard_consistency",
            "fast_fanout_cache_shard_does_not_use_builtin_hash",
        )
    ),
    "test_issue_73_deterministic_hashing.TestShardDistribution.test_same_keys_always_same_shard",
    "test_issue_73_deterministic_hashing.TestShardDistribution.test_shard_distribution_is_reasonable",
    # A helper of the recipes makes python-diskcache's keys here.
    "test_recipes_and_constants.TestRecipeUtilities.test_args_to_key_basic",
    "test_recipes_and_constants.TestRecipeUtilities.test_args_to_key_empty",
    "test_recipes_and_constants.TestRecipeUtilities.test_args_to_key_typed",
    # The private `_cache` is called.
    "test_special_chars_keys.TestAutoDeserialization.test_json_deserialization",
    "test_special_chars_keys.TestAutoDeserialization.test_mixed_formats",
    "test_special_chars_keys.TestAutoDeserialization.test_text_deserialization",
    # The version of that library.
    "test_version_and_disk_threshold.TestVersionManagement.test_version_format",
}

TESTS = 370


@pytest.mark.timeout(TIMEOUT)
def test_upstream(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every test passes but those that are listed."""
    shim = tmp_path / "shim"
    shim.mkdir()
    DISKCACHE_RS.unpack(request.config, tmp_path)
    for name, code in SHIMS.items():
        (shim / f"{name}.py").write_text(code)
    markers = "\n    ".join(f"{name}: theirs" for name in ("benchmark", "slow", "network", "cloud_drive", "docker"))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nmarkers =\n    {markers}\n")
    for file in NOT_RUN:
        (tmp_path / "tests" / file).unlink()
    results, output = run(tmp_path, shim, options=("-n", "2"))
    failed = {name for name, result in results.items() if result not in {"passed", "skipped"}}
    assert failed == EXPECTED_FAILURES, output[-10_000:]
    assert len(results) == TESTS
