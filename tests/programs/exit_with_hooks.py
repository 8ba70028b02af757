"""Ends with hooks still to run: those handed to the background thread are completed."""

import asyncio
import sys

from flexcache_rs import FlexCache


class Value:
    async def aclose(self):
        await asyncio.sleep(0)
        # In one piece: print would write the end of the line apart, and two threads write here.
        sys.stdout.write("closed\n")


cache = FlexCache(max_items=1)
cache["a"] = Value()
cache["b"] = 1
cache["self"] = cache
sys.stdout.write("end\n")
