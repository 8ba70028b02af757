"""Other threads make calls between the before-hooks of a fork and the fork. No child must get its parent's open files.

A before-hook that is registered before the import of the package runs after the package's own. Some modules of the
interpreter serialize forks. They are imported first, so that their hooks run last.
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
"""Seconds in which a call could begin although it must not."""

hooks = []
os.register_at_fork(before=lambda: [hook() for hook in hooks])

from flexcache_rs import FlexCache  # noqa: E402
from flexcache_rs.disk import Cache  # noqa: E402
from flexcache_rs.sessions.sync import connect  # noqa: E402

directory, way = Path(sys.argv[1]), sys.argv[2]
cache = Cache(directory)
cache["a"] = 1


def open_files():
    """Return the number of open files in the directory."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(descriptor.readlink()).startswith(str(directory))
    return found


def fork():
    """Fork a child, which succeeds if it has none of its parent's files."""
    pid = os.fork()
    if pid == 0:
        os._exit(open_files())
    _, status = os.waitpid(pid, 0)
    statuses.append(status)


def in_another_thread(call):
    """Begin a call in another thread, and give it some time to do what it must not do."""
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
    """Fork in two threads at once. A third one makes a call when the first has forked."""
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
