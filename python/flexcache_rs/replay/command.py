"""The command ``replay``: its options and its steps."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexcache_rs._terminal import Progress, complain, tell, wants_colour
from flexcache_rs.replay import plot, report
from flexcache_rs.replay.simulate import LARGEST_SEED, MOST_THREADS, OPTIMUM, POLICIES, Policy, Result, compare
from flexcache_rs.replay.trace import (
    FORMATS,
    LARGEST_SIZE,
    MOST_ENTRIES,
    MOST_MADE_UP,
    SUFFIXES,
    Format,
    Trace,
    TraceError,
    read,
    zipf,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SIZES = "1%,5%,10%,25%,50%"
UNITS = {"k": 10**3, "m": 10**6, "g": 10**9}
MADE_UP = {"requests": 1_000_000, "keys": 100_000, "skew": 0.9}
"""The options of the generated workload, and their defaults."""

DESCRIPTION = """\
Replay a trace through each eviction policy at several sizes, and compare with
the best possible result (opt). Print hit ratio, operations per second and
memory, and recommend a policy and a size. Each request looks up its key and
stores it if it is missing.

TRACE is a text file with one key in each line, or a key and a size separated
by blanks, or a file in another --format. Gzip is recognised. - is standard
input. A folder stands for the traces in it. Without a trace, a workload with
Zipf's distribution is generated.
"""
EXAMPLES = """\
examples:
  %(prog)s                                    generated requests
  %(prog)s accesses.txt.gz --sizes 1k,10k,5%%  sizes of your own
  %(prog)s accesses.txt --plot curve.svg      and a plot
  %(prog)s sized.txt --by-size --sizes 64M    limits by size, not count
"""


class _UnusableError(Exception):
    """An error whose message becomes a line on standard error."""


def _size(text: str) -> float:
    """Parse a size: an int is a number of entries, and a float is a share of the whole."""
    factor = UNITS.get(text[-1:].lower())
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


def _number(kind: type[int | float], least: int, most: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = -1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most:,}")
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
    """Add the command to the program's."""
    parser = commands.add_parser(
        "replay",
        help="replay an access trace through every policy at several sizes",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "traces", nargs="*", metavar="TRACE", help="files, folders, or -; none for a generated workload"
    )
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
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="what to do with a malformed line (default: %(default)s)",
    )
    parser.add_argument("--plot", type=_plot_file, metavar="FILE", help="draw hit ratio against size: .png or .svg")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar on standard error")
    parser.add_argument(
        "--threads",
        type=_number(int, 1, MOST_THREADS),
        metavar="N",
        help="number of simultaneous runs (default: one per core)",
    )
    parser.add_argument(
        "--seed",
        type=_number(int, 0, LARGEST_SEED),
        default=1,
        metavar="N",
        help="seed of random numbers (default: %(default)s)",
    )
    formats = parser.add_argument_group("the trace's format")
    formats.add_argument(
        "--format", choices=("auto", *FORMATS), default="auto", help="default: according to the file's name"
    )
    formats.add_argument(
        "--key-column", default="key", metavar="NAME", help="column of a CSV file (default: %(default)s)"
    )
    formats.add_argument("--size-column", metavar="NAME", help="column of a CSV file (default: size, if there is one)")
    made_up = parser.add_argument_group("the generated workload (without a TRACE)")
    count = _number(int, 1, MOST_MADE_UP)
    made_up.add_argument("--requests", type=count, metavar="N", help=f"default: {MADE_UP['requests']:,}")
    made_up.add_argument("--keys", type=count, metavar="N", help=f"default: {MADE_UP['keys']:,}")
    made_up.add_argument("--skew", type=_number(float, 0, 100), metavar="X", help=f"default: {MADE_UP['skew']}")
    parser.set_defaults(refuse=parser.error)


def run(options: argparse.Namespace) -> int:
    """Replay the traces and print the results. Returns the exit status."""
    _refuse_what_does_not_fit(options)
    try:
        _run(options)
    except (_UnusableError, TraceError) as fault:
        complain(f"flexcache: {fault}")
        return 1
    return 0


def _refuse_what_does_not_fit(options: argparse.Namespace) -> None:
    """Exit with an error if an option would be ignored, or if a size is larger than any trace."""
    given = [f"--{name}" for name in MADE_UP if getattr(options, name) is not None]
    if options.traces and given:
        options.refuse(f"{', '.join(given)}: only for the generated workload, without a TRACE")
    beyond = [size for size in options.sizes if size > MOST_ENTRIES and not options.by_size]
    if beyond:
        options.refuse(f"argument --sizes: {beyond[0]:,} is too large: no trace has more than {MOST_ENTRIES:,} keys")


def _run(options: argparse.Namespace) -> None:
    if options.plot is not None:
        _check_plot(options.plot)
    replayed: list[tuple[Trace, Sequence[Result]]] = []
    for trace in _traces(options):
        for complaint in trace.complaints:
            complain(f"flexcache: skipped: {complaint}")
        if trace.skipped:
            complain(f"flexcache: {trace.name}: {trace.skipped:,} malformed lines skipped")
        results = _replay(trace, options)
        trace.forget()
        if not options.json:
            if replayed:
                print()
            _print(trace, results, by_size=options.by_size)
        replayed.append((trace, results))
    if options.json:
        tell(report.as_json(replayed))
    if options.plot is not None:
        try:
            plot.draw(replayed, options.plot)
        except OSError as error:
            raise _UnusableError(f"{options.plot}: {error.strerror}") from error


def _print(trace: Trace, results: Sequence[Result], *, by_size: bool) -> None:
    print(report.heading(trace))
    print(report.table(results, colour=wants_colour(sys.stdout), by_size=by_size))
    if (advice := report.advice(results)) is not None:
        print(advice)
    # sys.stdout may be None, which print() accepts.
    print(end="", flush=True)


def _check_plot(path: Path) -> None:
    """Check that the plot can be written, before the long work begins."""
    if find_spec("matplotlib") is None:
        raise _UnusableError("--plot needs matplotlib: pip install 'flexcache-rs[plot]'")
    if not path.parent.is_dir():
        raise _UnusableError(f"{path.parent}: no such folder")


def _traces(options: argparse.Namespace) -> Iterable[Trace]:
    if not options.traces:
        given = {name: getattr(options, name) for name in MADE_UP}
        made_up: dict[str, Any] = {name: MADE_UP[name] if value is None else value for name, value in given.items()}
        yield zipf(seed=options.seed, **made_up)
    for path in options.traces:
        files = [path]
        # pathlib treats "" as the current directory.
        if path not in ("", "-") and Path(path).is_dir():
            try:
                found = sorted(file for file in Path(path).iterdir() if file.suffix in {".gz", *SUFFIXES})
            except OSError as error:
                raise _UnusableError(f"{path}: {error.strerror}") from error
            if not found:
                raise _UnusableError(f"{path}: no traces ({', '.join([*SUFFIXES, '.gz'])}) in this folder")
            files = [str(file) for file in found]
        for file in files:
            yield read(
                file,
                skip_malformed=options.on_error == "skip",
                form=Format(options.format, options.key_column, options.size_column),
            )


def _replay(trace: Trace, options: argparse.Namespace) -> list[Result]:
    if options.by_size and trace.sizes is None:
        raise _UnusableError(f"{trace.name}: --by-size needs a trace with sizes, a key and a size a line")
    whole = trace.footprint if options.by_size else trace.distinct
    sizes = sorted({_absolute(size, whole) for size in options.sizes})
    # The optimum for entries of different sizes is not known.
    policies = [policy for policy in options.policies if not options.by_size or policy != OPTIMUM]
    progress = Progress(shown=not options.no_progress)
    try:
        return compare(
            trace,
            policies,
            sizes,
            by_size=options.by_size,
            seed=options.seed,
            threads=options.threads,
            report=progress.show,
        )
    finally:
        progress.clear()


def _absolute(size: float, whole: int) -> int:
    """Return a size in entries or in units of size, at least 1."""
    return size if isinstance(size, int) else min(max(1, round(whole * size)), LARGEST_SIZE)
