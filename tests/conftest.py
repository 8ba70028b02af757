"""What every test gets: caches that are recounted afterwards, and no exception that nobody saw."""

from __future__ import annotations

import gc
import itertools
import re
import signal
import sys
import threading
from operator import itemgetter
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import core, settings
from own_server import LEFT_OUT, LEFT_OUT_ENGINES
from scale import REQUIRED, SCALE, SEED
from specimens import EVERY_POLICY, POLICIES

from flexcache_rs import FlexCache, _core
from flexcache_rs.testing import check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from specimens import MakeCache

EVERY_PYTHON = (
    *("test_mapping.py", "test_hooks.py", "test_stateful.py", "test_package.py", "test_bad_input.py"),
    *("test_threads.py", "test_reentry.py", "test_processes.py", "test_background.py", "test_garbage.py"),
    *(
        "test_leaks.py",
        "memoize",
        "stores",
        "test_sessions_calls.py",
        "test_disk_awaited.py",
        "test_disk_reliability.py",
    ),
)
"""Tests whose outcome depends on the interpreter: the oldest Python and a free-threaded one run them too."""

SECONDS: dict[str, float] = {}
"""How long the tests of each folder took, with what they set up."""


def pytest_configure(config: pytest.Config) -> None:
    """Lets hypothesis begin with the seed that the header shows, and programs that tests start be interrupted."""
    core.global_force_seed = SEED
    # No test asserts speed: an example that takes long on a busy machine is no failure.
    settings.register_profile("flexcache_rs", deadline=None)
    settings.load_profile("flexcache_rs")
    # A shell has what it runs in the background ignore Ctrl-C, and children would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that every Python runs."""
    for item in items:
        if item.path.name in EVERY_PYTHON or item.path.parent.name in EVERY_PYTHON:
            item.add_marker(pytest.mark.every_python)


def pytest_report_header() -> list[str]:
    """Says how to repeat the run, and what is left out."""
    lines = [
        f"FLEXCACHE_TEST_SCALE={SCALE:g} FLEXCACHE_TEST_SEED={SEED} FLEXCACHE_REQUIRE={' '.join(sorted(REQUIRED))!r}"
    ]
    if LEFT_OUT:
        lines.append("tests/remote is left out: it needs redis-server or valkey-server (apt-get install redis-server)")
    elif LEFT_OUT_ENGINES:
        lines.append(
            f"tests/remote runs without {LEFT_OUT_ENGINES[0]}-server; for Valkey put it on the path, or have "
            "FLEXCACHE_VALKEY_SERVER name the one that .ci/valkey-server prints"
        )
    return lines


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Adds up the time of each folder."""
    folder = report.nodeid.partition("::")[0].rpartition("/")[0]
    SECONDS[folder] = SECONDS.get(folder, 0.0) + report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints where the time went."""
    terminalreporter.section("seconds of tests, by folder")
    for folder, seconds in sorted(SECONDS.items(), key=itemgetter(1), reverse=True):
        terminalreporter.write_line(f"{seconds:8.1f} {folder}")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Names that are the same in every process, so that workers collect the same tests."""
    if isinstance(val, set | frozenset):
        return f"{type(val).__name__} of {sorted(map(repr, val))}"
    text = repr(val)
    return re.sub(r" at 0x[0-9a-f]+", "", text) if " at 0x" in text and not callable(val) else None


@pytest.fixture
def make_cache() -> Iterator[MakeCache]:
    """Makes caches and recounts them afterwards."""
    made: list[FlexCache[Any, Any]] = []

    def make(*args: Any, **options: Any) -> FlexCache[Any, Any]:
        made.append(FlexCache(*args, **options))
        return made[-1]

    yield make
    for cache in made:
        check(cache)


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> str:
    """Each built-in policy."""
    return str(request.param)


@pytest.fixture(scope="module", autouse=True)
def collections_are_quick() -> None:
    """What is there before a file of tests need not be looked at each time."""
    gc.collect()
    gc.freeze()


TESTS = itertools.count()

BETWEEN_COLLECTIONS = 1 if getattr(sys, "_is_gil_enabled", lambda: True)() else 10
"""Without a GIL a collection looks at what is frozen too, and takes as long as ten tests."""


@pytest.fixture(params=EVERY_POLICY, ids=str)
def any_policy(request: pytest.FixtureRequest) -> Any:
    """Each built-in policy, and one written in Python."""
    return request.param if isinstance(request.param, str) else request.param()


@pytest.fixture(autouse=True)
def nothing_is_swallowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Exceptions in destructors and threads, and panics anywhere, fail the test in which they happen."""
    lost: list[str] = []
    panics = _core._panics()

    def note(raised: Any) -> None:
        # A coroutine that nobody awaited warns when it is collected. Where the collector runs inside the constructor
        # of a named tuple, Python 3.10 fails to import `warnings`: the constructor's globals have no `__import__`.
        if isinstance(raised.object, CoroutineType) and repr(raised.exc_value) == "KeyError('__import__')":
            return
        lost.append(f"{raised.exc_value!r} in {raised.object!r}")

    monkeypatch.setattr(sys, "unraisablehook", note)
    monkeypatch.setattr(threading, "excepthook", lambda raised: lost.append(f"{raised.exc_value!r} in a thread"))
    yield
    if next(TESTS) % BETWEEN_COLLECTIONS == 0:
        gc.collect()
    assert not lost, f"exceptions that nobody saw: {lost}"
    assert _core._panics() == panics, "a panic: standard error says where"
