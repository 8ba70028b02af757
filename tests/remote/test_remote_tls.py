"""A server with TLS: data and news come over connections of the client's class."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
import redis
from own_server import Server
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Make = "Callable[..., Any]"

LANES = ("client",)
"""The direct lane has no TLS."""


@pytest.fixture
def encrypted(server: Server, tmp_path: Path) -> Iterator[tuple[int, str]]:
    """The port and certificate of a server with TLS."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    key, certificate = str(tmp_path / "key"), str(tmp_path / "certificate")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with contextlib.closing(server.client()) as client:
        try:
            settings = {"tls-port": port, "tls-cert-file": certificate, "tls-key-file": key, "tls-auth-clients": "no"}
            client.execute_command("CONFIG", "SET", *(part for pair in settings.items() for part in pair))
        except redis.exceptions.ResponseError as error:
            pytest.skip(f"the server has no TLS: {error}")
        yield port, certificate
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
