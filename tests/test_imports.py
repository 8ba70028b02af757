"""Importing the package imports no module that takes longer to import than the package itself."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import flexcache_rs

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

# What a cache in memory needs only where a function is memoized, or a coroutine waits for another process.
LATER = {"collections", "functools", "operator", "types", "warnings", "weakref"}


@pytest.mark.parametrize(
    ("module", "dear"),
    [("flexcache_rs", DEAR | LATER), ("flexcache_rs.disk", DEAR), ("flexcache_rs.cachetools", DEAR)],
)
def test_an_import_brings_in_little(module: str, dear: set[str]) -> None:
    # Run isolated, so that imports of an editable installation do not count.
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{IMPORTED.format(module=module)}"]
    imported = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert "flexcache_rs" in imported
    assert not dear & set(imported)


LISTS = """
import importlib, inspect, sys
sys.modules["django"] = None
module = importlib.import_module("{name}")
exported = set(module.__all__) - {{"DjangoCache"}}
assert exported <= set(dir(module)), exported - set(dir(module))
members = dict(inspect.getmembers(module))
assert all(members[name] is getattr(module, name) for name in exported)
"""


@pytest.mark.parametrize(
    "name", ["", ".cachetools", ".disk", ".disk.core", ".diskcache_rs", ".pycache", ".remote", ".sessions", ".shared"]
)
def test_names_that_are_imported_on_first_use_are_listed_before(name: str) -> None:
    """Completion in an interactive session and help() find them, also without Django."""
    program = LISTS.format(name=f"flexcache_rs{name}")
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)


def test_a_zip_file_without_the_extension_module_says_so(tmp_path: Path) -> None:
    package = Path(flexcache_rs.__file__).parent
    with zipfile.ZipFile(tmp_path / "application.zip", "w") as archive:
        for path in package.glob("*.py"):
            archive.write(path, f"flexcache_rs/{path.name}")
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'application.zip')!r}); import flexcache_rs"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert "ModuleNotFoundError: No module named 'flexcache_rs._core': " in done.stderr
    assert "application.zip" in done.stderr.splitlines()[-1]
    assert sys.implementation.cache_tag in done.stderr.splitlines()[-1]
