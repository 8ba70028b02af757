"""Forks while another thread writes the first log record. The child writes records, too."""

import logging
import os
import threading

from forked_child import kill_if_it_hangs

from flexcache_rs import FlexCache

begun, goes_on = threading.Event(), threading.Event()
original = logging.getLogger


def slow(name=None):
    begun.set()
    goes_on.wait()
    return original(name)


class Failing:
    def close(self):
        raise LookupError("in a hook")


def fail():
    cache = FlexCache()
    cache["key"] = Failing()
    del cache["key"]
    assert cache.stats().hook_errors == 1


logging.getLogger = slow
first = threading.Thread(target=fail)
first.start()
begun.wait()
logging.getLogger = original
child = os.fork()
if child == 0:
    kill_if_it_hangs()
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("flexcache_rs").addHandler(handler)
    fail()
    os._exit(len(records) != 1)
_, status = os.waitpid(child, 0)
goes_on.set()
first.join()
fail()
print("done" if status == 0 else status)
