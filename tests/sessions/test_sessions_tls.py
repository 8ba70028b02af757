"""Servers with TLS: the options of URLs reach the drivers."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from session_places import SERVERS, URLS, mariadb_server, redis_server

from flexcache_rs.sessions import Unavailable
from flexcache_rs.sessions.sync import connect

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif("mysql" not in SERVERS, reason="needs mariadbd")
def test_mysql(tmp_path: Path) -> None:
    url, server = URLS["mysql"](tmp_path), mariadb_server()
    if not server.certificate.exists():
        pytest.skip("needs openssl")
    options = f"&ssl_ca={quote(str(server.certificate))}&ssl_verify_cert=true"
    with connect(f"{url}{options}&ssl_verify_identity=true") as session:
        session.set("key", "x" * 100_000)
        assert session.get("key") == "x" * 100_000
        link = session._backend.take()  # type: ignore[attr-defined]
        (found,) = link.send([("SHOW SESSION STATUS LIKE 'Ssl_cipher'", ())])
        session._backend.give_back(link)  # type: ignore[attr-defined]
        assert found.rows[0][1]
        with session.transaction() as t:
            assert t.incr("n") == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.skipif("redis" not in SERVERS or "mysql" not in SERVERS, reason="needs both servers")
def test_redis(tmp_path: Path) -> None:
    import redis

    URLS["redis"](tmp_path)
    # The certificate is MariaDB's: it names only the host.
    certificate = mariadb_server().certificate
    if not certificate.exists():
        pytest.skip("needs openssl")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with contextlib.closing(redis_server().client()) as client:
        settings = {"tls-port": port, "tls-cert-file": certificate, "tls-key-file": certificate.parent / "key"}
        settings["tls-auth-clients"] = "no"
        try:
            client.execute_command("CONFIG", "SET", *(str(part) for pair in settings.items() for part in pair))
        except redis.exceptions.ResponseError as error:
            pytest.skip(f"the server has no TLS: {error}")
        url = f"rediss://localhost:{port}"
        with connect(url, ssl_ca_certs=str(certificate)) as session:
            session.set("key", "x" * 100_000)
            assert session.get("key") == "x" * 100_000
            with session.transaction() as t:
                assert t.incr("n") == 1
        with connect(url) as session, pytest.raises(Unavailable, match="certificate"):
            session.get("key")
        client.execute_command("CONFIG", "SET", "tls-port", 0)
