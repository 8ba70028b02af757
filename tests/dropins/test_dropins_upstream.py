"""The tests of the libraries that the drop-in modules stand in for.

The tests that fail are listed, each with what it touches that is no part of the other library's interface. The
lists may only shrink: one that is listed and passes fails the run.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from upstream import TIMEOUT, Distribution, run

if TYPE_CHECKING:
    from pathlib import Path

CACHETOOLS = Distribution(
    "cachetools", "8.0.2", "30ac523adfc118b51d2b2e7bad8a0ddb31370dfe2700c7f10ca224f36ccf81e0", "cachetools-suite"
)
ASYNC_LRU = Distribution(
    "async-lru", "2.4.0", "b0b0077d9b7596615b3c12d0aad4f6aeccaaa0ac75ceae472608ede89e764c08", "async-lru-suite"
)

SHIMS = {
    CACHETOOLS: """
import sys

import flexcache_rs.cachetools
from flexcache_rs.cachetools import func, keys

sys.modules["cachetools"] = flexcache_rs.cachetools
sys.modules["cachetools.func"], sys.modules["cachetools.keys"] = func, keys
""",
    ASYNC_LRU: """
import sys

from flexcache_rs import async_lru

# What the tests import for their annotations, and a mapping with the same keys.
async_lru._R, async_lru._CacheParameters = object, dict
async_lru._LRUCacheWrapper.__class_getitem__ = lambda _: None
sys.modules["async_lru"] = async_lru
""",
}

CONFTEST_OF_COROUTINES = """
import asyncio
import inspect

import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "asyncio: runs in an event loop, as all coroutine functions here")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    given = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**given))
    return True
"""

TESTS = {CACHETOOLS: 476, ASYNC_LRU: 93}

EXPECTED_FAILURES = {
    CACHETOOLS: set[str](),
    ASYNC_LRU: {
        # The private timer of a result is looked at; here the cache itself has the time.
        "test_cache_clear.test_cache_clear_ttl_callback",
    },
}


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.skipif(sys.version_info < (3, 11), reason="cachetools 8 needs Python 3.11")
@pytest.mark.parametrize("suite", [CACHETOOLS, ASYNC_LRU], ids=lambda suite: suite.name)
def test_upstream(suite: Distribution, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every test passes but those that are listed."""
    shim = tmp_path / "shim"
    shim.mkdir()
    suite.unpack(request.config, tmp_path)
    (shim / f"{suite.name.replace('-', '_')}.py").write_text(SHIMS[suite])
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    if suite is ASYNC_LRU:
        (tmp_path / "conftest.py").write_text(CONFTEST_OF_COROUTINES)
    results, output = run(tmp_path, shim)
    failed = {name for name, result in results.items() if result not in {"passed", "skipped"}}
    assert failed == EXPECTED_FAILURES[suite], output[-10_000:]
    assert len(results) == TESTS[suite]
