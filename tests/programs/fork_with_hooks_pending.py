"""Forks while the background thread runs a hook; the child has no such thread, and must not wait for it."""

import asyncio
import os
import signal
import sys
import threading

from flexcache_rs import FlexCache


class Value:
    async def aclose(self):
        running.set()
        while not forked.is_set():
            await asyncio.sleep(0.001)


class Quick:
    async def aclose(self):
        print("closed in the child", flush=True)


running, forked = threading.Event(), threading.Event()
cache = FlexCache()
cache["parent's"] = Value()
cache.clear()
running.wait()
pid = os.fork()
if pid == 0:
    # The alarm kills a child that hangs, which the parent notices.
    signal.alarm(5)
    cache["own"] = Quick()
    cache.close()
    os._exit(0)
_, status = os.waitpid(pid, 0)
forked.set()
cache.close()
print(status)
sys.exit(status != 0)
