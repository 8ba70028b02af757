"""Forks while the background thread runs a hook; the child has no such thread, and must not wait for it."""

import asyncio
import os
import sys
import threading

from forked_child import kill_if_it_hangs

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
    kill_if_it_hangs()
    cache["own"] = Quick()
    cache.close()
    os._exit(0)
_, status = os.waitpid(pid, 0)
forked.set()
cache.close()
print(status)
sys.exit(status != 0)
