"""Exits while daemon threads compute, and wait for one another's values."""

import asyncio
import threading

from flexcache_rs import FlexCache, _core

cache = FlexCache()
forever = threading.Event()


def lead(key):
    cache.get_or_set(key, forever.wait)


def lead_in_task():
    async def compute():
        await asyncio.Event().wait()

    asyncio.run(cache.aget_or_set("task", compute))


for target, arguments in [(lead, ("thread",)), (lead_in_task, ())]:
    threading.Thread(target=target, args=arguments, daemon=True).start()
while len(_core._loads_in_progress(cache)) < 2:
    pass
for _ in range(5):
    for key in ("thread", "task"):
        threading.Thread(target=cache.get_or_set, args=(key, int), daemon=True).start()
        threading.Thread(target=lambda key=key: asyncio.run(cache.aget_or_set(key, int)), daemon=True).start()
while sum(waits for _, waits in _core._loads_in_progress(cache)) < 21:
    pass
print("done", flush=True)
