"""Valgrind finds no invalid access and no leak in our code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"
VALGRIND = shutil.which("valgrind")

pytestmark = [
    pytest.mark.valgrind,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(VALGRIND is None, reason="needs valgrind"),
]


MANY = 30
"""The number of lost blocks that counts as a leak of a call. The interpreter itself loses some strings at its exit."""


def errors_of_ours(report: Path) -> list[str]:
    """Return the kind and place of each error whose stack has a frame of the extension.

    Of lost blocks, only those count that the extension itself allocated, and objects that are lost repeatedly.
    """
    found = []
    for error in ET.parse(report).getroot().iter("error"):
        frames = [
            f"{frame.findtext('fn', '?')} in {frame.findtext('obj', '?')}"
            for stack in error.iter("stack")
            for frame in stack.iter("frame")
        ]
        blocks = int(error.findtext("xwhat/leakedblocks", "0"))
        callers = frames if blocks == 0 or blocks >= MANY else frames[1:2]
        if blocks and any("import_find_and_load" in frame for frame in frames):
            # An import allocates memory for classes and methods, which is never freed.
            continue
        if any("flexcache_rs" in frame for frame in callers):
            found.append("\n    ".join([error.findtext("kind", "?"), *frames]))
    return found


def watched(program: Path, report: Path) -> subprocess.CompletedProcess[str]:
    """Run a program under valgrind, with a separate allocation for each Python object."""
    assert VALGRIND is not None
    command = [
        *(VALGRIND, "--leak-check=full", "--show-leak-kinds=definite", "--undef-value-errors=no"),
        *("--num-callers=40", "--error-limit=no", "--xml=yes", f"--xml-file={report}", sys.executable, str(program)),
    ]
    environment = {**os.environ, "PYTHONMALLOC": "malloc"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1400)


def test_every_call(tmp_path: Path) -> None:
    """The program makes every call of a cache in memory, on the fast path and off it."""
    report = tmp_path / "report.xml"
    done = watched(PROGRAMS / "every_call.py", report)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
    found = errors_of_ours(report)
    assert not found, "\n".join(found)
