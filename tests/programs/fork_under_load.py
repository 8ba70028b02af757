"""Forks repeatedly while threads use a cache. Each child uses it too, and must end."""

import os
import sys
import threading

from flexcache_rs import FlexCache

cache = FlexCache("lru", max_items=100, background_expiry=True, default_ttl=1000, shards=int(sys.argv[1]))
stop = threading.Event()


def hammer(number):
    step = 0
    while not stop.is_set():
        step += 1
        cache[step % 150] = number
        cache.get(step % 70)
        cache.pop(step % 90, None)


def child():
    for step in range(500):
        cache[step] = step
        cache.get(step)
    assert len(cache) == 100
    told = threading.Event()
    own = FlexCache(background_expiry=True, on_evict=lambda *_: told.set())
    own.put("soon", 1, ttl=0.01)
    assert told.wait(20), "the child has no background thread"


threads = [threading.Thread(target=hammer, args=(number,), daemon=True) for number in range(4)]
for thread in threads:
    thread.start()
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        try:
            child()
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
stop.set()
for thread in threads:
    thread.join()
print("done")
