"""Holds a transaction for ever."""

import sys
import threading

from flexcache_rs.disk import Cache

cache = Cache(sys.argv[1], disk_min_file_size=100)
with cache.transact():
    cache["mine"] = "x" * 1000
    cache.incr("counter")
    print("inside", flush=True)
    threading.Event().wait()
