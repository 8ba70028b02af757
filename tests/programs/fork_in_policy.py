"""Forks in a policy written in Python, while threads wait for their turn to use it. No child may wait for them."""

import os
import sys
import threading

from forked_child import kill_if_it_hangs
from oldest_first import Oldest

from flexcache_rs import FlexCache

WAITING = 20
FORKS = 50


class Forking(Oldest):
    """Forks when it is told of a certain key."""

    def on_insert(self, key):
        super().on_insert(key)
        if key == "key":
            begun.set()
            fork_often()


cache = FlexCache(Forking(), max_items=1000)
is_child = False


def fork_often():
    """Return in a child, after it was refused a turn, and in the parent when all children have ended."""
    global is_child
    for _ in range(FORKS):
        pid = os.fork()
        if pid == 0:
            kill_if_it_hangs()
            is_child = True
            try:
                cache.get("key")
            except RuntimeError as error:
                assert "called back" in str(error)
                return
            os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status


def write(number):
    begun.wait()
    cache[number] = number


begun = threading.Event()
threads = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(WAITING)]
for thread in threads:
    thread.start()
cache["key"] = "value"
if is_child:
    # The turn is over, and other threads of the child get theirs.
    others = [threading.Thread(target=cache.__setitem__, args=(f"other {number}", number)) for number in range(2)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    os._exit(not all(f"other {number}" in cache for number in range(2)))
for thread in threads:
    thread.join()
assert len(cache) == WAITING + 1
print("done")
sys.exit()
