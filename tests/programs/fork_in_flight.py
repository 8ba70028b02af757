"""Forks while a thread computes the value of a key, which the child requests."""

import os
import threading

from flexcache_rs import FlexCache

cache = FlexCache()
begun, opened = threading.Event(), threading.Event()


def slow():
    begun.set()
    opened.wait()
    return "first"


thread = threading.Thread(target=cache.get_or_set, args=("key", slow))
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    print(cache.get_or_set("key", lambda: "second"), flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
opened.set()
thread.join()
raise SystemExit(status)
