"""Eight threads at once."""

from __future__ import annotations

import random
import sys
import sysconfig
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from waiting import MANY

from flexcache_rs import FlexCache
from flexcache_rs.testing import advance, check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from specimens import MakeCache

THREADS = 8
FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    """Switch threads every ten microseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], object], threads: int = THREADS) -> None:
    """Run the work in threads that start together. Raises the exception of one of them."""
    errors: list[BaseException] = []
    together = threading.Barrier(threads)

    def run(number: int) -> None:
        try:
            together.wait(30)
            work(number)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


class Colliding:
    """A key with few different hashes, which Python code compares."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return self.number % 7

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Colliding) and self.number == other.number


KEYS: dict[str, Callable[[int], Any]] = {
    "int": lambda number: number,
    "str": lambda number: f"key {number}",
    "tuple": lambda number: (number, str(number)),
    "colliding": Colliding,
}


class Closing:
    """A value that counts how often it was closed, in any thread."""

    def __init__(self) -> None:
        self.closed: list[None] = []

    def close(self) -> None:
        self.closed.append(None)

    def item_size(self) -> int:
        return 3


@pytest.mark.parametrize("shards", [1, 16])
@pytest.mark.parametrize("kind", KEYS)
def test_all_calls_at_once(make_cache: MakeCache, policy: str, kind: str, shards: int) -> None:
    """Every stored value is closed once or still present. The limits hold, and the structure is intact."""
    reasons: Counter[str] = Counter()
    lock = threading.Lock()

    def listener(_key: Any, _value: Any, reason: str) -> None:
        with lock:
            reasons[reason] += 1

    cache = make_cache(policy, max_items=64, max_bytes=150, shards=shards, on_evict=listener)
    key_of, stored = KEYS[kind], [[] for _ in range(THREADS)]  # type: ignore[var-annotated]
    taken: list[list[Any]] = [[] for _ in range(THREADS)]

    def work(thread: int) -> None:
        draw = random.Random(thread)
        for step in range(400 if kind == "colliding" else 1500):
            key, what = key_of(draw.randrange(100)), draw.randrange(20)
            if what < 8:
                cache.get(key)
            elif what < 14:
                value = Closing()
                cache.put(key, value, ttl=None if what < 12 else 30)
                stored[thread].append(value)
            elif what == 14:
                value = Closing()
                if cache.add(key, value):
                    stored[thread].append(value)
            elif what == 15:
                cache.delete(key)
            elif what == 16:
                value = cache.pop(key, None)
                if value is not None:
                    taken[thread].append(value)
            elif what == 17:
                assert len(list(cache)) <= 64
                assert cache.bytes <= 150
            elif what == 18:
                cache.get_many([key, key_of(1)])
                cache.touch(key, 60)
            elif step % 100 == 0:
                cache.clear()
                advance(10)

    in_threads(work)
    check(cache)
    values = [value for of_thread in stored for value in of_thread]
    handed_out = {id(value) for of_thread in taken for value in of_thread}
    present = {id(value) for value in cache.values()}
    assert len(cache) <= 64
    for value in values:
        assert len(value.closed) == (0 if id(value) in handed_out or id(value) in present else 1)
    stats = cache.stats()
    assert stats.insertions + stats.updates == len(values)
    assert sum(reasons.values()) == len(values) - len(present)
    assert reasons["popped"] == len(handed_out)


def test_no_update_is_lost(make_cache: MakeCache) -> None:
    """Exactly one of several threads succeeds with add()."""
    cache = make_cache()
    won: list[int] = []

    def work(thread: int) -> None:
        won.extend(key for key in range(2000) if cache.add(key, thread))

    in_threads(work)
    assert sorted(won) == list(range(2000))


def test_each_entry_is_taken_once(make_cache: MakeCache, policy: str) -> None:
    """popitem() and pop() return every value to one thread only."""
    cache = make_cache(policy)
    cache.set_many({key: key for key in range(4000)})
    taken: list[int] = []

    def work(thread: int) -> None:
        while True:
            try:
                taken.append(cache.popitem()[1])
            except KeyError:
                return

    in_threads(work)
    assert sorted(taken) == list(range(4000))


def test_statistics_lose_nothing(make_cache: MakeCache) -> None:
    """The hits and misses of eight threads add up."""
    cache = make_cache()
    cache["here"] = 1

    def work(_thread: int) -> None:
        for _ in range(3000):
            cache.get("here")
            cache.get("not here")

    in_threads(work)
    assert (cache.stats().hits, cache.stats().misses) == (3000 * THREADS, 3000 * THREADS)


def test_keys_that_wreck_everything_at_once(make_cache: MakeCache, policy: str) -> None:
    """__eq__ stores, clears, collects garbage and yields, in eight threads."""
    cache = make_cache(policy, max_items=30)

    class Hostile(Colliding):
        __hash__ = Colliding.__hash__

        def __eq__(self, other: object) -> bool:
            what = random.randrange(40)
            if what == 0:
                cache.clear()
            elif what == 1:
                cache.put(random.randrange(20), 1)
            elif what == 2:
                cache.pop(random.randrange(20), None)
            elif what == 3:
                list(cache)
            return isinstance(other, Colliding) and self.number == other.number

    def work(thread: int) -> None:
        draw = random.Random(thread)
        for _ in range(300):
            key = Hostile(draw.randrange(20))
            try:
                if draw.random() < 0.5:
                    cache.put(key, thread)
                else:
                    cache.get(key)
            except RuntimeError as error:
                assert "gave up" in str(error)

    in_threads(work)
    check(cache)
    numbers = [key.number for key in cache if isinstance(key, Hostile)]
    assert len(numbers) == len(set(numbers))


def test_iterating_while_others_change(make_cache: MakeCache) -> None:
    """An iteration returns no entry twice, and never fails."""
    cache = make_cache(max_items=200)
    done = threading.Event()

    def work(thread: int) -> None:
        if thread:
            draw = random.Random(thread)
            while not done.is_set():
                cache[draw.randrange(400)] = thread
            return
        try:
            for _ in range(60):
                keys = [key for key, _ in cache.entries()]
                assert len(keys) == len(set(keys)) <= 200
                pickled = cache.copy()
                check(pickled)
        finally:
            done.set()

    in_threads(work, 4)


@pytest.mark.skipif(FREE, reason="without a GIL, meeting threads are told so")
def test_with_a_gil_thread_safe_makes_no_difference(make_cache: MakeCache) -> None:
    """The GIL acts as the lock in both cases."""
    cache = make_cache(thread_safe=False, max_items=50)

    def work(thread: int) -> None:
        for step in range(2000):
            cache[step % 80] = thread
            cache.get(step % 31)

    in_threads(work)


@pytest.mark.skipif(not FREE, reason="with a GIL threads do not meet")
def test_without_a_gil_threads_that_meet_are_told() -> None:
    """A thread that meets another one gets RuntimeError, and the cache is intact."""
    cache: FlexCache[int, int] = FlexCache(thread_safe=False)
    cache.set_many({key: key for key in range(50_000)})
    met = threading.Event()

    def work(thread: int) -> None:
        # A copy reads every entry, so it takes long enough for other threads to meet it, even on one core.
        calls: list[Callable[[], object]] = [cache.copy, lambda: cache.get(thread), lambda: cache.put(thread, thread)]
        deadline = time.monotonic() + MANY
        while not met.is_set() and time.monotonic() < deadline:
            try:
                calls[thread % 3]()
            except RuntimeError as error:
                assert "thread_safe=False" in str(error)
                met.set()

    in_threads(work)
    check(cache)
    assert met.is_set()


@pytest.mark.skipif(not FREE, reason="only a free-threaded Python can run without the GIL")
def test_importing_keeps_the_gil_off() -> None:
    """The module declares that it does not need it."""
    assert not sys._is_gil_enabled()  # type: ignore[attr-defined]


def test_an_empty_shard_is_not_an_empty_cache(make_cache: MakeCache) -> None:
    """popitem() fails only if the whole cache is empty, even if other threads empty the shard that it has chosen."""
    for _ in range(20):
        cache = make_cache(shards=16)
        cache.set_many({key: key for key in range(1000)})
        taken: list[int] = []

        def work(_thread: int, cache: Any = cache, taken: list[int] = taken) -> None:
            # No thread stores, so an empty cache stays empty.
            while True:
                try:
                    taken.append(cache.popitem()[1])
                except KeyError:
                    assert len(cache) == 0
                    return

        in_threads(work, 4)
        assert sorted(taken) == list(range(1000))


def test_the_background_thread_is_no_other_user(make_cache: MakeCache) -> None:
    """With thread_safe=False, the library's background thread does not count as a second user of the cache."""
    cache = make_cache(thread_safe=False, background_expiry=True)
    for step in range(50_000):
        cache.put(step % 500, step, ttl=0.0001)
    cache.clear()


def test_values_that_are_closed_in_many_threads(make_cache: MakeCache, policy: str) -> None:
    """Each value is closed once, while hooks that use the cache, a listener and the background thread run."""
    told: Counter[int] = Counter()
    lock = threading.Lock()

    def listener(_key: Any, value: Any, _reason: str) -> None:
        with lock:
            told[id(value)] += 1

    class Busy(Closing):
        def close(self) -> None:
            super().close()
            cache.get(1)
            len(cache)

    cache = make_cache(policy, max_items=40, on_evict=listener, background_expiry=True)
    values: list[list[Busy]] = [[] for _ in range(THREADS)]

    def work(thread: int) -> None:
        draw = random.Random(thread)
        for step in range(600):
            values[thread].append(Busy())
            cache.put(draw.randrange(70), values[thread][-1], ttl=draw.choice([None, 0, 0.0005, 10]))
            if step % 50 == 0:
                cache.resize(max_items=draw.choice([20, 40]))
            if step % 97 == thread:
                cache.close()

    in_threads(work)
    # The library's thread may be in the middle of a hook.
    cache.close()
    everything = [value for of_thread in values for value in of_thread]
    while not all(value.closed for value in everything):
        with lock:
            assert told.total() <= len(everything)
    with lock:
        assert set(told.values()) == {1}
    assert {len(value.closed) for value in everything} == {1}


@pytest.mark.parametrize(("policy_name", "shards"), [("lru", 4), ("sieve", 1), ("s3fifo", 1), ("lfu", 4), ("fifo", 4)])
def test_reads_at_once_count_and_reach_the_policy(make_cache: MakeCache, policy_name: str, shards: int) -> None:
    """Concurrent reads do not wait for each other. Still each hit is counted, and the read entries are kept."""
    cache = make_cache(policy_name, max_items=400, shards=shards)
    for number in range(400):
        cache[number] = number
    # The oldest entries of each shard, which would be evicted next.
    read = [number for number in range(150) if number in cache]
    before = cache.stats().hits

    # A shard lets threads read at once when they have taken turns often enough. Each round has a turn of each thread.
    together = threading.Barrier(4)

    def work(_thread: int) -> None:
        for _ in range(40):
            together.wait()
            assert [cache.get(number) for number in read] == read
            assert cache.get("absent") is None

    in_threads(work, 4)
    stats = cache.stats()
    assert (stats.hits - before, stats.misses) == (4 * 40 * len(read), 4 * 40)
    for number in range(20):
        cache[-1 - number] = number
    check(cache)
    if policy_name != "fifo":
        assert [number for number in read if number not in cache] == []
    # Pending reads are counted by the call that removes all entries.
    in_threads(lambda _thread: [cache.get(number) for number in read], 4)
    cache.clear()
    assert cache.stats().removals > 0
    check(cache)
