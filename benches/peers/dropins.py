"""The drop-ins beside the libraries whose names they have: `python -m benches.peers.dropins --help`.

A row is one statement that both modules run, in loops that alternate between them. What counts is the processor time of
the process. The ratio is the median over rounds of that of two neighbouring loops: below 1.00 the drop-in is faster. A
library that is not installed is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import itertools
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

Loop = Callable[[int], None]
Row = Callable[[ModuleType], Loop]
ROWS: dict[str, dict[str, Row]] = {}

PAIRS = {
    "functools": ("functools", "flexcache_rs"),
    "cachetools": ("cachetools", "flexcache_rs.cachetools"),
    "async-lru": ("async_lru", "flexcache_rs.async_lru"),
    "SciQLop-cache": ("pysciqlop_cache", "flexcache_rs.sciqlop"),
    "diskcache_rs": ("diskcache_rs", "flexcache_rs.diskcache_rs"),
}

_directories: list[str] = []


def directory() -> str:
    """Return a new directory, which is removed at the end."""
    _directories.append(tempfile.mkdtemp(prefix="dropins-"))
    return _directories[-1]


def row(library: str, name: str) -> Callable[[Row], Row]:
    """Return a decorator that adds a row to a library's table."""

    def add(make: Row) -> Row:
        ROWS.setdefault(library, {})[name] = make
        return make

    return add


def calls(function: Callable[[Any], object], *arguments: Any) -> Loop:
    """Return a loop that calls a function with each argument."""
    repeated = itertools.cycle(arguments)

    def loop(times: int) -> None:
        for argument in itertools.islice(repeated, times):
            function(argument)

    return loop


def items(cache: Any, keys: list[Any]) -> Loop:
    """Evaluates `cache[key]`."""
    repeated = itertools.cycle(keys)

    def loop(times: int) -> None:
        for key in itertools.islice(repeated, times):
            cache[key]

    return loop


def membership(cache: Any, keys: list[Any]) -> Loop:
    """Evaluates `key in cache`."""
    repeated = itertools.cycle(keys)

    def loop(times: int) -> None:
        for key in itertools.islice(repeated, times):
            key in cache  # noqa: B015

    return loop


def double(number: Any) -> Any:
    """The memoized function."""
    return number


@row("functools", "lru_cache: a hit")
def _(of: ModuleType) -> Loop:
    return calls(of.lru_cache(maxsize=128)(double), *range(100))


@row("functools", "lru_cache: a hit without a limit")
def _(of: ModuleType) -> Loop:
    return calls(of.cache(double), *range(100))


@row("functools", "lru_cache: a hit of text")
def _(of: ModuleType) -> Loop:
    return calls(of.lru_cache(maxsize=128)(double), *map(str, range(100)))


@row("functools", "lru_cache: a hit by keyword")
def _(of: ModuleType) -> Loop:
    function = of.lru_cache(maxsize=128)(double)

    def loop(times: int) -> None:
        for number in range(times):
            function(number=number % 100)

    return loop


@row("functools", "lru_cache: a miss that evicts")
def _(of: ModuleType) -> Loop:
    return calls(of.lru_cache(maxsize=128)(double), *range(1000))


@row("functools", "lru_cache: a hit of a method")
def _(of: ModuleType) -> Loop:
    class Thing:
        @of.lru_cache(maxsize=128)  # type: ignore[untyped-decorator]
        def method(self, number: int) -> int:
            return number

    thing = Thing()

    def loop(times: int) -> None:
        for number in range(times):
            thing.method(number % 100)

    return loop


CACHES: dict[str, Callable[[ModuleType, int], Any]] = {
    "LRUCache": lambda of, size: of.LRUCache(size),
    "TTLCache": lambda of, size: of.TTLCache(size, 600),
    "TLRUCache": lambda of, size: of.TLRUCache(size, lambda _key, _value, now: now + 600),
    "LFUCache": lambda of, size: of.LFUCache(size),
    "FIFOCache": lambda of, size: of.FIFOCache(size),
    "RRCache": lambda of, size: of.RRCache(size),
}


def _rows_of_cachetools(name: str, make: Callable[[ModuleType, int], Any]) -> None:  # noqa: C901  # A row is a function.
    def filled(of: ModuleType) -> Any:
        cache = make(of, 1000)
        for number in range(1000):
            cache[number] = number
        return cache

    @row("cachetools", f"{name}: `cache[key]`")
    def _(of: ModuleType) -> Loop:
        return items(filled(of), list(range(1000)))

    @row("cachetools", f"{name}: `get`, present")
    def _(of: ModuleType) -> Loop:
        return calls(filled(of).get, *range(1000))

    @row("cachetools", f"{name}: `get`, absent")
    def _(of: ModuleType) -> Loop:
        return calls(filled(of).get, *range(-1000, 0))

    @row("cachetools", f"{name}: `in`")
    def _(of: ModuleType) -> Loop:
        return membership(filled(of), list(range(1000)))

    @row("cachetools", f"{name}: replace")
    def _(of: ModuleType) -> Loop:
        cache = filled(of)

        def loop(times: int) -> None:
            for number in range(times):
                cache[number % 1000] = number

        return loop

    @row("cachetools", f"{name}: store and evict")
    def _(of: ModuleType) -> Loop:
        cache = filled(of)
        numbers = itertools.count(1000)

        def loop(times: int) -> None:
            for number in itertools.islice(numbers, times):
                cache[number] = number

        return loop

    @row("cachetools", f"{name}: `pop` and store")
    def _(of: ModuleType) -> Loop:
        cache = filled(of)

        def loop(times: int) -> None:
            for number in range(times):
                cache.pop(number % 1000)
                cache[number % 1000] = number

        return loop

    @row("cachetools", f"{name}: `popitem` and store")
    def _(of: ModuleType) -> Loop:
        cache = filled(of)
        numbers = itertools.count(1000)

        def loop(times: int) -> None:
            for number in itertools.islice(numbers, times):
                cache.popitem()
                cache[number] = number

        return loop

    @row("cachetools", f"{name}: `setdefault`, present")
    def _(of: ModuleType) -> Loop:
        return calls(filled(of).setdefault, *range(1000))

    @row("cachetools", f"{name}: `len(cache)`")
    def _(of: ModuleType) -> Loop:
        cache = filled(of)

        def loop(times: int) -> None:
            for _ in range(times):
                len(cache)

        return loop

    @row("cachetools", f"{name}: `list(cache)` of 100")
    def _(of: ModuleType) -> Loop:
        cache = make(of, 100)
        for number in range(100):
            cache[number] = number

        def loop(times: int) -> None:
            for _ in range(times):
                list(cache)

        return loop

    @row("cachetools", f"`cached` with {name}: a hit")
    def _(of: ModuleType) -> Loop:
        return calls(of.cached(make(of, 1000))(double), *range(1000))

    @row("cachetools", f"`cached` with {name}: a miss")
    def _(of: ModuleType) -> Loop:
        return calls(of.cached(make(of, 100))(double), *range(1000))


for _name, _make in CACHES.items():
    _rows_of_cachetools(_name, _make)


@row("cachetools", "`cachedmethod`: a hit")
def _(of: ModuleType) -> Loop:
    class Thing:
        def __init__(self) -> None:
            self.cache = of.LRUCache(1000)

        @of.cachedmethod(lambda self: self.cache)  # type: ignore[untyped-decorator]
        def method(self, number: int) -> int:
            return number

    thing = Thing()

    def loop(times: int) -> None:
        for number in range(times):
            thing.method(number % 100)

    return loop


@row("cachetools", "`func.ttl_cache`: a hit")
def _(of: ModuleType) -> Loop:
    func = importlib.import_module(f"{of.__name__}.func")
    return calls(func.ttl_cache(maxsize=128)(double), *range(100))


def _awaited(of: ModuleType, most: int, keys: int) -> Loop:
    @of.alru_cache(maxsize=most)  # type: ignore[untyped-decorator]
    async def function(number: int) -> int:
        return number

    async def main(times: int) -> None:
        for number in range(times):
            await function(number % keys)

    runner = asyncio.Runner()
    return lambda times: runner.run(main(times))


@row("async-lru", "`alru_cache`: a hit")
def _(of: ModuleType) -> Loop:
    return _awaited(of, 128, 100)


@row("async-lru", "`alru_cache`: a miss")
def _(of: ModuleType) -> Loop:
    return _awaited(of, 128, 1000)


ON_DISK: dict[str, dict[str, Callable[[ModuleType], Any]]] = {
    "SciQLop-cache": {
        "Cache": lambda of: of.Cache(directory()),
        "FanoutCache": lambda of: of.FanoutCache(directory()),
    },
    "diskcache_rs": {
        "Cache": lambda of: of.Cache(directory()),
        "FanoutCache": lambda of: of.FanoutCache(directory()),
        "FastCache": lambda of: of.FastCache(directory()),
    },
}
VALUES = {"100 bytes": b"x" * 100, "100 KB": b"x" * 100_000}


def _rows_on_disk(library: str, name: str, make: Callable[[ModuleType], Any]) -> None:  # noqa: C901  # As above.
    keys = [f"key {number}" for number in range(200)]

    def filled(of: ModuleType, value: Any) -> Any:
        cache = make(of)
        for key in keys:
            cache.set(key, value)
        return cache

    for size, value in VALUES.items():

        @row(library, f"{name}: `get` of {size}")
        def _(of: ModuleType, value: Any = value) -> Loop:
            return calls(filled(of, value).get, *keys)

        @row(library, f"{name}: `set` of {size}")
        def _(of: ModuleType, value: Any = value) -> Loop:
            cache = filled(of, value)
            return calls(lambda key: cache.set(key, value), *keys)

    @row(library, f"{name}: `get`, absent")
    def _(of: ModuleType) -> Loop:
        return calls(filled(of, 1).get, *map(str, range(200)))

    @row(library, f"{name}: `in`")
    def _(of: ModuleType) -> Loop:
        return membership(filled(of, 1), keys)

    @row(library, f"{name}: store and `delete`")
    def _(of: ModuleType) -> Loop:
        cache = make(of)

        def loop(times: int) -> None:
            for number in range(times):
                cache.set(str(number), number)
                cache.delete(str(number))

        return loop


for _library, _kinds in ON_DISK.items():
    for _name, _open in _kinds.items():
        _rows_on_disk(_library, _name, _open)


@dataclass(frozen=True)
class Figure:
    """The result of a row: the nanoseconds of one statement, and the ratio."""

    library: str
    name: str
    theirs: float
    ours: float
    ratio: float


def timed(loop: Loop, times: int) -> float:
    """Return the nanoseconds of processor time of one statement."""
    begun = time.process_time_ns()
    loop(times)
    return (time.process_time_ns() - begun) / times


def measure(library: str, name: str, make: Row, rounds: int, seconds: float) -> Figure:
    """Measure both modules in turns."""
    theirs, ours = (make(importlib.import_module(module)) for module in PAIRS[library])
    times = 10
    while True:
        begun = time.perf_counter()
        theirs(times)
        ours(times)
        took = time.perf_counter() - begun
        if took > seconds:
            break
        times = max(times + 1, int(times * min(10.0, 1.5 * seconds / max(took, 1e-9))))
    figures: list[tuple[float, float]] = []
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            order = (theirs, ours) if number % 2 else (ours, theirs)
            taken = {loop: timed(loop, times) for loop in order}
            figures.append((taken[theirs], taken[ours]))
    finally:
        gc.enable()
    ratio = statistics.median(mine / other for other, mine in figures)
    before, after = (statistics.median(column) for column in zip(*figures, strict=True))
    return Figure(library, name, before, after, ratio)


def figures(chosen: argparse.Namespace) -> Iterator[Figure]:
    """Measure the chosen rows."""
    rounds, seconds = (5, 0.01) if chosen.quick else (21, 0.05)
    for library, rows in ROWS.items():
        if chosen.only and library not in chosen.only:
            continue
        try:
            importlib.import_module(PAIRS[library][0])
        except ImportError:
            print(f"left out: {library} is not installed", file=sys.stderr)
            continue
        for name, make in rows.items():
            if chosen.match in name:
                figure = measure(library, name, make, rounds, seconds)
                print(f"{figure.ratio:5.2f}  {library}: {name}", file=sys.stderr, flush=True)
                yield figure


def as_markdown(found: list[Figure]) -> str:
    """Return the report."""
    lines = [
        "# Drop-ins beside the originals",
        "",
        "`make bench-dropins` generates this page. It shows the nanoseconds of processor time of one",
        "statement. The ratio is the median over rounds. If it is below 1.00, the drop-in is faster.",
        "",
        f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}.",
    ]
    for library in dict.fromkeys(figure.library for figure in found):
        lines += ["", f"## {library}", "", "| | original | drop-in | ratio |", "| --- | ---: | ---: | ---: |"]
        lines += [
            f"| {one.name} | {one.theirs:,.0f} | {one.ours:,.0f} | {one.ratio:.2f} |"
            for one in found
            if one.library == library
        ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Measure, then print the report or write it."""
    parser = argparse.ArgumentParser(prog="python -m benches.peers.dropins")
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer rounds, shorter loops")
    parser.add_argument(
        "--only", action="append", choices=list(ROWS), metavar="LIBRARY", help=f"one of {', '.join(ROWS)}"
    )
    parser.add_argument("--match", default="", metavar="TEXT", help="only rows whose name has this")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write dropins.md and dropins.json there")
    chosen = parser.parse_args(arguments)
    try:
        found = list(figures(chosen))
    finally:
        for made in _directories:
            shutil.rmtree(made, ignore_errors=True)
    if chosen.output is None:
        print(as_markdown(found), end="")
        return
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "dropins.md").write_text(as_markdown(found), encoding="utf-8")
    rows = json.dumps([asdict(figure) for figure in found], indent=1)
    (chosen.output / "dropins.json").write_text(rows + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
