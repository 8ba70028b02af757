"""One computation for all processes that use a directory: `get_or_set` and `memoize` reach beyond the process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from store_kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESSES, THREADS = 4, 10
LEASE = 30
"""Seconds for which a process that died may keep the others waiting."""


@contextlib.contextmanager
def worker(kind: Kind, directory: Path, how: str, threads: int, callers: int) -> Iterator[subprocess.Popen[str]]:
    """A process of `store_worker.py`, which does not outlive the block."""
    program = Path(__file__).with_name("store_worker.py")
    command = [sys.executable, str(program), kind.name, str(directory), how, str(threads), str(callers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.xfail(reason="processes have no leases yet", strict=True)
@pytest.mark.needs(shared=True)
@pytest.mark.parametrize("how", ["get_or_set", "memoize"])
def test_many_processes_compute_once(kind: Kind, tmp_path: Path, how: str) -> None:
    """Four processes with ten threads each; all get the one result."""
    kind.close(kind.make(tmp_path))
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(worker(kind, tmp_path, how, THREADS, PROCESSES * THREADS)) for _ in range(PROCESSES)
        ]
        results = [word for process in processes for word in process.communicate(timeout=90)[0].split()]
    assert results == ["KEY"] * (PROCESSES * THREADS)
    assert (tmp_path / "computed").stat().st_size == 1


@pytest.mark.needs(name="disk-wal")
def test_a_process_that_dies_while_it_computes(kind: Kind, tmp_path: Path) -> None:
    """The others wait for its lease at most, and one of them computes."""
    kind.close(kind.make(tmp_path))
    with worker(kind, tmp_path, "for-ever", 1, 0) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "computing\n"
        with worker(kind, tmp_path, "get_or_set", THREADS, 1 + THREADS) as waiter:
            holder.kill()
            assert waiter.communicate(timeout=3 * LEASE)[0].split() == ["KEY"] * THREADS
    assert (tmp_path / "computed").stat().st_size == 2
