"""Compares SharedCache with a dict of one process, with the same calls in the same form."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from os import getpid
from random import Random
from time import perf_counter_ns
from typing import Any

from .shared_child import key_of
from .tables import Figure

CALLS = 2_000
VALUE = "v" * 20
SMALL = {"id": 1, "name": "abc", "tags": ["a", "b"]}

TEXT = (
    "Nanoseconds per call, without the loop. A run is the fastest of several windows of 2,000 calls. The first number "
    "is the median of the runs, and the second is the slowest run. Windows of both caches take turns. The keys are "
    "equal to the stored keys, but they are other objects, whose hashes are known. Both caches are called in the same "
    "form: `put` is compared with `dict.__setitem__`, `[]=` with `[]=`, and all other calls with `dict.get` of a str."
)

Call = Callable[[list[str]], None]


def _gets(get: Callable[[str], Any]) -> Call:
    def window(keys: list[str]) -> None:
        for key in keys:
            get(key)

    return window


def _puts(put: Callable[[str, Any], Any], value: Any) -> Call:
    def window(keys: list[str]) -> None:
        for key in keys:
            put(key, value)

    return window


def _assigns(cache: Any, value: Any) -> Call:
    # Compile a separate loop for each, because the interpreter specializes the bytecode of a loop.
    made: dict[str, Call] = {}
    exec("def window(keys):\n    for key in keys:\n        cache[key] = value", {"cache": cache, "value": value}, made)
    return made["window"]


def _empty(keys: list[str]) -> None:
    for _ in keys:
        pass


def _timed(window: Call, keys: list[str]) -> float:
    begin = perf_counter_ns()
    window(keys)
    return (perf_counter_ns() - begin) / len(keys)


@contextmanager
def _filled(entries: int, value: Any) -> Iterator[Any]:
    shared = import_module("flexcache_rs.shared")
    with shared.SharedCache(f"bench-{getpid()}", max_bytes=max(16 << 20, entries * 200)) as cache:
        for number in range(entries):
            cache[key_of(number)] = value
        yield cache
        cache.unlink()


def beside_a_dict(entries: tuple[int, ...], runs: int, windows: int, random: Random) -> Figure:
    """Measure all calls for all numbers of entries."""
    figure = Figure("beside a dict", TEXT, "ns", compared=False)
    for count in entries:
        plain = {key_of(number): VALUE for number in range(count)}
        absent = [key_of(count + number) for number in range(CALLS)]
        with _filled(count, VALUE) as cache:
            pairs: dict[str, tuple[Call, Call]] = {
                "get": (_gets(cache.get), _gets(plain.get)),
                "get, miss": (_gets(cache.get), _gets(plain.get)),
                "put over": (_puts(cache.put, VALUE), _puts(plain.__setitem__, VALUE)),
                "[]= over": (_assigns(cache, VALUE), _assigns(plain, VALUE)),
            }
            _run(figure, pairs, count, absent, runs, windows, random)
        for name, value, call in (("incr", 1, "incr"), ("get of a small dict", SMALL, "get")):
            with _filled(count, value) as cache:
                pairs = {name: (_gets(getattr(cache, call)), _gets(plain.get))}
                _run(figure, pairs, count, absent, runs, windows, random)
    for condition, row in figure.rows.items():
        figure.remarks.append(
            f"* {condition}: {row['SharedCache'].median / max(row['dict'].median, 0.1):.2f} × the time of the dict."
        )
    for count in entries:
        miss = figure.rows[f"get, miss, {count:,} entries"]["SharedCache"].median
        hit = figure.rows[f"get, {count:,} entries"]["dict"].median
        figure.remarks.append(
            f"* get, miss, {count:,} entries: {miss / max(hit, 0.1):.2f} × the time of a `dict.get` that finds its key."
        )
    return figure


def _run(
    figure: Figure,
    pairs: dict[str, tuple[Call, Call]],
    count: int,
    absent: list[str],
    runs: int,
    windows: int,
    random: Random,
) -> None:
    for _ in range(runs):
        fastest: dict[tuple[str, str], float] = {}
        loops = []
        for _ in range(windows):
            there = [key_of(random.randrange(count)) for _ in range(CALLS)]
            loops.append(min(_timed(_empty, there) for _ in range(3)))
            for name, both in pairs.items():
                keys = absent if name == "get, miss" else there
                for who, window in zip(("SharedCache", "dict"), both, strict=True):
                    window(keys)
                    taken = _timed(window, keys)
                    fastest[name, who] = min(taken, fastest.get((name, who), taken))
        loop = statistics.median(loops)
        for (name, who), taken in fastest.items():
            figure.cell(f"{name}, {count:,} entries", who).samples.append(max(taken - loop, 0.1))
