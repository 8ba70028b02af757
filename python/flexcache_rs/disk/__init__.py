"""Caches on disk: python-diskcache's API on its own directories.

`import flexcache_rs.disk as diskcache` is the only change to a program. A directory may be used by both libraries at
the same time, from different processes.

>>> from flexcache_rs.disk import Cache
>>> cache = Cache()  # a temporary directory; give one to find it again
>>> cache.set("answer", {"value": 42}, expire=60, tag="numbers")
True
>>> cache["answer"]
{'value': 42}
"""

from flexcache_rs.disk.check_report import CheckReport, EmptyDirWarning, UnknownFileWarning
from flexcache_rs.disk.constants import ENOVAL, UNKNOWN
from flexcache_rs.disk.core import Cache, Disk, Timeout
from flexcache_rs.disk.deque_index import Deque, Index
from flexcache_rs.disk.fanout import FanoutCache
from flexcache_rs.disk.fanout_index import FanoutIndex
from flexcache_rs.disk.format import DEFAULT_SETTINGS, EVICTION_POLICY
from flexcache_rs.disk.network import NetworkFilesystemWarning
from flexcache_rs.disk.sqlite_guard import guard_sqlite3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flexcache_rs.disk.json_disk import JSONDisk
    from flexcache_rs.disk.recipes import (
        Averager,
        BoundedSemaphore,
        Lock,
        RLock,
        barrier,
        memoize_stampede,
        throttle,
    )
    from flexcache_rs.disk.serializers import (
        JSONSerializer,
        MsgspecSerializer,
        PickleSerializer,
        Serializer,
        SignedPickleSerializer,
    )

__all__ = [
    "DEFAULT_SETTINGS",
    "ENOVAL",
    "EVICTION_POLICY",
    "UNKNOWN",
    "Averager",
    "BoundedSemaphore",
    "Cache",
    "CheckReport",
    "Deque",
    "Disk",
    "EmptyDirWarning",
    "FanoutCache",
    "FanoutIndex",
    "Index",
    "JSONDisk",
    "JSONSerializer",
    "Lock",
    "MsgspecSerializer",
    "NetworkFilesystemWarning",
    "PickleSerializer",
    "RLock",
    "Serializer",
    "SignedPickleSerializer",
    "Timeout",
    "UnknownFileWarning",
    "barrier",
    "guard_sqlite3",
    "memoize_stampede",
    "throttle",
]

__version__ = "5.6.3"
"""The version of python-diskcache whose interface this is."""

_OF_RECIPES = frozenset(("Averager", "BoundedSemaphore", "Lock", "RLock", "barrier", "memoize_stampede", "throttle"))
_OF_SERIALIZERS = frozenset(
    ("JSONSerializer", "MsgspecSerializer", "PickleSerializer", "Serializer", "SignedPickleSerializer")
)


def __getattr__(name: str) -> object:
    """Import names that few programs use, or that need Django, on first use."""
    if name == "DjangoCache":
        from flexcache_rs.disk.djangocache import DjangoCache

        return DjangoCache
    if name == "JSONDisk":
        from flexcache_rs.disk.json_disk import JSONDisk

        return JSONDisk
    if name in _OF_RECIPES:
        from flexcache_rs.disk import recipes

        return getattr(recipes, name)
    if name in _OF_SERIALIZERS:
        from flexcache_rs.disk import serializers

        return getattr(serializers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
