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

PROCESSES, CALLERS = 4, 10


@contextlib.contextmanager
def worker(kind: Kind, directory: Path, how: str, callers: int, all_callers: int) -> Iterator[subprocess.Popen[str]]:
    """A process of `store_worker.py`, which does not outlive the block."""
    program = Path(__file__).with_name("store_worker.py")
    command = [sys.executable, str(program), kind.name, str(directory), how, str(callers), str(all_callers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def results_of(kind: Kind, directory: Path, each: list[str]) -> list[str]:
    """What the callers of several processes get who call at once."""
    callers = 1 if each[0].startswith("begin") else CALLERS
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(worker(kind, directory, how, callers, len(each) * callers)) for how in each]
        return [word for process in processes for word in process.communicate(timeout=90)[0].split()]


@pytest.mark.needs(shared=True)
@pytest.mark.in_turn("kind", "how")
@pytest.mark.parametrize("how", ["get_or_set", "memoize", "async memoize"])
def test_many_processes_compute_once(kind: Kind, tmp_path: Path, how: str) -> None:
    """Four processes with ten callers each, threads and tasks; all get the one result."""
    kind.close(kind.make(tmp_path))
    assert results_of(kind, tmp_path, [how] * PROCESSES) == ["KEY"] * (PROCESSES * CALLERS)
    assert (tmp_path / "computed").stat().st_size == 1


@pytest.mark.needs(name="disk-wal")
@pytest.mark.parametrize("how", ["soft_ttl", "async soft_ttl"])
def test_many_processes_refresh_once(kind: Kind, tmp_path: Path, how: str) -> None:
    """All get the result that is still good, while one of them computes another."""
    kind.close(kind.make(tmp_path))
    assert results_of(kind, tmp_path, [f"begin {how}"]) == ["KEY"]
    (tmp_path / "arrived").unlink()
    assert results_of(kind, tmp_path, [how] * PROCESSES) == ["KEY"] * (PROCESSES * CALLERS)
    assert (tmp_path / "computed").stat().st_size == 2


@pytest.mark.needs(name="disk-wal")
@pytest.mark.parametrize("how", ["memoize", "async memoize"])
def test_who_finds_nothing_waits_for_a_refresh(kind: Kind, tmp_path: Path, how: str) -> None:
    """`refresh()` computes; the others do not."""
    kind.close(kind.make(tmp_path))
    with worker(kind, tmp_path, f"refresh {how}", 1, 1 + CALLERS) as refreshing:
        while not (tmp_path / "computed").exists():
            assert refreshing.poll() is None
        with worker(kind, tmp_path, how, CALLERS, 1 + CALLERS) as waiting:
            results = [word for process in (refreshing, waiting) for word in process.communicate(timeout=90)[0].split()]
    assert results == ["KEY"] * (1 + CALLERS)
    assert (tmp_path / "computed").stat().st_size == 1


@pytest.mark.needs(name="disk-wal")
def test_a_process_that_dies_while_it_computes(kind: Kind, tmp_path: Path) -> None:
    """The others wait for its lease at most, and one of them computes."""
    kind.close(kind.make(tmp_path))
    with worker(kind, tmp_path, "for-ever", 1, 0) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "computing\n"
        with worker(kind, tmp_path, "get_or_set", CALLERS, 1 + CALLERS) as waiter:
            holder.kill()
            assert waiter.communicate(timeout=60)[0].split() == ["KEY"] * CALLERS
    assert (tmp_path / "computed").stat().st_size == 2
