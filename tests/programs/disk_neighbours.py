"""Two SQLite libraries in one process: the second one that opens a database is refused."""

import sqlite3
import sys

import diskcache

import flexcache_rs.disk


def refused(open_it):
    try:
        open_it()
    except RuntimeError as error:
        return sys.argv[1] in str(error)
    return False


theirs = diskcache.Cache(sys.argv[1])
theirs["key"] = "value"
assert refused(lambda: flexcache_rs.disk.Cache(sys.argv[1])), "while python-diskcache has it"
assert theirs["key"] == "value"
theirs.close()
ours = flexcache_rs.disk.Cache(sys.argv[1])
assert ours["key"] == "value"
assert refused(lambda: diskcache.Cache(sys.argv[1])), "while flexcache_rs has it"
assert refused(lambda: sqlite3.connect(sys.argv[1] + "/cache.db"))
assert refused(lambda: sqlite3.connect(f"file:{sys.argv[1]}/cache.db?mode=ro", uri=True))
ours.close()
assert theirs["key"] == "value"
theirs.close()
assert ours["key"] == "value"
print("done")
