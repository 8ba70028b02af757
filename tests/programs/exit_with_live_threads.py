"""Exits while daemon threads use caches, entries expire, and hooks wait in the background."""

import threading

from flexcache_rs import FlexCache


class Value:
    def __init__(self, cache):
        # Do not use a global: without a GIL, threads may outlive the globals of this module.
        self.cache = cache

    def close(self):
        list(self.cache)


cache = FlexCache(max_items=50, background_expiry=True, default_ttl=0.001, on_evict=lambda *_: None)
started = threading.Barrier(5)


def hammer(cache, value_class):
    started.wait()
    step = 0
    while True:
        step += 1
        cache[step % 80] = value_class(cache)
        cache.get(step % 30)


for _ in range(4):
    threading.Thread(target=hammer, args=(cache, Value), daemon=True).start()
started.wait()
for step in range(1000):
    cache.get(step % 30)
print("done")
