"""One computation for all processes, locks, and limiters."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from news import hear
from own_server import Server
from waiting import until

from flexcache_rs import FlexCache, LoadFailedElsewhere, _core
from flexcache_rs.remote import RemoteCache, RemoteTimeoutError
from flexcache_rs.remote.leases import Lease, Leases
from flexcache_rs.remote.locks import RemoteLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Make = "Callable[..., Any]"

FORK = multiprocessing.get_context("fork")


def ask(path: str, results: Any, computed: Any, callers: int, lease: float) -> None:
    """Let several threads of a process ask for one value."""
    import redis

    cache = RemoteCache(redis.Redis(unix_socket_path=path), "test", timeout=5.0, lease=lease)

    def compute() -> int:
        computed.put(os.getpid())
        time.sleep(0.2)
        return 42

    def call() -> None:
        results.put(cache.get_or_set("key", compute, ttl=60))

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache.close()


def test_processes_compute_once(server: Server) -> None:
    results, computed = FORK.Queue(), FORK.Queue()
    processes = [FORK.Process(target=ask, args=(server.path, results, computed, 10, 30.0)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in range(40)] == [42] * 40
    for process in processes:
        process.join(60)
    computed.get(timeout=60)
    assert computed.empty()


def hold(path: str, begun: Any) -> None:
    import redis

    cache = RemoteCache(redis.Redis(unix_socket_path=path), "test", timeout=5.0, lease=0.6)
    cache.get_or_set("key", lambda: (begun.put(1), time.sleep(60)))


@pytest.fixture
def lazy(engine: str, tmp_path: Path) -> Iterator[Server]:
    """A server that announces the end of a key only when a client asks for the key."""
    server = Server(tmp_path, "--enable-debug-command", "local", engine=engine)
    server.start()
    with contextlib.closing(server.client()) as client:
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    yield server
    server.kill()


def test_a_holder_that_is_killed_is_replaced_when_its_lease_ends(make: Make, lazy: Server) -> None:
    """A waiting caller asks when the lease ends, and not again and again.

    The replacement comes not before the end, and in one of several attempts within 50 ms after it, because a machine
    may stall.
    """
    cache, raw = make(lazy.client(), lease=0.6), lazy.client()
    lease = cache._store.keys.lease("key")
    late: list[float] = []
    for _ in range(20):
        begun = FORK.Queue()
        holder = FORK.Process(target=hold, args=(lazy.path, begun))
        holder.start()
        begun.get(timeout=60)
        assert holder.pid is not None
        os.kill(holder.pid, signal.SIGKILL)
        holder.join()
        ends, asked = raw.pexpiretime(lease) / 1000, cache.stats().lease_waits
        if ends > 0:
            late.append(cache.get_or_set("key", time.time) - ends)
            assert late[-1] >= 0
            assert cache.stats().lease_waits - asked <= 3
            if late[-1] <= 0.05:
                break
        cache.delete("key")
    raw.close()
    assert min(late) <= 0.05


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


@pytest.mark.parametrize("write", ["set", "delete", "clear", "evict_tag", "foreign"])
def test_a_write_during_a_computation_comes_after_it(make: Make, raw: Any, write: str) -> None:
    one, other = make(), make()

    def compute() -> str:
        if write == "set":
            other["key"] = "newer"
        elif write == "delete":
            other["key"] = "newer"
            other.delete("key")
        elif write == "clear":
            other.clear()
        elif write == "evict_tag":
            other.evict_tag("tag")
        else:
            raw.set("test:{key}", "foreign")
        return "computed"

    assert one.get_or_set("key", compute, tags=("tag",)) == "computed"
    if write == "foreign":
        assert raw.get("test:{key}") == b"foreign"
    else:
        assert other.fresh("key") == ("newer" if write == "set" else None)


@pytest.mark.parametrize("write", ["set", "delete", "clear", "evict_tag"])
def test_who_asks_after_a_write_gets_nothing_older(make: Make, write: str) -> None:
    """The result of a computation that began before the write goes only to callers that asked before it."""
    one, other = make(), make()
    begun, goes_on = threading.Event(), threading.Event()

    def compute() -> str:
        begun.set()
        goes_on.wait(60)
        return "older"

    thread, first = in_thread(lambda: one.get_or_set("key", compute, tags=("tag",)))
    begun.wait(60)
    if write == "set":
        other["key"] = "newer"
    elif write == "delete":
        other["key"] = "gone"
        other.delete("key")
    else:
        getattr(other, write)(*(("tag",) if write == "evict_tag" else ()))
    hear(one)
    assert one.get_or_set("key", lambda: "newer") == "newer"
    assert one.stats().lease_waits == 0
    goes_on.set()
    thread.join()
    assert first == ["older"]
    assert other.fresh("key") == "newer"


def test_a_tag_that_is_known_only_afterwards(make: Make) -> None:
    one, other = make(), make()

    @one.memoize(name="tagged", tags=lambda *_: ["tag"])
    def tagged(number: int) -> int:
        if number == 1:
            other.evict_tag("tag")
        calls.append(number)
        return number

    calls: list[int] = []
    assert [tagged(1), tagged(2), tagged(2)] == [1, 2, 2]
    # At once, or when the eviction has been heard of.
    until(lambda: tagged(1) == 1 and calls.count(1) == 2)


@pytest.mark.parametrize("when", ["never", "before", "in the middle"])
def test_a_tag_that_is_evicted_before_it_is_known(make: Make, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """A result with such a tag is not stored. A cluster evicts a tag in two steps, between which a result may come."""
    one, other = make(), make()
    execute = other._client.execute
    stored: list[bool] = []

    def compute(load: Any) -> None:
        load.lease(one._near, lambda: None, None)

        def store() -> None:
            stored.append(load.store(one._near, 1, None, ["tag"]))

        def in_order(commands: Any) -> None:
            first, second = commands
            execute(*first)
            store()
            execute(*second)

        if when == "in the middle":
            monkeypatch.setattr(other._client, "in_order", in_order)
        if when != "never":
            other.evict_tag("tag")
        if when != "in the middle":
            store()

    _core._load(one._near, "key", compute)
    assert (stored, other.fresh("key")) == (([True], 1) if when == "never" else ([False], None))


def test_a_failure_is_told_to_those_who_wait(make: Make) -> None:
    one, other = make(), make()
    waits = threading.Event()

    def fail() -> None:
        waits.wait(60)
        raise KeyError("lost")

    thread, failed = in_thread(lambda: one.get_or_set("key", fail))
    until(lambda: one.stats().leases == 1)
    second, told = in_thread(lambda: other.get_or_set("key", lambda: "computed"))
    until(lambda: other.stats().lease_waits > 0)
    waits.set()
    thread.join(), second.join()
    assert [type(error) for error in failed + told] in ([KeyError, KeyError], [KeyError, LoadFailedElsewhere])
    # Whoever comes later tries again.
    assert make().get_or_set("key", lambda: "computed") == "computed"


@pytest.mark.parametrize("step", ["look", "store", "function"])
@pytest.mark.parametrize("awaited", [False, True])
def test_a_failure_of_the_server_is_told_to_nobody(make: Make, step: str, awaited: bool) -> None:
    """It is not a result of the function. Other processes may reach the server, and compute."""
    one, other = make(), make()
    waits, store = threading.Event(), one._store
    load = store.load

    def fail(*_: Any) -> Any:
        waits.wait(60)
        raise RemoteTimeoutError("it is slow")

    if step == "look":
        # After it got the lease.
        store.load = lambda key, **options: fail() if store.counts.leases else load(key, **options)
    elif step == "store":
        store.put_with_lease = fail
    function = fail if step == "function" else lambda: "lost"
    front, in_front_of_other = FlexCache(store=one), FlexCache(store=other)

    def call() -> Any:
        return asyncio.run(front.aget_or_set("key", function)) if awaited else front.get_or_set("key", function)

    thread, failed = in_thread(call)
    until(lambda: one.stats().leases == 1)
    second, told = in_thread(lambda: in_front_of_other.get_or_set("key", lambda: "computed"))
    until(lambda: other.stats().lease_waits > 0)
    waits.set()
    thread.join(), second.join()
    assert [type(error) for error in failed] == [RemoteTimeoutError]
    assert told == ["computed"]


@pytest.mark.parametrize("right", ["del", "unlink", "pexpire", "pttl", "getrange", "exists", "evalsha"])
def test_without_a_right_nobody_waits_for_a_lease_that_is_over(
    make: Make, server: Server, raw: Any, right: str
) -> None:
    raw.execute_command("ACL", "SETUSER", "few", "on", ">secret", "~*", "&*", "+@all", f"-{right}")
    try:
        options = {"lease": 3600, "lease_wait": 3600}
        one, other = (make(server.client(username="few", password="secret"), **options) for _ in range(2))

        def fail() -> None:
            raise LookupError

        with pytest.raises(LookupError):
            one.get_or_set("failed", fail)
        assert one.get_or_set("key", lambda: 1) == 1
        with ThreadPoolExecutor(1) as pool:
            # Whoever asks before the lease is given back is told.
            with contextlib.suppress(LookupError):
                assert pool.submit(other.get_or_set, "failed", lambda: 2).result(60) == 2
            assert pool.submit(other.get_or_set, "key", lambda: 2).result(60) in (1, 2)
    finally:
        raw.execute_command("ACL", "DELUSER", "few")


def test_memoized_functions_share_results(make: Make) -> None:
    one, other = make(), make()
    calls = []

    def square(number: int) -> int:
        calls.append(number)
        return number * number

    here, there = (cache.memoize(ttl=60, name="square")(square) for cache in (one, other))
    assert [here(4), there(4), here(4), there(5)] == [16, 16, 16, 25]
    assert calls == [4, 5]


def test_tasks_compute_once(make: Make) -> None:
    cache = make()
    calls = []

    async def compute() -> int:
        calls.append(1)
        await asyncio.sleep(0.05)
        return 7

    async def main() -> list[int]:
        return await asyncio.gather(*(cache.aget_or_set("key", compute) for _ in range(20)))

    assert asyncio.run(main()) == [7] * 20
    assert calls == [1]


def test_a_lock_excludes_others(make: Make) -> None:
    one, other = make().lock("job"), make().lock("job", timeout=0.05)
    with one:
        first = one.fence
        assert not other.acquire(timeout=0)
        with pytest.raises(TimeoutError, match="job"), other:
            pass
        with pytest.raises(RuntimeError):
            one.acquire()
        assert one.renew()
    assert one.fence is None
    assert not one.release()
    assert not one.renew()
    with other:
        assert first is not None
        assert other.fence is not None
        assert other.fence > first

    async def main() -> None:
        async with one:
            assert not await other.aacquire(timeout=0)
        assert await other.aacquire()

    asyncio.run(main())
    assert other.release()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_lock_whose_task_is_cancelled_is_given_back(make: Make, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """The lock is released, whether the server grants it before or after the cancellation.

    No caller waits until its time is over.
    """
    cache = make()
    lock, ask = cache.lock("job", ttl=3600), RemoteLock._ask
    asked, answered, go, finished = (threading.Event() for _ in range(4))

    def slow(this: RemoteLock, attempt: Any) -> None:
        asked.set()
        if moment == "after":
            go.wait(60)
        ask(this, attempt)
        answered.set()
        go.wait(60)
        finished.set()

    async def main() -> None:
        task = asyncio.create_task(lock.aacquire())
        event = answered if moment == "before" else asked
        await asyncio.to_thread(event.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        await asyncio.to_thread(finished.wait, 60)

    monkeypatch.setattr(RemoteLock, "_ask", slow)
    asyncio.run(main())
    monkeypatch.undo()
    assert lock.fence is None
    assert cache.lock("job").acquire(timeout=0)


def test_a_lock_whose_thread_gets_a_signal_is_given_back(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes after the server has granted the lock, and before its caller knows."""
    cache, ask = make(), RemoteLock._ask

    def interrupted(this: RemoteLock, attempt: Any) -> None:
        ask(this, attempt)
        raise KeyboardInterrupt

    monkeypatch.setattr(RemoteLock, "_ask", interrupted)
    with pytest.raises(KeyboardInterrupt), cache.lock("job", ttl=3600):
        pass
    monkeypatch.undo()
    lock = cache.lock("job", ttl=3600)
    with lock:
        with pytest.raises(RuntimeError, match="held already"), lock:
            pass
        assert not cache.lock("job").acquire(timeout=0), "who is refused releases nothing"


def test_a_lock_is_released_by_a_task_that_is_cancelled(make: Make) -> None:
    cache = make()

    async def main() -> None:
        async with cache.lock("job", ttl=3600) as lock:
            assert await lock.arenew()
        await lock.aacquire()
        release = asyncio.create_task(lock.arelease())
        await asyncio.sleep(0)
        release.cancel()
        with pytest.raises(asyncio.CancelledError):
            await release
        assert await cache.lock("job").aacquire(timeout=60)

    asyncio.run(main())


def test_a_lock_ends_by_itself(make: Make) -> None:
    one, other = make().lock("job", ttl=0.05), make().lock("job")
    assert one.acquire()
    assert other.acquire(timeout=30)
    assert not one.renew()
    assert not one.release()
    assert other.release()


def use(path: str, count: Any) -> None:
    import redis

    cache = RemoteCache(redis.Redis(unix_socket_path=path), "test", timeout=5.0)
    limiter = cache.limiter("mails", 37, per=3600)
    count.put(sum(limiter.hit().allowed for _ in range(50)))
    cache.close()


def test_a_limit_lets_exactly_so_many_through(server: Server) -> None:
    counts = FORK.Queue()
    processes = [FORK.Process(target=use, args=(server.path, counts)) for _ in range(4)]
    for process in processes:
        process.start()
    assert sum(counts.get(timeout=60) for _ in processes) == 37
    for process in processes:
        process.join(60)


def test_a_limiter(make: Make) -> None:
    limiter = make().limiter("mails", 3, per=300)
    first, second = limiter.hit(), limiter.hit(2)
    assert (first.allowed, first.remaining, second.allowed, second.remaining) == (True, 2, True, 0)
    refused = limiter.hit()
    assert not refused.allowed
    assert first
    assert not refused
    assert 90 < refused.retry_after <= 100
    assert not limiter.acquire(timeout=0)
    quick = make().limiter("quick", 1, per=0.01)

    async def awaited() -> bool:
        async with quick:
            return await quick.aacquire()

    with quick, quick:
        assert asyncio.run(awaited())
    for wrong in (0, -1, 10**9 * 10**6):
        with pytest.raises(ValueError, match="limit"):
            make().limiter("a", wrong)
    with pytest.raises(TypeError, match="limit"):
        make().limiter("a", 1.5)
    with pytest.raises(ValueError, match="uses"):
        limiter.hit(4)


@pytest.mark.parametrize("algorithm", ["gcra", "sliding_window"])
def test_a_limiter_is_exact_under_concurrent_uses(make: Make, algorithm: str) -> None:
    """Of 200 concurrent uses of several caches, exactly `limit` are allowed."""
    caches = [make() for _ in range(4)]
    limiters = [cache.limiter("many", 37, per=3600, algorithm=algorithm) for cache in caches]
    with ThreadPoolExecutor(50) as pool:
        hits = list(pool.map(lambda number: limiters[number % 4].hit(), range(200)))
    assert sum(hit.allowed for hit in hits) == 37
    assert sorted(hit.remaining for hit in hits if hit.allowed) == list(range(37))
    assert all(0 < hit.retry_after <= 3600 for hit in hits if not hit.allowed)


def test_a_sliding_window_never_lets_more_through(make: Make) -> None:
    """GCRA allows a burst after uses at an even rate. A sliding window counts all of them."""
    limiter = make().limiter("window", 5, per=0.3, algorithm="sliding_window")
    taken: list[tuple[float, float]] = []
    while len(taken) < 12:
        uses, began = 1 + len(taken) % 2, time.monotonic()
        hit = limiter.hit(uses)
        if hit.allowed:
            taken += [(began, time.monotonic())] * uses
        else:
            time.sleep(hit.retry_after)
    # From before the first of six to after the sixth.
    assert all(taken[number + 5][1] - taken[number][0] > 0.299 for number in range(len(taken) - 5))


def test_a_window_says_when_to_come_back(make: Make) -> None:
    limiter = make().limiter("back", 3, per=60, algorithm="sliding_window")
    assert limiter.hit(2) == (True, 1, 0.0)
    refused = limiter.hit(2)
    assert (refused.allowed, refused.remaining) == (False, 1)
    assert 0 < refused.retry_after <= 60
    assert limiter.hit(1) == (True, 0, 0.0)


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda cache: cache.limiter("a", 5).hit("1.2.3.4"), TypeError, "uses must be an int, not '1.2.3.4'"),
        (lambda cache: cache.limiter("a", 5).hit(True), TypeError, "uses must be an int"),
        (lambda cache: cache.limiter("a", 5).hit(6), ValueError, "uses must be from 1"),
        (lambda cache: cache.limiter("a", 5).hit(0), ValueError, "uses must be from 1"),
        (lambda cache: cache.limiter("a", 5).acquire(timeout="1"), TypeError, "timeout must be"),
        (lambda cache: cache.limiter("a", "5"), TypeError, "limit must be an int"),
        (lambda cache: cache.limiter("a", 5, per="1"), TypeError, "per must be"),
        (lambda cache: cache.limiter("a", 5, algorithm="window"), ValueError, "algorithm must be .*'sliding_window'"),
        (lambda cache: cache.limiter("a", 5, algorithm=None), TypeError, "algorithm must be"),
        (lambda cache: cache.limiter("a", 10**6, algorithm="sliding_window"), ValueError, "limit must be at most"),
        (lambda cache: cache.lock("a", ttl="1"), TypeError, "ttl must be"),
        (lambda cache: cache.lock("a", timeout="1"), TypeError, "timeout must be"),
        (lambda cache: cache.lock("a").acquire(timeout="1"), TypeError, "timeout must be"),
        (lambda cache: cache.lock(object()), TypeError, "a key must be"),
        (lambda cache: cache.incr("a", "1"), TypeError, "by must be an int"),
        (lambda cache: cache.put("a", 1, ttl="1"), TypeError, "ttl"),
        (lambda cache: cache.put("a", 1, tags="one"), TypeError, "tags"),
        (lambda cache: cache.put("a", 1, tags=["x" * 70_000]), ValueError, "a tag must not have more"),
        (
            lambda cache: cache.put("a", 1, tags=[f"{number}" + "y" * 1000 for number in range(99)]),
            ValueError,
            "tags must",
        ),
        (lambda cache: cache.evict_tag(5), TypeError, "tag"),
        (lambda cache: cache.scan(5).__next__(), TypeError, "prefix must be a str"),
        (lambda cache: cache.get_many(5), TypeError, "iterable"),
    ],
)
def test_wrong_arguments_are_named(make: Make, call: Any, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        call(make())


def test_a_lease_whose_thread_gets_a_signal_is_given_back(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes after the server has granted the lease, and before the caller knows."""
    cache, other = make(lease=3600, lease_wait=3600), make(lease=3600, lease_wait=3600)
    ask = Leases._ask

    def interrupted(*arguments: Any) -> Any:
        ask(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Leases, "_ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.get_or_set("key", lambda: 1)
    monkeypatch.undo()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(other.get_or_set, "key", lambda: 2).result(60) == 2


@pytest.mark.parametrize("awaited", [False, True])
def test_a_call_after_a_failure_computes(make: Make, monkeypatch: pytest.MonkeyPatch, awaited: bool) -> None:
    """The call did not wait for the failed computation, although its lease is not yet released."""
    cache, over, release = make(), threading.Event(), Lease.release

    def release_late(lease: Lease, failure: bytes | None) -> None:
        until(lambda: over.is_set() or cache.stats().lease_waits)
        release(lease, failure)

    monkeypatch.setattr(Lease, "release", release_late)

    def fail() -> str:
        raise LookupError("key")

    def call(factory: Callable[[], str]) -> Any:
        return asyncio.run(cache.aget_or_set("key", factory)) if awaited else cache.get_or_set("key", factory)

    try:
        with pytest.raises(LookupError):
            call(fail)
        assert call(lambda: "value") == "value"
        assert cache.fresh("key") == "value"
    finally:
        over.set()
