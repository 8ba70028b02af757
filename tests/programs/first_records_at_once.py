"""Eight threads whose hooks fail at the same time, before anything was logged."""

import logging
import threading
import time

from flexcache_rs import FlexCache


class Value:
    def close(self):
        together.wait()
        raise LookupError


class Slow(logging.NullHandler):
    """A slow handler, which the library adds to its logger before the first record. Other threads log meanwhile."""

    def __init__(self):
        super().__init__()
        time.sleep(0.05)


class Counting(logging.Handler):
    count = 0

    def emit(self, record):
        with lock:
            Counting.count += 1


def work(cache):
    cache["a"] = Value()
    cache.clear()


together, lock = threading.Barrier(8), threading.Lock()
logging.NullHandler = Slow
logging.getLogger("flexcache_rs").addHandler(Counting())
caches = [FlexCache() for _ in range(8)]
threads = [threading.Thread(target=work, args=(cache,)) for cache in caches]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(Counting.count, sum(cache.stats().hook_errors for cache in caches))
