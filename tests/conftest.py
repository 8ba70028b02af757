"""Fixtures of all tests: caches that are checked afterwards, and a check for unseen exceptions."""

from __future__ import annotations

import gc
import itertools
import re
import signal
import socket
import sys
import tempfile
import threading
import traceback
from operator import itemgetter
from types import CoroutineType
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, core, settings
from own_server import LEFT_OUT, LEFT_OUT_ENGINES
from scale import REQUIRED, SCALE, SEED
from specimens import EVERY_POLICY, POLICIES

from flexcache_rs import FlexCache, _core
from flexcache_rs.testing import check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
        "test_disk_full.py",
        "test_disk_reliability.py",
    ),
)
"""Tests whose outcome depends on the interpreter. CI also runs them with the oldest Python and a free-threaded one."""

SECONDS: dict[str, float] = {}
"""The seconds that the tests of each folder took, including their setup."""


@pytest.fixture
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files of the test and of its processes are where pytest removes them. Examples leave theirs."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def pytest_configure(config: pytest.Config) -> None:
    """Give hypothesis the seed that the header shows, and let Ctrl-C interrupt programs that tests start."""
    core.global_force_seed = SEED
    # On a busy machine an example, and the making of its input, may take long.
    settings.register_profile("flexcache_rs", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("flexcache_rs")
    # A shell lets background processes ignore Ctrl-C, and child processes would inherit this.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that every Python runs, and leave out those that `in_turn` leaves out."""
    if SCALE < 1:
        left_out = _not_in_turn(items)
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if (item.path.name in EVERY_PYTHON or item.path.parent.name in EVERY_PYTHON) and not _is_over_a_variant(item):
            item.add_marker(pytest.mark.every_python)


def _not_in_turn(items: list[Any]) -> list[Any]:
    """Return the tests which a run with a tenth of the full counts leaves out.

    Two parameters of a test have the marker `in_turn`. Such a run takes each value of the longer one with one value of
    the other, which are taken in turn, beginning with another one in another test.
    """
    values: dict[tuple[object, str], dict[int, int]] = {}

    def place(item: Any, name: str) -> int:
        known = values.setdefault((item.function, name), {})
        return known.setdefault(id(item.callspec.params[name]), len(known))

    marked = [
        (item, tuple((name, place(item, name)) for name in marker.args))
        for item in items
        for marker in item.iter_markers("in_turn")
        if hasattr(item, "callspec") and item.callspec.params.keys() >= set(marker.args)
    ]
    return [
        item
        for item, ((one, at), (other, other_at)) in marked
        if (at - other_at - crc32(item.function.__name__.encode()))
        % min(len(values[item.function, one]), len(values[item.function, other]))
    ]


def _is_over_a_variant(item: Any) -> bool:
    """Whether a test runs over a store that differs from another only in what no interpreter has a part in."""
    kind = item.callspec.params.get("kind") if hasattr(item, "callspec") else getattr(item.cls, "kind", None)
    return getattr(kind, "is_variant", False)


def pytest_report_header() -> list[str]:
    """Return how to repeat the run, and which tests are left out."""
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
    """Add the time of a test to that of its folder."""
    folder = report.nodeid.partition("::")[0].rpartition("/")[0]
    SECONDS[folder] = SECONDS.get(folder, 0.0) + report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the time of each folder."""
    terminalreporter.section("seconds of tests, by folder")
    for folder, seconds in sorted(SECONDS.items(), key=itemgetter(1), reverse=True):
        terminalreporter.write_line(f"{seconds:8.1f} {folder}")


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Return a name that is the same in every process, so that all workers collect the same tests."""
    if isinstance(val, set | frozenset):
        return f"{type(val).__name__} of {sorted(map(repr, val))}"
    text = repr(val)
    return re.sub(r" at 0x[0-9a-f]+", "", text) if " at 0x" in text and not callable(val) else None


@pytest.fixture
def make_cache() -> Iterator[MakeCache]:
    """Return a function that makes caches. They are checked after the test."""
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
    """Freeze existing objects before each test file, so that garbage collections skip them."""
    gc.collect()
    freeze()


FROZEN = [0]
"""The number of imported modules when objects were last frozen."""


def freeze() -> None:
    """Let garbage collections skip the objects that exist."""
    gc.freeze()
    FROZEN[0] = len(sys.modules)


TESTS = itertools.count()

BETWEEN_COLLECTIONS = 1 if getattr(sys, "_is_gil_enabled", lambda: True)() else 10
"""Tests between two garbage collections. Without a GIL a collection also visits frozen objects, which is slow."""


@pytest.fixture(params=EVERY_POLICY, ids=str)
def any_policy(request: pytest.FixtureRequest) -> Any:
    """Each built-in policy, and one written in Python."""
    return request.param if isinstance(request.param, str) else request.param()


@pytest.fixture(autouse=True)
def nothing_is_swallowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test in which an exception is raised in a destructor or a thread, or in which a panic happens."""
    lost: list[str] = []
    panics = _core._panics()

    def note(raised: Any) -> None:
        # A coroutine that was never awaited warns when it is collected. If the collector runs inside the constructor
        # of a named tuple, Python 3.10 cannot import `warnings`, because the constructor's globals lack `__import__`.
        if isinstance(raised.object, CoroutineType) and repr(raised.exc_value) == "KeyError('__import__')":
            return
        # A signal that interrupts the constructor of a socket's file leaves an object that cannot be closed.
        if isinstance(raised.object, socket.SocketIO) and not hasattr(raised.object, "_sock"):
            return
        lost.append(f"in {raised.object!r}:\n{text(raised)}")

    def text(raised: Any) -> str:
        return "".join(traceback.format_exception(raised.exc_type, raised.exc_value, raised.exc_traceback))

    monkeypatch.setattr(sys, "unraisablehook", note)
    monkeypatch.setattr(threading, "excepthook", lambda raised: lost.append(f"in {raised.thread}:\n{text(raised)}"))
    yield
    if next(TESTS) % BETWEEN_COLLECTIONS == 0:
        gc.collect()
        # Every collection would visit what tests import, which takes longer than many a test.
        if len(sys.modules) > FROZEN[0]:
            freeze()
    assert not lost, "exceptions that nobody saw:\n" + "\n".join(lost)
    assert _core._panics() == panics, "a panic: standard error says where"
