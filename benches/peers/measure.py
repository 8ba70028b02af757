"""Timing of one operation for several contestants in turns.

A timed part is one plain `for` loop over existing keys, with the garbage collector off and the process on one core. It
is timed by the processor time of the thread, so that other programs on the same core do not count. Every figure
includes the loop itself, whose time `over_nothing` shows.
"""

from __future__ import annotations

import contextlib
import gc
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from time import perf_counter_ns, thread_time_ns
from types import FunctionType
from typing import Any

Keys = Sequence[Hashable]
Loop = Callable[[Any, Keys], int]
Order = Callable[[Random, int], Keys]

ROOT = Path(__file__).resolve().parents[2]
VALUE = object()

# On Windows, thread times advance only every few milliseconds.
clock = perf_counter_ns if sys.platform == "win32" else thread_time_ns


def over_nothing(target: object, keys: Keys) -> int:
    """Run the loop alone."""
    start = clock()
    for _key in keys:
        pass
    return clock() - start


def over_calls(target: Callable[[Hashable], object], keys: Keys) -> int:
    """Call a bound method, or a function, with each key."""
    start = clock()
    for key in keys:
        target(key)
    return clock() - start


def over_items(target: Any, keys: Keys) -> int:
    """Evaluate `target[key]`."""
    start = clock()
    for key in keys:
        target[key]
    return clock() - start


def over_membership(target: Any, keys: Keys) -> int:
    """Evaluate `key in target`."""
    start = clock()
    for key in keys:
        key in target  # noqa: B015
    return clock() - start


def over_puts(target: Callable[[Hashable, object], object], keys: Keys) -> int:
    """Call a bound method with each key and one value."""
    value = VALUE
    start = clock()
    for key in keys:
        target(key, value)
    return clock() - start


def over_loads(target: tuple[Callable[[Hashable], object], Callable[[Hashable, object], object]], keys: Keys) -> int:
    """Look up each key, and store a value if it is absent."""
    (get, put), value = target, VALUE
    start = clock()
    for key in keys:
        if get(key) is None:
            put(key, value)
    return clock() - start


def over_assignments(target: Any, keys: Keys) -> int:
    """Run `target[key] = value`."""
    value = VALUE
    start = clock()
    for key in keys:
        target[key] = value
    return clock() - start


def own(loop: Loop) -> Loop:
    """Return a copy of `loop` with separate bytecode.

    The interpreter specializes the bytecode of a loop. Contestants that share one would slow each other down.
    """
    assert isinstance(loop, FunctionType)
    return FunctionType(loop.__code__.replace(), loop.__globals__, loop.__name__)


@dataclass(frozen=True)
class Spread:
    """The samples of repeated measurements in the order of the rounds, and their summary."""

    samples: tuple[float, ...]
    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Summarize one or more samples by the median and the quartiles."""
        if len(samples) == 1:
            return cls(tuple(samples), samples[0], samples[0], samples[0])
        lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(tuple(samples), median, lower, upper)

    def over(self, other: Spread) -> float:
        """Return the ratio to `other`: the median of the ratios within each round.

        A slow phase of the machine then affects both sides of a ratio.
        """
        if len(self.samples) != len(other.samples):
            return self.median / other.median
        return statistics.median(ours / theirs for ours, theirs in zip(self.samples, other.samples, strict=True))


@dataclass
class Case:
    """One contestant and one operation: a loop, its target, and the keys of each round."""

    name: str
    loop: Loop
    target: Any
    order: Order


def interleave(cases: Sequence[Case], rounds: int, random: Random) -> tuple[dict[str, Spread], float]:
    """Return the nanoseconds of an operation for each case, and the share of time that other programs used the core.

    Each round measures every case once, with a new order of cases and of keys. A warm-up round comes first.
    """
    loops = {case.name: own(case.loop) for case in cases}
    samples: dict[str, list[float]] = {case.name: [] for case in cases}
    whole = ours = 0
    with quiet():
        for number in range(rounds + 1):
            for case in random.sample(list(cases), k=len(cases)):
                keys = case.order(random, number)
                start = perf_counter_ns()
                elapsed = loops[case.name](case.target, keys)
                whole += perf_counter_ns() - start
                ours += elapsed
                if number:
                    samples[case.name].append(elapsed / len(keys))
    return {name: Spread.of(values) for name, values in samples.items()}, 1 - ours / whole


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Collect garbage, and then turn the collector off in the `with` block."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Pin this thread, and the processes that it starts, to one core if the system supports it."""
    if sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class ChildFailedError(Exception):
    """A child process ended with an error. The message is the last line of its output."""


def fresh_process(*arguments: str, interpreter: str | None = None) -> str:
    """Run `python *arguments` in the project's directory, with this Python or another one. Returns its output."""
    done = subprocess.run(
        [interpreter or sys.executable, *arguments],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ChildFailedError(last[0])
    return done.stdout.strip()


class NeedsGilError(Exception):
    """A package would switch the GIL on for the whole process."""


def gil_is_on() -> bool:
    """Whether the GIL is enabled, which is always so except on a free-threaded build."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


@cache
def check_free_threading(module: str) -> None:
    """Raise NeedsGilError if importing `module` would switch the GIL on, without importing it."""
    if gil_is_on():
        return
    with contextlib.suppress(ChildFailedError):
        if fresh_process("-c", f"import {module}, sys; print(sys._is_gil_enabled())") == "True":
            raise NeedsGilError(module)


def resident_bytes() -> int:
    """Return the resident memory of this process. Raises ImportError if this needs psutil and it is missing."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * int(os.sysconf("SC_PAGE_SIZE"))
    import psutil

    return int(psutil.Process().memory_info().rss)
