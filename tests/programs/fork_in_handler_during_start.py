"""Forks in a signal handler while a thread is started. The child does not wait for a start that it does not have."""

import threading

from forked_child import fork_during

from flexcache_rs._threads import start


class Slow(threading.Thread):
    """A thread whose start takes long."""

    def start(self):
        may_start.wait()
        super().start()


may_start = threading.Event()
status = fork_during(lambda: start(Slow()), may_start)
print("done" if status == 0 else status)
