"""Forks in the middle of a computation: parent and child both go on, and each ends its own."""

import os
import threading

from flexcache_rs import FlexCache, _core

cache = FlexCache()
begun, opened = threading.Event(), threading.Event()


def slow():
    begun.set()
    opened.wait()
    return "slow"


others = threading.Thread(target=cache.get_or_set, args=("other", slow))
others.start()
begun.wait()
waits = threading.Thread(target=cache.get_or_set, args=("other", slow))
waits.start()
while sum(waiting for _, waiting in _core._loads_in_progress(cache)) < 1:
    pass
child = None


def factory():
    global child
    cache["before"] = 1
    child = os.fork()
    return child == 0


value = cache.get_or_set("key", factory)
if child == 0:
    assert value is True
    assert cache.get_or_set("key", lambda: "again") in {True, "again"}
    assert cache.get_or_set("other", lambda: "child") == "child"
    cache["other"] = 2
    cache.clear()
    assert not _core._loads_in_progress(cache)
    print("child", flush=True)
    os._exit(0)
assert value is False
_, status = os.waitpid(child, 0)
assert cache["key"] is False
opened.set()
others.join()
waits.join()
assert cache["other"] == "slow"
print("parent", flush=True)
raise SystemExit(status)
