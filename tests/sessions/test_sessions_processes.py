"""Several processes that use one server."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from session_places import SERVERS, URLS

from flexcache_rs.sessions.sync import connect

if TYPE_CHECKING:
    from pathlib import Path

WORKER = """
import sys
from flexcache_rs.sessions.sync import connect

with connect(sys.argv[1], timeout=60) as session:
    limiter = session.limiter("api", 10, 3600)
    for _ in range(50):
        if limiter.hit().allowed:
            session.incr("allowed")
    for _ in range(10):
        session.list("list").push(1)
        session.run(lambda t: t.set("n", t.get("n", 0) + 1), attempts=1000)
    session.get_or_set("once", lambda: session.incr("computed"))
"""


@pytest.mark.parametrize("backend", SERVERS)
def test_processes_share_limits_and_values(backend: str, tmp_path: Path) -> None:
    url = URLS[backend](tmp_path)
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, url]) for _ in range(4)]
    assert [worker.wait(120) for worker in workers] == [0] * 4
    with connect(url) as session:
        assert session.get_many(["allowed", "n", "computed"]) == {"allowed": 10, "n": 40, "computed": 1}
        assert session.list("list").len() == 40
