"""Show the main features of the package in about twenty lines."""

from __future__ import annotations

import functools
import random
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from flexcache_rs import FlexCache, __version__, memoize
from flexcache_rs import _core as native
from flexcache_rs.replay.recommend import recommend
from flexcache_rs.replay.simulate import compare
from flexcache_rs.replay.trace import Trace, zipf

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from flexcache_rs.replay.simulate import Policy

SLOW = 0.05
"""Seconds that the slow function takes."""
ENTRIES = 10_000
ROUNDS = 15
CALLERS = 50
STORED = 1_000
PROCESSES = 4
SHOWN: tuple[Policy, ...] = ("lru", "fifo", "lfu", "sieve", "s3fifo", "tinylfu", "auto", "opt")
SIZES = (250, 500, 1_000, 2_000)

STORE = """
import sys
from flexcache_rs.disk import Cache
with Cache(sys.argv[1]) as cache:
    cache.set_many({number: number * number for number in range(int(sys.argv[2]))})
"""

FIND = """
import sys
from flexcache_rs.disk import Cache
with Cache(sys.argv[1]) as cache:
    print(sum(cache.get(number) == number * number for number in range(int(sys.argv[2]))))
"""

# The program of each of several processes that share a cache. It prints how many results it computed.
SHARE = """
import sys
place, count, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if kind == "shared":
    from flexcache_rs.shared import SharedCache
    cache = SharedCache(place)
else:
    from flexcache_rs import FlexCache
    from flexcache_rs.disk import Cache
    cache = FlexCache(store=Cache(place))
computed = 0
def square(number):
    global computed
    computed += 1
    return number * number
for number in range(count):
    assert cache.get_or_set(number, lambda: square(number)) == number * number
print(computed)
"""


def add_to(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
) -> None:
    """Add the command to the program's."""
    summary = "show the main features: memoizing, one computation, disk, processes, policies"
    commands.add_parser("demo", help=summary, description=__doc__, allow_abbrev=False).set_defaults(run=run)


def run(_options: argparse.Namespace) -> int:
    """Run the demo, and print each line as soon as it is known. Returns the exit status."""
    print(f"flexcache-rs {__version__}, Python {sys.version.partition(' ')[0]}: all results are measured now\n")
    for step in (_slow_function, _hits, _many_callers, _restart, _many_processes, _policies):
        step()
        # sys.stdout may be None, which print() accepts.
        print(end="", flush=True)
    return 0


def _say(what: str, came_of_it: str) -> None:
    print(f"{what:<47} {came_of_it}")


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _slow_function() -> None:
    @memoize(max_items=100)
    def slow(number: int) -> int:
        time.sleep(SLOW)
        return number * number

    first = _seconds(lambda: slow(3))
    again = min(_seconds(lambda: slow(3)) for _ in range(100))
    _say("a slow function, memoized", f"first call {first * 1e3:.0f} ms, then {again * 1e6:.1f} µs")


def _nanoseconds(get: Callable[[str], object], keys: Sequence[str]) -> float:
    """Return the nanoseconds of a call, loop overhead included."""
    began = time.perf_counter_ns()
    for key in keys:
        get(key)
    return (time.perf_counter_ns() - began) / len(keys)


def _hits() -> None:
    keys = [f"key {number}" for number in range(ENTRIES)]
    plain = dict.fromkeys(keys, 0)
    cache: FlexCache[str, int] = FlexCache(max_items=ENTRIES)
    cache.set_many(plain)
    # Dict and cache take turns, and the fastest round counts: other programs can only make a round slower.
    rounds = [(_nanoseconds(plain.get, keys), _nanoseconds(cache.get, keys)) for _ in range(ROUNDS)]
    beside, ours = (min(times) for times in zip(*rounds, strict=True))
    _say(f"a hit among {ENTRIES:,} entries", f"{ours:.0f} ns; dict {beside:.0f} ns: {ours / beside:.1f} times as long")


def _computations(decorate: Callable[[Callable[[int], int]], Callable[[int], int]]) -> int:
    """Return how many computations happen when several callers ask for one result at once."""
    computed: list[int] = []

    def slow(number: int) -> int:
        computed.append(number)
        time.sleep(SLOW)
        return number

    function = decorate(slow)
    barrier = threading.Barrier(CALLERS)

    def call() -> None:
        barrier.wait()
        function(7)

    threads = [threading.Thread(target=call) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(computed)


def _many_callers() -> None:
    ours = _computations(lambda function: memoize(max_items=100)(function))
    theirs = _computations(lambda function: functools.lru_cache(maxsize=100)(function))
    computation = "computation" if ours == 1 else "computations"
    _say(
        f"{CALLERS} threads ask for one result at the same time", f"{ours} {computation}; functools.lru_cache {theirs}"
    )


def _start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _number_from(process: subprocess.Popen[str]) -> int:
    """Wait for the end of a process, and return the number that it printed."""
    output, _ = process.communicate(timeout=60)
    if process.returncode:
        raise RuntimeError(f"a process of the demo ended with {process.returncode}")
    return int(output or 0)


def _restart() -> None:
    with tempfile.TemporaryDirectory() as directory:
        _number_from(_start(STORE, directory, STORED))
        found = _number_from(_start(FIND, directory, STORED))
    _say(f"{STORED:,} entries on disk, after a restart", f"{found:,} entries found")


def _share(place: object, kind: str) -> int:
    processes = [_start(SHARE, place, STORED, kind) for _ in range(PROCESSES)]
    return sum(map(_number_from, processes))


def _many_processes() -> None:
    with tempfile.TemporaryDirectory() as directory:
        if hasattr(native, "SharedSegment"):
            from flexcache_rs.shared import SharedCache

            place, where = f"{directory}/shared", "in shared memory"
            with SharedCache(place, max_bytes=1 << 20):
                computed = _share(place, "shared")
        else:
            where = "on disk"
            computed = _share(directory, "disk")
    asked = PROCESSES * STORED
    _say(f"{PROCESSES} processes, one cache {where}", f"{asked:,} requests, {computed:,} computations")


def workload() -> Trace:
    """Generate requests for popular keys, with loops over more keys than fit and scans of new keys."""
    favourites = zipf(120_000, 20_000, 1.0, seed=1).keys
    chance = random.Random(1)
    accesses: list[object] = []
    for part in range(24):
        accesses += favourites[part * 5_000 : (part + 1) * 5_000]
        if part % 2:
            accesses += [("loop", number) for _ in range(2) for number in range(2_200)]
        else:
            accesses += [("scan", part, number) for number in range(chance.randrange(1_000, 3_000))]
    numbers: dict[object, int] = {}
    keys = [numbers.setdefault(access, len(numbers)) for access in accesses]
    return Trace("popular keys, loops and scans", keys, requests=len(keys), distinct=len(numbers))


def _policies() -> None:
    trace = workload()
    results = compare(trace, SHOWN, SIZES)
    print(
        f"\nhit ratio in percent for {trace.requests:,} requests for {trace.name} ({trace.distinct:,} keys), by policy:"
    )
    print("entries" + "".join(f"{'optimum' if policy == 'opt' else policy:>9}" for policy in SHOWN))
    for size in SIZES:
        ratios = {result.policy: result.hit_ratio for result in results if result.size == size}
        print(f"{size:>7,}" + "".join(f"{100 * ratios[policy]:>9.1f}" for policy in SHOWN))
    advice = recommend(results)
    assert advice is not None
    print(f'recommended for these requests: FlexCache("{advice.policy}"); recommended in general: "auto"')
