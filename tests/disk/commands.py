"""Runs the command line, and programs that fill directories for it, in separate processes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def flexcache(*arguments: object, status: int = 0, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run `flexcache disk` with arguments."""
    options = {"text": True, **options}
    command = [sys.executable, "-m", "flexcache_rs", "disk", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, **options)
    assert done.returncode == status, (done.stdout, done.stderr)
    return done


def program(text: str, *arguments: object, **options: Any) -> str:
    """Run a program with the arguments as `sys.argv[1:]`. Returns its output."""
    command = [sys.executable, "-c", "import sys, os\n" + textwrap.dedent(text), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, **options).stdout


FILLED = """
from flexcache_rs.disk import Cache, FanoutCache
fanned = len(sys.argv) > 2
cache = FanoutCache(sys.argv[1], shards=4) if fanned else Cache(sys.argv[1], disk_min_file_size=1000)
cache["text"], cache["bytes"], cache[1], cache[2.5] = "ä\\0b", b"\\0\\1", 10, float("inf")
cache[b"key"], cache[("a", None)], cache[2**80] = {"x": [1]}, None, 2**70
cache["long"], cache["large"], cache["pickled"] = "ä\\r\\n" * 9000, os.urandom(3_000_000), list(range(40_000))
cache.set("tagged", 1, expire=1000, tag="t")
# An expired one would be gone at once.
cache.reset("cull_limit", 0)
cache.set("gone", 1, expire=-1)
cache.reset("cull_limit", 10)
if fanned:
    cache.deque("jobs/first").append("job")
    cache.index("names")["a"] = 1
cache.close()
"""

CONTENT = """
import hashlib
from flexcache_rs.disk import Cache, FanoutCache
cache = FanoutCache(sys.argv[1], shards=int(sys.argv[2])) if len(sys.argv) > 2 else Cache(sys.argv[1])
for key in sorted(cache, key=repr):
    value, expires, tag = cache.get(key, "GONE", expire_time=True, tag=True)
    if value != "GONE":
        print(repr(key), hashlib.sha256(repr(value).encode()).hexdigest(), expires, tag)
if len(sys.argv) > 2:
    print(list(cache.deque("jobs/first")), dict(cache.index("names")))
print([str(warning.message) for warning in cache.check()])
"""


def content(*arguments: object) -> str:
    """Return the contents of a directory as a text to compare."""
    return program(CONTENT, *arguments)


def files(directory: Path) -> dict[str, bytes]:
    """Return every file and its content."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
