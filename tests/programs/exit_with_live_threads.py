"""Ends while daemon threads use caches, entries expire, and hooks wait in the background."""

import threading

from flexcache_rs import FlexCache


class Value:
    def close(self):
        list(cache)


cache = FlexCache(max_items=50, background_expiry=True, default_ttl=0.001, on_evict=lambda *_: None)
started = threading.Barrier(5)


def hammer(number):
    started.wait()
    step = 0
    while True:
        step += 1
        cache[step % 80] = Value()
        cache.get(step % 30)


for number in range(4):
    threading.Thread(target=hammer, args=(number,), daemon=True).start()
started.wait()
for step in range(1000):
    cache.get(step % 30)
print("done")
