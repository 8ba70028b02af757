"""Forks in a signal handler while close() waits for a hook. The child does not wait for the thread that runs it."""

import os
import signal
import threading

from flexcache_rs import FlexCache

ends, begun = threading.Event(), threading.Event()
child = None


class Slow:
    async def aclose(self):
        begun.set()
        ends.wait()


def fork(*_):
    global child
    child = os.fork()
    if child == 0:
        # The alarm kills a child that hangs, which the parent notices.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
    else:
        ends.set()


cache = FlexCache()
cache["key"] = Slow()
del cache["key"]
begun.wait()
signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, 0.2)
cache.close()
if child == 0:
    os._exit(0)
assert child is not None, "close() did not wait"
_, status = os.waitpid(child, 0)
print("done" if status == 0 else status)
