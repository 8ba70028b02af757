"""Loads beyond one process: who computes has the lease of the key, and the others wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from gates import PATIENCE
from store_loads import DAY, SHORT, Failed, Slow, elsewhere, wait_until

from flexcache_rs import FlexCache, LoadFailedElsewhere, _core
from flexcache_rs.disk import Cache, JSONDisk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from store_kinds import Kind
    from store_process import OtherProcess

shared = pytest.mark.needs(shared=True)
on_one_disk = pytest.mark.needs(name="disk-wal")
callers = pytest.mark.parametrize("how", ["get_or_set", "aget_or_set"])


def never() -> str:
    raise AssertionError("computed although another process did")


def call(cache: Any, how: str, factory: Callable[[], Any] = never, key: Any = "a") -> Any:
    """What a caller gets, of a thread or of a task."""
    if how == "get_or_set":
        return cache.get_or_set(key, factory)
    return asyncio.run(cache.aget_or_set(key, factory))


class Caller(threading.Thread):
    """A thread that calls. `result` is what it got or what was raised; ask for it after the block."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.function, self.result = function, None

    def run(self) -> None:
        try:
            self.result = self.function()
        except BaseException as error:
            self.result = error

    def end(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive(), "the call does not return"
        return self.result


def begun(function: Callable[[], Any]) -> Caller:
    """A caller that has begun."""
    caller = Caller(function)
    caller.start()
    return caller


def waiting(cache: Any, function: Callable[[], Any]) -> Caller:
    """A caller that waits for another process."""
    caller = begun(function)
    wait_until(lambda: _core._loads_that_wait(cache))
    return caller


@shared
@callers
def test_a_caller_gets_what_another_process_computes(
    kind: Kind, store: Any, other: OtherProcess, tmp_path: Path, how: str
) -> None:
    cache = kind.front(store)
    with elsewhere(other, tmp_path) as slow:
        caller = waiting(cache, lambda: call(cache, how))
        slow.go.touch()
        assert caller.end() == "theirs"
    assert other.end() == "theirs"
    assert call(cache, how) == "theirs"


@on_one_disk
@callers
def test_an_exception_reaches_those_who_wait_in_another_process(
    kind: Kind, store: Any, other: OtherProcess, tmp_path: Path, how: str
) -> None:
    """They do not compute one after another. Whoever comes later tries again."""
    cache = kind.front(store)
    with elsewhere(other, tmp_path, "error") as slow:
        caller = waiting(cache, lambda: call(cache, how))
        slow.go.touch()
        raised = caller.end()
        assert (type(raised), raised.args) == (Failed, ("no value", 7))
    with pytest.raises(Failed):
        other.end()
    assert call(cache, how, lambda: "anew") == "anew"


@on_one_disk
@callers
@pytest.mark.parametrize("ends", ["killed", "stopped"])
def test_a_holder_that_does_not_end_costs_its_lease(
    kind: Kind, store: Any, other: OtherProcess, tmp_path: Path, how: str, ends: str
) -> None:
    """One that goes on later does not replace what was computed meanwhile."""
    cache = kind.front(store)
    with elsewhere(other, tmp_path, lease=SHORT) as slow:
        if ends == "killed":
            other.kill()
        else:
            other.pause()
        try:
            assert call(cache, how, lambda: "ours") == "ours"
        finally:
            if ends == "stopped":
                slow.go.touch()
                other.go_on()
                assert other.end() == "theirs"
    assert kind.read(store, "a") == "ours"
    assert cache.get("a") == "ours"


@on_one_disk
@callers
def test_a_holder_that_is_cancelled_gives_its_lease_back(
    kind: Kind, store: Any, other: OtherProcess, tmp_path: Path, how: str
) -> None:
    cache = kind.front(store)
    with elsewhere(other, tmp_path, "cancelled") as slow:
        caller = waiting(cache, lambda: call(cache, how, lambda: "ours"))
        slow.go.touch()
        assert caller.end() == "ours"
    assert other.end() == "cancelled"


@on_one_disk
def test_a_task_that_is_cancelled_while_it_asks_has_no_lease(kind: Kind, store: Any) -> None:
    """Its thread gets the lease when the task is long gone."""
    cache = kind.front(store, lease=DAY)
    writes, go = threading.Event(), threading.Event()

    def write() -> None:
        with store.transact():
            writes.set()
            assert go.wait(PATIENCE)

    async def main() -> None:
        task = asyncio.create_task(cache.aget_or_set("a", never))
        while not _core._loads_in_progress(cache):
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.to_thread(str)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        go.set()

    writer = begun(write)
    assert writes.wait(PATIENCE)
    asyncio.run(main())
    writer.end()
    asker = begun(lambda: kind.front(store, lease_wait=DAY).get_or_set("a", lambda: "anew"))
    assert asker.end() == "anew"


@on_one_disk
def test_a_child_does_not_end_the_lease_of_its_parent(
    kind: Kind, store: Any, other: OtherProcess, tmp_path: Path
) -> None:
    """It returns from the same computation, and stores nothing."""
    cache = kind.front(store)
    with elsewhere(other, tmp_path, "fork") as slow:
        caller = waiting(cache, lambda: call(cache, "get_or_set"))
        wait_until((tmp_path / "child").exists)
        assert kind.read(store, "a") != "the child's"
        slow.go.touch()
        assert caller.end() == "theirs"
    assert other.end() == "theirs"


@shared
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_waits_for_another_thread_of_its_parent(kind: Kind, store: Any, tmp_path: Path) -> None:
    cache, slow, waits = kind.front(store), Slow(tmp_path), tmp_path / "waits"
    computing = begun(lambda: call(cache, "get_or_set", slow))
    wait_until(slow.begun.exists)
    child = os.fork()
    if child == 0:
        got: Any = None
        with contextlib.suppress(BaseException):
            caller = begun(lambda: call(cache, "get_or_set"))
            wait_until(lambda: _core._loads_that_wait(cache) or not caller.is_alive())
            waits.touch()
            got = caller.end()
        os._exit(got != "theirs")
    wait_until(waits.exists)
    slow.go.touch()
    assert os.waitpid(child, 0)[1] == 0
    assert computing.end() == "theirs"
    assert call(cache, "get_or_set") == "theirs"


@on_one_disk
@callers
def test_who_must_not_wait_computes_and_stores_nothing(
    kind: Kind, store: Any, other: OtherProcess, tmp_path: Path, how: str
) -> None:
    """The holder's result is the one that is kept."""
    cache = kind.front(store, lease_wait=0)
    with elsewhere(other, tmp_path) as slow:
        assert call(cache, how, lambda: "ours") == "ours"
        assert kind.read(store, "a") != "ours"
        assert "a" not in cache
        slow.go.touch()
    assert other.end() == "theirs"
    assert cache.get("a") == "theirs"


@on_one_disk
@pytest.mark.parametrize("options", [{"soft_ttl": 0.001}, {"early_refresh": 1e9}], ids=str)
def test_an_early_refresh_is_left_to_who_has_the_lease(kind: Kind, store: Any, tmp_path: Path, options: Any) -> None:
    """The others get what is still good."""
    slow, wait = Slow(tmp_path), False

    def compute(_: int) -> str:
        return slow() if wait else "good"

    memos = [kind.front(store).memoize(name="f", ttl=1000, **options)(compute) for _ in range(2)]
    assert memos[0](1) == "good"
    wait = True
    refreshing = begun(lambda: memos[0].refresh(1))
    wait_until(slow.begun.exists)
    assert [memos[1](1) for _ in range(3)] == ["good"] * 3
    slow.go.touch()
    assert refreshing.end() == "theirs"
    wait_until(lambda: not _core._loads_in_progress(memos[1].cache))


@pytest.mark.needs(tells_expiry=True)
def test_an_expiry_is_no_write(kind: Kind, store: Any) -> None:
    """What replaces an entry which expires meanwhile is computed once, and stored."""
    computed, go = [], threading.Event()

    def compute(_: int) -> int:
        computed.append(None)
        assert len(computed) == 1 or go.wait(PATIENCE)
        return len(computed)

    function = kind.front(store).memoize(name="f", ttl=lambda result: SHORT if result == 1 else DAY)(compute)
    assert function(1) == 1
    refreshing = begun(lambda: function.refresh(1))
    wait_until(lambda: function.peek(1) is None)
    joining = begun(lambda: function(1))
    wait_until(lambda: len(computed) > 2 or any(waits for _, waits in _core._loads_in_progress(function.cache)))
    go.set()
    assert [refreshing.end(), joining.end(), function(1), len(computed)] == [2, 2, 2, 2]


@on_one_disk
def test_an_awaited_early_refresh_is_left_to_who_has_the_lease(kind: Kind, store: Any, tmp_path: Path) -> None:
    """The others get what is still good, and do not ask for the lease until they have it."""
    slow, wait = Slow(tmp_path), False

    async def compute(_: int) -> str:
        return await asyncio.to_thread(slow) if wait else "good"

    memos = [kind.front(store).memoize(name="f", ttl=1000, early_refresh=1e9)(compute) for _ in range(2)]
    assert asyncio.run(memos[0](1)) == "good"
    wait = True
    refreshing = begun(lambda: asyncio.run(memos[0].refresh(1)))
    wait_until(slow.begun.exists)

    async def several() -> list[str]:
        return [await memos[1](1), *await asyncio.gather(memos[1](1), memos[1](1))]

    assert asyncio.run(asyncio.wait_for(several(), PATIENCE)) == ["good"] * 3
    slow.go.touch()
    assert refreshing.end() == "theirs"
    assert memos[1].peek(1) == "theirs"


@on_one_disk
def test_two_processes_that_need_each_other(kind: Kind, store: Any, other: OtherProcess, tmp_path: Path) -> None:
    """Each computes a value for which it needs the one that the other computes. Neither waits for a lease to end."""
    cache = kind.front(store, lease=DAY, lease_wait=DAY)
    for ours, theirs in (("a", "b"), ("b", "a")):
        directory = tmp_path / ours
        directory.mkdir()
        other.begin("load_both", theirs, ours, str(directory), DAY)
        slow = Slow(directory)
        wait_until(slow.begun.exists)

        def compute(theirs: str = theirs, slow: Slow = slow) -> str:
            slow.go.touch()
            return "ours, " + cache.get_or_set(theirs, lambda: "for ourselves")

        assert cache.get_or_set(ours, compute).startswith("ours")
        assert other.end().startswith("theirs")
        cache.clear()


@on_one_disk
def test_an_event_loop_runs_while_its_tasks_wait(kind: Kind, store: Any, other: OtherProcess, tmp_path: Path) -> None:
    """However many they are, they leave room for other calls in threads."""
    cache = kind.front(store)
    keys = list(range(50))
    with elsewhere(other, tmp_path, "value", keys) as slow:

        async def main() -> list[str]:
            tasks = [asyncio.create_task(cache.aget_or_set(key, never)) for key in keys]
            while len(_core._loads_that_wait(cache)) < len(keys):
                await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.to_thread(str)
            slow.go.touch()
            return await asyncio.gather(*tasks)

        assert asyncio.run(main()) == ["theirs"] * len(keys)
    other.end()


@on_one_disk
def test_ctrl_c_ends_a_wait(kind: Kind, store: Any, other: OtherProcess, tmp_path: Path) -> None:
    """The load that waited is over then, and holds nothing."""
    cache = kind.front(store)

    def interrupt() -> None:
        wait_until(lambda: _core._loads_that_wait(cache))
        signal.raise_signal(signal.SIGUSR1)

    def handler(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with elsewhere(other, tmp_path) as slow:
            interrupter = threading.Thread(target=interrupt)
            interrupter.start()
            with pytest.raises(KeyboardInterrupt):
                cache.get_or_set("a", never)
            interrupter.join()
            assert not _core._loads_in_progress(cache)
            slow.go.touch()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert other.end() == "theirs"


WRITES: dict[str, Callable[[Any, Any], Any]] = {
    "put": lambda kind, store: kind.write(store, "a", "new"),
    "delete": lambda kind, store: kind.erase(store, "a"),
    "clear": lambda kind, store: kind.wipe(store),
    "evict_tag": lambda kind, store: kind.evict(store, "t"),
    "second cache put": lambda kind, store: kind.front(store).put("a", "new"),
    "second cache delete": lambda kind, store: kind.front(store).delete("a"),
    "second cache clear": lambda kind, store: kind.front(store).clear(),
    "second cache evict_tag": lambda kind, store: kind.front(store).evict_tag("t"),
}
"""Writes to the key "a" that do not go through the cache which computes its value."""


@shared
@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("where", ["here", "other process"])
def test_a_write_from_elsewhere_discards(
    kind: Kind, store: Any, other: OtherProcess, tmp_path: Path, name: str, where: str
) -> None:
    """What is computed goes to those who were waiting. Whoever comes after the write begins anew."""
    cache = kind.front(store)
    slow = Slow(tmp_path)
    caller = begun(lambda: cache.get_or_set("a", slow, tags=("t",)))
    wait_until(slow.begun.exists)
    try:
        if where == "here":
            WRITES[name](kind, store)
        else:
            other.ask("do", "test_store_leases", "WRITES", name)
        expected = "new" if "put" in name else "anew"
        assert call(cache, "aget_or_set", lambda: "anew") == expected
        assert call(cache, "get_or_set", lambda: "anew again") == expected
    finally:
        slow.go.touch()
    assert caller.end() == "theirs"
    assert (cache.get("a"), kind.read(store, "a")) == (expected, expected)


@on_one_disk
@pytest.mark.parametrize("name", ["put", "delete", "clear", "second cache put"])
def test_a_write_to_another_key_discards_nothing(kind: Kind, store: Any, tmp_path: Path, name: str) -> None:
    cache = kind.front(store)
    slow = Slow(tmp_path)
    caller = begun(lambda: cache.get_or_set("b", slow))
    wait_until(slow.begun.exists)
    if name != "clear":
        WRITES[name](kind, store)
    slow.go.touch()
    assert caller.end() == "theirs"
    assert kind.read(store, "b") == "theirs"


def test_a_failure_that_cannot_be_made_again(tmp_path: Path) -> None:
    """A disk whose values are no pickles hands on type and text."""
    store = Cache(tmp_path / "store", disk=JSONDisk)
    one, two = FlexCache(store=store), FlexCache(store=store)
    for error, expected in ((ValueError("bad"), ValueError), (Failed("no value", 7), LoadFailedElsewhere)):
        slow = Slow(tmp_path)

        def compute(error: Exception = error, slow: Slow = slow) -> str:
            slow()
            raise error

        holder = begun(lambda compute=compute: one.get_or_set("a", compute))
        wait_until(slow.begun.exists)
        caller = waiting(two, lambda: two.get_or_set("a", never))
        slow.go.touch()
        assert holder.end() is error
        raised = caller.end()
        assert type(raised) is expected
        assert str(error) in str(raised)
        slow.go.unlink()
        slow.begun.unlink()
    store.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lease": 0}, "lease must be None, or more than 0 seconds and at most a day, not 0"),
        ({"lease": -1}, "lease must be 0 or more seconds, not -1"),
        ({"lease": "1"}, "lease must be a number of seconds or a timedelta, not str ('1'); did you mean 1?"),
        ({"lease": float("inf")}, "lease must be None, or more than 0 seconds and at most a day, not inf"),
        ({"lease_wait": -1}, "lease_wait must be 0 or more seconds, not -1"),
        ({"lease_wait": None}, "lease_wait must be a number of seconds or a timedelta, not NoneType"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        FlexCache(**arguments)
    assert str(raised.value) == message


@on_one_disk
@pytest.mark.parametrize("how", ["task", "thread"])
def test_who_comes_after_a_failure_computes(kind: Kind, store: Any, how: str) -> None:
    """Also while the lease of the load that failed is being given back."""
    cache = kind.front(store)

    def fail() -> str:
        raise Failed

    def call_again(key: int) -> None:
        with pytest.raises(Failed):
            cache.get_or_set(key, fail)
        assert cache.get_or_set(key, lambda: "anew") == "anew"

    async def acall_again(key: int) -> None:
        with pytest.raises(Failed):
            await cache.aget_or_set(key, fail)
        assert await cache.aget_or_set(key, lambda: "anew") == "anew"

    for key in range(30):
        if how == "task":
            asyncio.run(acall_again(key))
        else:
            call_again(key)


@pytest.mark.parametrize("comes", ["task", "thread"])
def test_who_comes_before_a_failed_task_has_landed_computes(comes: str) -> None:
    """Those who waited get its exception."""
    cache: FlexCache[str, str] = FlexCache()

    async def main() -> None:
        failing = asyncio.Event()

        async def fail() -> str:
            await asyncio.sleep(0.01)
            failing.set()
            raise Failed

        async def come() -> str:
            await failing.wait()
            assert _core._loads_in_progress(cache), "its task has failed, and not landed"
            if comes == "thread":
                return cache.get_or_set("a", lambda: "anew")
            return await cache.aget_or_set("a", lambda: "anew")

        newcomer = asyncio.create_task(come())
        callers = [asyncio.create_task(cache.aget_or_set("a", fail)) for _ in range(3)]
        for caller in callers:
            with pytest.raises(Failed):
                await caller
        assert await newcomer == "anew"
        assert cache["a"] == "anew"

    asyncio.run(main())


@on_one_disk
def test_diskcache_repairs_beside_leases(kind: Kind, store: Any, other: OtherProcess, tmp_path: Path) -> None:
    """Its `check(fix=True)`, which removes files it does not know, leaves the leases: one process computes."""
    pytest.importorskip("diskcache")
    cache = kind.front(store)
    with elsewhere(other, tmp_path) as slow:
        (gates,) = tmp_path.rglob("cache.db-gates")
        unknown = gates.with_name("unknown")
        unknown.touch()
        program = "import diskcache, sys; diskcache.Cache(sys.argv[1]).check(fix=True)"
        subprocess.run([sys.executable, "-W", "ignore", "-c", program, str(gates.parent)], check=True, timeout=60)
        assert not unknown.exists(), "it has removed what it does not know"
        assert gates.exists()
        caller = waiting(cache, lambda: call(cache, "get_or_set"))
        slow.go.touch()
        assert caller.end() == "theirs"
    assert other.end() == "theirs"


@shared
@callers
def test_the_lease_of_a_task_whose_loop_is_closed_is_given_back(kind: Kind, store: Any, how: str) -> None:
    """Nobody waits until it expires, which is after the test."""
    cache = kind.front(store, lease=DAY, lease_wait=DAY)
    computes = threading.Event()

    async def never_ends() -> str:
        computes.set()
        await asyncio.sleep(DAY)
        return never()

    async def until_begun() -> None:
        while not computes.is_set():
            await asyncio.sleep(0.001)

    loop = asyncio.new_event_loop()
    task = loop.create_task(cache.aget_or_set("a", never_ends))
    loop.run_until_complete(until_begun())
    loop.close()
    try:
        assert begun(lambda: call(cache, how, lambda: "ours")).end() == "ours"
    finally:
        task._log_destroy_pending = False


@on_one_disk
@pytest.mark.parametrize("remove", ["delete", "pop"])
def test_the_first_lease_of_a_directory_that_was_written_ends(kind: Kind, store: Any, remove: str) -> None:
    """What writers knew of leases before there was one holds no longer: they end it, and a write voids it."""
    cache, other = (kind.front(store, lease=DAY, lease_wait=DAY) for _ in range(2))
    cache["other"] = 1
    assert cache.get_or_set("a", lambda: "first") == "first"
    getattr(cache, remove)("a")
    assert begun(lambda: cache.get_or_set("a", lambda: "second")).end() == "second"
    other["other"] = 2

    def compute() -> str:
        other["b"] = "written"
        return "computed"

    assert cache.get_or_set("b", compute) == "computed"
    assert (cache["b"], store["b"]) == ("written", "written")
