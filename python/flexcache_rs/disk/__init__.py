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

from flexcache_rs._first_use import importing, listing
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
    # The modules that python-diskcache has under these names.
    from flexcache_rs.disk import core as core
    from flexcache_rs.disk import djangocache as djangocache
    from flexcache_rs.disk import fanout as fanout
    from flexcache_rs.disk import persistent as persistent
    from flexcache_rs.disk import recipes as recipes
    from flexcache_rs.disk.djangocache import DjangoCache as DjangoCache
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

_MODULES = {
    "DjangoCache": "flexcache_rs.disk.djangocache",
    "JSONDisk": "flexcache_rs.disk.json_disk",
    **dict.fromkeys(
        ("Averager", "BoundedSemaphore", "Lock", "RLock", "barrier", "memoize_stampede", "throttle"),
        "flexcache_rs.disk.recipes",
    ),
    **dict.fromkeys(
        ("JSONSerializer", "MsgspecSerializer", "PickleSerializer", "Serializer", "SignedPickleSerializer"),
        "flexcache_rs.disk.serializers",
    ),
}

if not TYPE_CHECKING:
    __getattr__ = importing(__name__, _MODULES, ("djangocache", "persistent", "recipes"))
    __dir__ = listing(__name__)
