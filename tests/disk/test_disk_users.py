"""Directories of other users: what may not be read or written is named, and a group can share a cache."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from other_users import printed, readable_directory

from flexcache_rs.disk import Cache, FanoutCache

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not hasattr(os, "setuid"), reason="users and modes of files are Unix's")

# Root may read and write everything, so a program of root's becomes another user. It imports everything before, because
# that user may not be able to read the package.
BEGIN = """
import contextlib, io, json, os, pickle, sys, warnings
import flexcache_rs.disk
from flexcache_rs.__main__ import main
from flexcache_rs.disk import Cache
from flexcache_rs.sessions.sync import connect
user, directory, *rest = sys.argv[1:]
warnings.simplefilter("ignore")

def become():
    if os.getuid() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(int(user))

def open_cache():
    try:
        with Cache(directory) as cache:
            return cache.get("a")
    except PermissionError as error:
        return [error.errno, error.filename, error.strerror]
"""

OPEN = """
with contextlib.redirect_stderr(io.StringIO()):
    Cache(rest[0]).close()
become()
print(json.dumps(open_cache()))
"""

WRITE = """
become()
with Cache(directory) as cache:
    said = [cache.get("a")]
    try:
        cache["b"] = 2
    except PermissionError as error:
        said += [error.filename, error.strerror]
print(json.dumps(said))
"""

COMMAND = """
# The first run imports what the command needs.
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    main(rest)
    become()
said = io.StringIO()
with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
    status = main(rest)
print(json.dumps([status, said.getvalue()]))
"""

SHARE = """
def use(place):
    with Cache(place) as cache:
        for key in list(cache):
            cache.delete(key)
        for number in range(20):
            cache[user, number] = b"v" * 50_000
        found = cache.memoize(name="computed")(lambda: user)()
        with cache.lock("one at a time"):
            cache["mine"] = user
        with connect(f"disk://{place}") as session:
            session.list("users").push(user)
            return [len(cache), found, cache["mine"], session.list("users").range(), cache.check()]

# The first time imports what the calls need.
use(rest[0])
os.umask(0o002)
become()
warnings.simplefilter("error")
print(json.dumps(use(directory)))
"""


def python(program: str, *arguments: object, user: int = 65534) -> Any:
    """Return what a program of another user printed, as JSON. If this is not root, the user is this one."""
    return printed(sys.executable, "-c", BEGIN + program, user, *arguments)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may read, for a cache in it."""
    with readable_directory() as path:
        (path / "cache").mkdir(mode=0o755)
        yield path / "cache"


@pytest.mark.parametrize("name", ["cache.db", "cache.db-wal", "cache.db-shm"])
def test_a_file_that_must_not_be_read_is_named(place: Path, name: str) -> None:
    """SQLite says only that it cannot open the database."""
    with Cache(place) as cache:
        cache["a"] = 1
        for path in place.iterdir():
            path.chmod(0o444)
        (place / name).chmod(0)
        # Nobody can write to the directory, so SQLite cannot create the log again.
        place.chmod(0o555)
        try:
            said = python(OPEN, place, place.parent / "warm")
        finally:
            place.chmod(0o755)
            for path in place.iterdir():
                path.chmod(0o644)
    assert said == [errno.EACCES, str(place / name), os.strerror(errno.EACCES)]


@pytest.mark.parametrize("name", ["cache.db", "cache.db-wal", "cache.db-shm"])
@pytest.mark.parametrize("command", ["check", "stats", "export"])
def test_commands_name_what_they_must_not_read(place: Path, command: str, name: str) -> None:
    """They print one line, and leave no file."""
    out = place.parent / "out"
    out.mkdir()
    out.chmod(0o777)
    rest = [out / "file", "--no-progress"] if command == "export" else []
    with Cache(place) as cache:
        cache["a"] = 1
        (place / name).chmod(0o600 if os.getuid() == 0 else 0)
        status, said = python(COMMAND, place, "disk", command, place, *rest)
        (place / name).chmod(0o644)
    (out / "file").unlink(missing_ok=True)
    assert status == 1
    assert f"{name}: Permission denied" in said
    assert "\n" not in said.rstrip("\n")
    assert "damaged" not in said
    assert list(out.iterdir()) == []


def test_a_database_without_permission_to_write_in_a_directory_with_it(place: Path) -> None:
    """The exception does not only name the directory, which can be written."""
    with Cache(place) as cache:
        cache["a"] = 1
    (place / "cache.db").chmod(0o444)
    place.chmod(0o777)
    a, directory, why = python(WRITE, place)
    assert (a, directory) == (1, str(place))
    assert "cache.db" in why


def test_an_index_that_must_not_be_read_and_is_not_needed(place: Path) -> None:
    """Without a log, a directory that nobody can write is read as it is."""
    with Cache(place) as cache:
        cache["a"] = 1
    (place / "cache.db-shm").touch(mode=0o600 if os.getuid() == 0 else 0)
    (place / "cache.db").chmod(0o444)
    place.chmod(0o555)
    try:
        assert python(OPEN, place, place.parent / "warm") == 1
    finally:
        place.chmod(0o755)


def test_a_directory_that_must_not_be_searched(place: Path) -> None:
    with Cache(place) as cache:
        cache["a"] = 1
    place.chmod(0o700 if os.getuid() == 0 else 0)
    try:
        found = python(OPEN, place, place.parent / "warm")
    finally:
        place.chmod(0o755)
    assert found == [errno.EACCES, str(place / "cache.db"), os.strerror(errno.EACCES)]


@pytest.mark.parametrize("kind", [Cache, FanoutCache])
def test_a_directory_that_belongs_to_another_user(place: Path, kind: type[Cache | FanoutCache]) -> None:
    """It is used, with a warning, because its owner can plant pickles."""
    if os.getuid() != 0:
        pytest.skip("only root may give a directory away")
    kind(place).close()
    for path in (place, *place.glob("0*")):
        os.chown(path, 65534, 65534)
    with pytest.warns(UserWarning, match="belongs to user 65534") as warned:
        kind(place).close()
    # Once for all shards, at the line that opens it.
    assert [warning.filename for warning in warned] == [__file__]


def test_users_of_a_group_share_a_directory(place: Path) -> None:
    """Each reads, replaces and removes what the other has written, as the page on disk caches says."""
    if os.getuid() != 0:
        pytest.skip("only root may become two users")
    os.chown(place, 0, 65534)
    place.chmod(0o2770)  # What `install -d -m 2770 -g GROUP` does.
    users: list[str] = []
    for user in (65533, 65532, 65533):
        users.append(str(user))
        found = python(SHARE, place, place.parent / str(user), user=user)
        assert found == [22, str(user), str(user), users, []]


def test_an_export_follows_no_link_of_another_user(place: Path) -> None:
    """The name of the unfinished file cannot be guessed, and a link of that name is not opened."""
    with Cache(place) as cache:
        cache["a"] = 1
    victim, out = place.parent / "victim", place.parent / "out"
    victim.write_text("precious")
    (place.parent / "out.unfinished").symlink_to(victim)
    program = [sys.executable, "-m", "flexcache_rs", "disk", "export", "--no-progress", str(place), str(out)]
    subprocess.run(program, capture_output=True, timeout=60, check=True)
    assert victim.read_text() == "precious"
    assert out.stat().st_size > 0
    assert sorted(path.name for path in place.parent.iterdir()) == ["cache", "out", "out.unfinished", "victim"]
