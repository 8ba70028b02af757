"""Forks in a hook that the background thread runs. The thread of the child ends after the hook."""

import os
import threading

from forked_child import kill_if_it_hangs

from flexcache_rs import FlexCache

children, has_run = [], threading.Event()


class Forking:
    def close(self):
        assert threading.current_thread() is not threading.main_thread()
        child = os.fork()
        if child == 0:
            kill_if_it_hangs()
            return
        children.append(child)
        has_run.set()


cache = FlexCache(background_expiry=True)
cache.put("key", Forking(), ttl=0.01)
has_run.wait()
_, status = os.waitpid(children[0], 0)
print("done" if status == 0 else status)
