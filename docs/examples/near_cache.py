"""Two near caches on one server, as two processes have them: `python docs/examples/near_cache.py`.

It starts a server of its own on a private unix socket, if valkey-server or redis-server is installed, and stops it at
the end. It needs the package valkey or redis: pip install 'flexcache-rs[remote]'.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from flexcache_rs.remote import RemoteCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT = 10.0
"""Seconds after which something is wrong."""


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A server for as long as the block runs. Gives its URL."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        sys.exit("this example needs valkey-server or redis-server on the path")
    with tempfile.TemporaryDirectory(prefix="flexcache-") as directory:
        path = Path(directory, "socket")
        command = [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", directory]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                wait_for(path.exists)
                yield f"unix://{path}"
            finally:
                process.terminate()


def wait_for(condition: Callable[[], object]) -> float:
    """Wait until something is so. Returns how many milliseconds it took."""
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > WAIT:
            sys.exit("what was waited for did not happen")
        time.sleep(0.0001)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Show what two caches see of each other."""
    with server() as url, RemoteCache(url, namespace="shop") as here, RemoteCache(url, namespace="shop") as there:
        here.put("user:1", {"name": "Ada"}, ttl=60, tags=("people",))
        print("read elsewhere:", there["user:1"])

        wait_for(lambda: there.stats().is_live and there.get("user:1"))
        before = there.stats().l2_reads
        began = time.perf_counter()
        for _ in range(100_000):
            there["user:1"]
        nanoseconds = (time.perf_counter() - began) * 10_000
        print(f"a hit in memory: {nanoseconds:.0f} ns; the server was asked {there.stats().l2_reads - before} times")

        here["user:1"] = {"name": "Grace"}
        print(f"seen elsewhere after {wait_for(lambda: there['user:1']['name'] == 'Grace'):.2f} ms")

        here.put("user:2", {"name": "Alan"}, tags=("people",))
        wait_for(lambda: there.get("user:2"))
        here.evict_tag("people")
        print(f"a tag is gone elsewhere after {wait_for(lambda: there.get('user:2') is None):.2f} ms")

        print("computed once:", here.get_or_set("report", lambda: "42 pages"), there.get_or_set("report", lambda: "43"))
        limiter = there.limiter("login:ada", limit=2, per=60)
        print("a limit of two:", [limiter.hit().allowed for _ in range(3)])
        with here.lock("nightly", ttl=60) as lock:
            print("a lock, with a number for what it protects:", lock.fence)


if __name__ == "__main__":
    main()
