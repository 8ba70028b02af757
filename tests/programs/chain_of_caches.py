"""Frees a long chain of caches, each the value of another one, which must not exhaust the stack."""

import sys

from flexcache_rs import FlexCache

outer = inner = FlexCache()
for _ in range(30_000):
    inner["next"] = FlexCache()
    inner = inner["next"]
del inner
if sys.argv[1] == "clear":
    outer.clear()
else:
    del outer
print("done")
