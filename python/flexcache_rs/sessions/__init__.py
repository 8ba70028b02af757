"""Typed values over several backends. A session is a connection to data, not a web session.

>>> import asyncio
>>> from flexcache_rs.sessions import connect
>>> async def main():
...     async with connect("memory://") as session:
...         await session.set("user:1", {"name": "Ann"}, ttl=60)
...         print(await session.get("user:1"))
...         jobs = session.list("jobs")
...         await jobs.push("a", "b")
...         print(await jobs.pop_left())
>>> asyncio.run(main())
{'name': 'Ann'}
a

`flexcache_rs.sessions.sync` has the same names without `await`. docs/sessions.md says what each backend guarantees.
"""

from __future__ import annotations

from flexcache_rs._first_use import importing
from flexcache_rs.sessions._arguments import KEEP
from flexcache_rs.sessions._batch import Pending
from flexcache_rs.sessions._bits import Bits, Bloom
from flexcache_rs.sessions._containers import Handle, Job, List, Map, Queue, SetOf, Sorted
from flexcache_rs.sessions._errors import (
    ClosedError,
    CodecError,
    ConflictError,
    CrossShardError,
    KindError,
    OutcomeUnknown,
    RateLimitExceeded,
    SessionError,
    ShardError,
    TimedOut,
    Unavailable,
    UnsupportedError,
)
from flexcache_rs.sessions._limits import Hit, Limiter, Lock
from flexcache_rs.sessions._session import Session, Transaction, connect
from flexcache_rs.sessions._streams import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flexcache_rs.sessions import sync as sync
else:
    __getattr__, __dir__ = importing(__name__, {}, ("sync",))

__all__ = [
    "KEEP",
    "Bits",
    "Bloom",
    "ClosedError",
    "CodecError",
    "ConflictError",
    "CrossShardError",
    "Handle",
    "Hit",
    "Job",
    "KindError",
    "Limiter",
    "List",
    "Lock",
    "Map",
    "OutcomeUnknown",
    "Pending",
    "Queue",
    "RateLimitExceeded",
    "Session",
    "SessionError",
    "SetOf",
    "ShardError",
    "Sorted",
    "Stream",
    "TimedOut",
    "Transaction",
    "Unavailable",
    "UnsupportedError",
    "connect",
]
