"""A separate cluster, and a server with a replica and a Sentinel, for the tests. The processes use private ports."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from typing import TYPE_CHECKING, Any

from own_certificate import options
from own_server import Server
from waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from own_certificate import OwnCertificate
    from typing_extensions import Self


def free_ports(count: int) -> list[int]:
    """Return ports that are not in use."""
    with contextlib.ExitStack() as stack:
        free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in free]


def _answers(client: Any) -> bool:
    import redis

    with contextlib.suppress(redis.exceptions.RedisError):
        return bool(client.ping())
    return False


class PortServer(Server):
    """A server on a port and on a unix socket."""

    def __init__(
        self, directory: Path, port: int, *given: str, engine: str, certificate: OwnCertificate | None = None
    ) -> None:
        directory.mkdir(exist_ok=True)
        settings = {"port": str(port)} if certificate is None else certificate.of_server(port)
        super().__init__(directory, *options(settings), "--bind", "127.0.0.1", *given, engine=engine)
        self.port = port
        self.address = ("127.0.0.1", port)


class OwnCluster:
    """Three primaries, the first of which has a replica. With a certificate, everything is encrypted."""

    def __init__(self, directory: Path, engine: str, certificate: OwnCertificate | None = None) -> None:
        ports = free_ports(8)
        self.servers = [
            PortServer(
                *(directory / str(port), port, "--cluster-enabled", "yes", "--cluster-port", str(bus)),
                *("--cluster-node-timeout", "5000", "--cluster-allow-replica-migration", "no"),
                *("--cluster-replica-no-failover", "yes"),
                *("--repl-diskless-sync-delay", "0", *(() if certificate is None else ("--tls-cluster", "yes"))),
                engine=engine,
                certificate=certificate,
            )
            for port, bus in zip(ports[:4], ports[4:], strict=True)
        ]
        self.buses = ports[4:]

    def __enter__(self) -> Self:
        for server in self.servers:
            server.start()
        try:
            self._join()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _join(self) -> None:
        first, *_, replica = clients = [server.client() for server in self.servers]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, client in enumerate(clients[:3]):
            ends = (16384 * number // 3, 16384 * (number + 1) // 3 - 1)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", *ends)
        for server, bus in zip(self.servers[1:], self.buses[1:], strict=True):
            first.execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        until(lambda: all(self.info(client)["cluster_known_nodes"] == "4" for client in clients))
        replica.execute_command("CLUSTER", "REPLICATE", self.id(0))
        until(lambda: all(self.info(client)["cluster_state"] == "ok" for client in clients))
        until(lambda: replica.info("replication").get("master_link_status") == "up")
        for client in clients:
            client.close()

    def allow_failover(self) -> None:
        """Let the replica take over soon after its primary does not respond.

        Without this, a primary that a busy machine delays would be replaced in the middle of another test.
        """
        for server in self.servers:
            with contextlib.closing(server.client()) as client:
                client.config_set("cluster-node-timeout", 700)
                client.config_set("cluster-replica-no-failover", "no")

    def info(self, client: Any) -> dict[str, str]:
        """Return a server's information about the cluster."""
        answer = client.execute_command("CLUSTER", "INFO")
        if isinstance(answer, dict):
            return {key: str(value) for key, value in answer.items()}
        return dict(line.split(":", 1) for line in answer.decode().split())

    def id(self, number: int) -> str:
        """Return the id of a server in the cluster."""
        with contextlib.closing(self.servers[number].client()) as client:
            found = client.execute_command("CLUSTER", "MYID")
        return str(found.decode() if isinstance(found, bytes) else found)

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            if server.process is not None:
                server.go_on()
                server.kill()


class OwnSentinel:
    """A server, a replica, and a Sentinel that watches them. With a certificate, everything is encrypted."""

    def __init__(self, directory: Path, engine: str, certificate: OwnCertificate | None = None) -> None:
        ports = free_ports(3)
        self.port, self.certificate = ports[2], certificate
        self.primary = PortServer(directory / "primary", ports[0], engine=engine, certificate=certificate)
        replicates = ("--replicaof", f"127.0.0.1 {ports[0]}")
        self.replica = PortServer(directory / "replica", ports[1], *replicates, engine=engine, certificate=certificate)
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        from own_server import ENGINES

        with contextlib.closing(self.primary.client()) as client:
            self.primary.start()
            client.config_set("repl-diskless-sync-delay", 0)
        self.replica.start()
        configuration = self.directory / "sentinel.conf"
        settings = {"port": str(self.port)} if self.certificate is None else self.certificate.of_server(self.port)
        configuration.write_text(
            "".join(f"{name} {value}\n" for name, value in settings.items())
            + f"bind 127.0.0.1\nsentinel monitor main 127.0.0.1 {self.primary.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        )
        program = ENGINES[self.primary.engine]
        assert program is not None
        with (self.directory / "sentinel.log").open("wb") as log:
            command = [program, str(configuration), "--sentinel"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        with contextlib.closing(self.client()) as client:
            until(lambda: _answers(client))
            until(lambda: client.sentinel_master("main")["num-slaves"] == 1)
        with contextlib.closing(self.replica.client()) as client:
            until(lambda: client.info("replication")["master_link_status"] == "up")
        return self

    def client(self) -> Any:
        """Return a client of the Sentinel."""
        import redis

        return redis.Redis(port=self.port, **({} if self.certificate is None else self.certificate.of_client))

    def fail_over(self) -> None:
        """Make the replica the primary. The old primary keeps running."""
        import redis

        with contextlib.closing(self.client()) as client:

            def is_begun() -> bool:
                with contextlib.suppress(redis.exceptions.ResponseError):
                    return bool(client.execute_command("SENTINEL", "FAILOVER", "main"))
                return False

            until(is_begun)

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for server in (self.primary, self.replica):
            if server.process is not None:
                server.go_on()
                server.kill()
