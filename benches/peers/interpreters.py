"""Figures measured with other interpreters: one without a GIL, and an optimized one."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from . import caches
from .figures import DICT, FIGURES, FLEXCACHE, Figure, Run, Target, child, children, figure
from .measure import ChildFailedError, Spread, gil_is_on

THREADS = (1, 2, 4)
OPTIMIZED = ("get-str", "get-int", "item", "put", "evict")
"""The figures that are measured in an optimized interpreter too."""


def _count(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def _threads(run: Run, title: str, values: str, text: str) -> Figure:
    one = _count(1)
    result = Figure(
        title,
        f"Millions of gets per second of all threads together, with n = 10,000 and str keys. {text} Each thread has "
        "its own copies of the keys and its own bound method.",
        unit="M/s",
        reference=None,
        reference_condition=one,
    )
    interpreter = run.settings.free_threaded
    if interpreter is None and gil_is_on():
        result.remarks.append("Not measured: this interpreter has the GIL.")
        return result
    result.text += f" The interpreter is {json.loads(child('python', '-', interpreter=interpreter))}."

    def measure(name: str) -> str:
        return child("threads", name, json.dumps(THREADS), values, interpreter=interpreter)

    names = [contestant.name for contestant in caches.THREADED]
    answers = children(run, result, ", ".join(map(_count, THREADS)), names, run.settings.children, measure)
    for index, count in enumerate(THREADS):
        result.conditions[_count(count)] = {
            name: Spread.of([float(json.loads(line)[index]) for line in got]) for name, got in answers.items()
        }
    return result


@figure("threads", cores=None)
def threads(run: Run) -> Figure:
    """Threads that run in parallel and read the same objects."""
    result = _threads(
        run,
        "get from several threads",
        "shared",
        "The values are ordinary objects. Each get counts a reference in the value itself, for which the threads "
        "compete in every cache.",
    )
    two = _count(2)
    for sharded in caches.SHARDED:
        text = f"{sharded.name}, {two}, × dict"
        result.targets.append(Target(text, two, 2.0, contestant=sharded.name, at_least=True))
    return result


@figure("threads-uncounted", cores=None)
def threads_uncounted(run: Run) -> Figure:
    """The same with objects without reference counts."""
    result = _threads(
        run,
        "get from several threads, immortal values",
        "uncounted",
        "The values are small integers, which are immortal: their references are not counted. So the threads compete "
        "only for what the cache itself writes.",
    )
    one, two = _count(1), _count(2)
    for sharded, limit in zip(caches.SHARDED, (1.4, 1.7, 1.7, 1.7, 1.7), strict=True):
        name = sharded.name
        text = f"{name}, {two}, × {one}"
        result.targets.append(Target(text, two, limit, name, name, times_condition=one, at_least=True))
    ours, theirs = (result.ratio(two, name) for name in (FLEXCACHE, DICT))
    if ours is not None and theirs is not None:
        beside_dict = Target(
            f"{FLEXCACHE}, one lock, {two}, × {one}, compared with dict's",
            two,
            round(theirs, 2),
            times=FLEXCACHE,
            times_condition=one,
            at_least=True,
        )
        result.targets.append(beside_dict)
    return result


def _figure_of(answer: dict[str, Any]) -> Figure:
    """Decode a figure that another interpreter measured."""
    given = answer["figure"]
    given["conditions"] = {
        condition: {name: Spread.of(spread["samples"]) for name, spread in spreads.items()}
        for condition, spreads in given["conditions"].items()
    }
    given["targets"] = [Target(**target) for target in given["targets"]]
    result = Figure(**given)
    result.text += f" The interpreter is {answer['python']}."
    return result


def _optimized(name: str) -> None:
    @figure(f"optimized-{name}")
    def measured(run: Run) -> Figure:
        title = f"optimized interpreter: {name}"
        interpreter = run.settings.optimized
        if interpreter is None:
            return Figure(title, "", remarks=["Not measured: no such interpreter was given."])
        run.say(title)
        settings = asdict(run.settings) | {"free_threaded": None, "optimized": None}
        try:
            answer = json.loads(child("figure", name, json.dumps(settings), interpreter=interpreter))
        except ChildFailedError as error:
            return Figure(title, "", remarks=[f"Not measured: {error}"])
        result = _figure_of(answer)
        result.title += ", optimized interpreter"
        return result


for _name in OPTIMIZED:
    assert _name in FIGURES
    _optimized(_name)
