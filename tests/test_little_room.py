"""Limits of the process: calls that need more raise an exception that says which limit and which file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flexcache_rs.disk import Cache

pytest.importorskip("resource")

PROGRAM = Path(__file__).parent / "programs" / "little_room.py"


def exceptions(limit: str, place: Path) -> list[str]:
    """The exceptions of the program at a limit."""
    command = [sys.executable, "-W", "ignore", str(PROGRAM), limit, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def expect(found: list[str], *expected: tuple[str, str, Path]) -> None:
    """Check the classes of exceptions, what they say, and which files they name."""
    assert len(found) == len(expected), found
    for line, (name, reason, path) in zip(found, expected):
        assert line.startswith(f"{name}: "), line
        assert reason in line, line
        assert re.search(rf"(?<![\w(]){re.escape(str(path))}", line), line


def test_no_descriptors(tmp_path: Path) -> None:
    """SQLite's message alone would be "unable to open database file"."""
    expect(
        exceptions("descriptors", tmp_path),
        ("OperationalError", "(Too many open files)", tmp_path / "cache" / "cache.db"),
        ("Unavailable", "(Too many open files)", tmp_path / "sessions" / "sessions.db"),
        ("OSError", "Too many open files", tmp_path),
        ("OSError", "Too many open files: '", tmp_path / "trace"),
    )


def test_no_longer_files(tmp_path: Path) -> None:
    """SQLite's message alone would be "disk I/O error". What was stored stays, and no file is left over."""
    expect(
        exceptions("length", tmp_path),
        ("OperationalError", "database or disk is full (File too large)", tmp_path / "cache" / "cache.db"),
        ("Unavailable", "database or disk is full (File too large)", tmp_path / "sessions" / "sessions.db"),
        ("OSError", "File too large", tmp_path / "cache"),
        ("OSError", "File too large", tmp_path / "snapshots"),
        ("OSError", "File too large", tmp_path / "lilcache"),
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the program looks at /proc")
def test_no_addresses(tmp_path: Path) -> None:
    (line,) = exceptions("addresses", tmp_path)
    assert re.fullmatch(rf"MemoryError: {re.escape(str(tmp_path / 'large'))}: .* cannot map the \d+ bytes .*", line)


def test_without_the_module_sqlite3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported for its exceptions. Without descriptors that fails, and must not hide why the call failed."""
    (tmp_path / "cache.db").mkdir()
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    with pytest.raises(RuntimeError, match=r"unable to open database file: .*cache\.db") as raised:
        Cache(tmp_path)
    assert isinstance(raised.value.__cause__, ImportError)
