"""The sessions of `flexcache_rs.sessions`, without `await`.

>>> from flexcache_rs.sessions.sync import connect
>>> with connect("memory://") as session:
...     _ = session.set("visits", 1)
...     print(session.incr("visits"))
2
"""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

from flexcache_rs.sessions._arguments import KEEP
from flexcache_rs.sessions._sync_bits import Bits, Bloom
from flexcache_rs.sessions._sync_containers import Handle, Job, List, Map, Queue, SetOf, Sorted
from flexcache_rs.sessions._sync_limits import Hit, Limiter, Lock
from flexcache_rs.sessions._sync_session import Session, Transaction, connect
from flexcache_rs.sessions._sync_streams import Stream

__all__ = [
    "KEEP",
    "Bits",
    "Bloom",
    "Handle",
    "Hit",
    "Job",
    "Limiter",
    "List",
    "Lock",
    "Map",
    "Queue",
    "Session",
    "SetOf",
    "Sorted",
    "Stream",
    "Transaction",
    "connect",
]
