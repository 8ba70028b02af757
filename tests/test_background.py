"""The background thread, which removes expired entries while no call uses the cache."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.testing import advance

if TYPE_CHECKING:
    from specimens import MakeCache

WAIT = 30


class Told:
    """A listener that records its calls, so that a test can wait for them."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.changed = threading.Condition()

    def __call__(self, key: Any, value: Any, reason: str) -> None:
        with self.changed:
            self.told.append((key, reason, threading.current_thread() is threading.main_thread()))
            self.changed.notify_all()

    def wait(self, count: int) -> list[Any]:
        """Wait until the listener was called `count` times, and return the calls."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.told) >= count, WAIT)
            return list(self.told)


def own_threads() -> int:
    """Return the number of background threads of this process, by the first 15 letters of their names on Linux."""
    tasks = Path("/proc/self/task")
    return sum((task / "comm").read_text().startswith("flexcache-expir") for task in tasks.iterdir())


def test_what_expires_leaves_by_itself(make_cache: MakeCache, policy: str) -> None:
    """An expired entry is removed, and its hooks run, in a thread of the library."""
    told = Told()
    cache = make_cache(policy, background_expiry=True, on_evict=told)
    cache.put("minute", 1, ttl=60)
    cache.put("hour", 1, ttl=3600)
    advance(61)
    assert told.wait(1) == [("minute", "expired", False)]
    assert cache.stats().items == 1
    advance(3600)
    assert told.wait(2)[1] == ("hour", "expired", False)


def test_real_time_passes(make_cache: MakeCache) -> None:
    """An entry with a time to live of some milliseconds expires without moving the clock."""
    told = Told()
    cache = make_cache(background_expiry=True, on_evict=told)
    cache.put("soon", 1, ttl=0.05)
    assert told.wait(1) == [("soon", "expired", False)]


def test_a_sooner_deadline_wakes_it(make_cache: MakeCache) -> None:
    """The deadline may also be set by touch(), or in another cache."""
    told = Told()
    first, second = (make_cache(background_expiry=True, on_evict=told) for _ in range(2))
    first.put("late", 1, ttl=10**6)
    first.put("sooner", 1, ttl=1000)
    second.put("second", 1, ttl=100)
    first.put("touched", 1)
    first.touch("touched", 10)
    advance(11)
    assert told.wait(1)[-1][0] == "touched"
    advance(100)
    assert told.wait(2)[-1][0] == "second"
    advance(1000)
    assert told.wait(3)[-1][0] == "sooner"
    first.close()


def test_a_number_is_the_least_time_between_two_scans(make_cache: MakeCache) -> None:
    """An entry that expires between two scans is removed by the next one."""
    told = Told()
    cache = make_cache(background_expiry=50, on_evict=told)
    cache.put("a", 1, ttl=10)
    advance(11)
    told.wait(1)
    cache.put("b", 1, ttl=1)
    cache.put("c", 1, ttl=2)
    advance(3)
    assert cache.stats().items == 2
    advance(50)
    assert {key for key, _, _ in told.wait(3)} == {"a", "b", "c"}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed in /proc")
def test_there_is_one_thread(make_cache: MakeCache) -> None:
    """All caches share one thread."""
    told = Told()
    caches = [make_cache(background_expiry=True, on_evict=told) for _ in range(20)]
    for cache in caches:
        cache.put("a", 1, ttl=60)
    advance(61)
    told.wait(20)
    assert own_threads() == 1


def test_the_thread_keeps_no_cache_alive() -> None:
    """A cache that waits for a deadline can be collected, and its values are closed."""
    told = Told()
    cache: FlexCache[Any, Any] = FlexCache(background_expiry=True, on_evict=told)
    cache.put("a", 1, ttl=3600)
    alive = weakref.ref(cache)
    del cache
    gc.collect()
    assert alive() is None
    assert told.told[0][:2] == ("a", "closed")
    advance(4000)


def test_a_listener_that_raises_or_uses_the_cache(make_cache: MakeCache, caplog: pytest.LogCaptureFixture) -> None:
    """The thread goes on."""
    told = Told()

    def listener(key: Any, value: Any, reason: str) -> None:
        cache["from the thread"] = key
        told(key, value, reason)
        raise LookupError("lost")

    cache = make_cache(background_expiry=True, on_evict=listener)
    for round_ in range(3):
        cache.put(round_, 1, ttl=10)
        advance(11)
        told.wait(round_ + 1 + max(0, round_))
        with told.changed:
            assert told.changed.wait_for(lambda: cache.stats().hook_errors >= 1, WAIT)
    pause = threading.Event()
    for _ in range(6000):  # It is counted first, and logged then.
        if "LookupError: lost" in caplog.text:
            break
        pause.wait(0.01)
    assert "LookupError: lost" in caplog.text
    cache.clear()


def test_many_caches_come_and_go() -> None:
    """Caches may be created, used and dropped while the thread works."""
    told = Told()
    for number in range(300):
        cache: FlexCache[Any, Any] = FlexCache(background_expiry=True, on_evict=told)
        cache.put(number, 1, ttl=1)
        if number % 10 == 0:
            advance(2)
    del cache
    gc.collect()
    assert sorted(key for key, _, _ in told.wait(300)) == list(range(300))


def wake_ups() -> int:
    """Wait until the library's thread sleeps, and return how often it has gone to sleep."""
    while True:
        for task in Path("/proc/self/task").iterdir():
            lines = (task / "status").read_text(encoding="ascii").splitlines()
            status = dict(line.split(":\t", 1) for line in lines)
            if status["Name"].startswith("flexcache") and status["State"].startswith("S"):
                return int(status["voluntary_ctxt_switches"])
        time.sleep(0)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed in /proc")
def test_it_sleeps_until_the_next_deadline(make_cache: MakeCache) -> None:
    """Any number of later deadlines does not wake the thread."""
    told = Told()
    cache = make_cache(background_expiry=True, on_evict=told)
    cache.put("first", 1, ttl=10)
    advance(11)
    told.wait(1)
    cache.put("next", 1, ttl=1000)
    # The thread may still be on its way to sleep, or sleep in between.
    before = wake_ups()
    for number in range(20_000):
        cache.put(number, 1, ttl=2000 + number)
        cache.get(number)
    assert wake_ups() - before < 100
    advance(1001)
    assert told.wait(2)[1][0] == "next"


def test_close_in_the_thread_itself(make_cache: MakeCache) -> None:
    """A hook in the thread may close its cache and others. The thread does not wait for itself."""
    told = Told()

    class Closing:
        async def aclose(self) -> None:
            inner.close()
            cache.close()

    inner = make_cache(on_evict=told)
    cache = make_cache(background_expiry=True, on_evict=told)
    inner["inner"] = Closing()
    cache.put("outer", Closing(), ttl=10)
    cache.put("other", 1)
    advance(11)
    assert {(key, reason) for key, reason, _ in told.wait(3)} == {
        ("outer", "expired"),
        ("other", "closed"),
        ("inner", "closed"),
    }
    cache.close()
    inner.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore")
def test_a_child_starts_its_own_thread(make_cache: MakeCache) -> None:
    """A forked child starts a thread with its first deadline. The parent's thread goes on."""
    told = Told()
    cache = make_cache(background_expiry=True, on_evict=told)
    cache.put("parent's", 1, ttl=10)
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            assert told.told == []
            cache.put("child's", 1, ttl=5)
            advance(6)
            assert told.wait(1)[0][0] == "child's"
            advance(6)
            assert told.wait(2)[1][0] == "parent's"
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert told.told == []
    advance(11)
    assert told.wait(1)[0][0] == "parent's"
