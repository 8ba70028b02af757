"""What comes back to the package without end raises RecursionError, also where the interpreter's own limit is too high.

Each runs in a process of its own, which a stack that overflows would end.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.every_python

BEFORE = """
import asyncio, functools, sys, threading
import flexcache_rs
from flexcache_rs import FlexCache, memoize, lru_cache

sys.setrecursionlimit(10**6)
"""

AFTER = """
failures = []
depth = 0

def attempt():
    try:
        recur(0)
    except RecursionError:
        failures.append("RecursionError")
    except Exception as error:
        failures.append(type(error).__name__)
    else:
        failures.append("nothing")

size = int(sys.argv[1])
# Twice in one thread: nothing is left behind by the first time.
def twice():
    attempt(), attempt()

if size:
    threading.stack_size(size)
    thread = threading.Thread(target=twice)
    thread.start()
    thread.join()
else:
    twice()
print(*failures, depth)
"""

# What recur(n) does: goes on to n + 1 by way of the package.
WAYS = {
    "lru_cache": """
@lru_cache(maxsize=None)
def recur(n):
    global depth
    depth = max(depth, n)
    return recur(n + 1)
""",
    "memoize": """
@memoize
def recur(n):
    global depth
    depth = max(depth, n)
    return recur(n + 1)
""",
    "memoized method": """
class Thing:
    @memoize
    def recur(self, n):
        global depth
        depth = max(depth, n)
        return self.recur(n + 1)
thing = Thing()
def recur(n):
    return thing.recur(n)
""",
    "refresh": """
@memoize
def computed(n):
    return recur(n + 1)
def recur(n):
    global depth
    depth = max(depth, n)
    return computed.refresh(n)
""",
    "key function": """
def key(n):
    global depth
    depth = max(depth, n)
    return recur(n + 1)
@memoize(key=key)
def recur(n):
    return n
""",
    "get_or_set": """
cache = FlexCache()
def recur(n):
    global depth
    depth = max(depth, n)
    return cache.get_or_set(n, lambda: recur(n + 1))
""",
    "awaited in an eager task": """
@memoize
async def computed(n):
    return await asyncio.eager_task_factory(asyncio.get_running_loop(), step(n))
async def step(n):
    global depth
    depth = max(depth, n)
    return await computed(n + 1)
async def main():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    await computed(0)
def recur(n):
    asyncio.run(main())
""",
    "listener": """
over = False
def listener(key, value, cause):
    if not over:
        recur(key + 1)
cache = FlexCache(max_items=1, on_evict=listener)
def recur(n):
    global depth, over
    depth = max(depth, n)
    over = over and n > 0
    cache.put(n, n)
    cache.put(n + 1, n)
    # Each level would go on from where the stack has ended.
    over = True
""",
    "hook": """
class Value:
    def __init__(self, n):
        self.n = n
    def close(self):
        recur(self.n + 1)
cache = FlexCache()
def recur(n):
    global depth
    depth = max(depth, n)
    cache.put(n, Value(n))
    cache.delete(n)
""",
    "weigher": """
class Value:
    def __init__(self, n):
        self.n = n
    def item_size(self):
        return recur(self.n + 1)
cache = FlexCache()
def recur(n):
    global depth
    depth = max(depth, n)
    cache.put(n, Value(n))
    return 1
""",
    "hash": """
class Key:
    def __init__(self, n):
        self.n = n
    def __hash__(self):
        return recur(self.n + 1)
cache = FlexCache()
def recur(n):
    global depth
    depth = max(depth, n)
    return cache.get(Key(n), 1)
""",
    "equality": """
class Key:
    def __init__(self, n):
        self.n = n
    def __hash__(self):
        return 1
    def __eq__(self, other):
        return recur(max(self.n, other.n) + 1)
cache = FlexCache()
cache.put(Key(0), 1)
def recur(n):
    global depth
    depth = max(depth, n)
    return cache.get(Key(n), True)
""",
    "policy": """
class Policy:
    def on_insert(self, key):
        recur(key + 1)
    def on_remove(self, key):
        pass
    def on_access(self, key):
        pass
    def victim(self):
        raise KeyError
cache = None
def recur(n):
    global depth
    depth = max(depth, n)
    FlexCache(max_items=5, eviction_policy=Policy()).put(n, n)
""",
    "a store": """
class Store:
    def load(self, key):
        return recur(key + 1)
    def save(self, key, value, seconds, tags):
        pass
    def remove(self, key):
        pass
    def contains(self, key):
        return False
    def keys(self):
        return []
    def clear(self):
        pass
    def touch(self, key, seconds):
        pass
cache = FlexCache(store=Store(), coherence=None)
def recur(n):
    global depth
    depth = max(depth, n)
    return cache.get(n)
""",
    "a disk of one's own": """
import tempfile
from flexcache_rs.disk import Cache, Disk
class Own(Disk):
    def put(self, key):
        recur(key + 1)
directory = tempfile.TemporaryDirectory()
cache = Cache(directory.name, disk=Own)
def recur(n):
    global depth
    depth = max(depth, n)
    return cache.get(n)
""",
    "a serializer": """
import tempfile
from flexcache_rs.disk import Cache
class Serializer:
    name = "own"
    def dumps(self, value, *_):
        return b"" if value is None else recur(value[0] + 1)
    def loads(self, data, *_):
        return None
directory = tempfile.TemporaryDirectory()
cache = Cache(directory.name, serializer=Serializer())
def recur(n):
    global depth
    depth = max(depth, n)
    cache[n] = (n, [n])
""",
}

# What a hook raises is logged, and what a policy raises is wrapped.
OTHERWISE = {"listener": "nothing", "hook": "nothing", "policy": "RuntimeError"}


@pytest.mark.parametrize("size", [0, 256 << 10], ids=["main thread", "small stack"])
@pytest.mark.parametrize("way", WAYS)
def test_recursion_raises(way: str, size: int) -> None:
    if way == "awaited in an eager task" and sys.version_info < (3, 12):
        pytest.skip("Python has no eager tasks before 3.12")
    if way == "awaited in an eager task" and not size:
        pytest.skip("takes long, because each of thousands of tasks raises what grows")
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + WAYS[way] + AFTER, str(size)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    first, second, depth = done.stdout.split()[-3:]
    expected = OTHERWISE.get(way, "RecursionError")
    assert (first, second) == (expected, expected), (done.stdout, done.stderr[-2000:])
    assert int(depth) >= 10, done.stdout
