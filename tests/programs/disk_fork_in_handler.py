"""Forks in a signal handler while a call waits for the write lock. The call goes on in parent and child."""

import os
import signal
import sys
import threading

from flexcache_rs import disk
from flexcache_rs.sessions import sync

kind, directory = sys.argv[1:]
if kind == "cache":
    cache = disk.Cache(directory)
    write, holds = (lambda key: cache.set(key, key, retry=True)), cache.transact
else:
    session = sync.connect(f"disk://{directory}", timeout=60)
    write, holds = (lambda key: session.set(key, key)), session.transaction
child = None
held, ends = threading.Event(), threading.Event()


def hold():
    with holds():
        write("held")
        held.set()
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


holder = threading.Thread(target=hold)
holder.start()
held.wait()
signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, 0.2)
write("waits")
if child == 0:
    os._exit(0)
assert child is not None, "the call did not wait"
_, status = os.waitpid(child, 0)
holder.join()
print("done" if status == 0 else status)
