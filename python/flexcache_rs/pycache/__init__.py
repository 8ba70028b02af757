"""A drop-in package with PyCache's names, on `flexcache_rs.sessions`.

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

from flexcache_rs._first_use import importing
from flexcache_rs.pycache.py_cache import PyCache
from flexcache_rs.pycache.sql import SQL, Composable, Composed, Identifier, Literal, Placeholder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flexcache_rs.pycache import adapters as adapters
    from flexcache_rs.pycache import collections as collections
    from flexcache_rs.pycache import datatypes as datatypes
    from flexcache_rs.pycache import decorators as decorators
    from flexcache_rs.pycache import migrate as migrate
    from flexcache_rs.pycache import py_cache as py_cache
    from flexcache_rs.pycache import snapshot as snapshot
    from flexcache_rs.pycache import sql as sql
else:
    __getattr__, __dir__ = importing(__name__, {}, ("collections", "decorators", "migrate"))

__all__ = ["SQL", "Composable", "Composed", "Identifier", "Literal", "Placeholder", "PyCache"]
