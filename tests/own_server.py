"""A separate Valkey or Redis server for the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from scale import may_skip
from waiting import stop

ENGINES = {
    "redis": shutil.which("redis-server"),
    "valkey": os.environ.get("FLEXCACHE_VALKEY_SERVER") or shutil.which("valkey-server"),
}
"""The server programs. None for those that are not installed."""

LEFT_OUT_ENGINES = [name for name, program in ENGINES.items() if may_skip(f"{name}-server", program)]
"""The engines that are neither installed nor required."""

LEFT_OUT = len(LEFT_OUT_ENGINES) == len(ENGINES)
"""Whether tests that need a server are left out."""

ENGINE = next((name for name, program in ENGINES.items() if program), "redis")
"""The engine for tests that need only one."""


class Server:
    """A server on a private unix socket, which the tests may stop and kill."""

    def __init__(self, directory: Path, *options: str, engine: str = ENGINE) -> None:
        self.directory, self._options, self.engine = directory, options, engine
        self.path = str(directory / "s")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = ENGINES[self.engine]
        assert program is not None, f"{self.engine}-server is required, and is not here"
        options = ["--port", 0, "--unixsocket", self.path, "--save", "", "--appendonly", "no", "--dir", self.directory]
        with Path(self.directory, "log").open("ab") as log:
            self.process = subprocess.Popen([program, *map(str, options), *self._options], stdout=log, stderr=log)
        from redis.exceptions import ConnectionError as NoConnection

        with contextlib.closing(self.client()) as client:
            for _ in range(1000):
                with contextlib.suppress(NoConnection):
                    client.ping()
                    return
                time.sleep(0.01)
        raise AssertionError(Path(self.directory, "log").read_text())

    def client(self, **options: Any) -> Any:
        import redis

        return redis.Redis(unix_socket_path=self.path, **options)

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
