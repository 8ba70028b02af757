"""SciQLop-cache's names on flexcache_rs's directories.

`from flexcache_rs.sciqlop import Cache` is the only change to a program. The directories are those of
`flexcache_rs.disk`, so python-diskcache can use them as well. `flexcache_rs.sciqlop.migrate` copies existing ones.

>>> import tempfile
>>> from flexcache_rs.sciqlop import Cache
>>> cache = Cache(tempfile.mkdtemp())
>>> cache["sensor/temperature"] = {"values": [21.3, 21.5]}
>>> cache["sensor/temperature"]
{'values': [21.3, 21.5]}
"""

from flexcache_rs.disk import Timeout
from flexcache_rs.sciqlop.base import CheckResult
from flexcache_rs.sciqlop.indexes import FanoutIndex, Index
from flexcache_rs.sciqlop.serializers import (
    MsgspecSerializer,
    PickleOOBSerializer,
    PickleSerializer,
    Serializer,
)
from flexcache_rs.sciqlop.stores import Cache, FanoutCache, Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flexcache_rs.sciqlop import serializers as serializers

__all__ = [
    "Cache",
    "CheckResult",
    "FanoutCache",
    "FanoutIndex",
    "Index",
    "Lock",
    "MsgspecSerializer",
    "PickleOOBSerializer",
    "PickleSerializer",
    "Serializer",
    "Timeout",
]
