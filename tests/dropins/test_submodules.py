"""Modules of a package are its attributes, whether something has imported them or not."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
from scale import may_skip

NEED_DJANGO = {"djangocache"}

MODULES = {
    "cachetools": ["func", "keys"],
    "disk": ["core", "djangocache", "fanout", "persistent", "recipes"],
    "diskcache_rs": [
        *("cache", "constants", "disk", "djangocache", "fast_cache", "pickle_cache", "recipes"),
    ],
    "pycache": ["adapters", "collections", "datatypes", "decorators", "migrate", "py_cache", "snapshot", "sql"],
    "sciqlop": ["serializers"],
    "sessions": ["sync"],
}

PROGRAM = """
import sys
from flexcache_rs import {package}
print({package}.{module}.__name__)
assert {package}.{module} is sys.modules["flexcache_rs.{package}.{module}"]
assert not hasattr({package}, "no_such_module")
"""


@pytest.mark.parametrize(("package", "module"), [(package, name) for package in MODULES for name in MODULES[package]])
def test_a_module_is_an_attribute(package: str, module: str) -> None:
    """In a new process, where no other module has been imported before."""
    if module in NEED_DJANGO and may_skip("django", find_spec("django")):
        pytest.skip("Django is not installed")
    command = [sys.executable, "-c", PROGRAM.format(package=package, module=module)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stderr, done.stdout) == ("", f"flexcache_rs.{package}.{module}\n")
