"""Measurements that need a separate process. Prints one line. An error ends the process."""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from random import Random
from time import perf_counter_ns
from typing import Any

from . import caches, report
from .figures import CLOCK_ALONE, FIGURES, Run, Settings, int_keys, str_keys
from .measure import VALUE, Keys, NeedsGilError, gil_is_on, over_calls, over_nothing, own, resident_bytes


def find(name: str, among: Iterable[caches.Contestant]) -> caches.Contestant:
    """Return the contestant of a name."""
    return next(contestant for contestant in among if contestant.name == name)


def bytes_an_entry(name: str, size: int, kind: str) -> float:
    """Return the bytes by which this process grows for each entry."""
    contestant = find(name, caches.EVERY)
    keys: Keys = str_keys(size) if kind == "str" else int_keys(size)
    values = [float(number) for number in range(size)]
    # Fill a small cache first, because allocations that a package makes only once must not count.
    contestant.fill(contestant.build(10), keys[:10], values[:10])
    gc.collect()
    before = resident_bytes()
    cache = contestant.build(size)
    contestant.fill(cache, keys, values)
    return (resident_bytes() - before) / size


def longest_insert(name: str, size: int) -> int:
    """Return the nanoseconds of the longest of `size` inserts into a cache without limit."""
    keys = str_keys(size)
    clock = perf_counter_ns
    value = VALUE
    longest = 0
    if name == CLOCK_ALONE:
        for _key in keys:
            start = clock()
            elapsed = clock() - start
            longest = max(longest, elapsed)
        return longest
    contestant = find(name, caches.UNBOUNDED)
    cache: Any = contestant.build(0)
    put = contestant.putter(cache)
    if contestant.subscripts:
        for key in keys:
            start = clock()
            cache[key] = value
            elapsed = clock() - start
            longest = max(longest, elapsed)
    else:
        assert put is not None
        for key in keys:
            start = clock()
            put(key, value)
            elapsed = clock() - start
            longest = max(longest, elapsed)
    return longest


def gets_a_second(
    name: str, counts: Sequence[int], shared: bool, size: int = 10_000, operations: int = 300_000
) -> list[float]:
    """Return how many million gets per second the threads make together, for each number of threads.

    If the threads share the values, each get of an ordinary object counts a reference that another thread counts too.
    Otherwise the values are small numbers, whose references are not counted.
    """
    contestant = find(name, caches.THREADED)
    cache = contestant.build(size)
    if gil_is_on():
        raise NeedsGilError(contestant.module)
    stored = str_keys(size)
    values = [float(number) if shared else number % 256 for number in range(size)]
    contestant.fill(cache, stored, values)
    # Touch the objects in another thread. A dict reads objects that only one thread has touched a hundred times slower.
    for objects in (stored, values):
        toucher = threading.Thread(target=over_nothing, args=(None, objects))
        toucher.start()
        toucher.join()
    random = Random()
    copies = [str_keys(size) for _ in range(max(counts))]

    def rate(count: int) -> float:
        orders = [random.choices(copies[number], k=operations) for number in range(count)]
        barrier = threading.Barrier(count)
        spans: list[tuple[int, int]] = []

        def work(order: Keys) -> None:
            loop, get = own(over_calls), contestant.getter(cache)
            barrier.wait()
            start = perf_counter_ns()
            loop(get, order)
            spans.append((start, perf_counter_ns()))

        workers = [threading.Thread(target=work, args=(order,)) for order in orders]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        seconds = (max(end for _, end in spans) - min(start for start, _ in spans)) / 1e9
        return count * operations / seconds / 1e6

    rate(2)
    return [rate(count) for count in counts]


def whole_figure(name: str, settings: str) -> dict[str, object]:
    """Measure a figure with this interpreter. Returns the figure and the description of the interpreter."""

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    run = Run(Settings(**json.loads(settings)), Random(), say)
    return {"python": report.python(), "figure": asdict(FIGURES[name](run))}


def main(arguments: list[str]) -> None:
    """Run `WHAT CONTESTANT …`, and print the result as JSON."""
    gc.disable()
    what, name, *rest = arguments
    answer: object
    if what == "bytes":
        answer = bytes_an_entry(name, int(rest[0]), rest[1])
    elif what == "growth":
        answer = longest_insert(name, int(rest[0]))
    elif what == "figure":
        answer = whole_figure(name, rest[0])
    elif what == "python":
        answer = report.python()
    else:
        answer = gets_a_second(name, json.loads(rest[0]), rest[1] == "shared")
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
