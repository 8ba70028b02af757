"""The command ``replay``: its options and what it does with them."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from flexcache_rs.replay import plot, report
from flexcache_rs.replay.simulate import POLICIES, Policy, Result, simulate
from flexcache_rs.replay.trace import LARGEST_SIZE, Trace, TraceError, read, zipf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SIZES = "1%,5%,10%,25%,50%"
SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9}

DESCRIPTION = """\
Replay a trace through FlexCache with each eviction policy at several sizes,
and print hit ratio, operations a second and memory. For every request the key
is looked up and, where it is missing, stored.

TRACE is a text file of one key a line, or of a key and a size separated by
blanks; gzip is recognised, - is standard input, a folder stands for the traces
in it. Without one, a workload with Zipf's distribution is made up.
"""
EXAMPLES = """\
examples:
  %(prog)s                                    made-up requests
  %(prog)s accesses.txt.gz --sizes 1k,10k,5%%  sizes of your own
  %(prog)s accesses.txt --plot curve.svg      and a plot
  %(prog)s sized.txt --by-size --sizes 64M    limits by size, not count
"""


class _UnusableError(Exception):
    """What went wrong, for a line on standard error."""


def _size(text: str) -> float:
    """A size: an int as it is, a float as a part of the whole."""
    factor = SUFFIXES.get(text[-1:].lower())
    try:
        if text.endswith("%"):
            size, largest = float(text[:-1]) / 100, 1
        else:
            size, largest = int(text[:-1] if factor else text) * (factor or 1), LARGEST_SIZE
    except ValueError:
        size, largest = 0, 0
    if not 0 < size <= largest:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give 1000, 10k, 2M, or 5% of the keys")
    return size


def _sizes(text: str) -> list[float]:
    return [_size(part.strip()) for part in text.split(",")]


def _policies(text: str) -> list[Policy]:
    wanted = [part.strip() for part in text.split(",")]
    for name in wanted:
        if name not in POLICIES:
            raise argparse.ArgumentTypeError(f"{name!r} is no policy: choose from {', '.join(POLICIES)}")
    return [policy for policy in POLICIES if policy in wanted]


def _number(kind: type[int | float], least: int) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = -1
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least {least}")
        return value

    return convert


def _plot_file(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in plot.FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r} must end in {' or '.join(plot.FORMATS)}")
    return path


def add_to(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
) -> None:
    """Adds the command to the program's."""
    parser = commands.add_parser(
        "replay",
        help="replay an access trace through every policy at several sizes",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("traces", nargs="*", metavar="TRACE", help="files, folders, or -; none for a made-up workload")
    parser.add_argument("--policies", type=_policies, default=list(POLICIES), metavar="NAME,...", help="default: all")
    parser.add_argument(
        "--sizes",
        type=_sizes,
        default=_sizes(SIZES),
        metavar="SIZE,...",
        help=f"in entries, with k or M, or in %% of the different keys (default: {SIZES.replace('%', '%%')})",
    )
    parser.add_argument("--by-size", action="store_true", help="limit the sum of sizes, not the count of entries")
    parser.add_argument(
        "--on-error", choices=("stop", "skip"), default="stop", help="at a malformed line (default: %(default)s)"
    )
    parser.add_argument("--plot", type=_plot_file, metavar="FILE", help="draw hit ratio against size: .png or .svg")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar on standard error")
    made_up = parser.add_argument_group("the made-up workload")
    made_up.add_argument("--requests", type=_number(int, 1), default=1_000_000, metavar="N", help="default: 1,000,000")
    made_up.add_argument("--keys", type=_number(int, 1), default=100_000, metavar="N", help="default: 100,000")
    made_up.add_argument("--skew", type=_number(float, 0), default=0.9, metavar="X", help="default: %(default)s")
    made_up.add_argument("--seed", type=int, default=1, metavar="N", help="default: %(default)s")


def run(options: argparse.Namespace) -> int:
    """Replays, and prints what came of it; the exit status."""
    try:
        _run(options)
    except (_UnusableError, TraceError) as fault:
        print(f"flexcache: {fault}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.plot is not None:
        _check_plot(options.plot)
    replayed: list[tuple[Trace, Sequence[Result]]] = []
    for trace in _traces(options):
        for complaint in trace.complaints:
            print(f"flexcache: skipped: {complaint}", file=sys.stderr)
        if trace.skipped:
            print(f"flexcache: {trace.name}: {trace.skipped:,} malformed lines skipped", file=sys.stderr)
        results = _replay(trace, options)
        trace.forget()
        if not options.json:
            if replayed:
                print()
            print(report.heading(trace))
            print(report.table(results, colour=report.wants_colour(sys.stdout), by_size=options.by_size), flush=True)
        replayed.append((trace, results))
    if options.json:
        print(report.as_json(replayed))
    if options.plot is not None:
        try:
            plot.draw(replayed, options.plot)
        except OSError as error:
            raise _UnusableError(f"{options.plot}: {error.strerror}") from error


def _check_plot(path: Path) -> None:
    """Finds out before the work that it would be in vain."""
    if find_spec("matplotlib") is None:
        raise _UnusableError("--plot needs matplotlib: pip install 'flexcache-rs[plot]'")
    if not path.parent.is_dir():
        raise _UnusableError(f"{path.parent}: no such folder")


def _traces(options: argparse.Namespace) -> Iterable[Trace]:
    if not options.traces:
        yield zipf(options.requests, options.keys, options.skew, options.seed)
    for path in options.traces:
        files = [path]
        # pathlib takes "" for the current folder.
        if path not in ("", "-") and Path(path).is_dir():
            try:
                found = sorted(file for file in Path(path).iterdir() if file.suffix in {".txt", ".gz", ".trace"})
            except OSError as error:
                raise _UnusableError(f"{path}: {error.strerror}") from error
            if not found:
                raise _UnusableError(f"{path}: no traces (.txt, .trace, .gz) in this folder")
            files = [str(file) for file in found]
        for file in files:
            yield read(file, skip_malformed=options.on_error == "skip")


def _replay(trace: Trace, options: argparse.Namespace) -> list[Result]:
    if options.by_size and trace.sizes is None:
        raise _UnusableError(f"{trace.name}: --by-size needs a trace with sizes, a key and a size a line")
    whole = trace.footprint if options.by_size else trace.distinct
    sizes = sorted({_absolute(size, whole) for size in options.sizes})
    progress = report.Progress(trace.requests * len(sizes) * len(options.policies), shown=not options.no_progress)
    results: list[Result] = []
    try:
        for size in sizes:
            for policy in options.policies:
                report_to = progress.begin(f"{policy}, {size:,}")
                results.append(simulate(trace, policy, size, by_size=options.by_size, report=report_to))
                progress.finish(trace.requests)
    finally:
        progress.clear()
    return results


def _absolute(size: float, whole: int) -> int:
    """A size in entries or units of size; at least 1."""
    return size if isinstance(size, int) else min(max(1, round(whole * size)), LARGEST_SIZE)
