"""Forks in a signal handler while a call waits for the write lock. The call goes on in parent and child."""

import sys
import threading

from forked_child import fork_during

from flexcache_rs import disk
from flexcache_rs.sessions import sync

kind, directory = sys.argv[1:]
if kind == "cache":
    cache = disk.Cache(directory)
    write, holds = (lambda key: cache.set(key, key, retry=True)), cache.transact
else:
    session = sync.connect(f"disk://{directory}", timeout=60)
    write, holds = (lambda key: session.set(key, key)), session.transaction
held, ends = threading.Event(), threading.Event()


def hold():
    with holds():
        write("held")
        held.set()
        ends.wait()


holder = threading.Thread(target=hold)
holder.start()
held.wait()
status = fork_during(lambda: write("waits"), ends)
holder.join()
print("done" if status == 0 else status)
