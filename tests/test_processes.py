"""Forks, exits and subinterpreters. Each test runs a separate process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

FREE_THREADED_3_13 = bool(sysconfig.get_config_var("Py_GIL_DISABLED")) and sys.version_info < (3, 14)
PROGRAMS = Path(__file__).parent / "programs"


def run(name: str, *arguments: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """Run a program, which must end in time."""
    command = [sys.executable, "-X", "faulthandler", str(PROGRAMS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("shards", ["1", "16"])
@pytest.mark.filterwarnings("ignore")
def test_fork_under_load(shards: str) -> None:
    """None of twenty children hangs, although they are forked while threads are in the middle of calls."""
    try:
        done = run("fork_under_load.py", shards, timeout=50)
    except subprocess.TimeoutExpired:
        if FREE_THREADED_3_13:
            pytest.xfail("a child of free-threaded 3.13 may find a dict locked by a thread that it does not have")
        raise
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_with_own_policy() -> None:
    """A child does not wait for a thread of the parent that was using the policy."""
    done = run("fork_with_own_policy.py")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_in_policy() -> None:
    """A child goes on with the turn of the thread that forked, and does not wait for other threads of the parent."""
    done = run("fork_in_policy.py")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize(
    "name",
    [
        *("fork_in_background_hook.py", "fork_in_handler_during_close.py", "fork_in_handler_during_turn.py"),
        *("fork_in_handler_during_start.py", "fork_while_logging_begins.py"),
    ],
)
def test_a_child_waits_for_nothing_of_its_parent(name: str) -> None:
    """A child neither waits for a thread of its parent nor goes on with the work of one."""
    done = run(name)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("kind", ["cache", "session"])
def test_fork_in_a_handler_during_a_wait(tmp_path: Path, kind: str) -> None:
    """A call that waits for the lock of a directory goes on in the child as in the parent."""
    done = run("disk_fork_in_handler.py", kind, str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize("attempt", range(5))
def test_exit_with_live_threads(attempt: int) -> None:
    """The interpreter exits at once, without output."""
    try:
        done = run("exit_with_live_threads.py")
    except subprocess.TimeoutExpired:
        if FREE_THREADED_3_13:
            pytest.xfail("a daemon thread of free-threaded 3.13 that is unwound at the very end may leave a lock taken")
        raise
    unwound = done.returncode in (-signal.SIGABRT, -signal.SIGSEGV) and done.stdout == "done\n"
    if FREE_THREADED_3_13 and unwound:
        pytest.xfail("any lock of any object may unwind a daemon thread of free-threaded 3.13, at the very end")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_exit_with_hooks() -> None:
    """The background thread finishes its work before the exit."""
    done = run("exit_with_hooks.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split()) == ["closed", "end"]


@pytest.mark.every_python
@pytest.mark.parametrize("is_isolated", [True, False])
def test_a_subinterpreter_is_refused(is_isolated: bool) -> None:
    """The import in a subinterpreter raises ImportError, and its end changes nothing for the main interpreter."""
    program = (
        "try:\n"
        "    import _interpreters as interpreters\n"
        "except ImportError:\n"
        "    import _xxsubinterpreters as interpreters\n"
        "try:\n"
        f"    number = interpreters.create({('isolated' if is_isolated else 'legacy')!r})\n"
        "except TypeError:\n"
        f"    number = interpreters.create(isolated={is_isolated})\n"
        "code = 'try:\\n import flexcache_rs\\nexcept ImportError as error:\\n print(\"refused\", flush=True)'\n"
        "(interpreters.exec if hasattr(interpreters, 'exec') else interpreters.run_string)(number, code)\n"
        "interpreters.destroy(number)\n"
        "import flexcache_rs\n"
        "cache = flexcache_rs.FlexCache()\n"
        "cache['key'] = flexcache_rs.memoize(str)(1)\n"
        "del cache['key']\n"
        "print(cache, 'key' in cache)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "FlexCache(" in done.stdout
    assert "refused" in done.stdout


@pytest.mark.parametrize("depth", ["once", "nested"])
@pytest.mark.parametrize("kibibytes", [64, 128, 256])
def test_a_hook_raises_in_a_small_stack(kibibytes: int, depth: str) -> None:
    """If a thread's stack is too small for logging, another thread writes the log record."""
    done = run("hook_raises_in_a_small_stack.py", str(kibibytes << 10), depth)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True"), done.stderr


@pytest.mark.parametrize("way", ["clear", "del"])
def test_a_long_chain_of_caches(way: str) -> None:
    """A chain of thirty thousand nested caches is freed without exhausting the stack."""
    done = run("chain_of_caches.py", way)
    assert (done.returncode, done.stdout) == (0, "done\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_with_hooks_pending() -> None:
    """A child does not wait for hooks that the parent's thread has still to run."""
    done = run("fork_with_hooks_pending.py")
    assert (done.returncode, done.stdout) == (0, "closed in the child\n0\n"), done.stderr


def test_exit_with_caches_in_globals() -> None:
    """At the exit of the interpreter each hook runs once."""
    done = run("exit_with_caches_in_globals.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split()) == ["cyclic", "derived", "elsewhere", "plain", "told"]


def test_exit_with_a_hook_that_never_ends() -> None:
    """The exit waits some seconds for the hook, and then happens all the same."""
    done = run("exit_with_a_hook_that_never_ends.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_listener_that_never_stops() -> None:
    """Each call evicts again, until Python's recursion limit ends it. The stack does not overflow."""
    done = run("listener_that_never_stops.py")
    assert (done.returncode, done.stdout) == (0, "1 True\n"), done.stderr


def test_threads_that_log_for_the_first_time() -> None:
    """Each log record is written once, however many threads log at the same time."""
    done = run("first_records_at_once.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "8 8\n", "")


def test_collected_listeners() -> None:
    """Collecting caches with hooks that use them, in any order, crashes nothing."""
    done = run("collected_listeners.py")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_exit_with_threads_that_wait_for_values() -> None:
    """The values are computed by threads and tasks that never finish."""
    done = run("exit_with_waiting_threads.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="each allocation may collect garbage before Python 3.12")
def test_exit_with_a_thread_in_a_destructor_in_a_wait() -> None:
    """The thread is not unwound through the call that waits, which would drop objects without the GIL."""
    done = run("exit_with_a_destructor_in_a_wait.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore")
def test_a_fork_in_the_middle_of_a_computation() -> None:
    """Parent and child both finish the computation. The child does not wait for its parent's threads."""
    done = run("fork_in_factory.py")
    assert (done.returncode, done.stdout) == (0, "child\nparent\n"), done.stderr
