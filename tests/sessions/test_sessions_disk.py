"""Features of directories only: processes, forks, other writers, and costs that do not grow with the content."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from session_places import rows
from waiting import until

from flexcache_rs.sessions import SessionError, TimedOut, Unavailable, connect
from flexcache_rs.sessions import sync as now

WORKER = """
import sys
from flexcache_rs.sessions.sync import connect

url, what = sys.argv[1:]
session = connect(url, timeout=60)
if what == "count":
    limiter = session.limiter("limit", 10, 3600)
    for _ in range(25):
        session.incr("n")
        session.list("list").push(1)
        if limiter.hit().allowed:
            session.incr("allowed")

    def increment(t):
        t.set("m", t.get("m", 0) + 1)

    for _ in range(5):
        session.run(increment)
    session.get_or_set("once", lambda: session.incr("computed"))
elif what == "hold":
    with session.transaction() as t:
        t.set("held", 1)
        print("holding", flush=True)
        sys.stdin.read()
elif what == "reserve":
    session.queue("jobs").reserve(0.2)
    print("reserved", flush=True)
    sys.stdin.read()
"""


def start(url: str, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, url, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"disk://{tmp_path}/data"


def test_processes_that_begin_at_once(url: str) -> None:
    workers = [start(url, "count") for _ in range(4)]
    for worker in workers:
        worker.communicate(timeout=100)
        assert worker.returncode == 0
    with now.connect(url) as session:
        found = session.get_many(["n", "m", "allowed", "computed", "once"])
        assert found == {"n": 100, "m": 20, "allowed": 10, "computed": 1, "once": 1}
        assert session.list("list").len() == 100


def test_other_writers_are_waited_for_and_no_longer_than_the_timeout(url: str) -> None:
    holder = start(url, "hold")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    try:
        with now.connect(url, timeout=0.1) as session:
            assert session.get("held") is None
            with pytest.raises(TimedOut, match=r"write lock of .* was not acquired within 0.1 seconds; nothing"):
                session.set("key", 1)
            with pytest.raises(TimedOut), session.transaction():
                raise AssertionError

            async def main() -> None:
                async with connect(url, timeout=0.2) as awaited:
                    writes = [asyncio.ensure_future(awaited.set("key", number)) for number in range(3)]
                    # Reads do not wait for the writes that came before them.
                    assert await awaited.get("key", "none") == "none"
                    assert not any(write.done() for write in writes)
                    results = await asyncio.gather(*writes, return_exceptions=True)
                    assert [type(result) for result in results] == [TimedOut] * 3
                    assert results[0] is not results[1]

            asyncio.run(main())
    finally:
        holder.communicate(timeout=60)
    with now.connect(url) as session:
        assert session.get("held") == 1
        assert session.set("key", 2)


def test_a_transaction_of_a_process_that_is_killed_leaves_nothing(url: str) -> None:
    holder = start(url, "hold")
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=60)
    with now.connect(url) as session:
        assert session.get("held") is None
        session.set("held", 2)


def test_the_job_of_a_worker_that_is_killed_comes_back(url: str) -> None:
    with now.connect(url) as session:
        session.queue("jobs").push("job")
        worker = start(url, "reserve")
        assert worker.stdout is not None
        assert worker.stdout.readline() == "reserved\n"
        worker.send_signal(signal.SIGKILL)
        worker.communicate(timeout=60)
        assert session.queue("jobs").wait_pop(30) == "job"


def test_a_transaction_of_a_thread_that_ends_is_rolled_back(url: str) -> None:
    session = now.connect(url)

    def work() -> None:
        block = session.transaction()
        block.__enter__().set("key", 1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert session.get("key") is None
    assert session.set("key", 2)
    session.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_goes_on(url: str) -> None:
    session = now.connect(url)
    session.set("n", 1)
    child = os.fork()
    if not child:
        try:
            session.incr("n")

            async def main() -> None:
                async with connect(url) as awaited:
                    await awaited.incr("n")

            asyncio.run(main())
            os._exit(0 if session.get("n") == 3 else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert session.incr("n") == 4
    session.close()


def test_awaited_calls_share_a_transaction(url: str) -> None:
    async def main() -> None:
        async with connect(url, timeout=30) as session:
            await session.set("text", "x")
            calls = [session.incr("n") for _ in range(50)]
            calls += [session.incr("text"), session.list("text").push(1)]
            calls += [session.incr("n") for _ in range(50)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [result for result in results if isinstance(result, int)] == list(range(1, 101))
            assert [type(result).__name__ for result in results[50:52]] == ["TypeError", "KindError"]
            assert await session.get("n") == 100

    asyncio.run(main())


def test_a_cancelled_call_does_not_take_the_answer_of_the_next(url: str) -> None:
    async def main() -> None:
        async with connect(url, timeout=30) as session:
            await session.set_many({str(number): number for number in range(50)})
            for number in range(50):
                task = asyncio.ensure_future(session.get(str(number)))
                await asyncio.sleep(0)
                task.cancel()
                assert await session.get(str(number)) == number

    asyncio.run(main())


def test_a_transaction_that_is_cancelled_as_it_begins_lets_others_write(url: str) -> None:
    async def main() -> None:
        async with connect(url, timeout=30) as session:
            for pause in (0, 0.0005, 0.002, 0.01):

                async def work() -> None:
                    async with session.transaction() as t:
                        await t.incr("n")
                        await asyncio.sleep(60)

                task = asyncio.ensure_future(work())
                await asyncio.sleep(pause)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await session.set("key", 1)
            assert await session.get("n") is None

    asyncio.run(main())


def test_other_tasks_write_after_an_awaited_transaction(url: str) -> None:
    async def main() -> None:
        async with connect(url, timeout=30) as session:
            begun, go_on = asyncio.Event(), asyncio.Event()

            async def work() -> None:
                async with session.transaction() as t:
                    await t.set("a", 1)
                    begun.set()
                    await go_on.wait()
                    assert await t.get("b") is None
                    await t.set("a", 2)

            task = asyncio.ensure_future(work())
            await begun.wait()
            write = asyncio.ensure_future(session.set("b", 1))
            assert await session.get("a") is None
            assert not write.done()
            go_on.set()
            await asyncio.gather(task, write)
            assert await session.get_many(["a", "b"]) == {"a": 2, "b": 1}

    asyncio.run(main())


def test_databases_of_others_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    other = sqlite3.connect(file)
    other.execute('CREATE TABLE "kv-store" (id INTEGER PRIMARY KEY)')
    other.commit()
    other.close()
    before = file.read_bytes()
    with pytest.raises(SessionError, match="database of another program"):
        now.connect(f"sqlite://{file}")
    assert file.read_bytes() == before
    (tmp_path / "text.db").write_text("this is no database at all, but text")
    with pytest.raises(SessionError, match="not a database"):
        now.connect(f"sqlite://{tmp_path}/text.db")
    with now.connect(f"sqlite://{tmp_path}/new.db") as session:
        session.set("key", 1)
    newer = sqlite3.connect(tmp_path / "new.db")
    newer.execute("PRAGMA user_version = 7")
    newer.close()
    with pytest.raises(SessionError, match="version 7 of sessions"):
        now.connect(f"sqlite://{tmp_path}/new.db")


def work_of(file: Path, call: Any) -> int:
    """Return how many pages of the database a call changes, by what it adds to the log."""
    log = Path(f"{file}-wal")
    before = log.stat().st_size
    call()
    return log.stat().st_size - before


def test_the_work_of_a_call_does_not_grow_with_the_container(tmp_path: Path) -> None:
    file = tmp_path / "data.db"
    with now.connect(f"sqlite://{file}") as session:
        work: dict[int, list[int]] = {}
        for size in (10, 20_000):
            session.set("list", list(range(size)))
            session.set("map", {str(number): number for number in range(size)})
            session.set("set", set(range(size)))
            session.purge()
            calls = [
                lambda: session.list("list").push("x"),
                lambda: session.list("list").push_left("x"),
                lambda: session.list("list").pop(),
                lambda: session.map("map").set("x", 1),
                lambda: session.set_of("set").add("x"),
            ]
            work[size] = [work_of(file, call) for call in calls]
            assert all(work[size])
        assert all(large <= 3 * small for small, large in zip(work[10], work[20_000], strict=True)), work
        assert work_of(file, lambda: session.delete("list")) < 20_000 * 8


def test_what_is_left_of_a_large_container_does_not_slow_its_successors(tmp_path: Path) -> None:
    """Writing one element changes about as many pages, even if elements of old keys are still to be removed."""
    file = tmp_path / "data.db"
    with now.connect(f"sqlite://{file}") as session:
        small, large = session.list("small"), session.list("large")
        small.extend(range(10))

        def work(handle: Any) -> int:
            return work_of(file, lambda: [(handle.push("x" * 100), handle.pop()) for _ in range(100)])

        before = work(small)
        large.extend(["x" * 100] * 30_000)
        assert work(large) <= 1.5 * before
        session.delete("large")
        assert work(small) <= 3 * before
        assert 25_000 < rows(file, "fx_list") < 30_000
        # As much as a write of many elements stores it removes.
        session.set("other", list(range(12_000)))
        session.set("other", list(range(6_000)))
        assert rows(file, "fx_list") < 18_500
        for _ in range(5):
            session.purge()
        assert rows(file, "fx_list") == 6_010


def test_old_elements_never_show(url: str) -> None:
    with now.connect(url) as session:
        for _ in range(3):
            session.set("key", list(range(500)), ttl=1)
            session.delete("key")
            assert session.list("key").push("new") == 1
            assert session.get("key") == ["new"]
            session.set("key", {"a": 1})
            assert session.get("key") == {"a": 1}
        session.purge()
        assert session.get("key") == {"a": 1}
    file = Path(url.removeprefix("disk://")) / "sessions.db"
    raw = sqlite3.connect(file)
    assert raw.execute("SELECT COUNT(*) FROM fx_list").fetchone() == (0,)
    assert raw.execute("SELECT COUNT(*) FROM fx_garbage").fetchone() == (0,)
    raw.close()


def test_large_batches(url: str) -> None:
    with now.connect(url) as session:
        entries = {f"key {number}": number for number in range(5000)}
        assert session.set_many(entries) == 5000
        assert session.get_many(entries) == entries
        assert sum(1 for _ in session.keys()) == 5000
        assert session.delete(*entries) == 5000


async def opened(url: str) -> Any:
    return connect(url)


@pytest.mark.skipif(os.name != "posix", reason="a file in use cannot be removed")
@pytest.mark.parametrize("how", ["run", "arun", "begin"])
def test_a_session_whose_directory_is_removed_says_so(tmp_path: Path, how: str) -> None:
    """Writes raise within about a second, because no later process would find the data.

    A new session at the same place is used.
    """
    url = f"disk://{tmp_path / 'data'}"
    with now.connect(url) as session, contextlib.closing(asyncio.new_event_loop()) as loop:
        awaited = loop.run_until_complete(opened(url))

        def is_refused() -> bool:
            try:
                if how == "run":
                    session.set("a", 2)
                elif how == "arun":
                    loop.run_until_complete(awaited.set("a", 2))
                else:
                    with session.transaction() as transaction:
                        transaction.set("a", 2)
            except Unavailable:
                return True
            return False

        assert not is_refused()
        shutil.rmtree(tmp_path / "data")
        until(is_refused)
        with now.connect(url) as other:
            other.set("a", 3)
            until(lambda: not is_refused())
            assert other.get("a") == 2
        loop.run_until_complete(awaited.aclose())


@pytest.mark.skipif(os.name != "posix", reason="permissions are others there")
@pytest.mark.parametrize("url", ["disk://{}/new", "sqlite:///{}/new/file.db", "memory://?snapshot={}/new"])
def test_a_new_directory_is_private(tmp_path: Path, url: str) -> None:
    """Other users cannot read the data in it, whatever the umask says."""
    umask = os.umask(0)
    try:
        with now.connect(url.format(tmp_path)) as session:
            session.set("key", "secret")
    finally:
        os.umask(umask)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="permissions are others there")
@pytest.mark.parametrize("name", ["sessions.db", "sessions.db-wal", "sessions.db-shm"])
def test_a_file_that_must_not_be_read_is_named(tmp_path: Path, name: str) -> None:
    """SQLite says only that it cannot open it. Root, who may read everything, becomes another user."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "place")
        place.mkdir()
        with now.connect(f"disk://{place}") as session:
            session.set("key", "secret")
            for path in (place.parent, place):
                path.chmod(0o755)
            (place / name).chmod(0o600 if os.getuid() == 0 else 0)
            command = [sys.executable, "-c", OTHER_USER, place, tmp_path]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            (place / name).chmod(0o600)
    assert done.stdout == f"{place}/{name}: Permission denied (os error 13)\n"


OTHER_USER = """
import os, sys
from flexcache_rs.sessions import Unavailable
from flexcache_rs.sessions.sync import connect
# The first time imports what the calls need.
connect(f"disk://{sys.argv[2]}/other").close()
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    connect(f"disk://{sys.argv[1]}")
except Unavailable as error:
    print(error)
"""
