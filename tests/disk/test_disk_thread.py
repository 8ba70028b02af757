"""The thread that writes logs back starts when it is needed, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from drivers import PROGRAMS

if TYPE_CHECKING:
    from pathlib import Path

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the program looks at /proc")


@needs_linux
@pytest.mark.parametrize("way", ["reads", "writes", "shards", "closes", "forks", "files", "exits", "bound", "never"])
def test_the_thread(tmp_path: Path, way: str) -> None:
    """The program describes what each case checks."""
    command = [sys.executable, "-X", "faulthandler", str(PROGRAMS / "disk_thread.py"), str(tmp_path / "cache"), way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    if way == "exits":
        assert not list(tmp_path.rglob("*.val"))
