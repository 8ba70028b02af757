"""Servers with TLS. Data and announcements use connections of the client's class."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import valkey
import valkey.asyncio.sentinel
from loops import told
from own_certificate import OwnCertificate
from own_cluster import OwnCluster, OwnSentinel
from own_server import Server
from scale import SCALE
from waiting import until

from flexcache_rs.remote import RemoteCache, RemoteConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Make = "Callable[..., Any]"

LANES = ("client",)
"""The direct lane has no TLS."""


@pytest.fixture
def encrypted(server: Server, tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Return the port and the certificate of a server with TLS."""
    certificate = OwnCertificate.made(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with contextlib.closing(server.client()) as client:
        try:
            settings = {"tls-port": port, **certificate.settings}
            client.execute_command("CONFIG", "SET", *(part for pair in settings.items() for part in pair))
        except redis.exceptions.ResponseError as error:
            pytest.skip(f"the server has no TLS: {error}")
        yield port, certificate.certificate
        client.execute_command("CONFIG", "SET", "tls-port", 0)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_server_with_tls(make: Make, encrypted: tuple[int, str]) -> None:
    port, certificate = encrypted
    client = redis.Redis(host="localhost", port=port, ssl=True, ssl_ca_certs=certificate)
    cache, other = make(client), make()
    cache["key"] = "x" * 100_000
    until(lambda: cache.get("key") and cache._near._get_from_memory("key", None))
    assert isinstance(cache._listener._socket, ssl.SSLSocket)
    for value in range(20):
        other["key"] = value
        until(lambda: cache["key"] == value)
    with pytest.raises(OSError, match="certificate"):
        make(redis.Redis(host="localhost", port=port, ssl=True))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_awaited_reads_over_tls(make: Make, encrypted: tuple[int, str], no_thread: Callable[[], None]) -> None:
    """Commands and replies arrive in parts, and a part of a record is no reply yet."""
    port, certificate = encrypted
    cache = make(redis.Redis(host="localhost", port=port, ssl=True, ssl_ca_certs=certificate), near=None, timeout=60)
    values = {f"{number:08d}" * 500: b"%d" % number * number * 100 for number in range(300)}
    cache.set_many(values)

    async def main() -> None:
        await told(cache)
        connection = cache._client._loops.current()
        assert has_tls(connection._socket)
        no_thread()
        assert dict(zip(values, await asyncio.gather(*map(cache.aget, values)), strict=True)) == values
        connection._read()
        connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        echoed = [connection.submit(None, ("ECHO", b"%d" % number * 1_000_000)) for number in range(4)]
        assert connection._is_full
        assert await asyncio.gather(*echoed) == [b"%d" % number * 1_000_000 for number in range(4)]
        never = connection.submit(None, ("BLPOP", "list", 0))
        connection.shut_down()
        # Otherwise it would take encrypted bytes for a reply.
        assert connection._socket._sslobj is not None
        with pytest.raises(RemoteConnectionError):
            await never

    asyncio.run(main())


CLUSTERS: dict[str, Callable[..., Any]] = {
    "redis": redis.RedisCluster,
    "redis-asyncio": redis.asyncio.RedisCluster,
    "valkey": valkey.ValkeyCluster,
    "valkey-asyncio": valkey.asyncio.ValkeyCluster,
}

SENTINELS: dict[str, Callable[..., Any]] = {
    "redis": redis.Sentinel,
    "redis-asyncio": redis.asyncio.sentinel.Sentinel,
    "valkey": valkey.Sentinel,
    "valkey-asyncio": valkey.asyncio.sentinel.Sentinel,
}


KINDS = list(CLUSTERS) if SCALE >= 1 else ["redis", "valkey-asyncio"]
"""Each package, once of each kind, or all."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> OwnCertificate:
    return OwnCertificate.made(tmp_path_factory.mktemp("certificate"))


def has_tls(sock: Any) -> bool:
    return isinstance(sock, ssl.SSLSocket)


@pytest.fixture(scope="module")
def cluster(engine: str, certificate: OwnCertificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnCluster]:
    with OwnCluster(tmp_path_factory.mktemp(engine), engine, certificate) as started:
        yield started


@pytest.mark.parametrize("kind", KINDS)
def test_a_cluster_with_tls(cluster: OwnCluster, certificate: OwnCertificate, kind: str) -> None:
    """All connections to the servers use TLS, because the cluster has no other ports."""

    def client(name: str) -> Any:
        return CLUSTERS[name](host="127.0.0.1", port=cluster.servers[0].port, **certificate.of_client)

    with (
        RemoteCache(client(kind), kind, timeout=5.0) as cache,
        RemoteCache(client("redis"), kind, timeout=5.0) as other,
    ):
        for key in range(8):
            other[key] = key
        assert cache.get_many(range(8)) == {key: key for key in range(8)}
        until(lambda: cache.stats().is_live)
        until(lambda: all(cache.get(key) == cache._near._get_from_memory(key, None) for key in range(8)))
        for key in range(8):
            other[key] = -key
            until(lambda: cache[key] == -key)
        assert len(cache._listener._members) == 3
        assert all(has_tls(member._socket) for member in cache._listener._members.values())


@pytest.fixture(scope="module")
def sentinel(
    engine: str, certificate: OwnCertificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnSentinel]:
    with OwnSentinel(tmp_path_factory.mktemp(engine), engine, certificate) as started:
        yield started


@pytest.mark.parametrize("kind", KINDS)
def test_sentinel_with_tls(sentinel: OwnSentinel, certificate: OwnCertificate, kind: str) -> None:
    """The connections to Sentinel and to the server that it names use TLS."""

    def client(name: str) -> Any:
        arguments = certificate.of_client
        of = SENTINELS[name]([("127.0.0.1", sentinel.port)], sentinel_kwargs=arguments, **arguments)
        return of.master_for("main")

    with (
        RemoteCache(client(kind), kind, timeout=5.0) as cache,
        RemoteCache(client("redis"), kind, timeout=5.0) as other,
    ):
        cache["key"] = 1
        until(lambda: cache.get("key") == cache._near._get_from_memory("key", None) == 1)
        for value in range(2, 20):
            other["key"] = value
            until(lambda: cache["key"] == value)
        assert has_tls(cache._listener._socket)


def test_a_failover_of_servers_with_tls(sentinel: OwnSentinel, certificate: OwnCertificate) -> None:
    arguments = certificate.of_client
    client = redis.Sentinel([("127.0.0.1", sentinel.port)], sentinel_kwargs=arguments, **arguments).master_for("main")
    with RemoteCache(client, "failover", timeout=5.0, max_staleness=0.5, on_error="miss") as cache:
        cache["key"] = 1
        sentinel.fail_over()
        until(lambda: cache._client._address == sentinel.replica.address and cache.stats().is_live)
        until(lambda: (cache.put("key", 2), cache.fresh("key") == 2)[1])
        until(lambda: has_tls(cache._listener._socket))
