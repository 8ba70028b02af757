"""Forks while threads wait for their turn to use a policy written in Python. No child may wait for them."""

import os
import sys
import threading

from forked_child import kill_if_it_hangs
from oldest_first import Oldest

from flexcache_rs import FlexCache

cache = FlexCache(Oldest(), max_items=10)
stop = threading.Event()


def hammer(step):
    while not stop.is_set():
        step += 1
        cache[step % 40] = step
        cache.get(step % 30)


sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=hammer, args=(number,), daemon=True) for number in range(4)]
for thread in threads:
    thread.start()
for _ in range(100):
    pid = os.fork()
    if pid == 0:
        kill_if_it_hangs()
        try:
            for step in range(20):
                cache[step] = step
                cache.get(step)
        except RuntimeError as error:
            # The fork happened between the change of the cache and that of the policy.
            os._exit("which is not in the cache" not in str(error))
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
stop.set()
for thread in threads:
    thread.join()
print("done")
