"""Exits with hooks still to run. Those that the background thread has are completed."""

import asyncio
import sys

from flexcache_rs import FlexCache


class Value:
    async def aclose(self):
        await asyncio.sleep(0)
        # Write in one piece, because print() would write the line end separately, and two threads write here.
        sys.stdout.write("closed\n")


cache = FlexCache(max_items=1)
cache["a"] = Value()
cache["b"] = 1
cache["self"] = cache
sys.stdout.write("end\n")
