"""Measures FlexCache beside its peers: `python -m benches.peers --help`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from time import perf_counter

from . import crowd as crowd  # The import of these three registers their figures.
from . import interpreters as interpreters
from . import memoize as memoize
from . import plots, report
from .figures import FIGURES, Figure, Run, Settings


def options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benches.peers", description="FlexCache beside its peers.")
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer rounds, smaller sizes")
    parser.add_argument(
        "--only",
        action="append",
        choices=list(FIGURES),
        metavar="NAME",
        help=f"one figure: {', '.join(FIGURES)}",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="write memory.md, memory.json and plots there")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="renew the table between this file's marks")
    parser.add_argument("--free-threaded", metavar="PYTHON", help="an interpreter without a GIL, for `threads`")
    parser.add_argument("--optimized", metavar="PYTHON", help="one that was built with PGO and LTO, for `optimized-…`")
    parser.add_argument("--seed", type=int, help="for the random orders; a new one each run unless given")
    return parser.parse_args(arguments)


def warn_if_busy() -> None:
    """Print a warning if other programs use the processor."""
    if not hasattr(os, "getloadavg"):
        return
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the machine is busy (load average {load:.1f}): expect noise", file=sys.stderr)


def main(arguments: list[str]) -> None:
    """Measure, then print the report or write it."""
    chosen = options(arguments)
    warn_if_busy()
    started = perf_counter()

    def say(text: str) -> None:
        print(f"[{perf_counter() - started:4.0f} s] {text}", file=sys.stderr, flush=True)

    settings = Settings.quick(chosen.seed) if chosen.quick else Settings(seed=chosen.seed)
    settings = replace(settings, free_threaded=chosen.free_threaded, optimized=chosen.optimized)
    run = Run(settings, Random(settings.seed), say)
    figures: dict[str, Figure] = {name: FIGURES[name](run) for name in chosen.only or FIGURES}
    if chosen.output is None:
        print(report.as_markdown(figures), end="")
    else:
        chosen.output.mkdir(parents=True, exist_ok=True)
        try:
            drawn = plots.draw(figures, chosen.output)
        except ImportError as error:
            print(f"no plots: {error}", file=sys.stderr)
            drawn = []
        (chosen.output / "memory.md").write_text(report.as_markdown(figures, drawn), encoding="utf-8")
        (chosen.output / "memory.json").write_text(report.as_json(figures) + "\n", encoding="utf-8")
    if chosen.readme is not None:
        text = chosen.readme.read_text(encoding="utf-8")
        chosen.readme.write_text(report.in_readme(text, figures), encoding="utf-8")
    say("done")


if __name__ == "__main__":
    main(sys.argv[1:])
