"""While a process has a cache open, `sqlite3` is refused there, whenever it was imported.

Before, nothing is checked.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from flexcache_rs.disk import guard_sqlite3

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = """
import sys
added = []
sys.addaudithook(lambda event, arguments: added.append(event) if event == "sys.addaudithook" else None)
"""
OPEN = """
import flexcache_rs.disk as diskcache
cache = diskcache.Cache(sys.argv[1])
cache["a"] = 1
database = sys.argv[1] + "/cache.db"
"""
REFUSED = """
import os, sqlite3, sqlite3.dbapi2, _sqlite3, pathlib
class Mine(sqlite3.Connection): pass
opening = [
    lambda: sqlite3.connect(database), lambda: sqlite3.dbapi2.connect(database), lambda: _sqlite3.connect(database),
    lambda: sqlite3.Connection(database), lambda: Mine(database), lambda: sqlite3.connect(database, factory=Mine),
    lambda: sqlite3.connect("file:" + database, uri=True), lambda: sqlite3.connect(pathlib.Path(database)),
    lambda: sqlite3.connect(os.fsencode(database)), lambda: sqlite3.connect(database, 1),
    lambda: sqlite3.connect(os.path.relpath(database)),
]
for number, call in enumerate(opening):
    try:
        call()
    except RuntimeError as error:
        assert "is open in this process" in str(error)
    else:
        raise AssertionError(f"opening {number} was let through")
sqlite3.connect(":memory:").close()
sqlite3.connect(sys.argv[1] + "/other.db").close()
cache.close()
sqlite3.connect(database).close()
assert cache["a"] == 1
print("refused")
"""


def run(program: str, tmp_path: Path) -> str:
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("first", ["", "import sqlite3\n", "import _sqlite3\n", "from sqlite3 import *\n"])
def test_an_import_before_and_after(tmp_path: Path, first: str) -> None:
    """In both cases, every way to open the database is refused as long as the cache is open."""
    assert run(BEFORE + first + OPEN + REFUSED, tmp_path) == "refused"


def test_finders_that_were_replaced_by_a_tuple(tmp_path: Path) -> None:
    """No finder can wait for the import of `sqlite3` then, so the hook is added at once."""
    replaced = "import sys\nsys.meta_path = tuple(sys.meta_path)\n"
    assert run(replaced + OPEN + REFUSED, tmp_path) == "refused"


@pytest.mark.parametrize("first", [True, False], ids=["imported before", "imported after"])
def test_a_program_that_refuses_audit_hooks(tmp_path: Path, first: bool) -> None:
    """Nothing is refused then, and its exception reaches neither the import of `sqlite3` nor the cache."""
    refusing = """
import sys
def refuse(event, arguments):
    if event == "sys.addaudithook":
        raise ValueError("no hooks")
sys.addaudithook(refuse)
"""
    imported = "import sqlite3\n"
    done = "sqlite3.connect(database).close()\nassert cache['a'] == 1\nprint('done')\n"
    parts = (imported, OPEN) if first else (OPEN, imported)
    assert run(refusing + "".join(parts) + done, tmp_path) == "done"


def test_a_program_without_sqlite3(tmp_path: Path) -> None:
    """The program gets no audit hook, whatever it does with its caches."""
    program = f"""{BEFORE}{OPEN}
fanout = diskcache.FanoutCache(sys.argv[1] + "/f", shards=2)
diskcache.Deque("ab", sys.argv[1] + "/d").rotate()
diskcache.Index(sys.argv[1] + "/i", a=1).popitem()
with cache.transact(), cache.lock("l"): cache.incr("n")
cache.check(), cache.cull(), fanout.set("a", 1), fanout.get("b"), list(cache), cache.stats(), cache.volume()
import json, decimal, uuid
print(added, "_sqlite3" in sys.modules)
"""
    assert run(program, tmp_path) == "[] False"


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    """Switched off before a cache is opened, no hook is added. Switched off later, nothing is refused any longer."""
    off = "import flexcache_rs.disk\nflexcache_rs.disk.guard_sqlite3(False)\n"
    asked = "import sqlite3\nsqlite3.connect(database).close()\nprint(added)\n"
    assert run(BEFORE + off + OPEN + asked, tmp_path) == "[]"
    assert run(BEFORE + OPEN + off + asked, tmp_path) == "['sys.addaudithook']"
    again = "flexcache_rs.disk.guard_sqlite3(True)\n"
    assert run(BEFORE + off + OPEN + again + REFUSED, tmp_path) == "refused"
    with pytest.raises(TypeError, match="wanted"):
        guard_sqlite3("no")  # type: ignore[arg-type]
