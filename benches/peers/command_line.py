"""The common part of the benchmark programs: their options, progress and output."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from . import table_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .tables import Figure


def parser_of(name: str, description: str, figures: Iterable[str], quick: str, writes: str) -> argparse.ArgumentParser:
    """Return a parser with the common options.

    Args:
        name: The module in this folder, which also names the output files.
        description: A sentence that describes the measurement.
        figures: The names of all figures.
        quick: The help text for `--quick`.
        writes: The help text for `--output`.
    """
    names = list(figures)
    parser = argparse.ArgumentParser(prog=f"python -m benches.peers.{name}", description=description)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--output", type=Path, metavar="DIR", help=f"write {writes} there")
    parser.add_argument("--seed", type=int, help="for the random orders; a new one each run unless given")
    return parser


def progress() -> Callable[[str], None]:
    """Return a function that prints a message on stderr, with the seconds since the start."""
    started = perf_counter()

    def say(text: str) -> None:
        print(f"[{perf_counter() - started:4.0f} s] {text}", file=sys.stderr, flush=True)

    return say


def publish(name: str, report: str, described: dict[str, str], figures: list[Figure], output: Path | None) -> None:
    """Print a report, or write it with its figures to a folder."""
    if output is None:
        print(report, end="")
        return
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{name}.md").write_text(report, encoding="utf-8")
    (output / f"{name}.json").write_text(table_report.as_json(described, figures) + "\n", encoding="utf-8")
