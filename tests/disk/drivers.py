"""Processes that use caches on disk with this library or python-diskcache, and the contents of their directories."""

from __future__ import annotations

import importlib.util
import pickle
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

PROGRAMS = Path(__file__).parent.parent / "programs"
THEIRS = importlib.util.find_spec("diskcache") is not None
"""Whether python-diskcache is installed."""
NEEDS_THEIRS = "python-diskcache is not installed"


class Driver:
    """A process that uses one of the libraries."""

    def __init__(self, library: str) -> None:
        self.library = library
        command = [sys.executable, "-X", "faulthandler", str(PROGRAMS / "disk_driver.py"), library]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise

    def begin(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a command, for whose result `end` waits."""
        assert self.process.stdin is not None
        pickle.dump((name, args, kwargs), self.process.stdin)
        self.process.stdin.flush()

    def end(self) -> tuple[str, ...]:
        """Wait for the result of a command."""
        assert self.process.stdout is not None
        answer: tuple[str, ...] = pickle.load(self.process.stdout)
        return answer

    def ask(self, name: str, /, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        """Execute a command. Returns ("returned", repr) or ("raised", class, text)."""
        self.begin(name, *args, **kwargs)
        return self.end()

    def do(self, name: str, /, *args: Any, **kwargs: Any) -> str:
        """Execute a command, and return the repr of its result."""
        answer = self.ask(name, *args, **kwargs)
        assert answer[0] == "returned", f"{self.library}: {name} {args}: {answer}"
        return answer[1]

    def call(self, path: str, method: str, /, *args: Any, **kwargs: Any) -> str:
        """Call a method, and return the repr of its result."""
        return self.do("call", path, method, args, kwargs)

    def make(self, name: str, kind: str, /, *args: Any, **kwargs: Any) -> None:
        """Make an object under a name."""
        self.do("make", name, kind, args, kwargs)


COLUMNS = (
    "key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename, value, typeof(value)"
)


def contents(directory: Path) -> dict[str, Any]:
    """Return all contents of a directory's databases and files, without the names of files. No process may write."""
    found: dict[str, Any] = {}
    for database in sorted(directory.rglob("cache.db")):
        place = str(database.relative_to(directory))
        with closing(sqlite3.connect(database)) as connection:
            connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            rows = []
            for row in connection.execute(f"SELECT rowid, {COLUMNS} FROM Cache ORDER BY rowid"):
                *first, filename, value, kind = row
                if filename is not None:
                    assert re.fullmatch(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val", filename), filename
                    filename = (database.parent / filename).read_bytes()
                rows.append((*first, filename, value, kind))
            found[place] = {
                "rows": [repr(row) for row in rows],
                "settings": connection.execute(
                    "SELECT key, value, typeof(value) FROM Settings ORDER BY key"
                ).fetchall(),
                "schema": schema(connection),
            }
    files = [path for path in directory.rglob("*") if path.is_file() and "cache.db" not in path.name]
    found["files"] = sorted(path.read_bytes() for path in files)
    return found


def schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    """Return tables, indexes and triggers in a normalized form."""
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    listed = []
    for kind, name, table, sql in rows:
        words = sql.replace("IF NOT EXISTS ", "").replace("'", '"').replace("FOR EACH ROW", "")
        words = re.sub(r"\s*([(),;=])\s*", r"\1", " ".join(words.split()))
        # Our index leaves out entries that never expire.
        words = words.replace(";END", " END").lower().removesuffix("where expire_time is not null")
        listed.append((kind, name, table, words))
    return sorted(listed)
