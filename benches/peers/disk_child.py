"""A separate process for one library of caches on disk. It executes the commands that the parent sends line by line."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random
from time import monotonic, perf_counter_ns
from typing import Any

HUGE = 2**40
"""A limit that is never reached."""

CHUNK = 1_000
"""Entries a transaction while filling."""

Samples = dict[str, list[int]]


@dataclass(frozen=True)
class Contestant:
    """One library. `make` and `fan` open a directory, and `kept` is the name of its database.

    `batches` is False if a transaction only excludes other threads.
    """

    name: str
    module: str
    distribution: str
    make: Callable[[Any, str], Any]
    fan: Callable[[Any, str], Any] | None
    database: str
    batches: bool = True

    def open(self, directory: str, *, fan: bool = False) -> Any:
        """Open a cache with the library's defaults except for the limit."""
        make = self.fan if fan else self.make
        assert make is not None
        return make(import_module(self.module), directory)


CONTESTANTS = (
    Contestant(
        "flexcache_rs.disk",
        "flexcache_rs.disk",
        "flexcache-rs",
        lambda m, d: m.Cache(d, size_limit=HUGE),
        lambda m, d: m.FanoutCache(d, size_limit=HUGE),
        "cache.db",
    ),
    Contestant(
        "diskcache",
        "diskcache",
        "diskcache",
        lambda m, d: m.Cache(d, size_limit=HUGE),
        lambda m, d: m.FanoutCache(d, size_limit=HUGE),
        "cache.db",
    ),
    Contestant(
        "pysciqlop_cache",
        "pysciqlop_cache",
        "pysciqlop-cache",
        lambda m, d: m.Cache(d),
        lambda m, d: m.FanoutCache(d, shard_count=8),
        "sciqlop-cache.db",
    ),
    Contestant(
        "diskcache_rs",
        "diskcache_rs",
        "diskcache_rs",
        lambda m, d: m.Cache(d, size_limit=HUGE, count_limit=10**9),
        lambda m, d: m.FanoutCache(d, shards=8, size_limit=HUGE, count_limit=10**9),
        "index.sqlite3",
        batches=False,
    ),
)


def find(name: str) -> Contestant:
    """Return the contestant of a name."""
    return next(contestant for contestant in CONTESTANTS if contestant.name == name)


def key(number: int) -> str:
    """Return a key of realistic length."""
    return f"key:{number}"


def over(call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[int]:
    """Return the nanoseconds of each call, including the reading of the clock."""
    clock = perf_counter_ns
    samples: list[int] = []
    append = samples.append
    for given in arguments:
        start = clock()
        call(*given)
        append(clock() - start)
    return samples


def durability(contestant: Contestant, cache: Any, directory: str) -> str:
    """Return the library's durability settings, read from its connection or from the header of its file."""
    if contestant.name == "diskcache":
        (journal,), (synchronous,) = (
            cache._sql(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous")
        )
        return f"journal_mode={journal}, synchronous={synchronous}, read from its connection"
    if contestant.name == "flexcache_rs.disk":
        return f"journal_mode={cache.sqlite_journal_mode}, synchronous={cache.sqlite_synchronous}, as it sets them"
    with (Path(directory) / contestant.database).open("rb") as file:
        head = file.read(20)
    return f"journal_mode={'wal' if head[18] == 2 else 'delete'}, read from its file; the rest as the library sets it"


class Child:
    """The commands of the parent. Every method is a command."""

    def __init__(self, contestant: Contestant) -> None:
        self.contestant = contestant
        self.random = Random()
        self.caches: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.fresh = 0

    def open(self, directory: str) -> str:
        """Open a directory. Returns its settings."""
        self.caches[directory] = cache = self.contestant.open(directory)
        self.counts[directory] = 0
        cache.set("settings", "x")
        cache.delete("settings")
        return durability(self.contestant, cache, directory)

    def close(self, directory: str) -> None:
        """Close a directory."""
        self.caches.pop(directory).close()

    def _new(self, count: int) -> list[str]:
        """Return keys that were never stored."""
        self.fresh += count
        return [key(-number) for number in range(self.fresh - count, self.fresh)]

    def _values(self, size: int, count: int) -> list[bytes]:
        data = os.urandom(size * count)
        return [data[at : at + size] for at in range(0, len(data), size)]

    def fill(self, directory: str, count: int, size: int) -> int:
        """Store entries under key(0) and so on. Returns how many of a sample are present afterwards."""
        cache = self.caches[directory]
        for first in range(0, count, CHUNK):
            values = self._values(size, min(CHUNK, count - first))
            with cache.transact():
                for number, value in enumerate(values, first):
                    cache.set(key(number), value)
        self.counts[directory] = count
        sample = self.random.sample(range(count), k=min(count, 100))
        return sum(cache.get(key(number)) is not None for number in sample) * 100 // len(sample)

    def operations(self, directory: str, size: int, count: int) -> Samples:
        """Time every call, on `count` new keys or on present keys."""
        cache, stored = self.caches[directory], self.counts[directory]
        keys = self._new(count)
        if stored:
            there = [key(self.random.randrange(stored)) for _ in range(count)]
        else:
            there = self.random.sample(keys, k=count)
        absent = [(name,) for name in self._new(count)]
        one = [(name,) for name in there]
        samples: Samples = {}
        samples["set"] = over(cache.set, list(zip(keys, self._values(size, count), strict=True)))
        samples["get"] = over(cache.get, one)
        samples["get, miss"] = over(cache.get, absent)
        samples["in"] = over(cache.__contains__, one)
        samples["set over"] = over(cache.set, list(zip(there, self._values(size, count), strict=True)))
        samples["delete"] = over(cache.delete, [(name,) for name in keys])
        return samples

    def sustained(self, directory: str, size: int, count: int) -> Samples:
        """Time sets of new keys."""
        keys = self._new(count)
        return {"set": over(self.caches[directory].set, list(zip(keys, self._values(size, count), strict=True)))}

    def counting(self, directory: str, count: int) -> Samples:
        """Time `incr` of one key, and `add` of new keys and of a present one."""
        cache = self.caches[directory]
        keys = self._new(count)
        cache.set("counter", 0)
        samples = {
            "incr": over(cache.incr, [("counter",)] * count),
            "add": over(cache.add, [(name, number) for number, name in enumerate(keys)]),
            "add, there": over(cache.add, [("counter", 1)] * count),
        }
        for name in keys:
            cache.delete(name)
        return samples

    def batches(self, directory: str, batch: int, count: int) -> Samples:
        """Return the nanoseconds of a `set` in transactions of `batch`."""
        cache = self.caches[directory]
        keys = self._new(batch * count)
        values = self._values(256, batch * count)
        samples: list[int] = []
        for first in range(0, len(keys), batch):
            pairs = list(zip(keys[first : first + batch], values[first : first + batch], strict=True))
            transaction: AbstractContextManager[Any] = cache.transact()
            start = perf_counter_ns()
            with transaction:
                for name, value in pairs:
                    cache.set(name, value)
            samples.append((perf_counter_ns() - start) // batch)
        with cache.transact():
            for name in keys:
                cache.delete(name)
        return {"set": samples}

    def memoized(self, directory: str, count: int) -> Samples:
        """Time calls of a memoized function whose results are stored."""
        cache = self.caches[directory]

        @cache.memoize()  # type: ignore[untyped-decorator]
        def function(number: int) -> list[int]:
            return [number]

        for number in range(100):
            function(number)
        return {"call": over(function, [(self.random.randrange(100),) for _ in range(count)])}

    def begin(self, parent: str, count: int) -> Samples:
        """Time the opening of a new directory together with the first `set`."""
        samples: list[int] = []
        for _ in range(count):
            self.fresh += 1
            directory = f"{parent}/new-{self.fresh}"
            start = perf_counter_ns()
            cache = self.contestant.open(directory)
            cache.set("a", "b")
            samples.append(perf_counter_ns() - start)
            cache.close()
        return {"new": samples}

    def reopen(self, directory: str, count: int) -> Samples:
        """Time the opening of a directory with entries together with the first `get`."""
        samples: list[int] = []
        for _ in range(count):
            start = perf_counter_ns()
            cache = self.contestant.open(directory)
            cache.get("key:1")
            samples.append(perf_counter_ns() - start)
            cache.close()
            # Then no object has the directory open, so the next opening is a first one.
            del cache
        return {"reopened": samples}

    def count(self, directory: str) -> int:
        """Return how many of the first hundred keys are present."""
        cache = self.contestant.open(directory)
        there = sum(cache.get(key(number)) is not None for number in range(100))
        cache.close()
        return there


def load(contestant: Contestant, directory: str, *, fan: bool, threads: int, seconds: float, writes: float) -> None:
    """Make as many calls as possible. Prints "ready", waits for a line, and then prints [calls, failures].

    `writes` is the share of calls that are `set`. The others are `get`. A failure is a call that raised, or a `set`
    that returned False.
    """
    cache = contestant.open(directory, fan=fan)
    random = Random()
    value = os.urandom(256)
    totals: list[tuple[int, int]] = []

    def work() -> None:
        order = Random(random.random())
        keys = [key(order.randrange(1_000)) for _ in range(1_000)]
        writing = [order.random() < writes for _ in range(1_000)]
        calls = failures = 0
        end = monotonic() + seconds
        while monotonic() < end:
            for name, write in zip(keys[calls % 1_000 :][:20], writing[calls % 1_000 :][:20], strict=True):
                calls += 1
                try:
                    if write:
                        failures += cache.set(name, value) is False
                    else:
                        cache.get(name)
                except Exception:  # noqa: BLE001 - each library has errors of its own
                    failures += 1
        totals.append((calls, failures))

    print("ready", flush=True)
    sys.stdin.readline()
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(json.dumps([sum(calls for calls, _ in totals), sum(failures for _, failures in totals)]), flush=True)


def main(arguments: list[str]) -> None:
    """Run `NAME`, which executes commands, or `NAME load OPTIONS`."""
    contestant = find(arguments[0])
    if arguments[1:]:
        options = json.loads(arguments[2])
        load(contestant, **options)
        return
    child = Child(contestant)
    # Redirect the output of libraries, which must not look like a result.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    gc.disable()
    for line in sys.stdin:
        name, *given = json.loads(line)
        gc.collect()
        answers.write(json.dumps(getattr(child, name)(*given)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
