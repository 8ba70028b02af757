"""What other threads do between a fork's preparation and the fork: no child gets files that its parent has open.

A hook that is registered before the package is imported runs after the package's own. Some modules of the interpreter
keep forks apart, so they come first: then their hooks run last.
"""

import concurrent.futures.thread  # noqa: F401
import contextlib
import logging  # noqa: F401
import os
import signal
import sys
import threading
import warnings
from pathlib import Path

signal.alarm(60)
warnings.simplefilter("ignore", DeprecationWarning)
WHILE = 0.2
"""Seconds which a call is given to begin that may not."""

hooks = []
os.register_at_fork(before=lambda: [hook() for hook in hooks])

from flexcache_rs import FlexCache  # noqa: E402
from flexcache_rs.disk import Cache  # noqa: E402
from flexcache_rs.sessions.sync import connect  # noqa: E402

directory, way = Path(sys.argv[1]), sys.argv[2]
cache = Cache(directory)
cache["a"] = 1


def open_files():
    """How many files in the directory are open."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(descriptor.readlink()).startswith(str(directory))
    return found


def fork():
    """Forks a child, which ends well if it has none of its parent's files."""
    pid = os.fork()
    if pid == 0:
        os._exit(open_files())
    _, status = os.waitpid(pid, 0)
    statuses.append(status)


def in_another_thread(call):
    """Begins a call, which gets some time to do what it must not."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(WHILE)
    threads.append(thread)


def hits():
    """A hit in front of a directory opens nothing."""
    front = FlexCache(store=cache, coherence="strict")
    assert front.get("a") == 1
    hooks.append(lambda: in_another_thread(lambda: front.get("a")))
    fork()


def two(call):
    """Two threads fork at once, and a third makes a call when the first of them has done so."""
    second_is_ready, first_has_forked = threading.Event(), threading.Event()

    def hook():
        if threading.current_thread() is first:
            assert second_is_ready.wait(30)
        else:
            second_is_ready.set()
            assert first_has_forked.wait(30)
            in_another_thread(call)

    def fork_first():
        fork()
        first_has_forked.set()

    hooks.append(hook)
    first, second = threading.Thread(target=fork_first), threading.Thread(target=fork)
    for thread in (first, second):
        thread.start()
    for thread in (first, second):
        thread.join()
    assert len(statuses) == 2


statuses, threads = [], []
if way == "hits":
    hits()
elif way == "two":
    two(lambda: cache.get("a"))
else:
    session = connect(f"disk://{directory}")
    session.set("a", 1)
    two(lambda: session.get("a"))
assert not any(statuses), statuses
for thread in threads:
    # The call goes on after the fork.
    thread.join(30)
    assert not thread.is_alive()
assert cache["a"] == 1
print("done")
