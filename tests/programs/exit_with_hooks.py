"""Ends with hooks still to run: those handed to the background thread are completed."""

import asyncio

from flexcache_rs import FlexCache


class Value:
    async def aclose(self):
        await asyncio.sleep(0)
        print("closed", flush=True)


cache = FlexCache(max_items=1)
cache["a"] = Value()
cache["b"] = 1
cache["self"] = cache
print("end", flush=True)
