"""Forks in a signal handler while a call waits for its turn to use a policy written in Python.

The child neither waits for the thread of its parent that has the turn, nor ends the values that this thread removes.
"""

import os
import threading

from forked_child import fork_during
from oldest_first import Oldest

from flexcache_rs import FlexCache


class Waiting(Oldest):
    """Waits when it is told of a certain key."""

    def on_insert(self, key):
        super().on_insert(key)
        if key == "new":
            has_turn.set()
            may_return.wait()


class Value:
    def __del__(self):
        ended.append(os.getpid())


def look():
    assert cache.get("old") is None
    assert ended in ([], [parent]), "the value ended in the child"


parent, ended = os.getpid(), []
has_turn, may_return = threading.Event(), threading.Event()
cache = FlexCache(Waiting(), max_items=1)
cache["old"] = Value()
thread = threading.Thread(target=cache.__setitem__, args=("new", 1))
thread.start()
has_turn.wait()
assert fork_during(look, may_return) == 0
thread.join()
assert ended == [parent]
assert list(cache) == ["new"]
print("done")
