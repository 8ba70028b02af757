"""Leases that are renewed while their computation runs."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from own_server import Server
from waiting import BRIEF, MANY, until

from flexcache_rs._threads import AutoResetEvent
from flexcache_rs.remote import RemoteCache, RemoteError, scripts
from flexcache_rs.remote.leases import Lease
from flexcache_rs.remote.renewals import _NEVER, _Held

if TYPE_CHECKING:
    from pathlib import Path

Make = "Callable[..., Any]"

FORK = multiprocessing.get_context("fork")

LEASE = 1.5
"""Seconds. A renewal that a busy machine delays by two thirds of it comes too late."""

PLACE = b"test#:{key}l"
"""Where the lease of the key is."""


def thread_of(cache: Any) -> threading.Thread:
    """Return the thread that renews the leases of a cache, when it runs."""
    threads = cache._store.renewals._thread
    until(lambda: threads.current)
    thread: threading.Thread = threads.current
    return thread


def renewed(raw: Any, times: int) -> None:
    """Wait until the lease has been renewed this many times."""
    for _ in range(times):
        before = raw.pttl(PLACE)

        def is_longer() -> bool:
            nonlocal before
            now = raw.pttl(PLACE)
            before, longer = now, now > before
            return longer

        until(is_longer)


def compute_long(path: str, begun: Any, goes_on: Any, results: Any) -> None:
    """Compute a value until told to end."""
    import redis

    cache = RemoteCache(redis.Redis(unix_socket_path=path), "test", timeout=5.0, lease=LEASE)

    def compute() -> int:
        begun.put(os.getpid())
        goes_on.wait(60)
        return os.getpid()

    results.put(cache.get_or_set("key", compute))
    cache.close()


def test_a_computation_that_takes_longer_than_its_lease_is_not_started_twice(server: Server, raw: Any) -> None:
    begun, goes_on, results = FORK.Queue(), FORK.Event(), FORK.Queue()
    processes = [FORK.Process(target=compute_long, args=(server.path, begun, goes_on, results)) for _ in range(2)]
    for process in processes:
        process.start()
    try:
        holder = begun.get(timeout=60)
        # More often than a lease is long.
        renewed(raw, 5)
    finally:
        goes_on.set()
    assert [results.get(timeout=60) for _ in processes] == [holder] * 2
    assert begun.empty()
    for process in processes:
        process.join(60)


class Stop(Exception):  # noqa: N818
    """What a signal handler raises."""


@pytest.mark.parametrize("raised", [KeyboardInterrupt, Stop])
def test_a_lease_whose_request_is_interrupted_is_given_back(
    make: Make, raw: Any, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]
) -> None:
    """A signal handler raises after the server has granted the lease. Others need not wait until it expires."""
    cache, run = make(), scripts.LEASE.run
    assert cache.get_or_set("other", lambda: 1) == 1

    def interrupted(*arguments: Any) -> Any:
        run(*arguments)
        assert raw.exists(PLACE)
        raise raised

    monkeypatch.setattr(scripts.LEASE, "run", interrupted)
    with pytest.raises(raised):
        cache.get_or_set("key", lambda: 1)
    assert not raw.exists(PLACE)


def test_a_holder_that_is_killed_is_replaced_after_its_lease(make: Make, server: Server, raw: Any) -> None:
    begun, goes_on, results = FORK.Queue(), FORK.Event(), FORK.Queue()
    process = FORK.Process(target=compute_long, args=(server.path, begun, goes_on, results))
    process.start()
    begun.get(timeout=60)
    renewed(raw, 4)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    killed = time.monotonic()
    left = raw.pttl(PLACE)
    assert left <= LEASE * 1000
    cache, computed = make(lease=LEASE), []
    assert cache.get_or_set("key", lambda: computed.append(time.monotonic())) is None
    # Not before the lease has ended, and then within its time, and that of a busy machine.
    assert left / 1000 - 0.05 < computed[0] - killed < 10


def test_who_has_lost_the_lease_does_not_overwrite(make: Make, raw: Any) -> None:
    one, other = make(lease=LEASE), make(lease=LEASE)
    begun, goes_on = threading.Event(), threading.Event()

    def compute() -> str:
        begun.set()
        goes_on.wait(60)
        return "late"

    def newer() -> str:
        # The first one ends while this one computes.
        goes_on.set()
        thread.join()
        stored.append(other.fresh("key"))
        return "newer"

    results: list[str] = []
    stored: list[str | None] = []
    thread = threading.Thread(target=lambda: results.append(one.get_or_set("key", compute)))
    thread.start()
    try:
        begun.wait(60)
        renewed(raw, 1)
        # As if the server had lost it.
        raw.delete(PLACE)
        assert other.get_or_set("key", newer) == "newer"
    finally:
        goes_on.set()
        thread.join()
    assert (results, stored) == (["late"], [None])
    assert other.fresh("key") == "newer"
    assert not raw.exists(PLACE)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")
def test_the_lease_of_an_abandoned_task_ends(make: Make, raw: Any) -> None:
    """No task awaits the computation, and its event loop is closed."""
    cache, begun = make(lease=LEASE), []

    async def compute() -> None:
        begun.append(1)
        await asyncio.sleep(600)

    loop = asyncio.new_event_loop()
    task = loop.create_task(cache.aget_or_set("key", compute))

    async def renewals_of_task() -> None:
        while not begun:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(renewed, raw, 2)

    loop.run_until_complete(renewals_of_task())
    loop.close()
    until(lambda: not raw.exists(PLACE))
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_renewing_goes_on_after_a_failure(make: Make, raw: Any) -> None:
    cache = make(lease=LEASE)
    goes_on, failures = threading.Event(), []

    def fail(*_: Any) -> None:
        failures.append(1)
        raise RemoteError("no answer")

    def compute() -> str:
        run, cache._store.run = cache._store.run, fail
        until(lambda: failures)
        cache._store.run = run
        renewed(raw, 2)
        goes_on.set()
        return "value"

    assert cache.get_or_set("key", compute) == "value"
    assert cache.fresh("key") == "value"


@pytest.mark.parametrize("event", ["stopped", "read-only"])
@pytest.mark.parametrize("fails", [False, True], ids=["value", "exception"])
def test_a_lease_that_could_not_be_given_back_is_given_back_later(
    make: Make, server: Server, raw: Any, event: str, fails: bool
) -> None:
    """No other caller computes the key before that."""
    cache, other = make(lease=600.0, timeout=BRIEF), make()

    def compute() -> str:
        if event == "stopped":
            server.pause()
        else:
            raw.replicaof("127.0.0.1", 1)
        if fails:
            raise LookupError("key")
        return "value"

    if fails:
        with pytest.raises(LookupError):
            cache.get_or_set("key", compute)
    else:
        assert cache.get_or_set("key", compute) == "value"
    if event == "stopped":
        server.go_on()
    else:
        assert raw.exists(PLACE)
        raw.replicaof("NO", "ONE")
    until(lambda: not raw.exists(PLACE))
    # A server that was stopped may have stored the value when it went on.
    assert other.get_or_set("key", lambda: "another") in (["value", "another"] if event == "stopped" else ["another"])


ENDS = """
import os, signal, sys
from flexcache_rs.remote import RemoteCache
cache = RemoteCache("unix://" + sys.argv[1], "test", timeout=1.0)
def compute():
    os.kill(int(sys.argv[2]), signal.SIGSTOP)
    return "value"
print(cache.get_or_set("key", compute))
cache.close()
"""


def test_a_program_ends_while_a_lease_is_given_back(server: Server) -> None:
    """The thread that releases the lease ends before the interpreter does."""
    assert server.process is not None
    for _ in range(2):
        command = [sys.executable, "-c", ENDS, server.path, str(server.process.pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        server.go_on()
        assert (done.returncode, done.stdout, done.stderr) == (0, "value\n", "")
        with contextlib.closing(server.client()) as client:
            client.flushall()


def test_what_refuses_a_transaction_is_named(make: Make, raw: Any) -> None:
    cache = make()
    cache["key"] = "value"
    raw.replicaof("127.0.0.1", 1)
    try:
        for call in (lambda: cache.delete("key"), lambda: cache.evict_tag("tag")):
            with pytest.raises(RemoteError, match="read only replica"):
                call()
    finally:
        raw.replicaof("NO", "ONE")
    assert cache.fresh("key") == "value"


def test_short_computations_do_not_wake_the_thread(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread runs when the first lease may need renewal, or when there are many leases."""
    cache = make(lease=3600)
    renewals = cache._store.renewals
    cache.get_or_set("first", lambda: until(lambda: renewals._asleep_until < _NEVER))
    set_event, woken = AutoResetEvent.set, []

    def noted(event: AutoResetEvent) -> None:
        if event is renewals._wake:
            woken.append(1)
        set_event(event)

    monkeypatch.setattr(AutoResetEvent, "set", noted)
    for number in range(20):
        cache.get_or_set(number, lambda: number)
    assert not woken
    for number in range(20, 1050):
        cache.get_or_set(number, lambda: number)
    assert woken
    until(lambda: len(renewals._added) + len(renewals._held) < 100)


@pytest.mark.every_python
def test_leases_of_many_threads_at_once(make: Make) -> None:
    """The thread takes added leases while others are added. Each that is added beyond the first thousand wakes it."""
    cache, leases = make(lease=3600), list[Lease]()
    cache.get_or_set("key", lambda: leases.extend(cache._store._held.values()))
    renewals, thread = cache._store.renewals, thread_of(cache)
    held = _Held(weakref.ref(leases[0]), 1, _NEVER - 1)

    def add() -> None:
        for _ in range(5_000):
            renewals._add(held)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert renewals._thread.current is thread
    until(lambda: len(renewals._added) + len(renewals._held) == 20_001)


def test_a_thread_without_leases_ends(make: Make) -> None:
    cache = make(lease=LEASE)
    renewals = cache._store.renewals
    for _ in range(3):
        assert cache.get_or_set("key", lambda: thread_of(cache).name) == "flexcache-renewals"
        until(lambda: renewals._thread.current is None)
        cache.delete("key")


def test_a_lease_that_is_added_while_the_thread_ends_is_renewed(
    make: Make, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread looks again after it has decided to end. The caller has found it alive, and started no other."""
    cache, leases = make(lease=LEASE), list[Lease]()
    renew, is_ending, has_added = Lease.renew, threading.Event(), threading.Event()

    def renewed_late(lease: Lease) -> bool:
        is_held = renew(lease)
        if lease in leases:
            is_ending.set()
            has_added.wait(MANY)
        return is_held

    def compute() -> str:
        has_added.set()
        renewed(raw, 2)
        return "value"

    monkeypatch.setattr(Lease, "renew", renewed_late)
    cache.get_or_set("first", lambda: leases.extend(cache._store._held.values()))
    try:
        assert is_ending.wait(MANY)
        assert cache.get_or_set("key", compute) == "value"
    finally:
        has_added.set()


def test_a_lease_that_is_added_while_the_thread_is_busy_is_not_put_off(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is due later than what the thread is doing, and long before the next renewal."""
    cache, leases, asked = make(lease=3600), list[Lease](), list[Lease]()
    is_released, is_busy, has_added = Lease.is_released, threading.Event(), threading.Event()

    def released_late(lease: Lease, failure: bytes | None) -> bool:
        asked.append(lease)
        is_busy.set()
        has_added.wait(MANY)
        return is_released(lease, failure)

    def compute() -> str:
        renewals = cache._store.renewals
        try:
            renewals.give_back(leases[0], None)
            assert is_busy.wait(MANY)
            renewals.give_back(leases[1], None)
        finally:
            has_added.set()
        until(lambda: asked == leases)
        return "value"

    for number in range(2):
        cache.get_or_set(number, lambda: leases.extend(set(cache._store._held.values()) - set(leases)))
    monkeypatch.setattr(Lease, "is_released", released_late)
    assert cache.get_or_set("key", compute) == "value"


def test_a_thread_that_has_failed_is_replaced(make: Make, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, renew, failed = make(lease=LEASE), Lease.renew, list[Lease]()

    def fail(lease: Lease) -> bool:
        failed.append(lease)
        raise SystemExit

    def compute_first() -> None:
        until(lambda: failed)
        until(lambda: cache._store.renewals._thread.current is None)

    monkeypatch.setattr(threading, "excepthook", lambda raised: None)
    monkeypatch.setattr(Lease, "renew", fail)
    cache.get_or_set("first", compute_first)
    monkeypatch.setattr(Lease, "renew", renew)
    assert cache.get_or_set("key", lambda: renewed(raw, 2)) is None


def test_a_lease_that_is_given_back_after_the_end_starts_no_thread(make: Make) -> None:
    """A computation may end after its cache was closed."""
    cache, leases = make(lease=3600), list[Lease]()
    cache.get_or_set("key", lambda: leases.extend(cache._store._held.values()))
    thread = thread_of(cache)
    cache.close()
    until(lambda: not thread.is_alive())
    before = set(threading.enumerate())
    cache._store.renewals.give_back(leases[0], None)
    assert set(threading.enumerate()) <= before


def test_a_lease_that_has_expired_is_not_given_back(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends, although the server has never answered."""
    cache, leases = make(lease=LEASE), list[Lease]()
    cache.get_or_set("key", lambda: leases.extend(cache._store._held.values()))
    monkeypatch.setattr(Lease, "is_released", lambda _lease, _failure: False)
    cache._store.renewals.give_back(leases.pop(), None)
    until(lambda: cache._store.renewals._thread.current is None)


@pytest.mark.parametrize("way", ["close", "drop"])
def test_the_thread_ends_with_its_cache(make: Make, server: Server, way: str) -> None:
    cache = make(lease=3600) if way == "close" else RemoteCache(server.client(), "test", timeout=2.0, lease=3600)
    cache.get_or_set("key", lambda: 1)
    thread = thread_of(cache)
    if way == "close":
        cache.close()
    del cache
    gc.collect()
    until(lambda: not thread.is_alive())


def test_a_server_that_is_away_delays_no_renewal_of_another(
    make: Make, raw: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Server(tmp_path)
    away.start()
    cache, other = make(lease=LEASE), make(away.client(), lease=LEASE, timeout=600.0)
    renew, asked, goes_on = Lease.renew, [], threading.Event()

    def noted(lease: Lease) -> bool:
        asked.append(lease.store)
        return renew(lease)

    def compute() -> None:
        away.pause()
        asked.clear()
        begun.set()
        goes_on.wait(60)

    monkeypatch.setattr(Lease, "renew", noted)
    begun = threading.Event()
    thread = threading.Thread(target=other.get_or_set, args=("key", compute))
    thread.start()
    try:
        begun.wait(60)
        until(lambda: other._store in asked)
        assert cache.get_or_set("key", lambda: renewed(raw, 3)) is None
    finally:
        away.go_on()
        goes_on.set()
        thread.join()
        other.close()
        away.kill()


def test_a_signal_handler_may_add_a_lease_while_one_is_added(make: Make) -> None:
    """The handler runs at every line of the call, also in the standard library."""
    cache, leases, added = make(lease=LEASE), list[Lease](), []
    cache.get_or_set("key", lambda: leases.extend(cache._store._held.values()))
    # It is due at once, so the thread is woken each time.
    held = _Held(weakref.ref(leases[0]), 1, 0)

    def handle(*_: Any) -> Any:
        cache._store.renewals._add(held)
        added.append(1)
        return handle

    def call() -> None:
        sys.settrace(handle)
        try:
            cache._store.renewals._add(held)
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    until(lambda: not thread.is_alive())
    assert len(added) > 3


def test_a_child_renews_its_own_leases(make: Make, server: Server) -> None:
    """The thread of its parent does not exist in the child."""
    cache = make(lease=LEASE)

    def compute() -> bool:
        assert thread_of(cache).is_alive()
        results = FORK.Queue()
        process = FORK.Process(target=compute_in_child, args=(cache, server.path, results))
        process.start()
        renewed_in_child: bool = results.get(timeout=60)
        process.join(60)
        return renewed_in_child

    assert cache.get_or_set("other", compute)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the children of multiprocessing ended without `atexit`")
def test_a_forked_worker_ends_after_it_has_given_its_lease_back(make: Make, raw: Any) -> None:
    """Also if its parent has had leases: `multiprocessing` lets the child forget what the parent does at its end."""
    cache = make()
    assert cache.get_or_set("other", lambda: "value") == "value"
    process = FORK.Process(target=fail_in_child, args=(cache,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert not raw.exists(PLACE)


def fail_in_child(cache: Any) -> None:
    """Fail to compute, and give the lease back only when the process ends."""
    ends = threading.Event()
    release = Lease.release

    def late(self: Lease, failure: bytes | None) -> None:
        ends.wait(MANY)
        release(self, failure)

    Lease.release = late  # type: ignore[method-assign]
    with contextlib.suppress(SystemExit):
        # Callers in other processes are not told of this exception, so nothing of the lease is left.
        cache.get_or_set("key", sys.exit)
    # It runs before what was registered earlier.
    atexit.register(ends.set)


def compute_in_child(cache: Any, path: str, results: Any) -> None:
    import redis

    with contextlib.closing(redis.Redis(unix_socket_path=path)) as raw:
        results.put(cache.get_or_set("key", lambda: renewed(raw, 2) is None))
