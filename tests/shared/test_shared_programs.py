"""The programs of docs/shared-programs.md: each runs by itself, and prints what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "shared-programs.md"
PROGRAM = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
PROGRAMS: list[tuple[str, str]] = PROGRAM.findall(PAGE.read_text("utf-8"))


def test_every_program_is_found() -> None:
    assert len(PROGRAMS) == PAGE.read_text("utf-8").count("```python") == 3


@pytest.mark.parametrize("number", range(3))
def test_program(number: int, tmp_path: Path) -> None:
    """In a file of its own, as workers that are spawned import it."""
    program, output = PROGRAMS[number]
    file = tmp_path / "program.py"
    file.write_text(program)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=100, check=False)
    assert (done.stdout, done.returncode) == (output, 0), done.stderr
