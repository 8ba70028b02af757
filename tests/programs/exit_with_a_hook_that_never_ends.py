"""Exits while the background thread is in a hook that waits for ever. The exit must not wait for ever."""

import threading

from flexcache_rs import FlexCache


def wait_for_ever(*_):
    inside.set()
    threading.Event().wait()


inside = threading.Event()
cache = FlexCache(background_expiry=True, on_evict=wait_for_ever)
cache.put("soon", 1, ttl=0.01)
inside.wait()
print("done", flush=True)
