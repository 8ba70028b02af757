"""The recipes under diskcache_rs's name of the module."""

from flexcache_rs.disk.memoize import args_to_key, full_name
from flexcache_rs.disk.recipes import Averager, BoundedSemaphore, Lock, RLock, barrier, memoize_stampede, throttle

__all__ = [
    "Averager",
    "BoundedSemaphore",
    "Lock",
    "RLock",
    "args_to_key",
    "barrier",
    "full_name",
    "memoize_stampede",
    "throttle",
]
