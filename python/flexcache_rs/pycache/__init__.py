"""In place of PyCache: its names, on `flexcache_rs.sessions`.

>>> import asyncio
>>> from flexcache_rs.pycache.adapters import InMemory
>>> from flexcache_rs.pycache.datatypes import List, String
>>> from flexcache_rs.pycache.py_cache import PyCache
>>> async def main():
...     cache = PyCache(InMemory())
...     async with cache.session() as session:
...         await session.set("name", String("Ann"))
...         await session.set("hobbies", List(["reading"]))
...         print(await session.get("name"), await session.get("hobbies"))
>>> asyncio.run(main())
Ann ['reading']
"""

from __future__ import annotations

from flexcache_rs.pycache.py_cache import PyCache
from flexcache_rs.pycache.sql import SQL, Composable, Composed, Identifier, Literal, Placeholder

__all__ = ["SQL", "Composable", "Composed", "Identifier", "Literal", "Placeholder", "PyCache"]
