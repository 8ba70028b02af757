"""Exits while a daemon thread runs a destructor, in the garbage collection of a call that waits for a value."""

import gc
import threading
import time

from flexcache_rs import FlexCache, _awaiting, _core

cache = FlexCache()
began = threading.Event()


class Value:
    def __del__(self):
        began.set()
        while True:
            time.sleep(0.001)


def pause():
    # The interpreter collects this at the next occasion, which is not in a function of Python.
    gc.enable()
    value = Value()
    value.parts = [value, [], [], []]


threading.Thread(target=cache.get_or_set, args=("key", threading.Event().wait), daemon=True).start()
while not _core._loads_in_progress(cache):
    pass
gc.collect()
gc.disable()
gc.set_threshold(1)
_awaiting.pause = pause
threading.Thread(target=cache.get_or_set, args=("key", int), daemon=True).start()
began.wait(30)
print("done", flush=True)
