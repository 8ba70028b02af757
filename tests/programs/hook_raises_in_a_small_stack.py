"""Hooks raise in a thread with a small stack, before anybody has imported `logging`; `nested` evicts in the listener."""

import sys
import threading

from flexcache_rs import FlexCache

size, nested = int(sys.argv[1]), sys.argv[2] == "nested"


def listener(key, value, reason):
    if nested:
        cache.put(key + 1, value)
    raise ValueError(key)


def run():
    cache.put(1, 1)
    cache.put(2, 2)


cache = FlexCache(max_items=1, on_evict=listener)
sys.setrecursionlimit(10**6)
threading.stack_size(size)
thread = threading.Thread(target=run)
thread.start()
thread.join()
print(cache.stats().hook_errors > 0, "logging" in sys.modules)
