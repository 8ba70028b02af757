"""Compares another build with the present one. Processes of both take turns. Prints the ratio of each figure."""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import venv
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FIGURES = Path(__file__).with_name("figures.py")
RESAMPLES = 4_000

Samples = dict[str, list[float]]
"""Nanoseconds of each figure, round by round."""


def interpreter_with(wheel: Path) -> Path:
    """Return the interpreter of an environment that has only this wheel. It is made once for each wheel."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()[:16]
    place = ROOT / "target" / "baseline" / digest
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    installed = place / "installed"
    if not installed.exists():
        venv.create(place, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
        subprocess.run(install, check=True)
        installed.touch()
    return python


def child(python: Path, *names: str) -> dict[str, Any]:
    """Run a process with an interpreter, and return its output. It runs isolated, so that it finds no other build."""
    run = subprocess.run([str(python), "-I", str(FIGURES), *names], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f"{python} failed:\n{run.stderr}")
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def interval(ratios: list[float], random: Random) -> tuple[float, float, float]:
    """Return the median of ratios and its 95 % confidence interval, by bootstrap."""
    medians = sorted(statistics.median(random.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return statistics.median(ratios), medians[RESAMPLES // 40], medians[-RESAMPLES // 40 - 1]


def report(old: Samples, new: Samples, random: Random) -> str:
    """Return a table: both medians in nanoseconds, the ratio within rounds, and its confidence interval."""
    lines = [
        "| figure | before, ns | now, ns | now / before | 95 % interval | |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for (name, before), now in zip(old.items(), new.values(), strict=True):
        ratio, low, high = interval([a / b for a, b in zip(now, before, strict=True)], random)
        verdict = "slower" if low > 1.05 else "faster" if high < 0.95 else ""
        medians = f"{statistics.median(before):.1f} | {statistics.median(now):.1f}"
        lines.append(f"| {name} | {medians} | {ratio:.3f} | {low:.3f} to {high:.3f} | {verdict} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure both builds, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benches", description="Two builds, measured in turns.")
    parser.add_argument("--baseline", type=Path, required=True, metavar="WHEEL", help="the build to compare with")
    parser.add_argument("--wheel", type=Path, metavar="WHEEL", help="the other build (default: what is installed)")
    parser.add_argument("--rounds", type=int, default=15, help="processes of each build (default: 15)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="one figure; may be repeated")
    parser.add_argument("--seed", type=int, default=1, help="for the order of the processes (default: 1)")
    chosen = parser.parse_args(arguments)
    random = Random(chosen.seed)
    # Do not resolve the link of the environment's interpreter, so that it finds the package.
    present = interpreter_with(chosen.wheel) if chosen.wheel else Path(sys.executable)
    pythons = {"old": interpreter_with(chosen.baseline), "new": present}
    at = {which: child(python) for which, python in pythons.items()}
    names = chosen.only or at["old"]["names"]
    results: dict[str, Samples] = {which: {name: [] for name in names} for which in pythons}
    for number in range(chosen.rounds):
        print(f"round {number + 1} of {chosen.rounds}", file=sys.stderr, flush=True)
        # Alternate between the builds within each figure, so that a slow phase of the machine affects both.
        for name in names:
            for which in random.sample(sorted(pythons), k=2):
                results[which][name].append(child(pythons[which], name)["figures"][name])
    print(f"before: {at['old']['at']}\nnow: {at['new']['at']}\n")
    print(report(results["old"], results["new"], random))
