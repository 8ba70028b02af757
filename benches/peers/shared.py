"""Measures the cache in shared memory beside its peers: `python -m benches.peers.shared --help`."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from random import Random
from select import select
from time import perf_counter
from typing import Any

from . import command_line, table_report
from .measure import ROOT
from .shared_beside import beside_a_dict
from .shared_child import (
    ALONE,
    CONTESTANTS,
    Contestant,
    Opened,
    Servers,
    fill,
    key_of,
    per_call,
    per_call_with,
    samples,
    value_of,
)
from .shared_sizes import hit_ratios, overhead
from .tables import Cell, Figure

OPERATIONS = ("get", "get, miss", "set over", "set", "delete")
SIZES = {"20 B": 20, "1 KiB": 2**10, "64 KiB": 2**16}
OURS = "SharedCache"


@dataclass(frozen=True)
class Settings:
    """The size of the measurements."""

    runs: int = 5
    windows: int = 8
    """Of 2,000 calls each, in a run beside a dict; the fastest counts."""
    rounds: int = 5
    seconds_a_round: float = 0.02
    entries: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    workers: tuple[int, ...] = (1, 2, 8)
    seconds: float = 0.3
    load_rounds: int = 3
    """Of SharedCache and the dict; all others have one."""
    lil_workers: tuple[int, ...] = (1, 5, 10, 20)
    lil_rounds: int = 3
    """Of SharedCache and of the two that lilcache itself compares; all others have one."""
    patience: float = 3.0
    """Seconds after which a cache that is still being filled is left out of a row."""
    seed: int | None = None

    @classmethod
    def quick(cls, seed: int | None = None) -> Settings:
        """Return settings for a first look, which takes about a minute."""
        return cls(2, 4, 2, 0.01, (1_000, 10_000), (1, 2), 0.2, 1, (1, 5), 1, 2.0, seed)


@dataclass
class Run:
    """The state that every figure needs."""

    settings: Settings
    random: Random
    say: Callable[[str], None]
    directory: Path
    traces: Path | None = None
    there: list[Contestant] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    servers: Servers = field(default_factory=Servers)
    opened: dict[tuple[str, str], Opened] = field(default_factory=dict)

    def open(self, contestant: Contestant, what: str) -> Opened:
        """Open a cache, which is removed at the end. Some libraries can open a directory only once in a process."""
        if (contestant.name, what) not in self.opened:
            self.opened[contestant.name, what] = contestant.open(self.place(contestant, what))
        return self.opened[contestant.name, what]

    def end(self) -> None:
        """Remove all caches, and stop the servers."""
        for opened in self.opened.values():
            # Ignore any exception, because another process may have removed the cache.
            with suppress(Exception):
                opened.remove()
        self.servers.end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def place(self, contestant: Contestant, what: str) -> Path:
        """Return a separate directory. A server always has the same one."""
        name = "".join(filter(str.isalnum, contestant.name))
        if contestant.serve is None:
            name += f"-{what}"
        place = self.directory / name
        place.mkdir(mode=0o700, exist_ok=True)
        return place


def begin(run: Run) -> None:
    """Find the installed peers, and start their servers."""
    for contestant in CONTESTANTS:
        try:
            run.servers.start(contestant, run.place(contestant, "first"))
            opened = run.open(contestant, "first")
            value = value_of(contestant, 20)
            opened.set("first", value)
            if opened.get("first") != value:
                raise ValueError("what was stored does not come back")
        except Exception as error:  # noqa: BLE001 - a peer that does not work here is left out, whatever it raises.
            run.left_out[contestant.name] = f"left out: {type(error).__name__}: {error}".splitlines()[0]
            run.say(f"{contestant.name} is {run.left_out[contestant.name]}")
            continue
        run.there.append(contestant)


FIGURES: dict[str, Callable[[Run], list[Figure]]] = {}


def figure(name: str) -> Callable[[Callable[[Run], list[Figure]]], Callable[[Run], list[Figure]]]:
    """Return a decorator that registers a figure under its name for `--only`."""

    def register(function: Callable[[Run], list[Figure]]) -> Callable[[Run], list[Figure]]:
        FIGURES[name] = function
        return function

    return register


def _measure(run: Run, figures: dict[str, Figure], label: str, entries: int, size: int) -> None:
    """Fill each cache, and measure all calls in turns."""
    opened: dict[str, Opened] = {}
    calls: dict[str, int] = {}
    for contestant in run.there:
        cache = run.open(contestant, f"{entries}-{size}")
        began = perf_counter()
        try:
            is_filled = fill(cache, contestant, entries, size, run.settings.patience)
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the others are measured.
            run.say(f"{contestant.name} is left out: {type(error).__name__}: {error}")
            continue
        if not is_filled:
            run.say(f"{contestant.name} is left out: filling it took more than {run.settings.patience:.0f} s")
            continue
        opened[contestant.name] = cache
        slow = (perf_counter() - began) / entries
        calls[contestant.name] = max(20, min(2_000, int(run.settings.seconds_a_round / max(slow, 1e-7))))
    for number in range(run.settings.rounds + 1):
        turn = [contestant for contestant in run.there if contestant.name in opened]
        for contestant in run.random.sample(turn, k=len(turn)):
            name = contestant.name
            try:
                taken = samples(opened[name], contestant, entries, size, calls[name], run.random)
            except Exception as error:  # noqa: BLE001 - as above.
                run.say(f"{name} is left out from here on: {type(error).__name__}: {error}")
                del opened[name]
                continue
            for operation, nanoseconds in taken.items():
                if number:
                    figures[operation].cell(label, name).samples.append(nanoseconds)
        _measure_dict(run, figures, label, entries, size, is_warm=bool(number))


_dicts: dict[tuple[int, int], dict[str, str]] = {}


def _measure_dict(run: Run, figures: dict[str, Figure], label: str, entries: int, size: int, *, is_warm: bool) -> None:
    """Measure a dict of one process for comparison."""
    plain = _dicts.setdefault((entries, size), {key_of(number): "v" * size for number in range(entries)})
    random = run.random
    there = [key_of(random.randrange(entries)) for _ in range(2_000)]
    absent = [key_of(entries + number) for number in range(2_000)]
    value = "v" * size
    taken = {
        "get": per_call(plain.get, there),
        "get, miss": per_call(plain.get, absent),
        "set over": per_call_with(plain.__setitem__, there, value),
    }
    if is_warm:
        for operation, nanoseconds in taken.items():
            figures[operation].cell(label, "dict").samples.append(nanoseconds)


@figure("beside")
def beside(run: Run) -> list[Figure]:
    """Compare SharedCache with a dict, call by call."""
    run.say("beside a dict")
    settings = run.settings
    return [beside_a_dict(settings.entries, settings.runs, settings.windows, run.random)]


@figure("sizes")
def sizes(run: Run) -> list[Figure]:
    """Figures that do not depend on the machine: hit ratios, and bytes per entry."""
    figures = [overhead()]
    if run.traces is None:
        run.say("hit ratios are left out: --traces DIR names the traces")
        return figures
    return [*figures, hit_ratios(run.traces, run.say)]


@figure("calls")
def calls(run: Run) -> list[Figure]:
    """Every call, by the number of entries and by the size of the value."""
    text = "Nanoseconds per call, without the loop. The table also shows a dict, which only one process uses."
    by_entries = {
        name: Figure(f"{name}, by number of entries", f"{text} The values have 20 characters.", "ns")
        for name in OPERATIONS
    }
    by_size = {
        name: Figure(f"{name}, by size of the value", f"{text} The cache has 100 entries.", "ns") for name in OPERATIONS
    }
    for entries in run.settings.entries:
        run.say(f"by entries: {entries:,}")
        _measure(run, by_entries, f"{entries:,}", entries, 20)
    for label, size in SIZES.items():
        run.say(f"by size: {label}")
        _measure(run, by_size, label, 100, size)
    return [made for made in (*by_entries.values(), *by_size.values()) if made.rows]


def _together(contestant: Contestant, directory: Path, workers: int, options: dict[str, Any]) -> tuple[float, int]:
    """Return the calls per second, and the failures, of several processes that start at the same time."""
    command = [sys.executable, "-m", "benches.peers.shared_child", contestant.name, str(directory), json.dumps(options)]
    children = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
        )
        for _ in range(workers)
    ]
    for child in children:
        assert child.stdout is not None
        # A process that has ended, or does not become ready, counts as failed below.
        if select([child.stdout], [], [], 30)[0]:
            child.stdout.readline()
        else:
            child.kill()
    for child in children:
        assert child.stdin is not None
        with suppress(BrokenPipeError):
            child.stdin.write("go\n")
            child.stdin.flush()
    rate, failures = 0.0, 0
    for child in children:
        try:
            lines = child.communicate(timeout=30 + 10 * options["seconds"])[0].splitlines()
            done, failed, seconds = json.loads(lines[-1])
        except (subprocess.TimeoutExpired, IndexError, ValueError):
            child.kill()
            failures += 1
            continue
        rate, failures = rate + done / seconds, failures + failed
    return rate, failures


def _mean_response(contestant: Contestant, directory: Path, workers: int) -> tuple[float, int]:
    """Return the mean microseconds of a call, and the failures, of processes that share 1,000 calls."""
    calls = 1_000 // workers
    rate, failures = _together(contestant, directory, workers, {"calls": calls, "seconds": 0})
    return (workers / rate * 1e6 if rate else float("inf")), failures


@figure("processes")
def processes(run: Run) -> list[Figure]:
    """Processes that use one cache at once."""
    figures = []
    for title, writes in (("reading", 0.0), ("mixed", 0.1), ("writing", 1.0)):
        what = {0.0: "Every call is a get", 0.1: "One call in ten is a set", 1.0: "Every call is a set"}[writes]
        result = Figure(
            f"processes {title}",
            f"All processes use one cache with 1,000 keys and values of 20 characters. {what}. The table shows "
            "thousands of calls per second of all processes together, including the loop. Numbers in brackets are "
            "calls that failed.",
            "k/s",
            more=True,
        )
        run.say(result.title)
        for contestant in run.there:
            fill(run.open(contestant, "load"), contestant, 1_000, 20, run.settings.patience)
        for number in range(run.settings.load_rounds):
            turn = [it for it in (*run.there, ALONE) if number == 0 or it.name in (OURS, ALONE.name)]
            for contestant in run.random.sample(turn, k=len(turn)):
                for workers in run.settings.workers:
                    options = {"keys": 1_000, "size": 20, "writes": writes, "seconds": run.settings.seconds}
                    rate, failed = _together(contestant, run.place(contestant, "load"), workers, options)
                    cell: Cell = result.cell(str(workers), contestant.name)
                    cell.samples.append(rate / 1000)
                    cell.failures += failed
        figures.append(result)
    return figures


@figure("lilcache")
def lilcache(run: Run) -> list[Figure]:
    """The benchmark of lilcache: the mean time of random calls by several processes."""
    result = Figure(
        "the benchmark of lilcache",
        "1, 5, 10 and 20 processes share 1,000 random calls with 500 keys. A third each are get, set and pop. The "
        "table shows the mean time of a call: the median of the rounds and, after the slash, the slowest round.",
    )
    run.say(result.title)
    for contestant in run.there:
        run.open(contestant, "load")
        is_compared = contestant.name in (OURS, "lilcache", "Redis")
        for _ in range(run.settings.lil_rounds if is_compared else 1):
            for workers in run.settings.lil_workers:
                mean, failed = _mean_response(contestant, run.place(contestant, "load"), workers)
                cell = result.cell(str(workers), contestant.name)
                cell.samples.append(mean)
                cell.failures += failed
    return [result]


def machine(run: Run) -> dict[str, str]:
    """Return a description of the machine and the versions, on which the numbers depend."""
    described = table_report.machine() | {"date": datetime.now(timezone.utc).date().isoformat()}
    for contestant in CONTESTANTS:
        if contestant.name in run.left_out:
            described[contestant.name] = run.left_out[contestant.name]
        elif contestant.distribution:
            described[contestant.name] = f"{contestant.distribution} {metadata.version(contestant.distribution)}"
    return described


HEAD = (
    "`make bench-shared` generates this page. "
    "[benches/README.md](../../benches/README.md#caches-that-processes-share) describes the method and its limits. "
    "Each library is configured as its documentation advises for a cache. Each server has its own socket. The "
    "libraries take turns in random order in each round. A cell shows the median and, after the slash, the 99th "
    "percentile of the rounds. The last columns show how many times as fast as the others SharedCache is."
)


def options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_line.parser_of(
        "shared",
        "The cache in shared memory beside its peers.",
        FIGURES,
        "about a minute: fewer rounds, no million of entries",
        "shared.md, shared.json and plots",
    )
    parser.add_argument("--traces", type=Path, metavar="DIR", help="traces of keys, a line each, as NAME.txt.gz")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Measure, then print the report or write it."""
    chosen = options(arguments)
    settings = Settings.quick(chosen.seed) if chosen.quick else Settings(seed=chosen.seed)
    say = command_line.progress()
    # Use a directory in memory, where contestants with files are fastest.
    directory = Path(tempfile.mkdtemp(prefix="flexcache-bench-", dir="/dev/shm"))
    run = Run(settings, Random(settings.seed), say, directory, chosen.traces)
    try:
        begin(run)
        figures = [made for name in chosen.only or FIGURES for made in FIGURES[name](run)]
        described = machine(run)
    finally:
        run.end()
    names = [contestant.name for contestant in run.there]
    drawn: list[tuple[str, str]] = []
    if chosen.output is not None:
        chosen.output.mkdir(parents=True, exist_ok=True)
        try:
            drawn = table_report.draw(
                figures, [*names, "dict"], chosen.output, prefix="shared", ours=OURS, reference="dict"
            )
        except ImportError as error:
            say(f"no plots: {error}")
    report = table_report.as_markdown(
        described,
        figures,
        [*names, "dict", ALONE.name, "s3fifo"],
        drawn,
        title="The cache in shared memory, beside its peers",
        head=HEAD,
        ours=OURS,
    )
    command_line.publish("shared", report, described, figures, chosen.output)
    say("done")


if __name__ == "__main__":
    main(sys.argv[1:])
