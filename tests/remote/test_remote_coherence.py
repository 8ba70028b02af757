"""Entries are written, evicted or expire, or a process is stopped. No process serves a value that is too old."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from scale import scaled
from waiting import BRIEF, stop, until

from flexcache_rs import FlexCache
from flexcache_rs.remote import RemoteCache, RemoteError
from flexcache_rs.remote.commands import Commands
from flexcache_rs.remote.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from own_server import Server

Make = "Callable[..., Any]"

FORK = multiprocessing.get_context("fork")

pytestmark = pytest.mark.in_turn("engine", "lane")

STALENESS = 0.3
"""Seconds."""


def in_memory(cache: Any, key: Any) -> bool:
    """Return True if memory serves a key."""
    return cache._near._get_from_memory(key, None) is not None


def warm(cache: Any, keys: Any) -> None:
    """Make memory serve keys."""
    until(lambda: len(cache.get_many(keys)) == len(keys) and all(in_memory(cache, key) for key in keys))


def test_a_write_ends_one_copy_of_many(make: Make) -> None:
    """A write searches nothing, and almost no other key is read again."""
    count = scaled(20_000)
    cache, other = make(near={"max_items": 2 * count}, l1_ttl=3600), make()
    keys = range(count)
    other.set_many(dict.fromkeys(keys, 1))
    warm(cache, keys)
    for key in range(10):
        other[key] = 2
        until(lambda: cache.get(key) == 2)
    assert sum(in_memory(cache, key) for key in keys) > 0.9 * count


def test_many_writes_at_once(make: Make, raw: Any) -> None:
    """When a later write is known, all earlier writes are known."""
    count = scaled(20_000)
    cache, other = make(near={"max_items": 2 * count}), make()
    keys = range(count)
    other.set_many(dict.fromkeys(keys, 1))
    other["last"] = 1
    warm(cache, [*keys, "last"])
    other.set_many(dict.fromkeys(keys, 2))
    other["last"] = 2
    until(lambda: cache.get("last") == 2)
    assert set(cache.get_many(keys).values()) == {2}


def test_what_the_server_evicts(make: Make, raw: Any) -> None:
    cache = make()
    cache["key"] = 1
    warm(cache, ["key"])
    used = raw.info("memory")["used_memory"]
    try:
        raw.config_set("maxmemory-policy", "allkeys-random")
        raw.config_set("maxmemory", used + 300_000)
        number = 0
        while raw.exists("test:{key}"):
            raw.set(f"other {number}", "x" * 10_000)
            number += 1
        until(lambda: cache.get("key") is None)
    finally:
        raw.config_set("maxmemory", 0)


def test_what_expires(make: Make, raw: Any) -> None:
    """Memory knows when an entry expires, even if another program sets its deadline."""
    cache, other = make(), make()
    other.put("key", 1, ttl=0.3)
    other.put("later", 1, ttl=100)
    until(lambda: cache.get("key") is None)
    warm(cache, ["later"])
    raw.pexpire("test:{later}", 50)
    until(lambda: cache.get("later") is None)


def test_swapdb_is_not_told(server: Server, raw: Any) -> None:
    """docs/remote.md warns of this case. Copies of removed entries stay for as long as memory keeps them."""
    with RemoteCache(server.client(), "test", timeout=2.0, l1_ttl=3600) as cache:

        def leaves_a_copy() -> bool:
            """Return True unless the connection was lost in the meantime, after which memory asks again."""
            cache["key"] = 1
            warm(cache, ["key"])
            raw.execute_command("SWAPDB", 0, 1)
            try:
                kept = cache.get("key")
                assert cache.fresh("key") is None
                return kept == 1
            finally:
                raw.execute_command("SWAPDB", 0, 1)

        until(leaves_a_copy)


def test_what_is_read_during_a_write_is_not_kept(make: Make) -> None:
    """Such a read may return the old value, although another thread has already read the new one."""
    cache = make(l1_ttl=3600)
    cache["key"] = 1
    warm(cache, ["key"])
    with cache._store.writing(cache._store.keys.value("key")):
        assert not in_memory(cache, "key")
        assert cache.get("key") == 1
        assert not in_memory(cache, "key")
    until(lambda: cache.get("key") == 1 and in_memory(cache, "key"))
    with contextlib.suppress(KeyboardInterrupt), cache._store.writing(cache._store.keys.value("key")):
        raise KeyboardInterrupt
    until(lambda: cache.get("key") == 1 and in_memory(cache, "key"))


def answering(path: str, questions: Any, answers: Any) -> None:
    """Answer each request with the cache's value of a key."""
    with RemoteCache(redis.Redis(unix_socket_path=path), "test", timeout=5.0, max_staleness=STALENESS) as cache:
        while questions.get():
            with contextlib.suppress(RemoteError):
                answers.put((cache.get("key"), in_memory(cache, "key")))


def test_a_process_that_was_stopped(make: Make, server: Server) -> None:
    """Copies are not served after the stop until the process knows of all writes."""
    other = make()
    other["key"] = 0
    questions, answers = FORK.Queue(), FORK.Queue()
    process = FORK.Process(target=answering, args=(server.path, questions, answers))
    process.start()
    assert process.pid is not None
    try:

        def ask() -> Any:
            questions.put(True)
            return answers.get(timeout=60)

        for value in range(1, 4):
            other["key"] = value
            until(lambda: ask() == (value, True))
            stop(process.pid)
            other["key"] = -value
            time.sleep(STALENESS + 0.05)
            questions.put(True)
            os.kill(process.pid, signal.SIGCONT)
            assert answers.get(timeout=60)[0] == -value
    finally:
        os.kill(process.pid, signal.SIGCONT)
        questions.put(False)
        process.join(60)
        for queue in (questions, answers):
            queue.close()
            queue.join_thread()


def write_and_read(path: str, number: int, rounds: int, begun: Any, logs: Any, ended: Any) -> None:
    """Write some keys and read all of them. Record which values were written and read, and when."""
    writes: list[tuple[str, int, float]] = []
    reads: list[tuple[str, int, float]] = []
    client = redis.Redis(unix_socket_path=path)
    with RemoteCache(client, "test", timeout=5.0, max_staleness=STALENESS, l1_ttl=3600) as cache:
        begun.wait()
        for count in range(rounds):
            key = f"{number} {count % 5}"
            with contextlib.suppress(RemoteError):
                if count % 4 == 0:
                    cache[key] = count
                    writes.append((key, count, time.monotonic()))
            for place in range(4):
                asked = f"{(number + place) % 3} {(count + place) % 5}"
                began = time.monotonic()
                with contextlib.suppress(RemoteError):
                    found = cache.get(asked)
                    if found is not None:
                        reads.append((asked, found, began))
        logs.put((writes, reads))
        ended.wait()
        until(lambda: cache.stats().is_live and not cache.stats().is_breaker_open)
        keys = [f"{one} {two}" for one in range(3) for two in range(5)]
        # Not because memory would forget them.
        until(lambda: all(cache.get(key) == cache.fresh(key) for key in keys))


@pytest.mark.parametrize("kills", [False, True])
def test_no_process_reads_what_is_too_old(server: Server, raw: Any, kills: bool) -> None:
    """No read returns a value that was replaced earlier than the bound allows, or an older one than before.

    In the end all processes agree.
    """
    logs, begun, all_ended = FORK.Queue(), FORK.Barrier(4), FORK.Barrier(4)
    processes = [
        FORK.Process(target=write_and_read, args=(server.path, number, scaled(5_000), begun, logs, all_ended))
        for number in range(3)
    ]
    for process in processes:
        process.start()
    begun.wait(60)
    taken: list[Any] = []

    def take() -> None:
        taken.extend(logs.get(timeout=120) for _ in processes)

    taker = threading.Thread(target=take)
    taker.start()
    while taker.is_alive():
        taker.join(0.2)
        if kills:
            raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    ended: dict[str, list[tuple[int, float]]] = {}
    for writes, _ in taken:
        for key, value, when in writes:
            ended.setdefault(key, []).append((value, when))
    for _, reads in taken:
        last: dict[str, int] = {}
        for key, value, began in reads:
            newer = [when for other, when in ended.get(key, ()) if other > value]
            assert not newer or began - min(newer) <= STALENESS
            assert value >= last.get(key, -1)
            last[key] = value
    all_ended.wait(60)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    logs.close()
    logs.join_thread()


@pytest.mark.usefixtures("read_in_python")
def test_own_writes_fail_where_they_end_no_copies(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the tests: a write that ends no copy, and is not announced, leaves the old value readable."""
    cache = make()
    beside = FlexCache(store=cache)
    cache["key"] = 1
    warm(cache, ["key"])

    @contextlib.contextmanager
    def writing(self: Commands, *places: bytes) -> Iterator[None]:
        yield

    monkeypatch.setattr(Commands, "writing", writing)
    monkeypatch.setattr(Listener, "_invalidate", lambda *_: None)
    beside["key"] = 2
    assert cache["key"] == 1


def test_a_lease_that_was_lost(make: Make, raw: Any) -> None:
    """The result of a computation that lost its lease is not stored."""
    cache = make()

    def compute() -> str:
        assert raw.delete("test#:{key}l") == 1
        return "computed"

    assert cache.get_or_set("key", compute) == "computed"
    assert cache.fresh("key") is None


def test_a_reply_that_comes_late(make: Make, server: Server) -> None:
    """A late reply is not taken for the reply to another command."""
    cache = make(timeout=BRIEF, near=None)
    cache["a"], cache["b"] = 1, 2
    server.pause()
    for _ in range(3):
        with pytest.raises(RemoteError):
            cache.fresh("a")
    server.go_on()
    until(lambda: cache.stats().is_live and not cache.stats().is_breaker_open)

    def read(key: str) -> Any:
        try:
            return cache.fresh(key)
        except RemoteError:
            return None

    for _ in range(20):
        until(lambda: read("b") == 2)
        until(lambda: read("a") == 1)


def test_event_loops_threads_and_cancellation(make: Make) -> None:
    """Several loops and threads use one cache. A cancelled task does not disturb the others."""
    cache = make()
    cache.set_many({number: number for number in range(50)})

    async def read() -> None:
        tasks = [asyncio.create_task(cache.aget(number)) for number in range(50)]
        for task in tasks[::3]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(value, asyncio.CancelledError) or value == at for at, value in enumerate(found))
        assert await asyncio.gather(*(cache.aget(number) for number in range(50))) == list(range(50))

    failed: list[BaseException] = []

    def run() -> None:
        try:
            for _ in range(3):
                asyncio.run(read())
        except BaseException as error:  # Whatever it is, the test fails.
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_password_that_changes(make: Make, server: Server, raw: Any) -> None:
    """Later connections ask for the password again."""

    class Provider(redis.CredentialProvider):
        password = "first"

        def get_credentials(self) -> tuple[str]:
            return (self.password,)

    raw.config_set("requirepass", "first")
    try:
        provider = Provider()
        # The direct lane takes no provider.
        cache = make(redis.Redis(unix_socket_path=server.path, credential_provider=provider), lane="client")
        cache["key"] = 1
        warm(cache, ["key"])
        provider.password = "second"
        raw.config_set("requirepass", "second")
        reconnects = cache.stats().reconnects
        raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        until(lambda: cache.stats().reconnects > reconnects and cache.stats().is_live)
        assert cache.fresh("key") == 1
    finally:
        with contextlib.closing(server.client(password="second")) as client:
            client.config_set("requirepass", "")


@pytest.mark.parametrize("awaited", [False, True])
def test_fresh_does_not_wait_for_news(make: Make, monkeypatch: pytest.MonkeyPatch, awaited: bool) -> None:
    """`fresh` asks the server also about evicted tags and cleared namespaces."""
    cache, other = make(), make()

    def fresh(key: str) -> Any:
        return asyncio.run(cache.afresh(key)) if awaited else cache.fresh(key)

    until(lambda: cache.stats().is_live)
    monkeypatch.setattr(Listener, "_invalidate", lambda *_: None)
    for end, left in ((lambda: other.evict_tag("tag"), (None, 2)), (other.clear, (None, None))):
        other.put("tagged", 1, tags=("tag",))
        other.put("plain", 2)
        assert (fresh("tagged"), fresh("plain")) == (1, 2)
        end()
        assert (fresh("tagged"), fresh("plain")) == left
