"""Forks in a signal handler while close() waits for a hook. The child does not wait for the thread that runs it."""

import threading

from forked_child import fork_during

from flexcache_rs import FlexCache

ends, begun = threading.Event(), threading.Event()


class Slow:
    async def aclose(self):
        begun.set()
        ends.wait()


cache = FlexCache()
cache["key"] = Slow()
del cache["key"]
begun.wait()
status = fork_during(cache.close, ends)
print("done" if status == 0 else status)
