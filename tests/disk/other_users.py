"""Programs of other users, and directories that these may read."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator


def printed(*command: object) -> Any:
    """Run a command, and return what it printed, as JSON."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@contextlib.contextmanager
def readable_directory() -> Generator[Path]:
    """A temporary directory that every user may read, which pytest's are not."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    for sub in path.glob("**/"):
        sub.chmod(0o755)
    shutil.rmtree(path)
