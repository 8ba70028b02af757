"""`Deque` and `Index` under python-diskcache's name of the module, which stored pickles refer to."""

from __future__ import annotations

from flexcache_rs.disk.deque_index import Deque, Index
from flexcache_rs.disk.fanout_index import FanoutIndex

__all__ = ["Deque", "FanoutIndex", "Index"]
