"""Importing the package imports no module that takes longer to import than the package itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORTED = """
import sys
before = set(sys.modules)
import {module}
print(*sorted(name for name in set(sys.modules) - before if "." not in name))
"""
DEAR = {
    "asyncio",
    "concurrent",
    "enum",
    "inspect",
    "logging",
    "pickle",
    "re",
    "socket",
    "sqlite3",
    "tempfile",
    "typing",
}


@pytest.mark.parametrize("module", ["flexcache_rs", "flexcache_rs.disk", "flexcache_rs.cachetools"])
def test_an_import_brings_in_little(module: str) -> None:
    # Run isolated, so that imports of an editable installation do not count.
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{IMPORTED.format(module=module)}"]
    imported = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert "flexcache_rs" in imported
    assert not DEAR & set(imported)
