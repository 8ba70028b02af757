"""``flexcache sessions`` shows the contents of a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from session_places import SERVERS, URLS

from flexcache_rs.__main__ import main
from flexcache_rs.sessions.sync import connect
from flexcache_rs.testing import advance

if TYPE_CHECKING:
    from pathlib import Path


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"disk://{tmp_path}/data"
    with connect(url) as session, connect(url, namespace="other") as other:
        session.set_many({"user:1": {"name": "Ann"}, "user:2": [1, "two"], "n": 3})
        session.set("short", "x", ttl=5)
        other.set("elsewhere", 1)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["sessions", *arguments])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    assert run("keys", url) == (0, "n\nshort\nuser:1\nuser:2\n", "")
    assert run("keys", url, "--match", "user:*") == (0, "user:1\nuser:2\n", "")
    assert run("keys", url, "--namespace", "other") == (0, "elsewhere\n", "")
    assert run("get", url, "user:1") == (0, "{'name': 'Ann'}\n", "")
    assert run("get", url, "none") == (1, "", "flexcache sessions: there is no key 'none'\n")
    assert run("ttl", url, "n") == (0, "never expires\n", "")
    assert 0 < float(run("ttl", url, "short")[1]) <= 5
    assert run("ttl", url, "none")[0] == 1
    advance(6)
    assert run("purge", url) == (0, "1 keys removed\n", "")
    status, _, said = run("keys", f"disk://{tmp_path}/none")
    assert (status, "there is no database" in said) == (1, True)
    assert not (tmp_path / "none").exists()
    assert run("keys", "memory://")[0] == 1
    status, _, said = run("keys", "dsk:///x")
    assert (status, "did you mean disk://?" in said) == (1, True)
    assert "keys" in run()[1]


@pytest.mark.parametrize("backend", SERVERS)
def test_the_command_for_servers(backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = URLS[backend](tmp_path)
    with connect(url) as session:
        session.set_many({"user:1": {"name": "Ann"}, "n": 3})
    for arguments, expected in [
        (["keys"], "n\nuser:1\n"),
        (["get", "user:1"], "{'name': 'Ann'}\n"),
        (["ttl", "n"], "never expires\n"),
        (["purge"], "0 keys removed\n"),
    ]:
        assert main(["sessions", arguments[0], url, *arguments[1:]]) == 0
        assert capsys.readouterr() == (expected, "")
    assert main(["sessions", "get", url, "none"]) == 1
