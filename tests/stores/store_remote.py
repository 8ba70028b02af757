"""Namespaces of a server as stores. This process and those that it starts use the same server."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import sys
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Processes of the tests run scripts of this folder, without the parent folder in their path.
sys.path.append(str(Path(__file__).parents[1]))

import news
from own_server import ENGINE as ENGINE
from own_server import ENGINES, Server
from waiting import until

if TYPE_CHECKING:
    from flexcache_rs.remote import RemoteCache

_ADDRESS = "FLEXCACHE_TESTS_OF_STORES_SERVER_"
"""The prefix of the environment variables that pass the servers' addresses to started processes."""

HERE = [name for name, program in ENGINES.items() if program]
"""The engines that can be started."""

_OPEN: weakref.WeakSet[RemoteCache] = weakref.WeakSet()


def address(engine: str) -> str:
    """Return the socket of a server, which the first call starts. Processes that start later use the same server."""
    name = _ADDRESS + engine.upper()
    if name not in os.environ:
        server = Server(Path(tempfile.mkdtemp(prefix="flexcache-")), engine=engine)
        server.start()
        process = os.getpid()

        def stop() -> None:
            if os.getpid() == process:
                server.kill()
                shutil.rmtree(server.directory, ignore_errors=True)

        atexit.register(stop)
        os.environ[name] = server.path
    return os.environ[name]


LANES = ("client", "direct")
"""How commands reach the server. A tenth of the full counts takes one of them, by the seed of the run."""


def make(path: Path, timeout: float = 10.0, lane: str = "client", engine: str = ENGINE) -> Any:
    """Make a cache whose namespace belongs to a directory."""
    import redis

    from flexcache_rs.remote import RemoteCache

    namespace = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    client = redis.Redis(unix_socket_path=address(engine))
    cache = RemoteCache(client, namespace, timeout=timeout, max_staleness=30, lane=lane)  # type: ignore[arg-type]
    _OPEN.add(cache)
    until(lambda: cache.stats().is_live)
    return cache


def close_all() -> None:
    """Close the caches of this process that are open."""
    for cache in list(_OPEN):
        if not cache.closed:
            cache.close()


def disconnect(cache: RemoteCache) -> None:
    """Let a cache connect again, and wait until it listens again."""
    connects = cache._listener.connects
    cache._client.renew()
    cache._listener._socket.shutdown(2)
    until(lambda: cache._listener.connects > connects and cache.stats().is_live)


def hear() -> None:
    """Wait until all caches of this process have received the announcements of all earlier writes."""
    for cache in list(_OPEN):
        if not cache.closed:
            news.hear(cache)
