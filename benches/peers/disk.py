"""Measures the caches on disk beside their peers: `python -m benches.peers.disk --help`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from random import Random
from typing import Any

from . import command_line, table_report
from .disk_child import CONTESTANTS, Contestant
from .measure import ROOT
from .tables import Figure

SIZES = {"64 B": 64, "256 B": 256, "4 KiB": 2**12, "64 KiB": 2**16, "1 MiB": 2**20}
OPERATIONS = ("set", "set over", "get", "get, miss", "in", "delete")
COUNTING = ("incr", "add", "add, there")
VALUE = 256
"""Bytes of a value where nothing else is said."""
SUSTAINED = 2_000
"""Sets without a pause."""


@dataclass(frozen=True)
class Settings:
    """The size of the measurements."""

    rounds: int = 9
    operations: int = 200
    entries: tuple[int, ...] = (100, 10_000, 100_000, 1_000_000)
    workers: tuple[int, ...] = (1, 4, 8)
    seconds: float = 1.0
    load_rounds: int = 2
    openings: int = 4
    imports: int = 9
    seed: int | None = None

    @classmethod
    def quick(cls, seed: int | None = None) -> Settings:
        """Return settings for a first look, which takes about a minute."""
        return cls(
            rounds=3,
            operations=100,
            entries=(100, 10_000, 100_000),
            workers=(1, 4),
            seconds=0.3,
            load_rounds=1,
            openings=2,
            imports=3,
            seed=seed,
        )


class Library:
    """A process that uses one library, and the pipe to it."""

    def __init__(self, contestant: Contestant, directory: Path) -> None:
        self.contestant = contestant
        self.name = contestant.name
        self.directory = directory
        self._process = subprocess.Popen(
            command(contestant), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def send(self, *request: Any) -> None:
        """Send a command to the process."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Wait for the result of a command."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LibraryFailedError(f"{self.name} ended with status {self._process.wait()}")
        return json.loads(line)

    def ask(self, *request: Any) -> Any:
        """Send a command, and wait for its result."""
        self.send(*request)
        return self.answer()

    def path(self, name: str) -> str:
        """Return a separate directory of the library."""
        return str(self.directory / name)

    def end(self, *, kill: bool = False) -> None:
        """End the process."""
        if kill:
            self._process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


class LibraryFailedError(Exception):
    """A library's process has ended."""


def command(contestant: Contestant, *rest: str) -> list[str]:
    """Return the command line of a child process."""
    return [sys.executable, "-m", "benches.peers.disk_child", contestant.name, *rest]


@dataclass
class Run:
    """The state that every figure needs."""

    settings: Settings
    random: Random
    say: Callable[[str], None]
    directory: Path
    libraries: list[Library]
    durability: dict[str, str] = field(default_factory=dict[str, str])
    left_out: list[str] = field(default_factory=list[str])

    def in_turns(self, rounds: int) -> Iterator[tuple[int, Library]]:
        """Yield every library once per round, in a new order each time. Round 0 is a warm-up."""
        for number in range(rounds + 1):
            for library in self.random.sample(self.libraries, k=len(self.libraries)):
                yield number, library

    def everywhere(self, *request: Any) -> dict[str, Any]:
        """Send a command to all libraries at once, for work that is not measured."""
        for library in self.libraries:
            library.send(*[library.path(part[1:]) if _is_path(part) else part for part in request])
        return {library.name: library.answer() for library in self.libraries}


def _is_path(part: Any) -> bool:
    return isinstance(part, str) and part.startswith("@")


FIGURES: dict[str, Callable[[Run], list[Figure]]] = {}


def figure(name: str) -> Callable[[Callable[[Run], list[Figure]]], Callable[[Run], list[Figure]]]:
    """Return a decorator that registers a figure under its name for `--only`."""

    def register(function: Callable[[Run], list[Figure]]) -> Callable[[Run], list[Figure]]:
        FIGURES[name] = function
        return function

    return register


@figure("sizes")
def sizes(run: Run) -> list[Figure]:
    """Every call by the size of the value, in an otherwise empty cache."""
    text = "The cache is empty before. Each value consists of new random bytes."
    figures = {name: Figure(f"{name}, by size of the value", text) for name in OPERATIONS}
    run.everywhere("open", "@sizes")
    for label, size in SIZES.items():
        run.say(f"by size: {label}")
        count = max(20, min(run.settings.operations, 2**24 // size))
        for number, library in run.in_turns(run.settings.rounds):
            samples = library.ask("operations", library.path("sizes"), size, count)
            for name in OPERATIONS:
                if number:
                    figures[name].add(label, library.name, samples[name])
    run.everywhere("close", "@sizes")
    return list(figures.values())


@figure("sustained")
def sustained(run: Run) -> list[Figure]:
    """Sets without a pause. Shows means, because medians would hide rare slow calls."""
    result = Figure(
        "set, sustained",
        f"{SUSTAINED:,} sets of {VALUE} B one after the other, with new keys. The libraries take turns. In this table, "
        "the last columns compare the means.",
        by="mean",
    )
    run.say("sustained")
    run.everywhere("open", "@sustained")
    for number, library in run.in_turns(run.settings.rounds):
        samples = library.ask("sustained", library.path("sustained"), VALUE, SUSTAINED)
        if number:
            result.add(f"{VALUE} B", library.name, samples["set"])
    run.everywhere("close", "@sustained")
    return [result]


@figure("entries")
def entries(run: Run) -> list[Figure]:
    """Every call by the number of entries."""
    text = f"The values have {VALUE} B. The keys are chosen at random among the entries."
    figures = {name: Figure(f"{name}, by number of entries", text) for name in (*OPERATIONS, *COUNTING)}
    for total in run.settings.entries:
        label, directory = f"{total:,}", f"@entries-{total}"
        run.say(f"by entries: {label}")
        run.everywhere("open", directory)
        for name, there in run.everywhere("fill", directory, total, VALUE).items():
            if there < 100:
                figures["get"].remarks.append(f"{name} had {there} % of the {label} entries.")
        for number, library in run.in_turns(run.settings.rounds):
            path = library.path(directory[1:])
            samples = library.ask("operations", path, VALUE, run.settings.operations)
            samples |= library.ask("counting", path, run.settings.operations)
            for name in samples:
                if number:
                    figures[name].add(label, library.name, samples[name])
        run.everywhere("close", directory)
    return list(figures.values())


@figure("batches")
def batches(run: Run) -> list[Figure]:
    """Sets within a transaction."""
    result = Figure(
        "set in a transaction",
        f"A block `with cache.transact()` around this number of sets of {VALUE} B. The table shows the time of one "
        "set, "
        "including its share of begin and commit. A transaction of diskcache_rs only excludes other threads, so it is "
        "not in this table.",
    )
    run.everywhere("open", "@batches")
    for batch in (10, 100):
        run.say(f"batches of {batch}")
        for number, library in run.in_turns(run.settings.rounds):
            if library.contestant.batches:
                count = max(3, run.settings.operations // batch)
                samples = library.ask("batches", library.path("batches"), batch, count)
                if number:
                    result.add(f"{batch}", library.name, samples["set"])
    run.everywhere("close", "@batches")
    return [result]


@figure("memoize")
def memoize(run: Run) -> list[Figure]:
    """A hit of a memoized function."""
    run.say("memoize")
    result = Figure("memoized call, hit", "A function of one int with 100 stored results.")
    run.everywhere("open", "@memoize")
    for number, library in run.in_turns(run.settings.rounds):
        samples = library.ask("memoized", library.path("memoize"), run.settings.operations)
        if number:
            result.add("1 int", library.name, samples["call"])
    run.everywhere("close", "@memoize")
    return [result]


@figure("start")
def start(run: Run) -> list[Figure]:
    """Opening and importing."""
    run.say("cold start")
    entries = 100_000
    result = Figure(
        "cold start",
        "The first row is opening a new directory, with the first set. The second is opening a directory with 100,000 "
        "entries that no process has open, with the first get. The third is the first import in a new interpreter.",
        unit="ms",
    )
    run.everywhere("open", "@start")
    run.everywhere("fill", "@start", entries, VALUE)
    run.everywhere("close", "@start")
    for number, library in run.in_turns(run.settings.rounds):
        new = library.ask("begin", str(library.directory), run.settings.openings)["new"]
        again = library.ask("reopen", library.path("start"), run.settings.openings)["reopened"]
        if number:
            for condition, samples in (("new directory", new), ("100,000 entries", again)):
                result.add(condition, library.name, [sample // 1000 for sample in samples])
    for number, library in run.in_turns(run.settings.imports):
        program = (
            "from time import perf_counter_ns as clock; start = clock(); "
            f"import {library.contestant.module}; print(clock() - start)"
        )
        taken = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        if number:
            result.add("import", library.name, [int(taken) // 1000])
    return [result]


@figure("load")
def load(run: Run) -> list[Figure]:
    """Processes and threads that use one directory at once."""
    figures = []
    for kind in ("processes", "threads"):
        for title, writes in (("writing", 1.0), ("mixed", 0.1)):
            what = (
                f"Every call is a set of {VALUE} B"
                if writes == 1
                else f"One call in ten is a set of {VALUE} B, and the others are gets"
            )
            result = Figure(
                f"{kind} {title}",
                f"All {kind} use one directory with 1,000 keys. {what}. The table shows thousands of calls per second "
                "of "
                f"all {kind} together, with the defaults of each library. Numbers in brackets are calls that failed "
                "(a timeout or another error).",
                unit="k/s",
                more=True,
            )
            run.say(f"{kind} {title}")
            for fan in (False, True):
                _load(run, result, kind, writes, fan=fan)
            figures.append(result)
    return figures


def _load(run: Run, result: Figure, kind: str, writes: float, *, fan: bool) -> None:
    settings = run.settings
    for number, library in run.in_turns(settings.load_rounds):
        if library.contestant.fan is None and fan:
            continue
        cells = settings.workers[-1:] if fan else settings.workers
        for workers in cells if number else (1,):
            # The first round only fills the caches, so it can be short.
            calls, failures = _together(
                library.contestant,
                library.path("fanned" if fan else "load"),
                processes=workers if kind == "processes" else 1,
                options={
                    "fan": fan,
                    "threads": workers if kind == "threads" else 1,
                    "seconds": settings.seconds if number else 0.05,
                    "writes": writes if number else 1.0,
                },
            )
            if number:
                cell = result.cell(f"{workers}{', FanoutCache of 8 shards' if fan else ''}", library.name)
                cell.samples.append(calls / settings.seconds / 1000)
                cell.failures += failures


def _together(contestant: Contestant, directory: str, processes: int, options: dict[str, Any]) -> tuple[int, int]:
    """Return the calls and failures of several processes that start at the same time."""
    options = {"directory": directory, **options}
    children = [
        subprocess.Popen(
            command(contestant, "load", json.dumps(options)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        for _ in range(processes)
    ]
    for child in children:
        assert child.stdout is not None
        while child.stdout.readline().strip() not in ("ready", ""):
            pass
    for child in children:
        assert child.stdin is not None
        with contextlib.suppress(OSError):
            child.stdin.write("go\n")
            child.stdin.flush()
    calls = failures = 0
    for child in children:
        lines = child.communicate(timeout=120)[0].splitlines()
        done, failed = json.loads(lines[-1]) if lines else (0, 1)
        calls, failures = calls + done, failures + failed
    return calls, failures


@figure("kept")
def kept(run: Run) -> list[Figure]:
    """The entries that are left after a process was killed."""
    if os.name != "posix":
        return []
    run.say("kill -9")
    result = Figure(
        "what is there after kill -9",
        "A process stores 100 entries and is killed immediately. The table shows how many another process finds then.",
        unit="of 100",
        more=True,
        compared=False,
    )
    for library in run.libraries:
        killed = Library(library.contestant, library.directory)
        path = killed.path("kept")
        killed.ask("open", path)
        killed.ask("fill", path, 100, VALUE)
        killed.end(kill=True)
        result.cell("entries", library.name).samples.append(library.ask("count", path))
    return [result]


def filesystem(directory: Path) -> str:
    """Return the type of the directories' filesystem."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return "unknown"
    above = [(mount, kind) for _, mount, kind, *_ in mounts if directory.resolve().is_relative_to(mount)]
    return max(above, key=lambda found: len(found[0]))[1] if above else "unknown"


def begin(directory: Path, run: Run) -> None:
    """Start a process for every installed library, and request its settings."""
    for contestant in CONTESTANTS:
        library = Library(contestant, directory / contestant.name)
        library.directory.mkdir()
        try:
            run.durability[contestant.name] = library.ask("open", library.path("first"))
            library.ask("close", library.path("first"))
        except LibraryFailedError as error:
            run.say(f"left out: {error}")
            run.left_out.append(contestant.distribution)
            library.end()
            continue
        run.libraries.append(library)


def machine(run: Run) -> dict[str, str]:
    """Return a description of the machine and the versions, on which the numbers depend."""
    described = table_report.machine() | {
        "file system": filesystem(run.directory),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }
    for library in run.libraries:
        distribution = library.contestant.distribution
        described[f"{distribution} {metadata.version(distribution)}"] = run.durability[library.name]
    for distribution in run.left_out:
        described[distribution] = "left out: not installed, or it does not work here"
    described["system"] += f" {platform.release().partition('-')[0]}"
    return described


def options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_line.parser_of(
        "disk",
        "Caches on disk beside their peers.",
        FIGURES,
        "about a minute: fewer rounds, no million of entries",
        "disk.md, disk.json and plots",
    )
    parser.add_argument("--directory", type=Path, metavar="DIR", help="where the caches lie; default: a temporary one")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Measure, then print the report or write it."""
    chosen = options(arguments)
    settings = Settings.quick(chosen.seed) if chosen.quick else Settings(seed=chosen.seed)
    say = command_line.progress()
    directory = Path(tempfile.mkdtemp(prefix="flexcache-bench-", dir=chosen.directory))
    run = Run(settings, Random(settings.seed), say, directory, [])
    try:
        begin(directory, run)
        figures = [made for name in chosen.only or FIGURES for made in FIGURES[name](run)]
        for made in figures:
            made.means = not made.more
        described = machine(run)
    finally:
        for library in run.libraries:
            library.end()
        shutil.rmtree(directory, ignore_errors=True)
    names = [library.name for library in run.libraries]
    drawn: list[tuple[str, str]] = []
    if chosen.output is not None:
        chosen.output.mkdir(parents=True, exist_ok=True)
        try:
            drawn = table_report.draw(figures, names, chosen.output)
        except ImportError as error:
            say(f"no plots: {error}")
    report = table_report.as_markdown(described, figures, names, drawn)
    command_line.publish("disk", report, described, figures, chosen.output)
    say("done")


if __name__ == "__main__":
    main(sys.argv[1:])
