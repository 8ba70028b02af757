"""A cache on a Valkey or Redis server, with coherent copies in the memory of every process.

>>> from flexcache_rs.remote import RemoteCache
>>> cache = RemoteCache("valkey://localhost:6379/0", namespace="shop")
>>> cache.put("user:1", {"name": "Ada"}, ttl=60)
>>> cache.get("user:1")
{'name': 'Ada'}

docs/remote.md describes its guarantees. This module needs the package redis or valkey:
`pip install 'flexcache-rs[remote]'`.
"""

from flexcache_rs._first_use import importing
from flexcache_rs.remote.cache import RemoteCache
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError, RemoteValueError
from flexcache_rs.remote.stats import RemoteStats

__all__ = [
    "RemoteCache",
    "RemoteConnectionError",
    "RemoteError",
    "RemoteStats",
    "RemoteTimeoutError",
    "RemoteValueError",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flexcache_rs.remote.djangocache import DjangoCache as DjangoCache
else:
    __getattr__, __dir__ = importing(__name__, {"DjangoCache": "flexcache_rs.remote.djangocache"})
