"""A separate MariaDB server for the tests."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scale import may_skip
from waiting import stop

SERVER = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")
"""The program."""

LEFT_OUT = may_skip("mariadb-server", SERVER and find_spec("pymysql"))
"""Whether tests that need the server are left out."""

_QUICK = (
    *("--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"),
    *(
        "--innodb-doublewrite=0",
        "--innodb-flush-method=nosync",
        "--skip-log-bin",
        "--performance-schema=0",
        "--aria-log-file-size=8M",
    ),
)


class MariaDB:
    """A server on a private unix socket, which the tests may stop and kill."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = str(directory / "s")
        self.process: subprocess.Popen[bytes] | None = None

    def install(self) -> None:
        """Make an empty database."""
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={self.directory}/data", *_QUICK[:2]]
        command += ["--auth-root-authentication-method=normal", "--skip-test-db", f"--user={getpass.getuser()}"]
        # A separate TMPDIR, because other installations at the same time use files of the same names.
        own = {**os.environ, "TMPDIR": str(self.directory)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=own)
        assert done.returncode == 0, done.stdout + done.stderr
        self._make_certificate()

    @property
    def certificate(self) -> Path:
        """Return the path of the server's certificate. This needs openssl."""
        return self.directory / "certificate"

    def _make_certificate(self) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            return
        command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(self.directory / "key")]
        subprocess.run([*command, "-out", str(self.certificate)], check=True, capture_output=True)

    def start(self) -> None:
        assert SERVER is not None
        command = [SERVER, "--no-defaults", f"--datadir={self.directory}/data", f"--socket={self.path}"]
        command += ["--skip-networking", f"--pid-file={self.directory}/pid", f"--user={getpass.getuser()}", *_QUICK]
        if self.certificate.exists():
            command += [f"--ssl-cert={self.certificate}", f"--ssl-key={self.directory}/key"]
        with Path(self.directory, "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(3000):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as plain:
                plain.connect(self.path)
                break
            time.sleep(0.01)
        else:
            raise AssertionError(Path(self.directory, "log").read_text())
        with contextlib.closing(self.client()) as client:
            client.cursor().execute("CREATE DATABASE IF NOT EXISTS flexcache")

    def client(self, **options: Any) -> Any:
        import pymysql

        return pymysql.connect(unix_socket=self.path, user="root", autocommit=True, **options)

    def execute(self, *statements: str) -> list[Any]:
        """Run statements in one round trip and return the rows of each."""
        from pymysql.constants import CLIENT

        found = []
        connection = self.client(database="flexcache", client_flag=CLIENT.MULTI_STATEMENTS)
        with contextlib.closing(connection) as client, client.cursor() as cursor:
            cursor.execute(";".join(statements))
            while True:
                found.append(cursor.fetchall())
                if not cursor.nextset():
                    return found

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        assert self.process is not None
        stop(self.process.pid)

    def go_on(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
