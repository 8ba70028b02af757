"""SciQLop-cache's own tests, run with `flexcache_rs.sciqlop` under its name.

The tests that fail are listed, each with what it touches that is no part of the other library's interface. The
list may only shrink: one that is listed and passes fails the run.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest
from scale import SCALE, may_skip
from upstream import TIMEOUT, Distribution, run

if TYPE_CHECKING:
    from pathlib import Path

SCIQLOP = Distribution(
    "pysciqlop-cache",
    "0.3.6",
    "d790e30463b3cc3e063a6b95b7c65ee8c5917d840ae1911ee6b87af43960f07d",
    "sciqlop-suite",
    backend="mesonpy",
    folder="tests/python",
)

SHIMS = {
    "pysciqlop_cache": """
import sys
import types

import flexcache_rs.sciqlop
from flexcache_rs.sciqlop import migrate, serializers

# What the tests import from inside: without it their files would not load.
inside = types.ModuleType("pysciqlop_cache._pysciqlop_cache")
inside.BLOSC2_AVAILABLE = False
migrate._iter_diskcache_entries = migrate._UNREADABLE = None
sys.modules["pysciqlop_cache._pysciqlop_cache"] = inside
sys.modules["pysciqlop_cache.migrate"], sys.modules["pysciqlop_cache.serializers"] = migrate, serializers
sys.modules["pysciqlop_cache"] = flexcache_rs.sciqlop
""",
    # One process cannot have a directory open with two copies of SQLite.
    "diskcache": """
import sys

import flexcache_rs.disk

sys.modules["diskcache"] = flexcache_rs.disk
""",
}

NOT_RUN = {
    # They compare times, run for minutes, or need luck.
    *("test_perf_vs_diskcache.py", "test_torture.py", "test_hypothesis.py", "test_pool_reuse_fork_safety.py"),
    # They use the compiled classes below the public ones.
    "test_mapped_file_sharing.py",
    # They look at when files are removed, and limit a cache to less than an empty database takes.
    *("test_trash_deferred_delete.py", "test_lru_batching.py"),
}

LONG = {"test_free_threading.py", "test_concurrency_bugs.py", "test_fork_safety.py"}
"""What runs at full scale only."""

EXPECTED_FAILURES = {
    # The file of the other library's database is locked.
    "test_diskcache_compat.TestTimeout.test_timeout_is_raised_when_db_stays_locked",
    "test_diskcache_compat.TestTimeout.test_timeout_on_fanout",
    # Private functions of the migration are called.
    "test_migrate.IterDiskcacheEntries.test_skips_an_entry_that_cannot_be_deserialized_instead_of_raising",
    "test_migrate.IterDiskcacheEntries.test_yields_every_readable_entry",
    "test_migrate.MigrateHelpers.test_existing_ancestor_and_empty_directories",
    "test_migrate.MigrateHelpers.test_remaining_ttl",
    "test_migrate.MigrateMoveMode.test_preflight_estimate_is_smaller_in_move_mode",
    "test_migrate.MigratePreflightBoundary.test_exactly_enough_space_passes_and_one_byte_less_fails",
    "test_migrate.MigratePreflightBoundary.test_size_helpers_on_a_missing_path",
    # The compiled classes and functions below the public ones are used.
    "test_pickle_oob.TestErrorPaths.test_decode_buffers_rejects_an_alloc_of_the_wrong_size",
    "test_pickle_oob.TestInCache.test_raw_binding_rejects_non_buffer_values",
    "test_python_interface.TestMemoryViewLifetime.test_memoryview_from_temporary_buffer_dangling",
    "test_set_write_failure.SetWriteFailure.test_chunked_set_and_add_raise",
    "test_store_parity.KeyEncodingOnDisk.test_stored_key_strings",
    "test_store_parity.RawBindingEdgeCases.test_an_empty_value_reads_back_as_an_empty_memoryview",
}
EXPECTED_FAILURES_OF_LONG = {
    # The compiled classes below the public ones are used.
    "test_concurrency_bugs.BindingsReleaseGilWhileWaiting.test_no_binding_holds_gil_while_blocking",
    "test_concurrency_bugs.CppIncrInsideTransact.test_underlying_incr_inside_transact",
    "test_concurrency_bugs.CursorOutlivesStore.test_cursor_keeps_store_alive",
    # The database is changed by its SQL.
    "test_concurrency_bugs.GetFallbackPathAware.test_get_fallback_does_not_delete_after_path_mutation",
    "test_concurrency_bugs.GetFallbackPathAware.test_get_fallback_only_removes_row_when_path_matches",
}

TESTS = 309
TESTS_OF_LONG = 24


@pytest.mark.timeout(TIMEOUT)
def test_upstream(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every test passes but those that are listed."""
    for module in ("numpy", "msgspec"):
        if may_skip("sciqlop-suite", importlib.util.find_spec(module)):
            pytest.skip(f"{module} is not installed")
    shim = tmp_path / "shim"
    shim.mkdir()
    SCIQLOP.unpack(request.config, tmp_path)
    for name, code in SHIMS.items():
        (shim / f"{name}.py").write_text(code)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    is_full = SCALE >= 1
    for file in NOT_RUN if is_full else NOT_RUN | LONG:
        (tmp_path / "tests" / file).unlink()
    results, output = run(tmp_path, shim, options=("-n", "2"))
    failed = {name for name, result in results.items() if result not in {"passed", "skipped"}}
    assert failed == EXPECTED_FAILURES | (EXPECTED_FAILURES_OF_LONG if is_full else set()), output[-10_000:]
    assert len(results) == TESTS + (TESTS_OF_LONG if is_full else 0)
