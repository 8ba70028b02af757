"""Caches and clients of a Valkey or Redis server: how to open each one, and its calls with and without `await`."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

OURS = "RemoteCache"

NAMESPACE = "bench"

SOCKET, PROTOCOL = "socket", "asyncio.Protocol"
"""The floors of calls in a thread and of awaited calls. They do not look at what they read."""


@dataclass
class Server:
    """A separate server on its own port."""

    host: str
    port: int
    process: subprocess.Popen[bytes]
    version: str

    @classmethod
    def start(cls, directory: Path) -> Server:
        """Start a server. Raises FileNotFoundError if none is installed."""
        program = shutil.which("valkey-server") or shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("neither valkey-server nor redis-server is installed")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(1000):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.01)
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split()
        version = " ".join(word for word in told if word.startswith("v=")) or "?"
        return cls("127.0.0.1", port, process, f"{Path(program).name} {version}")

    def end(self) -> None:
        """Stop the server."""
        self.process.terminate()
        self.process.wait(30)


@dataclass
class Opened:
    """An open client or cache."""

    get: Callable[[str], Any]
    set: Callable[[str, bytes], Any]
    get_many: Callable[[list[str]], Any] | None = None
    close: Callable[[], Any] = lambda: None
    keep: Any = None
    """What must stay alive."""


@dataclass(frozen=True)
class Contestant:
    """One way to read and write."""

    name: str
    distribution: str
    open: Callable[[Server], Any]
    """Returns an `Opened`; for awaited calls, a coroutine which does."""
    has_memory: bool = False
    """Whether it keeps copies in memory which the server ends."""


# In threads


def _cache(server: Server, **options: Any) -> Any:
    remote, redis = import_module("flexcache_rs.remote"), import_module("redis")
    client = redis.Redis(host=server.host, port=server.port)
    return remote.RemoteCache(client, NAMESPACE, timeout=5.0, l1_ttl=3600, near={"max_items": 200_000}, **options)


def _near(server: Server) -> Opened:
    cache = _cache(server)
    return Opened(cache.get, cache.put, cache.get_many, cache.close, cache)


def _from_server(server: Server) -> Opened:
    cache = _cache(server)
    return Opened(cache.fresh, cache.put, None, cache.close, cache)


def _direct(server: Server) -> Opened:
    cache = _cache(server, lane="direct")
    return Opened(cache.fresh, cache.put, None, cache.close, cache)


def _packed(*parts: bytes) -> bytes:
    command = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n%b" % (len(parts), command)


def plain_socket(server: Server) -> Opened:
    """The least possible time: a blocking socket, whose replies are not parsed."""
    connection = socket.create_connection((server.host, server.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(*parts: bytes) -> bytes:
        connection.sendall(_packed(*parts))
        return connection.recv(1 << 16)

    return Opened(
        lambda key: ask(b"GET", key.encode()),
        lambda key, value: ask(b"SET", key.encode(), value),
        close=connection.close,
    )


class _Replies(asyncio.Protocol):
    """Passes received data to the waiting call."""

    waiting: asyncio.Future[bytes] | None = None

    def data_received(self, data: bytes) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.set_result(data)


async def protocol(server: Server) -> Opened:
    """The least possible time of awaited calls: an asyncio connection that parses no replies. One call at a time."""
    loop = asyncio.get_running_loop()
    transport, replies = await loop.create_connection(_Replies, server.host, server.port)

    def ask(*parts: bytes) -> asyncio.Future[bytes]:
        replies.waiting = loop.create_future()
        transport.write(_packed(*parts))
        return replies.waiting

    async def get(key: str) -> bytes:
        return await ask(b"GET", key.encode())

    async def set_(key: str, value: bytes) -> bytes:
        return await ask(b"SET", key.encode(), value)

    return Opened(get, set_, close=transport.close)


def _client(package: str, name: str) -> Callable[[Server], Opened]:
    def open_(server: Server) -> Opened:
        client = getattr(import_module(package), name)(host=server.host, port=server.port)
        return Opened(client.get, client.set, client.mget, client.close, client)

    return open_


def _redis_cache(server: Server) -> Opened:
    """redis-py with its client-side cache, which needs Redis 7.4 or later."""
    redis = import_module("redis")
    config = import_module("redis.cache").CacheConfig(max_size=200_000)
    client = redis.Redis(host=server.host, port=server.port, protocol=3, cache_config=config)
    return Opened(client.get, client.set, client.mget, client.close, client)


def _glide(server: Server) -> Opened:
    glide = import_module("glide_sync")
    configuration = glide.GlideClientConfiguration([glide.NodeAddress(server.host, server.port)])
    client = glide.GlideClient.create(configuration)
    return Opened(client.get, client.set, client.mget, client.close, client)


SYNC = (
    Contestant(f"{OURS}, in memory", "flexcache-rs", _near, has_memory=True),
    Contestant(OURS, "flexcache-rs", _from_server),
    Contestant(f"{OURS}, direct lane", "flexcache-rs", _direct),
    Contestant(SOCKET, "", plain_socket),
    Contestant("redis-py", "redis", _client("redis", "Redis")),
    Contestant("redis-py, its cache", "redis", _redis_cache, has_memory=True),
    Contestant("valkey-py", "valkey", _client("valkey", "Valkey")),
    Contestant("valkey-glide-sync", "valkey-glide-sync", _glide),
)

# Awaited


async def _anear(server: Server) -> Opened:
    cache = _cache(server)
    return Opened(cache.aget, cache.aput, cache.aget_many, cache.aclose, cache)


async def _afrom_server(server: Server) -> Opened:
    cache = _cache(server)
    return Opened(cache.afresh, cache.aput, None, cache.aclose, cache)


async def _adirect(server: Server) -> Opened:
    cache = _cache(server, lane="direct")
    return Opened(cache.afresh, cache.aput, None, cache.aclose, cache)


def _aclient(package: str, name: str) -> Callable[[Server], Any]:
    async def open_(server: Server) -> Opened:
        client = getattr(import_module(package), name)(host=server.host, port=server.port)
        return Opened(client.get, client.set, client.mget, client.aclose, client)

    return open_


async def _coredis(server: Server) -> Opened:
    client = import_module("coredis").Redis(host=server.host, port=server.port)
    # From version 6 on, the client must be entered as a context manager.
    enter = getattr(client, "__aenter__", None)
    if enter is not None:
        await enter()

    async def close() -> None:
        if enter is not None:
            await client.__aexit__(None, None, None)

    return Opened(client.get, client.set, client.mget, close, client)


async def _aiocache(server: Server) -> Opened:
    """Open aiocache without a serializer, so that it stores and returns bytes."""
    aiocache = import_module("aiocache")
    client = import_module("redis.asyncio").Redis(host=server.host, port=server.port)
    serializer = import_module("aiocache.serializers").NullSerializer(encoding=None)
    try:
        cache = aiocache.RedisCache(client=client, serializer=serializer)
    except TypeError:
        cache = aiocache.RedisCache(endpoint=server.host, port=server.port, serializer=serializer)
    return Opened(cache.get, cache.set, cache.multi_get, cache.close, cache)


async def cashews_near(server: Server) -> Opened:
    """Open cashews with copies in memory, which the server invalidates."""
    cache = import_module("cashews").Cache()
    cache.setup(f"redis://{server.host}:{server.port}", client_side=True, client_side_prefix="bench:", protocol=2)
    await cache.init()

    async def get(key: str) -> Any:
        return await cache.get(key)

    async def set_(key: str, value: bytes) -> Any:
        return await cache.set(key, value, expire=3600)

    return Opened(get, set_, None, cache.close, cache)


async def _cashews(server: Server) -> Opened:
    cache = import_module("cashews").Cache()
    cache.setup(f"redis://{server.host}:{server.port}")
    await cache.init()
    return Opened(cache.get, cache.set, None, cache.close, cache)


AWAITED = (
    Contestant(f"{OURS}, in memory", "flexcache-rs", _anear, has_memory=True),
    Contestant(OURS, "flexcache-rs", _afrom_server),
    Contestant(f"{OURS}, direct lane", "flexcache-rs", _adirect),
    Contestant(PROTOCOL, "", protocol),
    Contestant("redis.asyncio", "redis", _aclient("redis.asyncio", "Redis")),
    Contestant("valkey.asyncio", "valkey", _aclient("valkey.asyncio", "Valkey")),
    Contestant("coredis", "coredis", _coredis),
    Contestant("aiocache", "aiocache", _aiocache),
    Contestant("cashews", "cashews", _cashews),
    Contestant("cashews, in memory", "cashews", cashews_near, has_memory=True),
)
