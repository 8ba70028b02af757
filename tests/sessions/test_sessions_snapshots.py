"""Snapshots of the data in memory."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import sessions
from flexcache_rs.sessions import Unavailable, UnsupportedError
from flexcache_rs.sessions._snapshots import files, read_file
from flexcache_rs.sessions.sync import Session, connect
from flexcache_rs.testing import advance
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

VALUES: dict[str, Any] = {
    "text": "007",
    "none": None,
    "bytes": b"\x00\xff",
    "big": 2**100,
    "tuple": (1, (2, 3)),
    "list": [1, "two", None],
    "map": {1: "one", "two": 2},
    "set": {1, "a"},
    "queue": deque([1, 2]),
    "empty": [],
}


def fill(session: Session) -> None:
    session.set_many(VALUES)
    session.set("short", "x", ttl=100)
    session.sorted("sorted").add({"a": 1.5, "b": -1})
    session.stream("stream").add({"n": 1})
    session.bits("bits").set(100_000)
    session.bloom("bloom", 100, 0.01).add("a", "b")
    session.queue("jobs").push("first", "second")
    session.queue("jobs").reserve(50)


def test_a_snapshot_has_all_that_was_there(tmp_path: Path) -> None:
    with connect("memory://", snapshot=tmp_path) as session:
        fill(session)
        last = session.stream("stream").range()
        path = session.snapshot()
        assert [str(file) for file in files(tmp_path)] == [path]
    with connect("memory://", snapshot=tmp_path) as session:
        assert session.get_many(VALUES) == VALUES
        assert {key: session.kind(key) for key in ("queue", "empty", "bits")} == {
            "queue": "queue",
            "empty": "list",
            "bits": "bits",
        }
        assert 95 < (session.ttl("short") or 0) <= 100
        assert session.sorted("sorted").range() == [("b", -1.0), ("a", 1.5)]
        assert session.stream("stream").range() == last
        assert session.stream("stream").add({}) > last[0][0]
        assert session.bits("bits").count() == 1
        bloom = session.bloom("bloom", 100, 0.01)
        assert (bloom.has_many(["a", "b"]), bloom.len()) == ([True, True], 2)
        with pytest.raises(ValueError, match="another capacity"):
            session.bloom("bloom", 5000, 0.1).add("c")
        jobs = session.queue("jobs")
        assert jobs.range() == ["second"]
        advance(51)
        assert jobs.pop_left() == "first", "a job that was reserved comes back when its time is over"


def test_namespaces_and_what_expires_meanwhile(tmp_path: Path) -> None:
    url = f"memory://snapshots-{tmp_path.name}"
    one = connect(url, snapshot=str(tmp_path))
    two = connect(url, namespace="two")
    one.set("key", 1, ttl=10)
    two.set("key", 2)
    one.close()
    assert files(tmp_path) == [], "the store goes on"
    two.close()
    advance(11)
    with connect(url, snapshot=str(tmp_path)) as one, connect(url, namespace="two") as two:
        assert (one.get("key"), two.get("key")) == (None, 2)
        assert one.stats()["keys"] == 1


def test_it_is_as_of_one_moment(tmp_path: Path) -> None:
    with connect("memory://", snapshot=tmp_path, keep=2) as session:
        ends = threading.Event()

        def write() -> None:
            number = 0
            while not ends.is_set():
                number += 1
                session.set_many({"a": [number], "b": [number]})

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(10):
                session.snapshot()
        finally:
            ends.set()
            writer.join()
        # The thread of the store may be about to remove an old one.
        until(lambda: len(files(tmp_path)) == 2)
    with connect("memory://", snapshot=tmp_path) as session:
        assert session.get("a") == session.get("b")


def test_every_changed_byte_is_found_and_the_one_before_is_loaded(tmp_path: Path) -> None:
    with connect("memory://", snapshot=tmp_path) as session:
        session.set("key", "old")
        session.snapshot()
        session.set("key", "new")
    newest = files(tmp_path)[0]
    whole = newest.read_bytes()
    read_file(whole)
    for place in range(len(whole)):
        with pytest.raises(ValueError, match=r"damaged|snapshot|checksum"):
            read_file(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"damaged|snapshot|checksum"):
            read_file(whole[:place])
    newest.write_bytes(whole[:-1])
    with pytest.warns(RuntimeWarning, match="is damaged"), connect("memory://", snapshot=tmp_path) as session:
        assert session.get("key") == "old"


def test_images_that_claim_too_much_are_refused() -> None:
    from flexcache_rs._core import MemoryKeys

    keys = MemoryKeys(0, 0, "lru")
    for block in (b"\xff" * 8, b"\x00" * 7, b"\x00" * 200, b"\xff" * 100):
        with pytest.raises(ValueError, match="damaged"):
            keys.restore([block])
    assert len(keys) == 0


def test_they_are_taken_after_changes(tmp_path: Path) -> None:
    with connect("memory://", snapshot=tmp_path, snapshot_after=3, snapshot_every=0, keep=3) as session:
        session.set("a", 1)
        session.set("b", 1)
        session.set("c", 1)
        while not files(tmp_path):
            threading.Event().wait(0.01)
        before = files(tmp_path)
    assert files(tmp_path) == before, "nothing has changed since"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EPERM])
def test_a_lock_that_the_system_refuses_is_not_that_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """For example in a network file system without locks."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.lockf", refuse)
    with pytest.raises(Unavailable, match=f"lock cannot be locked: .*{os.strerror(number)}"):
        connect("memory://", snapshot=tmp_path)


def test_a_directory_belongs_to_one_store(tmp_path: Path) -> None:
    with connect("memory://", snapshot=tmp_path) as session:
        session.set("key", 1)
        with pytest.raises(Unavailable, match="another store of this process"):
            connect("memory://", snapshot=tmp_path)
        program = f"from flexcache_rs.sessions.sync import connect; connect('memory://', snapshot={str(tmp_path)!r})"
        other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert "another process" in other.stderr.splitlines()[-1]


def test_a_process_that_is_killed_leaves_the_last_one_whole(tmp_path: Path) -> None:
    program = (
        "from flexcache_rs.sessions.sync import connect\n"
        f"session = connect('memory://', snapshot={str(tmp_path)!r})\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    session.set_many({'a': ['x'] * 1000, 'b': number, 'c': number})\n"
        "    session.snapshot()\n"
        "    print(number, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = 0
        while told < 20:
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with connect("memory://", snapshot=tmp_path) as session:
            assert session.get("b") == session.get("c") >= told
    assert not list(tmp_path.glob("*.tmp"))


def test_the_end_of_the_process_takes_one(tmp_path: Path) -> None:
    program = (
        "from flexcache_rs.sessions.sync import connect\n"
        f"session = connect('memory://', snapshot={str(tmp_path)!r})\n"
        "session.set('key', 1)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with connect("memory://", snapshot=tmp_path) as session:
        assert session.get("key") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_does_not_write_its_parents_snapshots(tmp_path: Path) -> None:
    session = connect("memory://", snapshot=tmp_path)
    session.set("key", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        status = 1
        try:
            session.snapshot()
        except UnsupportedError:
            session.close()
            status = 0 if not files(tmp_path) else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    session.close()
    assert len(files(tmp_path)) == 1


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs snapshot"):
        connect("memory://", keep=3)
    with pytest.raises(ValueError, match="keep must be from 1"):
        connect("memory://", snapshot=tmp_path, keep=0)
    with pytest.raises(TypeError, match="snapshot must be"):
        connect("memory://", snapshot=7)
    with pytest.raises(ValueError, match="snapshot_every"):
        connect("memory://", snapshot=tmp_path, snapshot_every=-1)
    with connect("memory://") as session, pytest.raises(UnsupportedError, match="snapshot="):
        session.snapshot()
    with connect(f"disk://{tmp_path}/d") as session, pytest.raises(UnsupportedError, match="snapshot="):
        session.snapshot()
    with connect(f"memory://?snapshot={tmp_path}/s&snapshot_every=5m&keep=1&snapshot_after=10") as session:
        session.set("key", 1)
    assert len(files(tmp_path / "s")) == 1


def test_the_awaited_face(tmp_path: Path) -> None:
    async def main() -> None:
        async with sessions.connect("memory://", snapshot=tmp_path) as session:
            await session.set("key", 1)
            assert await session.snapshot() == str(files(tmp_path)[0])

    asyncio.run(main())
