"""Evicts in the listener of an eviction. Python's error at its recursion limit may not reach the log."""

import sys

from flexcache_rs import FlexCache


def listener(*_):
    global told
    told += 1
    cache[told] = None


told = 0
sys.unraisablehook = lambda raised: None
cache = FlexCache(max_items=1, on_evict=listener)
cache["a"] = None
cache["b"] = None
print(len(cache), cache.stats().hook_errors > 0)
